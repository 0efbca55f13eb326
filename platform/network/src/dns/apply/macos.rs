//! Resolvers in macOS's dynamic store (SystemConfiguration, `SCDynamicStoreSetValue`), watched, and restored from a note.
//!
//! The values are those of `SCSchemaDefinitions.h`. They live in `configd`'s memory, not in the preferences, so a reboot
//! forgets them; a crash of ours does not, therefore the note is on disk before anything is set.

#![expect(unsafe_code, reason = "CoreFoundation and libproc are foreign functions")]

use crate::dns::plan::DnsPlan;
use crate::dns::plan_macos::{
    Before, Changes, GLOBAL_KEY, Held, KEYS_LIMIT, OUR_KEY, SERVICE_KEYS, Value, restoring, server_addresses,
};
use crate::files;
use crate::keeper::guarded::Difference;
use crate::monitor::bell::Bell;
use core_foundation::array::CFArray;
use core_foundation::base::{CFType, TCFType, ToVoid};
use core_foundation::data::CFData;
use core_foundation::dictionary::CFDictionary;
use core_foundation::number::CFNumber;
use core_foundation::propertylist::{
    CFPropertyList, CFPropertyListSubClass, create_data, create_with_data, kCFPropertyListBinaryFormat_v1_0,
    kCFPropertyListImmutable,
};
use core_foundation::runloop::{CFRunLoop, CFRunLoopRunResult, kCFRunLoopDefaultMode};
use core_foundation::string::CFString;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{OsStr, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use system_configuration::dynamic_store::{SCDynamicStore, SCDynamicStoreBuilder, SCDynamicStoreCallBackContext};

/// Its name, for people and JSON.
pub const BACKEND: &str = "system-configuration";

const SESSION: &str = "Hamn";
const NOTE: &str = "dns-before.json";
const VERSION: u32 = 1;
/// A note is smaller: a value is a few hundred bytes, written as numbers.
const NOTE_LIMIT: u64 = 4 << 20;
/// The run loop comes back this often, to see whether it is still wanted.
const RUN_FOR: Duration = Duration::from_secs(5);
/// The program that answers names on macOS, and keeps a cache that SIGHUP empties (mDNSResponder(8)).
const RESPONDER: &str = "/usr/sbin/mDNSResponder";
/// More processes than this are not looked at.
const PROCESSES_LIMIT: usize = 65_536;

/// Why DNS is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// `configd`.
    #[error("the dynamic store refuses to {action} {key}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// Which key.
        key: String,
    },
    /// A file.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The note of what to restore cannot be understood; it was kept under this name.
    #[error("the note of the original DNS settings cannot be read; it was kept as {}", .0.display())]
    NoteUnreadable(PathBuf),
}

fn store_error(action: &'static str, key: &str) -> DnsError {
    DnsError::Store { action, key: key.to_owned() }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    before: Before,
}

/// The host's DNS. Its calls wait for `configd`, so they are made on a thread of their own.
#[derive(Debug)]
pub struct Dns {
    note: PathBuf,
}

