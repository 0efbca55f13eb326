//! Policies on Windows: the registry, where group policy and device management write, beside the files of the
//! administrator's directory. Only administrators can write below `HKLM\SOFTWARE\Policies`; the system sees to that.
//!
//! What stands in `HKLM\SOFTWARE\Policies\Hamn` is locked; what stands in its subkey `Recommended` is where users start.
//! Which types of values mean what is in [`super::values`].
#![expect(unsafe_code, reason = "waiting for a change of the registry has no safe wrapper")]

use super::values::{MAX_VALUES, RegistryKey, RegistryValue, document, of_registry};
use anyhow::{Context, bail};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::null;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use windows_registry::{Key, LOCAL_MACHINE};
use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::System::Registry::{
    KEY_READ, REG_NOTIFY_CHANGE_LAST_SET, REG_NOTIFY_CHANGE_NAME, RegNotifyChangeKeyValue,
};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};

/// Where policies of all programs are.
const ALL: &str = "SOFTWARE\\Policies";
/// Ours, below [`ALL`].
const OURS: &str = "SOFTWARE\\Policies\\Hamn";
const RECOMMENDED: &str = "Recommended";
/// Where the installer keeps what its command line said. Weaker than the policies, which are read after it: it owns these values
/// and removes them, group policy owns the others.
const INSTALLER: &str = "SOFTWARE\\Hamn\\Policy";
/// `HRESULT_FROM_WIN32(ERROR_FILE_NOT_FOUND)`.
const FILE_NOT_FOUND: u32 = 0x8007_0002;
/// A program that writes policies writes many values one after the other.
const SETTLE: Duration = Duration::from_millis(250);

/// Name and content of each policy.
pub(super) fn documents(policy_dir: &Path) -> anyhow::Result<Vec<(String, Option<Vec<u8>>)>> {
    let mut found = super::policy_files(policy_dir)?;
    let places = [
        ("installer", INSTALLER.to_owned(), true),
        ("installer, recommended", format!("{INSTALLER}\\{RECOMMENDED}"), false),
        ("registry", OURS.to_owned(), true),
        ("registry, recommended", format!("{OURS}\\{RECOMMENDED}"), false),
    ];
    for (name, path, locked) in places {
        if let Some(key) = open(&path)? {
            found.push((name.to_owned(), document(&of_registry(&contents(&key)?, locked))));
        }
    }
    Ok(found)
}

fn open(path: &str) -> anyhow::Result<Option<Key>> {
    match LOCAL_MACHINE.open(path) {
        Ok(key) => Ok(Some(key)),
        Err(error) if error.code().0.cast_unsigned() == FILE_NOT_FOUND => Ok(None),
        Err(error) => Err(error).with_context(|| format!("open HKLM\\{path}")),
    }
}

fn contents(key: &Key) -> anyhow::Result<RegistryKey> {
    let values = values(key)?;
    let mut lists = Vec::new();
    for name in key.keys().context("list the policies")? {
        if name.eq_ignore_ascii_case(RECOMMENDED) {
            continue;
        }
        if lists.len() >= MAX_VALUES {
            bail!("more than {MAX_VALUES} lists of policies");
        }
        let list = key.open(&name).with_context(|| format!("open the list {name}"))?;
        lists.push((name, self::values(&list)?));
    }
    Ok(RegistryKey { values, lists })
}

/// Every value. One that changes while it is read ends the listing early; the change is told and everything read again.
fn values(key: &Key) -> anyhow::Result<Vec<RegistryValue>> {
    let found = key.values().context("list the values")?.take(MAX_VALUES.saturating_add(1));
    Ok(found.map(|(name, value)| RegistryValue { name, kind: value.ty().into(), bytes: value.to_vec() }).collect())
}

/// Tells when policies change (`RegNotifyChangeKeyValue`), those of other programs included: our key may not be there yet.
pub struct Changes(Arc<Notify>);

impl Changes {
    /// Watches from now on: what changes after this returns is told.
    ///
    /// # Errors
    /// The registry cannot be watched.
    pub fn watch() -> io::Result<Self> {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let (begun, beginning) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("policies".to_owned()).spawn(move || {
            let watch = Watch::begin();
            let _ = begun.send(watch.as_ref().map(|_| ()).map_err(|error| io::Error::new(error.kind(), error.to_string())));
            if let Ok(watch) = watch {
                watch.tell(&told);
            }
        })?;
        beginning.recv().map_err(io::Error::other)??;
        Ok(Self(changed))
    }

    /// Waits for the next change.
    pub async fn next(&mut self) {
        self.0.notified().await;
    }
}

/// A key and the event that its changes set. Belongs to the thread that asked: the system forgets the wish with it.
struct Watch {
    key: Key,
    event: OwnedHandle,
}

impl Watch {
    fn begin() -> io::Result<Self> {
        // A new system may not have it yet.
        let key =
            LOCAL_MACHINE.options().access(KEY_READ).create().open(ALL).map_err(|error| io::Error::other(error.message()))?;
        // SAFETY: an event without a name, which resets itself.
        let event = unsafe { CreateEventW(null(), 0, 0, null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle is ours alone and open.
        let watch = Self { key, event: unsafe { OwnedHandle::from_raw_handle(event) } };
        watch.ask()?;
        Ok(watch)
    }

    /// For the next change, once.
    fn ask(&self) -> io::Result<()> {
        let what = REG_NOTIFY_CHANGE_NAME | REG_NOTIFY_CHANGE_LAST_SET;
        // SAFETY: key and event are open.
        let result = unsafe { RegNotifyChangeKeyValue(self.key.as_raw(), 1, what, self.event.as_raw_handle(), 1) };
        if result == 0 { Ok(()) } else { Err(crate::host::security::of_code(result)) }
    }

    /// Until the system no longer lets it.
    fn tell(&self, changed: &Notify) {
        loop {
            // SAFETY: the event is open.
            if unsafe { WaitForSingleObject(self.event.as_raw_handle(), INFINITE) } != WAIT_OBJECT_0 {
                return tracing::warn!(error = %io::Error::last_os_error(), "policies are no longer watched");
            }
            // Before the pause, so that a change in it is noticed.
            if let Err(error) = self.ask() {
                return tracing::warn!(%error, "policies are no longer watched");
            }
            std::thread::sleep(SETTLE);
            changed.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
