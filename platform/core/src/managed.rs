//! The administrator's policy: settings that the computer's owner sets and locks (G15). Only the helper reads the files;
//! this is what their bytes mean.
//!
//! A file is `{"kill_switch": {"value": "always", "locked": true}, ...}`; `locked` is true when it is not said.
//! A locked value holds whatever the user does. A value that is not locked is where the user starts and returns to with
//! *reset*. What cannot be read locks everything and blocks the network, it never unlocks.

#[cfg(test)]
mod tests;

use crate::json::{self, Limits};
use crate::location::Destination;
use crate::settings::{Dns, InvalidSetting, KillSwitch, Settings};
use crate::text::HttpsOrigin;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// The keys that a policy can have.
pub const KEYS: [&str; 12] = [
    "lockdown",
    "kill_switch",
    "auto_connect",
    "always_on",
    "allow_lan",
    "dns",
    "ipv6",
    "destination",
    "provider",
    "who_may_disconnect",
    "profiles_allowed",
    "organisation",
];

/// A larger policy file is refused.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

const LIMITS: Limits = Limits { bytes: MAX_POLICY_BYTES, depth: 8, values: 4_096 };
/// The names in `Effective::locked` that are not settings.
const OTHER_KEYS: [&str; 3] = ["provider", "who-may-disconnect", "profiles"];

/// A value and whether the user may change it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule<T> {
    value: T,
    locked: bool,
}

/// Who may give up the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhoMayDisconnect {
    /// Whoever may connect.
    #[default]
    Anyone,
    /// Only administrators.
    Admin,
}

/// The policy of one file or of several together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    lock_everything: bool,
    lockdown: Option<Rule<bool>>,
    always_on: Option<Rule<bool>>,
    kill_switch: Option<Rule<KillSwitch>>,
    auto_connect: Option<Rule<bool>>,
    allow_lan: Option<Rule<bool>>,
    dns: Option<Rule<Dns>>,
    ipv6: Option<Rule<bool>>,
    destination: Option<Rule<Destination>>,
    provider: Option<Rule<Vec<HttpsOrigin>>>,
    who_may_disconnect: Option<Rule<WhoMayDisconnect>>,
    profiles_allowed: Option<Rule<bool>>,
    /// Who manages the computer, for people.
    organisation: Option<String>,
    /// Keys that this version does not know, as they may be shown.
    unknown: Vec<String>,
}

/// What holds when policy and user's settings are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Settings to act on.
    pub settings: Settings,
    /// What the user cannot change: names of `Settings::keys`, and "provider", "who-may-disconnect", "profiles".
    pub locked: Vec<&'static str>,
    /// The provider's addresses, when the policy names them.
    pub provider: Option<Vec<HttpsOrigin>>,
    /// Who may give up the tunnel.
    pub who_may_disconnect: WhoMayDisconnect,
    /// Profiles may be imported and used.
    pub profiles_allowed: bool,
}

impl Effective {
    /// True when the user cannot change this key; `_` counts as `-`.
    #[must_use]
    pub fn is_locked(&self, key: &str) -> bool {
        let key = key.replace('_', "-");
        self.locked.contains(&key.as_str())
    }
}

/// Why a policy file is invalid as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// Over 256 KiB.
    #[error("the policy is larger than 256 KiB")]
    TooBig,
    /// Not a JSON object.
    #[error("the policy is not a JSON object")]
    NotJson,
    /// A key stands twice: which one counts would depend on the reader.
    #[error("{key} stands twice")]
    Duplicate {
        /// Key.
        key: String,
    },
    /// A value that the key cannot have.
    #[error("{key}: {why}")]
    Invalid {
        /// Key.
        key: String,
        /// Why.
        why: String,
    },
}

impl ManagedError {
    fn invalid(key: &str, why: impl Into<String>) -> Self {
        Self::Invalid { key: json::shown(key), why: why.into() }
    }
}

/// A file's entries in order, duplicates included.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// What stands under a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: Value,
    #[serde(default = "yes")]
    locked: bool,
}