impl Dns {
    /// Notes go into `state_dir`, which exists. Nothing is changed.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { note: state_dir.join(NOTE) }
    }

    /// Makes the plan true.
    ///
    /// # Errors
    /// See [`DnsError`]. What is noted stays noted.
    pub fn set(&self, plan: &DnsPlan) -> Result<(), DnsError> {
        let store = open()?;
        let changes = self.changes(&store, plan)?;
        if changes.is_empty() {
            return Ok(());
        }
        self.save(&changes.before)?;
        for key in &changes.set {
            let wanted = value(plan, key == OUR_KEY);
            if !store.set_raw(key.as_str(), &wanted) {
                return Err(store_error("set", key));
            }
        }
        empty_cache();
        Ok(())
    }

    /// Which services have other resolvers than the plan's. A new service is nobody's tampering.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn difference(&self, plan: &DnsPlan) -> Result<Option<Difference>, DnsError> {
        let changes = self.changes(&open()?, plan)?;
        let tampered = !changes.changed_by_others.is_empty();
        let keys = if tampered { &changes.changed_by_others } else { &changes.set };
        let differs = || Difference { what: format!("DNS settings changed ({BACKEND}: {})", keys.join(", ")), tampered };
        Ok((!changes.is_empty()).then(differs))
    }

    /// True while there is something to restore.
    ///
    /// # Errors
    /// The note cannot be read.
    pub fn is_noted(&self) -> Result<bool, DnsError> {
        self.load().map(|noted| noted.is_some())
    }

    fn changes(&self, store: &SCDynamicStore, plan: &DnsPlan) -> Result<Changes, DnsError> {
        let noted = self.load()?.unwrap_or_default();
        Ok(Changes::toward_ours(&held(store, Some(plan))?, primary(store).as_deref(), &noted))
    }

    /// Puts back what was there before us, also what a crashed process of ours left. `None` when there was nothing.
    ///
    /// # Errors
    /// See [`DnsError`]. The note stays, so that the next try restores.
    pub fn restore(&self) -> Result<Option<String>, DnsError> {
        let Some(noted) = self.load()? else { return Ok(None) };
        let store = open()?;
        let back = restoring(&held(&store, None)?, &noted);
        for (key, value) in &back {
            let done = match value.as_deref().map(from_bytes) {
                Some(Some(value)) => store.set_raw(key.as_str(), &value),
                // A value that cannot be understood must not keep our resolvers in force.
                Some(None) | None => store.remove(key.as_str()),
            };
            if !done {
                return Err(store_error("restore", key));
            }
        }
        self.clear()?;
        empty_cache();
        Ok(Some(format!("DNS settings of {} services restored", back.len())))
    }

    fn load(&self) -> Result<Option<Before>, DnsError> {
        let bytes = match files::read_bounded(&self.note, NOTE_LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.file("read", source)),
        };
        match serde_json::from_slice::<Stored>(&bytes) {
            Ok(Stored { version: VERSION, before }) => Ok(Some(before)),
            Ok(_) | Err(_) => {
                let aside = self.note.with_extension("json.unreadable");
                std::fs::rename(&self.note, &aside).map_err(|source| self.file("set aside", source))?;
                Err(DnsError::NoteUnreadable(aside))
            }
        }
    }

    fn save(&self, before: &Before) -> Result<(), DnsError> {
        let stored = Stored { version: VERSION, before: before.clone() };
        let bytes = serde_json::to_vec(&stored).map_err(|error| self.file("encode", error.into()))?;
        files::write_atomically(&self.note, &bytes, 0o600).map_err(|source| self.file("write", source))
    }

    fn clear(&self) -> Result<(), DnsError> {
        match std::fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.file("remove", error)),
            _ => Ok(()),
        }
    }

    fn file(&self, action: &'static str, source: io::Error) -> DnsError {
        DnsError::File { action, path: self.note.clone(), source }
    }
}

fn open() -> Result<SCDynamicStore, DnsError> {
    SCDynamicStoreBuilder::new(SESSION).build().ok_or_else(|| store_error("open", "a session"))
}

/// All keys with resolvers of services. Without a plan none of what we set is up to date.
fn held(store: &SCDynamicStore, plan: Option<&DnsPlan>) -> Result<BTreeMap<String, Held>, DnsError> {
    let keys = store.get_keys(SERVICE_KEYS).ok_or_else(|| store_error("list", SERVICE_KEYS))?;
    let keys = keys.iter().take(KEYS_LIMIT).map(|key| key.to_string());
    let read = |key: String| {
        let found = store.get(key.as_str())?;
        let held = if plan.is_some_and(|plan| found == value(plan, key == OUR_KEY)) {
            Held::Ours
        } else if is_marked(&found) {
            Held::Stale
        } else {
            Held::Other(to_bytes(&found)?)
        };
        Some((key, held))
    };
    // A key that is gone by now has nothing to say.
    Ok(keys.filter_map(read).collect())
}

/// The id of the primary service (`kSCDynamicStorePropNetPrimaryService`).
fn primary(store: &SCDynamicStore) -> Option<String> {
    let global = store.get(GLOBAL_KEY)?.downcast_into::<CFDictionary>()?;
    let id = string_in(&global, "PrimaryService")?;
    (!id.contains('/')).then_some(id)
}

fn string_in(dictionary: &CFDictionary, key: &str) -> Option<String> {
    let key = CFString::new(key);
    let found = dictionary.find(key.to_void())?;
    // SAFETY: the dictionary holds the value, and this takes a reference of its own.
    let value = unsafe { CFType::wrap_under_get_rule(*found) };
    value.downcast_into::<CFString>().map(|text| text.to_string())
}

/// What a service's key holds while it is ours. The entry of our name is ignored by the system and tells our values from
/// others. Our own service answers for all names (an empty match domain), should the primary one lose its resolvers.
fn value(plan: &DnsPlan, own_service: bool) -> CFPropertyList {
    let strings = |texts: &[String]| {
        let texts: Vec<CFString> = texts.iter().map(|text| CFString::new(text)).collect();
        CFArray::from_CFTypes(&texts).into_CFType()
    };
    let mut entries = vec![
        (CFString::new("ServerAddresses"), strings(&server_addresses(plan))),
        (CFString::new(MARK), CFString::new(plan.interface.as_str()).into_CFType()),
    ];
    if own_service {
        entries.push((CFString::new("SupplementalMatchDomains"), strings(&[String::new()])));
        entries.push((CFString::new("SupplementalMatchDomainsNoSearch"), CFNumber::from(1).into_CFType()));
    }
    CFDictionary::from_CFType_pairs(&entries).into_untyped().into_CFPropertyList()
}

const MARK: &str = "org.hamn.tunnel";

