//! `/etc/resolv.conf` itself: replaced atomically, restored byte for byte, also when it is a symbolic link or a bind mount.

use super::DnsError;
use super::journal::{FileState, Journal, Undo};
use crate::dns::plan::{DnsPlan, MARKER, is_ours, render};
use crate::files;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{Gid, Uid};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// A larger `resolv.conf` is not one (glibc reads at most a few lines).
pub const LIMIT: u64 = 256 * 1024;

/// What the path holds.
///
/// # Errors
/// It cannot be read, is too large, or is neither a file nor a link.
pub fn read(path: &Path) -> Result<FileState, DnsError> {
    read_state(path).map_err(|source| DnsError::file("read", path, source))
}

fn read_state(path: &Path) -> io::Result<FileState> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FileState::Absent),
        Err(error) => return Err(error),
    };
    if metadata.is_symlink() {
        return Ok(FileState::Symlink { target: std::fs::read_link(path)? });
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let content = files::read_bounded(path, LIMIT)?;
    Ok(FileState::Regular { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid(), content })
}

/// True when the file is exactly ours.
fn holds(state: &FileState, ours: &[u8]) -> bool {
    match state {
        FileState::Regular { content, .. } => content == ours,
        FileState::Absent | FileState::Symlink { .. } => false,
    }
}

/// True when the file was written by us, perhaps with something added.
fn descends_from_ours(state: &FileState) -> bool {
    match state {
        FileState::Regular { content, .. } => is_ours(content),
        FileState::Absent | FileState::Symlink { .. } => false,
    }
}

/// True when the file may be what a crash left of ours: a bind mount is written in place. An empty file is no use to anybody.
fn cut_short(state: &FileState) -> bool {
    match state {
        FileState::Regular { content, .. } => MARKER.as_bytes().starts_with(content),
        FileState::Absent | FileState::Symlink { .. } => false,
    }
}

/// Sets our file. What is there and is not ours is noted first, so the newest file of others is what comes back.
/// Returns false when nothing had to be done.
///
/// # Errors
/// Nothing is changed unless the note is on disk.
pub fn set(path: &Path, journal: &Journal, plan: &DnsPlan) -> Result<bool, DnsError> {
    set_over(read(path)?, path, journal, plan)
}

/// As `set`, but leaves what somebody may be in the middle of writing in place: an event follows when it is closed. One look
/// decides both: between two, a writer could empty the file.
///
/// # Errors
/// As for `set`.
pub fn set_when_settled(path: &Path, journal: &Journal, plan: &DnsPlan) -> Result<bool, DnsError> {
    let state = read(path)?;
    // A link means that perhaps the host changed hands.
    if matches!(state, FileState::Symlink { .. }) || cut_short(&state) {
        return Ok(false);
    }
    set_over(state, path, journal, plan)
}

fn set_over(state: FileState, path: &Path, journal: &Journal, plan: &DnsPlan) -> Result<bool, DnsError> {
    let ours = render(plan);
    if holds(&state, ours.as_bytes()) {
        return Ok(false);
    }
    let known = descends_from_ours(&state) || cut_short(&state) && matches!(journal.load()?, Some(Undo::StaticFile { .. }));
    if !known {
        journal.save(Undo::StaticFile { before: state })?;
    }
    let replaced = swap_in(path, ours.as_bytes()).map_err(|source| DnsError::file("write", path, source))?;
    if let Some(newer) = replaced.filter(|state| !descends_from_ours(state) && !cut_short(state)) {
        // Written between the look and the swap, or the same as noted.
        journal.save(Undo::StaticFile { before: newer })?;
    }
    if holds(&read(path)?, ours.as_bytes()) { Ok(true) } else { Err(DnsError::ReadsBackDifferently(path.display().to_string())) }
}

/// Puts back what was noted. A file that somebody else wrote since is newer and stays.
///
/// # Errors
/// It cannot be written; the note stays.
pub fn restore(path: &Path, before: &FileState) -> Result<String, DnsError> {
    let current = read(path)?;
    if !descends_from_ours(&current) && !cut_short(&current) {
        return Ok(format!("{} was replaced by another program and left alone", path.display()));
    }
    let put_back = match before {
        FileState::Absent => std::fs::remove_file(path),
        FileState::Symlink { target } => write_symlink(path, target),
        FileState::Regular { mode, uid, gid, content } => write_regular(path, content, *mode, Some((*uid, *gid))),
    };
    put_back.map_err(|source| DnsError::file("restore", path, source))?;
    Ok(format!("{} restored", path.display()))
}

/// True when the file is ours for this plan.
///
/// # Errors
/// It cannot be read.
pub fn is_set(path: &Path, plan: &DnsPlan) -> Result<bool, DnsError> {
    Ok(holds(&read(path)?, render(plan).as_bytes()))
}

/// Exchanges our file and what is there, in one step. Says what was there, where the file system can exchange.
fn swap_in(path: &Path, ours: &[u8]) -> io::Result<Option<FileState>> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::Builder::new().prefix(".hamn-resolv-").tempfile_in(directory)?;
    temporary.write_all(ours)?;
    temporary.as_file().set_permissions(Permissions::from_mode(0o644))?;
    temporary.as_file().sync_all()?;
    let exchange = RenameFlags::RENAME_EXCHANGE;
    if renameat2(AT_FDCWD, temporary.path(), AT_FDCWD, path, exchange).is_err() {
        // Nothing is there, or the file system or a mount forbids it.
        write_regular(path, ours, 0o644, None)?;
        return Ok(None);
    }
    let replaced = read_state(temporary.path());
    files::sync_directory(directory)?;
    replaced.map(Some)
}

