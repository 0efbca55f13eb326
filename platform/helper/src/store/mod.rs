//! What the helper keeps on disk, and what it does when a file cannot be read: move it aside, say so, stay closed.

pub mod access;
#[cfg(unix)]
#[path = "apply/unix.rs"]
mod apply;
#[cfg(windows)]
#[path = "apply/windows.rs"]
mod apply;
pub mod atomic;
pub mod directory;
pub mod secrets;

use anyhow::Context;
use atomic::Trust;
use hamn_core::location::Target;
use hamn_core::profile::{Profile, ProfileName};
use hamn_core::settings::Settings;
use secrets::{SecretName, SecretStore};
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
    /// Holds the intent that the disk would not take, until the next boot.
    unsaved_intent: Option<PathBuf>,
    secrets: Arc<dyn SecretStore>,
}

/// What was found at the start.
pub struct Found {
    /// Settings; the defaults when there are none or they could not be read (`target` is then never an open one).
    pub settings: Settings,
    /// Intent; `None` when there should be one and it cannot be read (G16).
    pub target: Option<Target>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What the two files say. `Ok(None)` for a missing one.
struct Survey {
    settings: Result<Option<Settings>, String>,
    target: Result<Option<Target>, String>,
    /// The intent is one that the disk would not take.
    unsaved: bool,
    /// Nothing was ever kept here.
    fresh: bool,
}

impl Survey {
    /// The one place that says what damaged or missing files mean (G16).
    fn decide(&self, defaults: &Settings) -> (Settings, Option<Target>) {
        let target = self.target.as_ref().ok().cloned().flatten();
        match &self.settings {
            _ if self.fresh => (defaults.clone(), Some(Target::Disconnected)),
            Ok(Some(settings)) => (settings.clone(), target),
            // Settings that were lost may have held lockdown: an open intent counts as unreadable then, too.
            Ok(None) | Err(_) => (defaults.clone(), target.filter(|target| *target != Target::Disconnected)),
        }
    }
}

impl Store {
    /// Opens the state directory, creating it when it is missing. Refuses one that others can touch (FS-03).
    pub fn open(state_dir: &Path) -> anyhow::Result<Self> {
        directory::private(state_dir)?;
        directory::private(&state_dir.join("profiles"))?;
        directory::private(&state_dir.join("cache"))?;
        directory::private(&state_dir.join("network"))?;
        Ok(Self::at(state_dir))
    }

    /// As `open`, for somebody who only looks: a directory that is missing is an empty one, and nothing is created.
    pub fn inspect(state_dir: &Path) -> anyhow::Result<Self> {
        let missing = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        if !std::fs::symlink_metadata(state_dir).is_err_and(missing) {
            directory::is_private(state_dir)?;
        }
        Ok(Self::at(state_dir))
    }

    fn at(state_dir: &Path) -> Self {
        let secrets = secrets::open(state_dir);
        Self { state_dir: state_dir.to_owned(), unsaved_intent: None, secrets }
    }