fn is_marked(value: &CFPropertyList) -> bool {
    value.downcast::<CFDictionary>().is_some_and(|dictionary| string_in(&dictionary, MARK).is_some())
}

fn to_bytes(value: &CFPropertyList) -> Option<Value> {
    create_data(value.as_concrete_TypeRef(), kCFPropertyListBinaryFormat_v1_0).ok().map(|data| data.bytes().to_vec())
}

fn from_bytes(bytes: &[u8]) -> Option<CFPropertyList> {
    let (list, _) = create_with_data(CFData::from_buffer(bytes), kCFPropertyListImmutable).ok()?;
    // SAFETY: the function returns an object that is ours to release, never null.
    Some(unsafe { CFPropertyList::wrap_under_create_rule(list) })
}

/// Asks the system's resolver to forget what it learnt from other resolvers. It does so by itself when its servers change;
/// this is for answers that the new servers would give otherwise. Not finding it is no failure.
fn empty_cache() {
    match responder() {
        Some(pid) => {
            if let Err(error) = kill(pid, Signal::SIGHUP) {
                tracing::debug!(%error, "the cache of names is not emptied");
            }
        }
        None => tracing::debug!("no program that answers names was found"),
    }
}

/// The process whose program is [`RESPONDER`]; its file is the system's and cannot be replaced.
fn responder() -> Option<Pid> {
    let mut pids: Vec<c_int> = vec![0; PROCESSES_LIMIT];
    let size = c_int::try_from(size_of_val(pids.as_slice())).ok()?;
    // SAFETY: the buffer has the size that is said and is ours while the call runs.
    let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), size) };
    pids.truncate(usize::try_from(count).ok()?);
    pids.into_iter().find(|pid| program(*pid).as_deref() == Some(Path::new(RESPONDER))).map(Pid::from_raw)
}

fn program(pid: c_int) -> Option<PathBuf> {
    let mut path = [0_u8; 4096];
    let size = u32::try_from(path.len()).ok()?;
    // SAFETY: the buffer has the size that is said and is ours while the call runs.
    let length = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), size) };
    let path = path.get(..usize::try_from(length).ok()?)?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// Rings a bell when any service's resolvers, or the primary service, are others. Its thread runs a run loop, which the framework
/// needs for that (`SCDynamicStoreSetNotificationKeys`).
#[derive(Debug)]
pub struct StoreWatch {
    stop: Arc<AtomicBool>,
    run_loop: Option<CFRunLoop>,
    thread: Option<JoinHandle<()>>,
}

impl StoreWatch {
    /// Begins to watch. Read everything once after this.
    ///
    /// # Errors
    /// No thread, or `configd` refuses.
    pub fn new(bell: Arc<Bell>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("dns-store".to_owned()).spawn(move || follow(bell, &stopped, &ready))?;
        let mut watch = Self { stop, run_loop: None, thread: Some(thread) };
        match started.recv_timeout(RUN_FOR) {
            Ok(Some(run_loop)) => {
                watch.run_loop = Some(run_loop);
                Ok(watch)
            }
            Ok(None) => Err(io::Error::other("the dynamic store cannot be watched")),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Drop for StoreWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // The thread ends by itself; without a run loop it is not there, or `configd` hangs and it is given up.
        if let (Some(run_loop), Some(thread)) = (self.run_loop.take(), self.thread.take()) {
            run_loop.stop();
            drop(thread);
        }
    }
}

/// Hands over the run loop when it listens, or nothing when it cannot.
fn follow(bell: Arc<Bell>, stop: &AtomicBool, ready: &std::sync::mpsc::SyncSender<Option<CFRunLoop>>) {
    let context = SCDynamicStoreCallBackContext { callout: tell, info: bell };
    let store = SCDynamicStoreBuilder::new(SESSION).callback_context(context).build();
    let source = store.as_ref().and_then(|store| {
        let keys = CFArray::from_CFTypes(&[CFString::new(GLOBAL_KEY)]);
        let patterns = CFArray::from_CFTypes(&[CFString::new(SERVICE_KEYS)]);
        store.set_notification_keys(&keys, &patterns).then(|| store.create_run_loop_source()).flatten()
    });
    let Some(source) = source else {
        // Nobody waits any more when this fails.
        drop(ready.send(None));
        return;
    };
    let run_loop = CFRunLoop::get_current();
    // SAFETY: a constant of the framework.
    let mode = unsafe { kCFRunLoopDefaultMode };
    run_loop.add_source(&source, mode);
    drop(ready.send(Some(run_loop)));
    while !stop.load(Ordering::Acquire) {
        if CFRunLoop::run_in_mode(mode, RUN_FOR, false) == CFRunLoopRunResult::Finished {
            tracing::warn!("the dynamic store is watched no more");
            return;
        }
    }
}

fn tell(_store: SCDynamicStore, _keys: CFArray<CFString>, bell: &mut Arc<Bell>) {
    bell.ring();
}
