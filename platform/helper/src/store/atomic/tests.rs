//! Files under a Unix: links, pipes, modes and owners.

use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_file_is_replaced_whole_with_mode_0600_and_no_temporary_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    write(&path, b"one").unwrap();
    write(&path, b"two").unwrap();
    assert_eq!(read(&path, 10, Trust::Own).unwrap().unwrap(), b"two");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn links_fifos_directories_foreign_and_long_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    write(&target, b"0123456789").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(read(&link, 100, Trust::Own).is_err());
    assert!(read(&target, 9, Trust::Own).is_err());
    assert!(read(&target, 10, Trust::Own).unwrap().is_some());
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o620)).unwrap();
    assert!(read(&target, 10, Trust::Own).is_err());
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
    if nix::unistd::geteuid().is_root() {
        nix::unistd::chown(&target, Some(65534.into()), None).unwrap();
        assert!(read(&target, 10, Trust::Own).is_err());
    }
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(read(&fifo, 100, Trust::Own).is_err());
    assert!(read(directory.path(), 100, Trust::Own).is_err());
    assert!(read(&directory.path().join("none"), 1, Trust::Own).unwrap().is_none());
}

// FS-01: nothing that could not be read is lost at once, and a machine that breaks its files for ever fills no disk.
#[test]
fn unreadable_files_are_kept_up_to_a_bound_and_the_first_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings.json");
    for number in 0..20 {
        std::fs::write(&path, number.to_string()).unwrap();
        set_aside(&path).unwrap();
        assert!(!path.exists());
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), MAX_ASIDE);
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(read("settings.json.unreadable"), "19");
    assert_eq!(["1", "2", "3", "4"].map(|number| read(&format!("settings.json.unreadable-{number}"))), ["0", "1", "2", "18"]);
    assert!(set_aside(&path).is_err(), "nothing to move");
    // A link is moved itself, not what it points to.
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    let aside = set_aside(&path).unwrap();
    assert!(std::fs::symlink_metadata(aside).unwrap().is_symlink());
}

#[test]
fn what_a_crash_left_half_written_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".new-abc"), b"a key").unwrap();
    std::fs::write(directory.path().join("kept"), b"").unwrap();
    remove_temporaries(directory.path()).unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["kept"]);
}