const fn yes() -> bool {
    true
}

/// Reads one file.
///
/// # Errors
/// [`ManagedError`]: the whole policy counts as invalid, use [`Managed::locked_down`].
pub fn parse(bytes: &[u8]) -> Result<Managed, ManagedError> {
    json::check(bytes, &LIMITS).map_err(|error| match error {
        json::JsonError::TooBig => ManagedError::TooBig,
        json::JsonError::NotUtf8 | json::JsonError::TooDeep | json::JsonError::TooManyValues | json::JsonError::Syntax => {
            ManagedError::NotJson
        }
    })?;
    let Entries(entries) = serde_json::from_slice(bytes).map_err(|_| ManagedError::NotJson)?;
    let (mut managed, mut seen) = (Managed::default(), BTreeSet::new());
    for (key, value) in entries {
        if !seen.insert(key.clone()) {
            return Err(ManagedError::Duplicate { key: json::shown(&key) });
        }
        managed.read(&key, value)?;
    }
    Ok(managed)
}

/// All files, by name and content; `None` as content for one that may not be read (owner, mode, link, size).
/// Anything invalid locks everything. The second value says what to tell the administrator.
#[must_use]
pub fn load(files: &[(String, Option<Vec<u8>>)]) -> (Managed, Vec<String>) {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut policies, mut notes, mut invalid) = (Vec::new(), Vec::new(), false);
    for (name, bytes) in files {
        let result = bytes.as_ref().map(|bytes| parse(bytes));
        match result {
            Some(Ok(policy)) => {
                notes.extend(policy.unknown.iter().map(|key| format!("{name}: unknown key {key}")));
                policies.push(policy);
            }
            Some(Err(error)) => {
                invalid = true;
                notes.push(format!("{name}: {error}; everything is locked and the network blocked until this is corrected"));
            }
            None => {
                invalid = true;
                notes.push(format!(
                    "{name}: the file may not be used; everything is locked and the network blocked until this is corrected"
                ));
            }
        }
    }
    (if invalid { Managed::locked_down() } else { merge(policies) }, notes)
}

/// Policies in the order of their file names as one: per key, locked wins over not locked, then the later over the earlier.
#[must_use]
pub fn merge(policies: Vec<Managed>) -> Managed {
    policies.into_iter().fold(Managed::default(), |all, next| {
        let Managed { lock_everything, lockdown, always_on, kill_switch, auto_connect, allow_lan, dns, ipv6, .. } = next;
        let Managed { destination, provider, who_may_disconnect, profiles_allowed, organisation, unknown, .. } = next;
        Managed {
            lock_everything: all.lock_everything || lock_everything,
            lockdown: stronger(all.lockdown, lockdown),
            always_on: stronger(all.always_on, always_on),
            kill_switch: stronger(all.kill_switch, kill_switch),
            auto_connect: stronger(all.auto_connect, auto_connect),
            allow_lan: stronger(all.allow_lan, allow_lan),
            dns: stronger(all.dns, dns),
            ipv6: stronger(all.ipv6, ipv6),
            destination: stronger(all.destination, destination),
            provider: stronger(all.provider, provider),
            who_may_disconnect: stronger(all.who_may_disconnect, who_may_disconnect),
            profiles_allowed: stronger(all.profiles_allowed, profiles_allowed),
            organisation: organisation.or(all.organisation),
            unknown: all.unknown.into_iter().chain(unknown).take(100).collect(),
        }
    })
}

fn stronger<T>(old: Option<Rule<T>>, new: Option<Rule<T>>) -> Option<Rule<T>> {
    match (old, new) {
        (Some(old), Some(new)) if old.locked && !new.locked => Some(old),
        (_, Some(new)) => Some(new),
        (old, None) => old,
    }
}

