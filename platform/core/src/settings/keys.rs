//! Settings by key and text, for the command line and the local API.

use super::{Dns, InvalidSetting, KillSwitch, Settings};
use crate::location::Destination;
use crate::text::decimal;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use std::net::IpAddr;

/// What kind of value a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `on` or `off`.
    Switch,
    /// One of a few words.
    Choice,
    /// A whole number.
    Number,
    /// `provider`, or addresses with commas between them.
    Resolvers,
    /// A destination.
    Place,
}

/// One setting, for help and completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyInfo {
    /// Name as typed.
    pub name: &'static str,
    /// Kind of value.
    pub kind: Kind,
    /// One line, with the values.
    pub help: &'static str,
}

const fn key(name: &'static str, kind: Kind, help: &'static str) -> KeyInfo {
    KeyInfo { name, kind, help }
}

const KEYS: [KeyInfo; 8] = [
    key("kill-switch", Kind::Choice, "off | while-connected | always: when traffic outside the tunnel is blocked"),
    key("auto-connect", Kind::Switch, "on | off: connect when the helper starts"),
    key("allow-lan", Kind::Switch, "on | off: reach printers and such on the attached private network"),
    key("dns", Kind::Resolvers, "provider | ADDRESS[,ADDRESS...]: resolvers used inside the tunnel"),
    key("ipv6", Kind::Switch, "on | off: carry IPv6 inside the tunnel when the server can"),
    key("mtu", Kind::Number, "auto | 1280 to 1500: bytes in a packet inside the tunnel"),
    key(
        "destination",
        Kind::Place,
        "best | se | city:stockholm | server:vpn05[/us] | profile:NAME: what connect means without a place",
    ),
    key("key-rotation-days", Kind::Number, "1 to 90: days after which the device key is replaced"),
];

/// Why a setting was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no such key.
    #[error("there is no setting of that name; `hamn settings get` lists them")]
    UnknownKey,
    /// The value cannot be used.
    #[error("{key}: {why}; write {help}")]
    BadValue {
        /// Key.
        key: &'static str,
        /// Why.
        why: String,
        /// What to write instead.
        help: &'static str,
    },
}

/// The key with this name; `_` counts as `-`.
fn find(name: &str) -> Option<&'static KeyInfo> {
    KEYS.iter().find(|info| info.name == name || info.name == name.replace('_', "-"))
}

impl Settings {
    /// All keys, in the order in which they are shown.
    #[must_use]
    pub const fn keys() -> &'static [KeyInfo] {
        &KEYS
    }

    /// The value as JSON, as in the stored file; `None` for an unknown key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        Some(match find(key)?.name {
            "kill-switch" => json!(self.kill_switch),
            "auto-connect" => json!(self.auto_connect),
            "allow-lan" => json!(self.allow_lan),
            "dns" => json!(self.dns),
            "ipv6" => json!(self.ipv6),
            "mtu" => json!(self.mtu),
            "destination" => json!(self.destination),
            "key-rotation-days" => json!(self.key_rotation_days),
            _ => return None,
        })
    }

    /// The value as `set` takes it; `None` for an unknown key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
        Some(match find(key)?.name {
            "kill-switch" => self.kill_switch.text().to_owned(),
            "auto-connect" => switch(self.auto_connect),
            "allow-lan" => switch(self.allow_lan),
            "dns" => match &self.dns {
                Dns::Provider => "provider".to_owned(),
                Dns::Custom { addresses } => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            },
            "ipv6" => switch(self.ipv6),
            "mtu" => self.mtu.map_or_else(|| "auto".to_owned(), |mtu| mtu.to_string()),
            "destination" => self.destination.text(),
            "key-rotation-days" => self.key_rotation_days.to_string(),
            _ => return None,
        })
    }

    /// Sets one key from text; on an error nothing is changed.
    ///
    /// # Errors
    /// [`SetError`] with what to write instead.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SetError> {
        let info = find(key).ok_or(SetError::UnknownKey)?;
        let mut changed = self.clone();
        changed
            .assign(info.name, value.trim())
            .and_then(|()| changed.validate().map_err(|InvalidSetting { why, .. }| why))
            .map_err(|why| SetError::BadValue { key: info.name, why, help: info.help })?;
        *self = changed;
        Ok(())
    }

    /// Sets one key, or `all` of them, to what `defaults` has (the built-in ones, or the administrator's).
    ///
    /// # Errors
    /// [`SetError::UnknownKey`].
    pub fn reset(&mut self, key: &str, defaults: &Self) -> Result<(), SetError> {
        if key == "all" {
            self.clone_from(defaults);
            return Ok(());
        }
        match find(key).ok_or(SetError::UnknownKey)?.name {
            "kill-switch" => self.kill_switch = defaults.kill_switch,
            "auto-connect" => self.auto_connect = defaults.auto_connect,
            "allow-lan" => self.allow_lan = defaults.allow_lan,
            "dns" => self.dns.clone_from(&defaults.dns),
            "ipv6" => self.ipv6 = defaults.ipv6,
            "mtu" => self.mtu = defaults.mtu,
            "destination" => self.destination.clone_from(&defaults.destination),
            "key-rotation-days" => self.key_rotation_days = defaults.key_rotation_days,
            _ => return Err(SetError::UnknownKey),
        }
        Ok(())
    }

    fn assign(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "kill-switch" => self.kill_switch = KillSwitch::from_text(value).ok_or("not a mode")?,
            "auto-connect" => self.auto_connect = switch(value)?,
            "allow-lan" => self.allow_lan = switch(value)?,
            "dns" => self.dns = resolvers(value)?,
            "ipv6" => self.ipv6 = switch(value)?,
            "mtu" if value == "auto" => self.mtu = None,
            "mtu" => self.mtu = Some(decimal(value).ok_or("not a number of bytes")?),
            "destination" => self.destination = value.parse::<Destination>().map_err(|error| error.to_string())?,
            "key-rotation-days" => self.key_rotation_days = decimal(value).ok_or("not a number of days")?,
            _ => return Err("not a setting".to_owned()),
        }
        Ok(())
    }
}

impl KillSwitch {
    /// The mode as typed.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::WhileConnected => "while-connected",
            Self::Always => "always",
        }
    }

    /// The mode that this text means; `_` counts as `-`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "while-connected" | "while_connected" => Some(Self::WhileConnected),
            "always" => Some(Self::Always),
            _ => None,
        }
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err("neither on nor off".to_owned()),
    }
}

fn resolvers(value: &str) -> Result<Dns, String> {
    if value == "provider" {
        return Ok(Dns::Provider);
    }
    let addresses: Result<Vec<IpAddr>, _> = value.split(',').take(11).map(|text| text.trim().parse()).collect();
    Ok(Dns::Custom { addresses: addresses.map_err(|_| "not a list of IP addresses")? })
}
