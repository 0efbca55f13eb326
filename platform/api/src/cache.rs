//! The client's files: the last good list with its signature, the highest serial, resolved names. Atomic, 0600, in a 0700 directory.

#[cfg(unix)]
#[path = "cache/unix.rs"]
mod files;
#[cfg(windows)]
#[path = "cache/windows.rs"]
mod files;

use crate::list::{MAX_LIST, MAX_SIGNATURE};
use bytes::Bytes;
use files::{create_private_dir, create_private_file, replace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const LIST: &str = "servers.list";
const SERIAL: &str = "servers.serial";
const NAMES: &str = "names.json";

/// First line of the list file; the exact signed bytes follow it.
#[derive(Serialize, Deserialize)]
struct Head {
    etag: Option<String>,
    minisig: String,
}

/// A list as it lies on disk, not yet verified.
pub(crate) struct CachedBytes {
    pub etag: Option<String>,
    pub minisig: String,
    pub list: Bytes,
}

pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        create_private_dir(&dir)?;
        Ok(Self { dir })
    }

    pub(crate) fn read_list(&self) -> Option<CachedBytes> {
        let bytes = read_bounded(&self.dir.join(LIST), MAX_LIST + 4 * MAX_SIGNATURE).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(bytes.get(..end)?).ok()?;
        let list = Bytes::from(bytes).slice(end.checked_add(1)?..);
        Some(CachedBytes { etag: head.etag, minisig: head.minisig, list })
    }

    /// List and signature are one file, so that a crash cannot leave one without the other.
    pub(crate) fn write_list(&self, etag: Option<&str>, minisig: &str, list: &[u8]) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(&Head { etag: etag.map(str::to_owned), minisig: minisig.to_owned() })?;
        bytes.push(b'\n');
        bytes.extend_from_slice(list);
        self.write(LIST, &bytes)
    }

    /// Kept apart from the list: losing the list must not allow an older one.
    pub(crate) fn read_serial(&self) -> u64 {
        read_bounded(&self.dir.join(SERIAL), 32)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn write_serial(&self, serial: u64) -> io::Result<()> {
        self.write(SERIAL, serial.to_string().as_bytes())
    }

    pub(crate) fn read_names(&self) -> BTreeMap<String, Vec<IpAddr>> {
        read_bounded(&self.dir.join(NAMES), 16 * 1024)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    pub(crate) fn write_names(&self, names: &BTreeMap<String, Vec<IpAddr>>) -> io::Result<()> {
        self.write(NAMES, &serde_json::to_vec(names)?)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join(format!(".{name}.new"));
        let mut file = create_private_file(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Windows moves no file that is open.
        drop(file);
        replace(&temporary, &self.dir.join(name))
    }
}

fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}