impl Managed {
    /// What an invalid policy means: lockdown, and nothing can be changed (G15).
    #[must_use]
    pub fn locked_down() -> Self {
        let locked = |value| Some(Rule { value, locked: true });
        Self {
            lock_everything: true,
            kill_switch: Some(Rule { value: KillSwitch::Always, locked: true }),
            allow_lan: locked(false),
            dns: Some(Rule { value: Dns::Provider, locked: true }),
            who_may_disconnect: Some(Rule { value: WhoMayDisconnect::Admin, locked: true }),
            profiles_allowed: locked(false),
            ..Self::default()
        }
    }

    /// Who manages the computer, for people; nothing is decided by it.
    #[must_use]
    pub fn organisation(&self) -> Option<&str> {
        self.organisation.as_deref()
    }

    /// Keys that this version does not know: worth a warning.
    #[must_use]
    pub fn unknown_keys(&self) -> &[String] {
        &self.unknown
    }

    /// Settings where the user has none yet, and what *reset* returns to.
    #[must_use]
    pub fn defaults(&self) -> Settings {
        let mut settings = Settings::default();
        self.write(&mut settings, |_| true);
        settings
    }

    /// The user's settings with everything that is locked put over them.
    #[must_use]
    pub fn apply(&self, user: &Settings) -> Effective {
        let mut settings = user.clone();
        self.write(&mut settings, |locked| locked);
        let all = Settings::keys().iter().map(|key| key.name).chain(OTHER_KEYS);
        Effective {
            settings,
            locked: all.filter(|key| self.locks(key)).collect(),
            provider: self.provider.as_ref().map(|rule| rule.value.clone()),
            who_may_disconnect: self.who_may_disconnect(),
            profiles_allowed: self.profiles_allowed.as_ref().is_none_or(|rule| rule.value),
        }
    }

    /// `lockdown` and `kill_switch` are one scale: what one of them wants is never weakened by the other. A lockdown that
    /// is off leaves the kill switch as it is said, or in its usual mode.
    fn kill_switch(&self) -> Option<Rule<KillSwitch>> {
        let Some(lockdown) = &self.lockdown else { return self.kill_switch.clone() };
        let said = self.kill_switch.as_ref();
        let usual = said.map_or(KillSwitch::WhileConnected, |rule| rule.value);
        let value = if lockdown.value { KillSwitch::Always } else { usual };
        Some(Rule { value, locked: lockdown.locked || said.is_some_and(|rule| rule.locked) })
    }

    fn is_always_on(&self) -> bool {
        self.always_on.as_ref().is_some_and(|rule| rule.value)
    }

    /// `always_on` means: connected from the start, and nobody but an administrator ends it.
    fn auto_connect(&self) -> Option<Rule<bool>> {
        if self.is_always_on() { Some(Rule { value: true, locked: true }) } else { self.auto_connect.clone() }
    }

    fn who_may_disconnect(&self) -> WhoMayDisconnect {
        let said = self.who_may_disconnect.as_ref().map_or_else(WhoMayDisconnect::default, |rule| rule.value);
        if self.is_always_on() { WhoMayDisconnect::Admin } else { said }
    }

    fn locks(&self, key: &str) -> bool {
        fn locked<T>(rule: Option<&Rule<T>>) -> bool {
            rule.is_some_and(|rule| rule.locked)
        }
        self.lock_everything
            || match key {
                "kill-switch" => locked(self.kill_switch().as_ref()),
                "auto-connect" => locked(self.auto_connect().as_ref()),
                "allow-lan" => locked(self.allow_lan.as_ref()),
                "dns" => locked(self.dns.as_ref()),
                "ipv6" => locked(self.ipv6.as_ref()),
                "destination" => locked(self.destination.as_ref()),
                // Nobody but the administrator changes these once the policy names them.
                "provider" => self.provider.is_some(),
                "who-may-disconnect" => self.who_may_disconnect.is_some() || self.is_always_on(),
                "profiles" => self.profiles_allowed.is_some(),
                _ => false,
            }
    }