    /// An intent that cannot be written to the state directory (disk full, read-only) is kept in this directory, which
    /// lasts until the next boot: a helper that crashes and starts again is then not more open than before (G6).
    #[must_use]
    pub fn with_runtime_dir(self, runtime_dir: &Path) -> Self {
        Self { unsaved_intent: Some(runtime_dir.join("intent.json")), ..self }
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
    /// `defaults` are the settings of a new installation.
    #[must_use]
    pub fn load(&self, defaults: &Settings) -> Found {
        let mut notes = Vec::new();
        for directory in [self.state_dir.clone(), self.state_dir.join("profiles")] {
            if let Err(error) = atomic::remove_temporaries(&directory) {
                notes.push(format!("unfinished files in {} could not be removed ({error})", directory.display()));
            }
        }
        let survey = self.survey();
        let (settings, target) = survey.decide(defaults);
        if survey.fresh {
            if let Err(error) = self.save_settings(&settings).and_then(|()| self.save_target(&Target::Disconnected)) {
                notes.push(format!("the settings could not be written ({error:#}); they last until the helper ends"));
            }
            return Found { settings, target, notes };
        }
        if let Some(why) = lost(&survey.settings) {
            let aside = aside(&self.settings_path(), survey.settings.is_err());
            notes.push(format!(
                "the settings could not be read ({why}){aside}; the defaults are used and nothing leaves until you connect or disconnect"
            ));
        }
        if let Some(why) = lost(&survey.target) {
            // An unsaved intent stays where it is until the next decision: an older one on the disk must not count again.
            let aside = if survey.unsaved { String::new() } else { aside(&self.target_path(), survey.target.is_err()) };
            notes.push(format!(
                "the saved state could not be read ({why}){aside}; the network stays blocked until you connect or disconnect"
            ));
        }
        Found { settings, target, notes }
    }

    /// As `load`, but changes no file: for early boot, which must not touch what the helper will report.
    #[must_use]
    pub fn peek(&self, defaults: &Settings) -> Found {
        let (settings, target) = self.survey().decide(defaults);
        Found { settings, target, notes: Vec::new() }
    }

    fn survey(&self) -> Survey {
        let settings = read_file(&self.settings_path(), |bytes| {
            hamn_core::settings::load(bytes).map(|loaded| loaded.settings).map_err(|error| error.to_string())
        });
        let parse = |bytes: &[u8]| hamn_core::settings::load_target(bytes).map_err(|error| error.to_string());
        // It exists only while it is newer than what the disk holds.
        let unsaved = self.unsaved_intent.as_ref().map_or(Ok(None), |path| read_file(path, parse));
        let (target, unsaved) = match unsaved {
            Ok(None) => (read_file(&self.target_path(), parse), false),
            newer => (newer, true),
        };
        let fresh = settings == Ok(None) && target == Ok(None) && self.is_empty();
        Survey { settings, target, unsaved, fresh }
    }

    /// True when no file was ever kept here. Settings and intent that are both gone while a device's key, a profile or a
    /// file that was set aside is still there were lost: that is no new installation.
    fn is_empty(&self) -> bool {
        let below = ["profiles", "cache", "network"].map(|name| self.state_dir.join(name));
        std::iter::once(&self.state_dir).chain(&below).all(|directory| holds_no_file(directory))
    }

    /// Writes the settings.
    pub fn save_settings(&self, settings: &Settings) -> anyhow::Result<()> {
        atomic::write(&self.settings_path(), &hamn_core::settings::save(settings)).context("save the settings")
    }

    /// Writes the settings unless there is a file: settings that were lost count as closed at the next start, and a
    /// decision of the user ends that.
    pub fn save_missing_settings(&self, settings: &Settings) -> anyhow::Result<()> {
        let missing = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        if std::fs::symlink_metadata(self.settings_path()).is_err_and(missing) { self.save_settings(settings) } else { Ok(()) }
    }

    /// Writes the intent. Returns only when it is on the disk.
    ///
    /// # Errors
    /// It is not; it is then kept until the next boot where that is possible.
    pub fn save_target(&self, target: &Target) -> anyhow::Result<()> {
        let bytes = hamn_core::settings::save_target(target);
        let saved = atomic::write(&self.target_path(), &bytes);
        if let Some(path) = &self.unsaved_intent {
            match &saved {
                Ok(()) => atomic::remove(path).context("forget the older intent")?,
                Err(_) => atomic::write(path, &bytes).context("save the intent, also not until the next boot")?,
            }
        }
        saved.context("save the intent")
    }

    /// A small public state file (`quality.json`), or `None` when it is missing or unreadable.
    #[must_use]
    pub fn read_state<T: serde::de::DeserializeOwned>(&self, name: &'static str) -> Option<T> {
        let bytes = atomic::read(&self.state_dir.join(name), 4 * 1024 * 1024, Trust::Own).ok().flatten()?;
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
            // serde's message may quote a value, which here is a key (G14).
            Some(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                anyhow::anyhow!("a stored secret has another shape (line {}, column {})", error.line(), error.column())
            }),
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
            let name = file_name
                .to_str()
                .and_then(|text| text.strip_suffix(".conf"))
                .and_then(|text| ProfileName::try_from(text.to_owned()).ok());
            names.extend(name);
        }
        names.sort();
        Ok(names)
    }

    /// An imported profile.
    pub fn profile(&self, name: &ProfileName) -> anyhow::Result<Option<Profile>> {
        let Some(bytes) = self.secrets.read(&SecretName::Profile(name.clone()))? else { return Ok(None) };
        let parsed = hamn_core::profile::parse(name.clone(), &bytes)
            .map_err(|error| anyhow::anyhow!("the stored profile is damaged: {error}"))?;
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

/// Why a file is no use, if it is none.
fn lost<T>(read: &Result<Option<T>, String>) -> Option<&str> {
    match read {
        Ok(Some(_)) => None,
        Ok(None) => Some("the file is missing"),
        Err(why) => Some(why),
    }
}

fn read_file<T>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, String>) -> Result<Option<T>, String> {
    match atomic::read(path, LIMIT_BYTES, Trust::Own) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => parse(&bytes).map(Some),
        Err(error) => Err(error.to_string()),
    }
}

fn holds_no_file(directory: &Path) -> bool {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return error.kind() == std::io::ErrorKind::NotFound,
    };
    let counts = |entry: std::fs::DirEntry| {
        !atomic::is_temporary(&entry.file_name()) && !entry.file_type().is_ok_and(|kind| kind.is_dir())
    };
    entries.into_iter().all(|entry| entry.is_ok_and(|entry| !counts(entry)))
}

fn aside(path: &Path, is_there: bool) -> String {
    match atomic::set_aside(path) {
        Ok(aside) => format!(" and was moved to {}", aside.display()),
        Err(error) if is_there => format!(" and could not be moved aside ({error})"),
        Err(_) => String::new(),
    }
}
