//! Settings on the wire: names, what needs uid 0, the view, the patch.

use hamn_core::location::Destination;
use hamn_core::settings::{Dns, KillSwitch, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// A setting's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingKey {
    /// Kill-switch mode.
    KillSwitch,
    /// Connect when the helper starts.
    AutoConnect,
    /// Reach the attached private network.
    AllowLan,
    /// Resolvers.
    Dns,
    /// Carry IPv6.
    Ipv6,
    /// MTU of the tunnel.
    Mtu,
    /// What *connect* without a place means.
    Destination,
    /// Days after which the device key is replaced.
    KeyRotationDays,
}

impl SettingKey {
    /// All keys, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::KillSwitch,
        Self::AutoConnect,
        Self::AllowLan,
        Self::Dns,
        Self::Ipv6,
        Self::Mtu,
        Self::Destination,
        Self::KeyRotationDays,
    ];

    /// The key as written in files, on the wire and in commands.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KillSwitch => "kill_switch",
            Self::AutoConnect => "auto_connect",
            Self::AllowLan => "allow_lan",
            Self::Dns => "dns",
            Self::Ipv6 => "ipv6",
            Self::Mtu => "mtu",
            Self::Destination => "destination",
            Self::KeyRotationDays => "key_rotation_days",
        }
    }

    /// True when only uid 0 may change it: it decides what may leave the computer outside the tunnel.
    #[must_use]
    pub const fn needs_admin(self) -> bool {
        match self {
            Self::KillSwitch | Self::AutoConnect | Self::AllowLan | Self::Dns | Self::KeyRotationDays => true,
            Self::Ipv6 | Self::Mtu | Self::Destination => false,
        }
    }
}

impl fmt::Display for SettingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// Nobody set it.
    Default,
    /// The user set it.
    User,
    /// The administrator's policy says so.
    Managed,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingEntry {
    /// Name.
    pub key: SettingKey,
    /// The value in force.
    pub value: serde_json::Value,
    /// The value when nobody sets it.
    pub default: serde_json::Value,
    /// Where the value comes from.
    pub source: SettingSource,
    /// The administrator's policy fixes it.
    pub locked: bool,
    /// Only uid 0 may change it.
    pub needs_admin: bool,
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsView {
    /// In the order of `SettingKey::ALL`.
    pub settings: Vec<SettingEntry>,
    /// Who manages this computer, when the administrator's policy names an organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

impl SettingsView {
    /// Builds the view from the values in force and the keys that the administrator's policy fixes.
    #[must_use]
    pub fn new(settings: &Settings, locked: &[SettingKey]) -> Self {
        let values = serde_json::to_value(settings).unwrap_or_default();
        let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
        let entry = |key: SettingKey| {
            let value = values.get(key.as_str()).cloned().unwrap_or_default();
            let default = defaults.get(key.as_str()).cloned().unwrap_or_default();
            let is_locked = locked.contains(&key);
            let source = match (is_locked, value == default) {
                (true, _) => SettingSource::Managed,
                (false, true) => SettingSource::Default,
                (false, false) => SettingSource::User,
            };
            SettingEntry { key, value, default, source, locked: is_locked, needs_admin: key.needs_admin() }
        };
        Self { settings: SettingKey::ALL.into_iter().map(entry).collect(), managed_by: None }
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, key: SettingKey) -> Option<&SettingEntry> {
        self.settings.iter().find(|entry| entry.key == key)
    }
}

/// Tells an absent field (`None`) from a null one (`Some(None)`).
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(input).map(Some)
}

/// Body of `PATCH /v1/settings`: the settings to change.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsPatch {
    /// Kill-switch mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_switch: Option<KillSwitch>,
    /// Connect when the helper starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_connect: Option<bool>,
    /// Reach the attached private network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_lan: Option<bool>,
    /// Resolvers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Carry IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// MTU of the tunnel in bytes; `null` lets Hamn choose.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Option<u16>")]
    pub mtu: Option<Option<u16>>,
    /// What *connect* without a place means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// Days after which the device key is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_rotation_days: Option<u16>,
}

