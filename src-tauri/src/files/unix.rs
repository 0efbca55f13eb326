//! Tests of rights and links, which each Unix has in the same form.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-11-20 07:08:09 UTC);

#[test]
fn what_is_saved_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let saved = save(Kind::Report, "one", directory.path(), NOW).unwrap();
    assert_eq!(fs::metadata(&saved.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    symlink(&target, directory.path().join("hamn-settings-20261120-070809.json")).unwrap();
    let saved = save(Kind::Settings, "{}", directory.path(), NOW).unwrap();
    assert!(saved.path.ends_with("-2.json") && !target.exists());
}
