//! What the helper keeps on disk, and what it does when a file cannot be read: move it aside, say so, stay closed.

pub mod atomic;
pub mod directory;
pub mod secrets;

use anyhow::Context;
use hamn_core::location::Target;
use hamn_core::profile::{Profile, ProfileName};
use hamn_core::settings::Settings;
use secrets::{SecretFiles, SecretName, SecretStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Largest settings or target file in bytes.
const LIMIT_BYTES: u64 = 64 * 1024;
/// How many profiles can be imported.
pub const MAX_PROFILES: usize = 200;

/// The files of the helper.
#[derive(Clone)]
pub struct Store {
    state_dir: PathBuf,
    secrets: Arc<dyn SecretStore>,
}

/// What was found at the start.
pub struct Found {
    /// Settings; the most protected ones when the file could not be read.
    pub settings: Settings,
    /// Intent; `None` when there should be one and it cannot be read (G16).
    pub target: Option<Target>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl Store {
    /// Opens the state directory, creating it when it is missing. Refuses one that others can touch (FS-03).
    pub fn open(state_dir: &Path) -> anyhow::Result<Self> {
        directory::private(state_dir)?;
        directory::private(&state_dir.join("profiles"))?;
        directory::private(&state_dir.join("cache"))?;
        directory::private(&state_dir.join("network"))?;
        Ok(Self { state_dir: state_dir.to_owned(), secrets: Arc::new(SecretFiles::new(state_dir.to_owned())) })
    }

    /// Where the provider's answers are cached.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.state_dir.join("cache")
    }

    /// Where the network side keeps what it must restore.
    #[must_use]
    pub fn network_dir(&self) -> PathBuf {
        self.state_dir.join("network")
    }

    fn settings_path(&self) -> PathBuf {
        self.state_dir.join("settings.json")
    }

    fn target_path(&self) -> PathBuf {
        self.state_dir.join("target.json")
    }

    /// Reads settings and intent. Never fails: what cannot be read is moved aside and replaced by the closed answer.
    #[must_use]
    pub fn load(&self) -> Found {
        let mut notes = Vec::new();
        // The settings file is written first in the life of a state directory, so its absence marks a new installation.
        let fresh = matches!(atomic::read(&self.settings_path(), LIMIT_BYTES), Ok(None)) && matches!(atomic::read(&self.target_path(), LIMIT_BYTES), Ok(None));
        let settings = self.load_settings(fresh, &mut notes);
        let target = self.load_target(fresh, &mut notes);
        Found { settings, target, notes }
    }

    /// As `load`, but changes no file: for early boot, which must not touch what the helper will report.
    #[must_use]
    pub fn peek(&self) -> Found {
        let settings = match atomic::read(&self.settings_path(), LIMIT_BYTES) {
            Ok(Some(bytes)) => hamn_core::settings::load(&bytes).ok().map(|loaded| loaded.settings),
            Ok(None) | Err(_) => None,
        };
        let target = match (atomic::read(&self.target_path(), LIMIT_BYTES), &settings) {
            (Ok(None), None) if matches!(atomic::read(&self.settings_path(), LIMIT_BYTES), Ok(None)) => Some(Target::Disconnected),
            (_, None) => None,
            (_, Some(_)) => self.parse_target().ok(),
        };
        Found { settings: settings.unwrap_or_default(), target, notes: Vec::new() }
    }

    fn load_settings(&self, fresh: bool, notes: &mut Vec<String>) -> Settings {
        if fresh {
            let settings = Settings::default();
            if let Err(error) = self.save_settings(&settings).and_then(|()| self.save_target(&Target::Disconnected)) {
                notes.push(format!("the settings could not be written ({error:#}); they last until the helper ends"));
            }
            return settings;
        }
        let path = self.settings_path();
        let read = atomic::read(&path, LIMIT_BYTES).map_err(|error| error.to_string());
        let parsed = read.and_then(|bytes| match bytes {
            None => Err("the file is missing".to_owned()),
            Some(bytes) => hamn_core::settings::load(&bytes).map_err(|error| error.to_string()),
        });
        match parsed {
            Ok(loaded) => loaded.settings,
            Err(why) => {
                let aside = self.aside(&path);
                notes.push(format!("the settings could not be read ({why}){aside}; the defaults are used and nothing leaves until you connect or disconnect"));
                Settings::default()
            }
        }
    }

    fn load_target(&self, fresh: bool, notes: &mut Vec<String>) -> Option<Target> {
        if fresh {
            return Some(Target::Disconnected);
        }
        let path = self.target_path();
        // Settings that were lost may have held lockdown: the intent counts as unreadable then, too.
        if matches!(atomic::read(&self.settings_path(), LIMIT_BYTES), Ok(None) | Err(_)) {
            return match self.parse_target() {
                Ok(target @ Target::Connected { .. }) => Some(target),
                Ok(Target::Disconnected) | Err(_) => None,
            };
        }
        match self.parse_target() {
            Ok(target) => Some(target),
            Err(why) => {
                let aside = self.aside(&path);
                notes.push(format!("the saved state could not be read ({why}){aside}; the network stays blocked until you connect or disconnect"));
                None
            }
        }
    }

    fn parse_target(&self) -> Result<Target, String> {
        let bytes = atomic::read(&self.target_path(), LIMIT_BYTES).map_err(|error| error.to_string())?.ok_or("the file is missing")?;
        hamn_core::settings::load_target(&bytes).map_err(|error| error.to_string())
    }

    fn aside(&self, path: &Path) -> String {
        match atomic::set_aside(path) {
            Ok(aside) => format!(" and was moved to {}", aside.display()),
            Err(_) => String::new(),
        }
    }

    /// Writes the settings.
    pub fn save_settings(&self, settings: &Settings) -> anyhow::Result<()> {
        atomic::write(&self.settings_path(), &hamn_core::settings::save(settings)).context("save the settings")
    }

    /// Writes the intent. Returns only when it is on the disk.
    pub fn save_target(&self, target: &Target) -> anyhow::Result<()> {
        atomic::write(&self.target_path(), &hamn_core::settings::save_target(target)).context("save the intent")
    }

    /// A small public state file (`quality.json`, `loads.json`), or `None` when it is missing or unreadable.
    #[must_use]
    pub fn read_state<T: serde::de::DeserializeOwned>(&self, name: &'static str) -> Option<T> {
        let bytes = atomic::read(&self.state_dir.join(name), 4 * 1024 * 1024).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes a small public state file.
    pub fn write_state<T: serde::Serialize>(&self, name: &'static str, value: &T) -> anyhow::Result<()> {
        atomic::write(&self.state_dir.join(name), &serde_json::to_vec(value)?).with_context(|| format!("save {name}"))
    }

    /// A secret in its JSON form.
    pub fn read_secret<T: serde::de::DeserializeOwned>(&self, name: &SecretName) -> anyhow::Result<Option<T>> {
        match self.secrets.read(name)? {
            None => Ok(None),
            Some(bytes) => Ok(Some(serde_json::from_slice(&bytes).context("a stored secret has another shape")?)),
        }
    }

    /// Stores a secret in its JSON form.
    pub fn write_secret<T: serde::Serialize>(&self, name: &SecretName, value: &T) -> anyhow::Result<()> {
        let bytes = Zeroizing::new(serde_json::to_vec(value)?);
        self.secrets.write(name, &bytes).context("store a secret")
    }

    /// A secret as it was stored.
    pub fn read_secret_bytes(&self, name: &SecretName) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
        self.secrets.read(name).context("read a secret")
    }

    /// Stores a secret's bytes.
    pub fn write_secret_bytes(&self, name: &SecretName, secret: &[u8]) -> anyhow::Result<()> {
        self.secrets.write(name, secret).context("store a secret")
    }

    /// Forgets a secret.
    pub fn remove_secret(&self, name: &SecretName) -> anyhow::Result<()> {
        self.secrets.remove(name).context("forget a secret")
    }

    /// The names of the imported profiles, sorted.
    pub fn profile_names(&self) -> anyhow::Result<Vec<ProfileName>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.state_dir.join("profiles")).context("list the profiles")?.take(MAX_PROFILES * 4) {
            let file_name = entry?.file_name();
            let name = file_name.to_str().and_then(|text| text.strip_suffix(".conf")).and_then(|text| ProfileName::try_from(text.to_owned()).ok());
            names.extend(name);
        }
        names.sort();
        Ok(names)
    }

    /// An imported profile.
    pub fn profile(&self, name: &ProfileName) -> anyhow::Result<Option<Profile>> {
        let Some(bytes) = self.secrets.read(&SecretName::Profile(name.clone()))? else { return Ok(None) };
        let parsed = hamn_core::profile::parse(name.clone(), &bytes).map_err(|error| anyhow::anyhow!("the stored profile is damaged: {error}"))?;
        Ok(Some(parsed.profile))
    }

    /// Stores a profile that was parsed before; `conf` is its re-emitted text.
    pub fn save_profile(&self, name: &ProfileName, conf: &str) -> anyhow::Result<()> {
        self.secrets.write(&SecretName::Profile(name.clone()), conf.as_bytes()).context("store the profile")
    }

    /// Removes a profile; false when there was none.
    pub fn remove_profile(&self, name: &ProfileName) -> anyhow::Result<bool> {
        let known = self.secrets.read(&SecretName::Profile(name.clone()))?.is_some();
        self.secrets.remove(&SecretName::Profile(name.clone()))?;
        Ok(known)
    }
}
