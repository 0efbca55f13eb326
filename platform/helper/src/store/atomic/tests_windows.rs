//! Files under Windows: replaced whole, also when somebody reads the old one at first, and what others could change is refused.

use super::*;

#[test]
fn a_file_is_replaced_whole_and_no_temporary_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    write(&path, b"one").unwrap();
    // Somebody looks at the old file just now, as a virus scanner does.
    let reader = apply::open_file(&path).unwrap();
    let looking = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(60));
        drop(reader);
    });
    write(&path, b"two").unwrap();
    looking.join().unwrap();
    assert_eq!(read(&path, 10, Trust::Own).unwrap().unwrap(), b"two");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(read(&path, 2, Trust::Own).is_err());
    assert!(read(directory.path(), 10, Trust::Own).is_err());
    assert!(read(&directory.path().join("none"), 1, Trust::Own).unwrap().is_none());
}

#[test]
fn a_directory_in_the_way_leaves_no_temporary() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("x"), b"").unwrap();
    assert!(write(&path, b"one").is_err());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

// FS-01
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
    assert_eq!(std::fs::read_to_string(directory.path().join("settings.json.unreadable")).unwrap(), "19");
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