    /// Writes the rules that `take` accepts by their lock.
    fn write(&self, settings: &mut Settings, take: impl Fn(bool) -> bool) {
        fn put<T: Clone>(rule: Option<&Rule<T>>, field: &mut T, take: impl Fn(bool) -> bool) {
            if let Some(rule) = rule.filter(|rule| take(rule.locked)) {
                field.clone_from(&rule.value);
            }
        }
        let Settings { kill_switch, auto_connect, allow_lan, dns, ipv6, mtu: _, destination, key_rotation_days: _ } = settings;
        put(self.kill_switch().as_ref(), kill_switch, &take);
        put(self.auto_connect().as_ref(), auto_connect, &take);
        put(self.allow_lan.as_ref(), allow_lan, &take);
        put(self.dns.as_ref(), dns, &take);
        put(self.ipv6.as_ref(), ipv6, &take);
        put(self.destination.as_ref(), destination, &take);
    }

    fn read(&mut self, key: &str, value: Value) -> Result<(), ManagedError> {
        if !KEYS.contains(&key) {
            if self.unknown.len() < 100 {
                self.unknown.push(json::shown(key));
            }
            return Ok(());
        }
        let Entry { value, locked } = serde_json::from_value(value)
            .map_err(|_| ManagedError::invalid(key, "not an object {\"value\": ..., \"locked\": true or false}"))?;
        match key {
            "lockdown" => self.lockdown = Some(Rule { value: typed(key, value)?, locked }),
            "always_on" => self.always_on = Some(Rule { value: typed(key, value)?, locked }),
            "kill_switch" => self.kill_switch = Some(Rule { value: typed(key, value)?, locked }),
            "auto_connect" => self.auto_connect = Some(Rule { value: typed(key, value)?, locked }),
            "allow_lan" => self.allow_lan = Some(Rule { value: typed(key, value)?, locked }),
            "ipv6" => self.ipv6 = Some(Rule { value: typed(key, value)?, locked }),
            "dns" => self.dns = Some(Rule { value: dns(key, value)?, locked }),
            "destination" => {
                let text: String = typed(key, value)?;
                let value = text.parse().map_err(|error: crate::text::BadText| ManagedError::invalid(key, error.to_string()))?;
                self.destination = Some(Rule { value, locked });
            }
            "organisation" => self.organisation = Some(organisation(key, value)?),
            "provider" => self.provider = Some(Rule { value: provider(key, value)?, locked }),
            "who_may_disconnect" => self.who_may_disconnect = Some(Rule { value: typed(key, value)?, locked }),
            _ => self.profiles_allowed = Some(Rule { value: typed(key, value)?, locked }),
        }
        Ok(())
    }
}

/// Shown to people, so it is one short line.
fn organisation(key: &str, value: Value) -> Result<String, ManagedError> {
    let name: String = typed(key, value)?;
    if name.trim().is_empty() || name.chars().count() > 80 || name.chars().any(crate::text::is_deceptive) {
        return Err(ManagedError::invalid(key, "a name of 1 to 80 characters on one line"));
    }
    Ok(name)
}

fn typed<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, ManagedError> {
    serde_json::from_value(value).map_err(|_| ManagedError::invalid(key, "a value of another type than this key has"))
}

/// "provider", or addresses.
fn dns(key: &str, value: Value) -> Result<Dns, ManagedError> {
    if value == "provider" {
        return Ok(Dns::Provider);
    }
    let addresses: Vec<IpAddr> = typed(key, value)?;
    let dns = Dns::Custom { addresses };
    let settings = Settings { dns: dns.clone(), ..Settings::default() };
    settings.validate().map_err(|InvalidSetting { why, .. }| ManagedError::invalid(key, why))?;
    Ok(dns)
}

/// One HTTPS origin or up to ten.
fn provider(key: &str, value: Value) -> Result<Vec<HttpsOrigin>, ManagedError> {
    let value = if value.is_string() { Value::Array(vec![value]) } else { value };
    let origins: Vec<HttpsOrigin> = typed(key, value)?;
    if (1..=10).contains(&origins.len()) { Ok(origins) } else { Err(ManagedError::invalid(key, "one to ten https:// addresses")) }
}
