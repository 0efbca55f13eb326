//! Version 1 of the settings file, frozen. Nothing here refers to today's types: it reads old JSON and writes the JSON
//! of version 2.
//!
//! Version 1 had two switches for what is one scale, and the place as one plain text.

use super::stored::{LoadError, field};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Fields that are missing had these values.
#[derive(Deserialize)]
#[serde(default)]
struct SettingsV1 {
    kill_switch: bool,
    block_when_disconnected: bool,
    auto_connect: bool,
    allow_lan: bool,
    /// Empty: the provider's resolvers.
    dns: Vec<IpAddr>,
    ipv6: bool,
    /// 0: chosen by Hamn.
    mtu: u16,
    /// "best", a country code, a city, "server:ID" or "profile:NAME".
    location: String,
    key_rotation_days: u16,
}

impl Default for SettingsV1 {
    fn default() -> Self {
        Self {
            kill_switch: true,
            block_when_disconnected: false,
            auto_connect: false,
            allow_lan: false,
            dns: Vec::new(),
            ipv6: true,
            mtu: 0,
            location: "best".to_owned(),
            key_rotation_days: 7,
        }
    }
}

const FIELDS: [&str; 9] = [
    "kill_switch",
    "block_when_disconnected",
    "auto_connect",
    "allow_lan",
    "dns",
    "ipv6",
    "mtu",
    "location",
    "key_rotation_days",
];

/// The file of version 2 that means the same. Where the two old switches disagree, the more protective one counts.
pub(super) fn migrate(map: Map<String, Value>) -> Result<Map<String, Value>, LoadError> {
    if let Some(key) = map.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(LoadError::invalid(key, "unknown field"));
    }
    // One field at a time, so that the error can name it.
    for (key, value) in &map {
        let alone = Map::from_iter([(key.clone(), value.clone())]);
        field::<SettingsV1>(key, Value::Object(alone))?;
    }
    let old: SettingsV1 = field("version", Value::Object(map))?;
    let kill_switch = match (old.kill_switch, old.block_when_disconnected) {
        (_, true) => "always",
        (true, false) => "while_connected",
        (false, false) => "off",
    };
    let mut new = Map::new();
    new.insert("kill_switch".to_owned(), json!(kill_switch));
    new.insert("auto_connect".to_owned(), json!(old.auto_connect));
    new.insert("allow_lan".to_owned(), json!(old.allow_lan));
    let dns = if old.dns.is_empty() { json!({"use": "provider"}) } else { json!({"use": "custom", "addresses": old.dns}) };
    new.insert("dns".to_owned(), dns);
    new.insert("ipv6".to_owned(), json!(old.ipv6));
    new.insert("mtu".to_owned(), if old.mtu == 0 { Value::Null } else { json!(old.mtu) });
    new.insert("destination".to_owned(), destination(&old.location));
    new.insert("key_rotation_days".to_owned(), json!(old.key_rotation_days));
    Ok(new)
}

fn destination(location: &str) -> Value {
    if let Some(name) = location.strip_prefix("profile:") {
        return json!({"kind": "profile", "name": name});
    }
    if let Some(server) = location.strip_prefix("server:") {
        return json!({"kind": "server", "server": server});
    }
    match location {
        "" | "best" => json!({"kind": "best"}),
        country if country.len() == 2 => json!({"kind": "country", "country": country.to_ascii_lowercase()}),
        city => json!({"kind": "city", "city": city}),
    }
}