impl SettingsPatch {
    /// The settings that it changes.
    #[must_use]
    pub fn keys(&self) -> Vec<SettingKey> {
        let Self { kill_switch, auto_connect, allow_lan, dns, ipv6, mtu, destination, key_rotation_days } = self;
        let named = [
            (kill_switch.is_some(), SettingKey::KillSwitch),
            (auto_connect.is_some(), SettingKey::AutoConnect),
            (allow_lan.is_some(), SettingKey::AllowLan),
            (dns.is_some(), SettingKey::Dns),
            (ipv6.is_some(), SettingKey::Ipv6),
            (mtu.is_some(), SettingKey::Mtu),
            (destination.is_some(), SettingKey::Destination),
            (key_rotation_days.is_some(), SettingKey::KeyRotationDays),
        ];
        named.into_iter().filter_map(|(set, key)| set.then_some(key)).collect()
    }

    /// `settings` with the changes.
    #[must_use]
    pub fn applied_to(&self, settings: &Settings) -> Settings {
        let old = settings.clone();
        let patch = self.clone();
        Settings {
            kill_switch: patch.kill_switch.unwrap_or(old.kill_switch),
            auto_connect: patch.auto_connect.unwrap_or(old.auto_connect),
            allow_lan: patch.allow_lan.unwrap_or(old.allow_lan),
            dns: patch.dns.unwrap_or(old.dns),
            ipv6: patch.ipv6.unwrap_or(old.ipv6),
            mtu: patch.mtu.unwrap_or(old.mtu),
            destination: patch.destination.unwrap_or(old.destination),
            key_rotation_days: patch.key_rotation_days.unwrap_or(old.key_rotation_days),
        }
    }

    /// A patch that sets `keys` back to their defaults.
    #[must_use]
    pub fn to_defaults(keys: &[SettingKey]) -> Self {
        let default = Settings::default();
        let mut patch = Self::default();
        for key in keys {
            match key {
                SettingKey::KillSwitch => patch.kill_switch = Some(default.kill_switch),
                SettingKey::AutoConnect => patch.auto_connect = Some(default.auto_connect),
                SettingKey::AllowLan => patch.allow_lan = Some(default.allow_lan),
                SettingKey::Dns => patch.dns = Some(default.dns.clone()),
                SettingKey::Ipv6 => patch.ipv6 = Some(default.ipv6),
                SettingKey::Mtu => patch.mtu = Some(default.mtu),
                SettingKey::Destination => patch.destination = Some(default.destination.clone()),
                SettingKey::KeyRotationDays => patch.key_rotation_days = Some(default.key_rotation_days),
            }
        }
        patch
    }
}

/// Body of `POST /v1/settings/reset`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetSettings {
    /// Which; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<SettingKey>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_tells_null_from_absent_and_refuses_unknown_keys() {
        let absent: SettingsPatch = serde_json::from_str("{}").unwrap();
        let null: SettingsPatch = serde_json::from_str(r#"{"mtu":null}"#).unwrap();
        assert_eq!((absent.mtu, null.mtu), (None, Some(None)));
        assert_eq!(null.keys(), [SettingKey::Mtu]);
        assert!(serde_json::from_str::<SettingsPatch>(r#"{"mut":1}"#).is_err());
    }

    #[test]
    fn a_patch_of_defaults_names_and_resets_exactly_its_keys() {
        let odd = Settings { allow_lan: true, mtu: Some(1300), ipv6: false, ..Settings::default() };
        let patch = SettingsPatch::to_defaults(&[SettingKey::AllowLan, SettingKey::Mtu]);
        assert_eq!(patch.keys(), [SettingKey::AllowLan, SettingKey::Mtu]);
        assert_eq!(patch.applied_to(&odd), Settings { ipv6: false, ..Settings::default() });
        assert_eq!(SettingsPatch::to_defaults(&SettingKey::ALL).applied_to(&odd), Settings::default());
        assert_eq!(SettingsPatch::to_defaults(&SettingKey::ALL).keys(), SettingKey::ALL);
    }

    #[test]
    fn every_setting_is_in_the_view_and_has_a_value() {
        let view = SettingsView::new(&Settings::default(), &[SettingKey::KillSwitch]);
        let stored = serde_json::to_value(Settings::default()).unwrap();
        assert_eq!(view.settings.len(), stored.as_object().unwrap().len(), "a setting has no key");
        for entry in &view.settings {
            assert_eq!(Some(&entry.value), stored.get(entry.key.as_str()), "{}", entry.key);
        }
        assert_eq!(view.get(SettingKey::KillSwitch).unwrap().source, SettingSource::Managed);
    }
}
