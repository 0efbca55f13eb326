//! The file of the preferences: versioned, private, replaced in one step, and never a reason not to start.

use super::Preferences;
use crate::private_file;
use hamn_ipc::{Problem, ProblemCode};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Version of the file; grows when an older window could misunderstand it.
const VERSION: u64 = 1;
/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 * 1024;

/// The preferences and where they are kept.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    current: Mutex<Preferences>,
}

impl Store {
    /// Reads `window.json` in `directory`. A file that cannot be used is moved aside, and the window starts with defaults.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let path = directory.join("window.json");
        let preferences = match read(&path) {
            Ok(preferences) => preferences.unwrap_or_default(),
            Err(why) => {
                let aside = path.with_extension("json.unreadable");
                let moved = std::fs::rename(&path, &aside).is_ok();
                tracing::warn!(why, moved, "the window's preferences cannot be used; starting with defaults");
                Preferences::default()
            }
        };
        Self { path, current: Mutex::new(preferences) }
    }

    /// The preferences.
    #[must_use]
    pub fn current(&self) -> Preferences {
        self.lock().clone()
    }

    /// Changes the preferences and keeps them; `None` from `change` leaves everything as it is.
    ///
    /// # Errors
    /// `change` refuses, or the file cannot be written. The preferences stay as they were then.
    pub fn change(
        &self,
        change: impl FnOnce(&Preferences) -> Result<Option<Preferences>, Problem>,
    ) -> Result<Preferences, Problem> {
        let mut current = self.lock();
        if let Some(next) = change(&current)? {
            write(&self.path, &next).map_err(|why| {
                Problem::with_detail(ProblemCode::Internal, format!("{}: {why}", self.path.display()))
                    .action("Make sure that your configuration directory can be written, then try again.")
            })?;
            *current = next;
        }
        Ok(current.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Preferences> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` when there is no file.
fn read(path: &Path) -> Result<Option<Preferences>, &'static str> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err("it cannot be opened"),
    };
    let mut text = String::new();
    let length = file.take(LARGEST + 1).read_to_string(&mut text).map_err(|_| "it is not text")?;
    if u64::try_from(length).unwrap_or(u64::MAX) > LARGEST {
        return Err("it is too large");
    }
    let mut stored: Map<String, Value> = serde_json::from_str(&text).map_err(|_| "it is not a JSON object")?;
    if stored.remove("version").and_then(|version| version.as_u64()) != Some(VERSION) {
        return Err("it is of another version");
    }
    // A window of the same version may know fewer fields or more.
    let mut all = match serde_json::to_value(Preferences::default()) {
        Ok(Value::Object(all)) => all,
        Ok(_) | Err(_) => return Err("the defaults are not an object"),
    };
    for (key, value) in stored {
        if let Some(field) = all.get_mut(&key) {
            *field = value;
        }
    }
    let preferences: Preferences = serde_json::from_value(Value::Object(all)).map_err(|_| "a value has the wrong type")?;
    preferences.check().map_err(|_| "a value is out of its bounds")?;
    Ok(Some(preferences))
}

fn write(path: &Path, preferences: &Preferences) -> std::io::Result<()> {
    let mut all = Map::new();
    all.insert("version".into(), VERSION.into());
    if let Value::Object(fields) = serde_json::to_value(preferences)? {
        all.extend(fields);
    }
    let mut text = serde_json::to_vec_pretty(&all)?;
    text.push(b'\n');
    private_file::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preferences::{PreferencesPatch, Theme};
    use hamn_core::location::Destination;
    use std::fs;

    fn dark() -> PreferencesPatch {
        PreferencesPatch { theme: Some(Theme::Dark), ..PreferencesPatch::default() }
    }

    #[test]
    fn preferences_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("hamn");
        let store = Store::open(&config);
        assert_eq!(store.current(), Preferences::default());
        store.change(|old| old.with(dark()).map(Some)).unwrap();
        store.change(|old| Ok(old.with_recent(&Destination::Best))).unwrap();
        let again = Store::open(&config).current();
        assert_eq!((again.theme, again.recents.as_slice()), (Theme::Dark, [Destination::Best].as_slice()));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_moved_aside() {
        let large = format!("{{\"version\":1,\"x\":\"{}\"}}", "x".repeat(300_000));
        let texts: [&[u8]; 8] = [
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            br#"{"theme":"dark"}"#,
            br#"{"version":2,"theme":"dark"}"#,
            br#"{"version":1,"text_scale_pct":9000}"#,
            large.as_bytes(),
        ];
        for text in texts {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("window.json");
            fs::write(&path, text).unwrap();
            let store = Store::open(directory.path());
            assert_eq!(store.current(), Preferences::default());
            assert!(!path.exists());
            assert_eq!(fs::read(directory.path().join("window.json.unreadable")).unwrap(), text);
            store.change(|old| old.with(dark()).map(Some)).unwrap();
            assert_eq!(Store::open(directory.path()).current().theme, Theme::Dark);
        }
    }

    #[test]
    fn fields_of_another_release_are_no_reason_to_forget_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("window.json"), br#"{"version":1,"theme":"light","of_a_later_release":[1]}"#).unwrap();
        let preferences = Store::open(directory.path()).current();
        assert_eq!(preferences, Preferences { theme: Theme::Light, ..Preferences::default() });
    }

    #[test]
    fn what_cannot_be_kept_is_not_shown_as_changed() {
        let directory = tempfile::tempdir().unwrap();
        // A file stands where the directory must be.
        let config = directory.path().join("hamn");
        fs::write(&config, b"").unwrap();
        let store = Store::open(&config);
        assert_eq!(store.change(|old| old.with(dark()).map(Some)).unwrap_err().code, ProblemCode::Internal);
        assert_eq!(store.current(), Preferences::default());
    }
}