fn write_regular(path: &Path, content: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::Builder::new().prefix(".hamn-resolv-").tempfile_in(directory)?;
    temporary.write_all(content)?;
    if let Some(owner) = owner {
        give(temporary.as_file(), owner);
    }
    temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    match temporary.persist(path) {
        Ok(_) => files::sync_directory(directory),
        // A bind mount cannot be renamed over. Containers have their resolv.conf that way.
        Err(error) if is_mount(&error.error) => write_in_place(path, content),
        Err(error) => Err(error.error),
    }
}

/// Gives the file to its owner. Where we may not, which is so under systemd, the content is worth more than the owner.
fn give(file: &File, (uid, gid): (u32, u32)) {
    // Not even tried when it is so already: the unit's system call filter refuses it.
    let is_so = file.metadata().is_ok_and(|metadata| (metadata.uid(), metadata.gid()) == (uid, gid));
    if !is_so && let Err(error) = nix::unistd::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
        tracing::warn!(%error, uid, gid, "resolv.conf is restored, but not its owner");
    }
}

fn is_mount(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy || error.kind() == io::ErrorKind::CrossesDevices
}

/// Not atomic: a reader in between sees a short file, a crash in between leaves one, and the note still restores it.
fn write_in_place(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn write_symlink(path: &Path, target: &Path) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // A private directory, so that the temporary name cannot be guessed or taken.
    let temporary = tempfile::Builder::new().prefix(".hamn-resolv-").tempdir_in(directory)?;
    let link = temporary.path().join("link");
    std::os::unix::fs::symlink(target, &link)?;
    std::fs::rename(&link, path)?;
    files::sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamn_core::net::InterfaceName;

    fn plan(count: u8) -> DnsPlan {
        let resolvers = (1..=count).map(|n| std::net::Ipv4Addr::new(10, 64, 0, n).into()).collect();
        DnsPlan { interface: InterfaceName::tunnel(), resolvers }
    }

    fn round_trip(prepare: impl FnOnce(&Path)) {
        let (etc, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = etc.path().join("resolv.conf");
        prepare(&path);
        let before = read(&path).unwrap();
        let journal = Journal::new(state.path());
        assert!(set(&path, &journal, &plan(1)).unwrap());
        assert!(!set(&path, &journal, &plan(1)).unwrap());
        assert!(set(&path, &journal, &plan(10)).unwrap());
        assert!(is_set(&path, &plan(10)).unwrap());
        let Some(Undo::StaticFile { before: noted }) = journal.load().unwrap() else { panic!("a note") };
        assert_eq!(noted, before);
        restore(&path, &noted).unwrap();
        assert_eq!(read(&path).unwrap(), before);
        assert!(std::fs::read_dir(etc.path()).unwrap().count() <= 2, "no temporary file is left");
    }

    #[test]
    fn dns_05_files_links_and_nothing_come_back_byte_for_byte() {
        round_trip(|path| {
            let content: Vec<u8> = (0..10).flat_map(|n| format!("nameserver 192.0.2.{n}\n").into_bytes()).chain([0xff]).collect();
            std::fs::write(path, content).unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
        });
        round_trip(|path| std::fs::write(path, format!("search {}\n", "long.example ".repeat(300))).unwrap());
        round_trip(|path| std::fs::write(path, "").unwrap());
        round_trip(|path| std::os::unix::fs::symlink("../run/somewhere/resolv.conf", path).unwrap());
        round_trip(|_| {});
    }

    #[test]
    fn the_newest_file_of_others_comes_back_and_lines_added_to_ours_are_no_such_file() {
        let (etc, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = etc.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let journal = Journal::new(state.path());
        set(&path, &journal, &plan(1)).unwrap();
        std::fs::write(&path, "nameserver 192.0.2.2\n").unwrap();
        assert!(set(&path, &journal, &plan(1)).unwrap());
        std::fs::write(&path, render(&plan(1)) + "nameserver 192.0.2.3\n").unwrap();
        assert!(set(&path, &journal, &plan(1)).unwrap());
        let Some(Undo::StaticFile { before }) = journal.load().unwrap() else { panic!("a note") };
        restore(&path, &before).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"nameserver 192.0.2.2\n");
        assert!(restore(&path, &FileState::Absent).unwrap().contains("left alone"), "what others wrote stays");
    }

    #[test]
    fn what_somebody_may_be_writing_is_left_alone_until_it_is_whole() {
        let (etc, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, journal) = (etc.path().join("resolv.conf"), Journal::new(state.path()));
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        set(&path, &journal, &plan(1)).unwrap();
        for begun in ["", &MARKER[..3]] {
            std::fs::write(&path, begun).unwrap();
            assert!(!set_when_settled(&path, &journal, &plan(1)).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), begun);
        }
        std::fs::write(&path, "nameserver 192.0.2.2\n").unwrap();
        assert!(set_when_settled(&path, &journal, &plan(1)).unwrap());
        assert!(is_set(&path, &plan(1)).unwrap());
        let Some(Undo::StaticFile { before }) = journal.load().unwrap() else { panic!("a note") };
        assert!(matches!(before, FileState::Regular { content, .. } if content == b"nameserver 192.0.2.2\n"));
    }

    #[test]
    fn a_huge_file_or_a_directory_is_refused_untouched() {
        let (etc, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = etc.path().join("resolv.conf");
        let huge = vec![b'#'; usize::try_from(LIMIT).unwrap() + 1];
        std::fs::write(&path, &huge).unwrap();
        assert!(set(&path, &Journal::new(state.path()), &plan(1)).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), huge);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(set(&path, &Journal::new(state.path()), &plan(1)).is_err());
    }
}
