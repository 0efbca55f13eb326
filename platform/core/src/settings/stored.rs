//! The stored files: settings and intent, each with a version. Migrations only go forward, and each old version keeps
//! its own frozen types, so that a change of today's types cannot change how an old file is read.

use super::{InvalidSetting, Settings, v1};
use crate::json::{self, JsonError, Limits};
use crate::location::Target;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The version that `save` writes.
pub const SETTINGS_VERSION: u64 = 2;
/// The version that `save_target` writes.
pub const TARGET_VERSION: u64 = 1;
/// A larger file is not ours.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

const LIMITS: Limits = Limits { bytes: MAX_FILE_BYTES, depth: 16, values: 4_096 };

/// Settings from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Checked settings.
    pub settings: Settings,
    /// The version that the file had, when it was an older one: write it again.
    pub migrated_from: Option<u64>,
}

/// Why a stored file cannot be used. The caller moves it aside and starts safe (G16).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Larger than 64 KiB.
    #[error("the file is larger than 64 KiB")]
    TooBig,
    /// Cut short or overwritten.
    #[error("the file is not JSON")]
    NotJson,
    /// Written by a newer Hamn.
    #[error("the file has version {version}, which a newer Hamn wrote")]
    Newer {
        /// Version in the file.
        version: u64,
    },
    /// JSON, but a field is missing, unknown, of another type or out of range.
    #[error("{field}: {why}")]
    Invalid {
        /// Field.
        field: String,
        /// Why.
        why: String,
    },
}

impl LoadError {
    pub(super) fn invalid(field: &str, why: impl Into<String>) -> Self {
        Self::Invalid { field: json::shown(field), why: why.into() }
    }
}

impl From<InvalidSetting> for LoadError {
    fn from(error: InvalidSetting) -> Self {
        Self::Invalid { field: error.field.to_owned(), why: error.why }
    }
}

/// Reads settings of any version.
///
/// # Errors
/// See [`LoadError`]; nothing is repaired or guessed.
pub fn load(bytes: &[u8]) -> Result<Loaded, LoadError> {
    let (version, map) = open(bytes, SETTINGS_VERSION)?;
    // Each step turns the file of one version into the file of the next one.
    let (map, migrated_from) = if version == 1 { (v1::migrate(map)?, Some(1)) } else { (map, None) };
    Ok(Loaded { settings: decode(map)?, migrated_from })
}

/// Writes settings in the current version.
#[must_use]
pub fn save(settings: &Settings) -> Vec<u8> {
    write(SETTINGS_VERSION, json!(settings))
}

/// Reads the persisted intent.
///
/// # Errors
/// See [`LoadError`]. A file that cannot be read means "closed" to the caller, never "nothing wanted" (G16).
pub fn load_target(bytes: &[u8]) -> Result<Target, LoadError> {
    let (_, map) = open(bytes, TARGET_VERSION)?;
    if let Some(key) = map.keys().find(|key| !["want", "destination"].contains(&key.as_str())) {
        return Err(LoadError::invalid(key, "unknown field"));
    }
    let target: Target = field("want", Value::Object(map))?;
    if let Target::Connected { destination } = &target {
        destination.validate().map_err(|error| LoadError::invalid("destination", error.to_string()))?;
    }
    Ok(target)
}

/// Writes the persisted intent.
#[must_use]
pub fn save_target(target: &Target) -> Vec<u8> {
    write(TARGET_VERSION, json!(target))
}

/// The document and its version, which is taken out of it.
fn open(bytes: &[u8], current: u64) -> Result<(u64, Map<String, Value>), LoadError> {
    let value = json::parse(bytes, &LIMITS).map_err(|error| match error {
        JsonError::TooBig => LoadError::TooBig,
        JsonError::NotUtf8 | JsonError::TooDeep | JsonError::TooManyValues | JsonError::Syntax => LoadError::NotJson,
    })?;
    let Value::Object(mut map) = value else { return Err(LoadError::invalid("version", "the file is not a JSON object")) };
    let version = map.shift_remove("version").ok_or_else(|| LoadError::invalid("version", "missing"))?;
    match version.as_u64() {
        Some(version) if version > current => Err(LoadError::Newer { version }),
        Some(version) if version >= 1 => Ok((version, map)),
        _ => Err(LoadError::invalid("version", "not a whole number from 1")),
    }
}

fn decode(map: Map<String, Value>) -> Result<Settings, LoadError> {
    let mut settings = Settings::default();
    for (key, value) in map {
        match key.as_str() {
            "kill_switch" => settings.kill_switch = field(&key, value)?,
            "auto_connect" => settings.auto_connect = field(&key, value)?,
            "allow_lan" => settings.allow_lan = field(&key, value)?,
            "dns" => settings.dns = field(&key, value)?,
            "ipv6" => settings.ipv6 = field(&key, value)?,
            "mtu" => settings.mtu = field(&key, value)?,
            "destination" => settings.destination = field(&key, value)?,
            "key_rotation_days" => settings.key_rotation_days = field(&key, value)?,
            _ => return Err(LoadError::invalid(&key, "unknown field")),
        }
    }
    settings.validate()?;
    Ok(settings)
}

/// One field as its type. The message says what kind of value is wrong, never the value.
pub(super) fn field<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, LoadError> {
    serde_json::from_value(value).map_err(|_| LoadError::invalid(name, "not a value that this field can have"))
}

fn write(version: u64, value: Value) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("version".to_owned(), version.into());
    if let Value::Object(fields) = value {
        map.extend(fields);
    }
    format!("{:#}\n", Value::Object(map)).into_bytes()
}
