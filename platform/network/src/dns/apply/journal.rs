//! The note of what DNS was before us. It is written before anything is changed and removed after all is restored, so that
//! a crash in between loses nothing: the next start restores from it.

use super::DnsError;
use crate::dns::plan::Backend;
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "dns-before.json";
const VERSION: u32 = 1;
/// A note is smaller: the largest part is a `resolv.conf` of at most `static_file::LIMIT` bytes as numbers.
const LIMIT: u64 = 2 << 20;

/// What to undo, by backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "backend")]
pub enum Undo {
    /// Settings of our link, and links that were default routes for DNS.
    Resolved {
        /// Our link.
        interface: String,
        /// Links whose default-route flag was taken away.
        others: Vec<Link>,
    },
    /// The global DNS configuration.
    NetworkManager {
        /// What it was; empty when there was none.
        previous: GlobalDns,
    },
    /// The record of our link.
    Resolvconf {
        /// The name under which it is kept.
        record: String,
    },
    /// The file.
    StaticFile {
        /// What was there.
        before: FileState,
    },
}

impl Undo {
    /// The backend that undoes it.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        match self {
            Self::Resolved { .. } => Backend::Resolved,
            Self::NetworkManager { .. } => Backend::NetworkManager,
            Self::Resolvconf { .. } => Backend::Resolvconf,
            Self::StaticFile { .. } => Backend::StaticFile,
        }
    }
}

/// A link, by both of its identities: an index is reused, a name can be given anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
}

/// NetworkManager's `GlobalDnsConfiguration`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GlobalDns {
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
    /// Per domain: servers and options.
    pub domains: BTreeMap<String, GlobalDomain>,
}

/// Servers and options of one domain.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GlobalDomain {
    /// Addresses.
    pub servers: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// What `/etc/resolv.conf` is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FileState {
    /// Nothing.
    Absent,
    /// A symbolic link.
    Symlink {
        /// Its target as written.
        target: PathBuf,
    },
    /// A file.
    Regular {
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Every byte.
        content: Vec<u8>,
    },
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    undo: Undo,
}

/// The note on disk.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The note in this directory, which exists.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(NAME) }
    }

    /// What is to be undone, if anything. A note that cannot be read is kept aside for people.
    ///
    /// # Errors
    /// There is a note but it cannot be read.
    pub fn load(&self) -> Result<Option<Undo>, DnsError> {
        let bytes = match files::read_bounded(&self.path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DnsError::file("read", &self.path, source)),
        };
        match serde_json::from_slice::<Stored>(&bytes) {
            Ok(Stored { version: VERSION, undo }) => Ok(Some(undo)),
            Ok(_) | Err(_) => {
                let aside = self.path.with_extension("json.unreadable");
                std::fs::rename(&self.path, &aside).map_err(|source| DnsError::file("set aside", &self.path, source))?;
                Err(DnsError::NoteUnreadable(aside))
            }
        }
    }

    /// Writes the note and waits for the disk.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn save(&self, undo: Undo) -> Result<(), DnsError> {
        let bytes = serde_json::to_vec(&Stored { version: VERSION, undo })
            .map_err(|error| DnsError::file("encode", &self.path, error.into()))?;
        files::write_atomically(&self.path, &bytes, 0o600).map_err(|source| DnsError::file("write", &self.path, source))
    }

    /// Removes the note: all is restored.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clear(&self) -> Result<(), DnsError> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(DnsError::file("remove", &self.path, source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_written_and_a_broken_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path());
        assert_eq!(journal.load().unwrap(), None);
        let before = FileState::Regular { mode: 0o644, uid: 0, gid: 0, content: vec![0xff, 0, b'\n'] };
        let undo = Undo::StaticFile { before };
        journal.save(undo.clone()).unwrap();
        assert_eq!(journal.load().unwrap(), Some(undo));
        let bytes = std::fs::read(&journal.path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&journal.path, &bytes[..length]).unwrap();
            assert!(matches!(journal.load(), Err(DnsError::NoteUnreadable(_))), "truncated to {length}");
        }
        assert_eq!(journal.load().unwrap(), None);
        journal.clear().unwrap();
    }
}
