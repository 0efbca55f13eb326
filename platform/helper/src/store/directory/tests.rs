//! Directories under a Unix: modes, owners and links.

use super::*;
use std::os::unix::fs::PermissionsExt;

// FS-03
#[test]
fn open_linked_and_foreign_directories_are_refused_with_the_way_out() {
    let base = tempfile::tempdir().unwrap();
    let made = base.path().join("made");
    private(&made).unwrap();
    private(&made).unwrap();
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o777)).unwrap();
    let told = private(&made).unwrap_err().to_string();
    assert!(told.contains("chmod 0700"), "{told}");
    let link = base.path().join("link");
    std::os::unix::fs::symlink(base.path(), &link).unwrap();
    assert!(private(&link).unwrap_err().to_string().contains("symbolic link"));
    let dangling = base.path().join("dangling");
    std::os::unix::fs::symlink(base.path().join("nowhere"), &dangling).unwrap();
    assert!(private(&dangling).is_err());
    if nix::unistd::geteuid().is_root() {
        let foreign = base.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        nix::unistd::chown(&foreign, Some(65534.into()), None).unwrap();
        assert!(private(&foreign).unwrap_err().to_string().contains("chown"));
    }
}
