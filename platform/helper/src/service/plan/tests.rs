//! The service as a whole, and which programs can be one. Snapshots are read on the system on which they are written.

use super::*;

#[test]
fn the_service_is_as_it_was_decided() {
    insta::assert_json_snapshot!(ServicePlan::new("C:\\Program Files\\Hamn\\hamn-helper.exe").unwrap());
}

#[test]
fn only_an_absolute_path_is_a_program() {
    assert_eq!(ServicePlan::new("D:\\Hamn\\hamn-helper.exe").unwrap().image_path, "D:\\Hamn\\hamn-helper.exe --service");
    for bad in [
        "",
        "hamn-helper.exe",
        "\\\\server\\share\\x.exe",
        "C:x.exe",
        "C:\\a\"b.exe",
        "C:\\a\nb.exe",
        "%TEMP%\\x.exe",
        "C:\\%TEMP%\\x.exe",
    ] {
        assert!(ServicePlan::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn privileges_end_with_two_zeros() {
    let wide = ServicePlan::new("C:\\x.exe").unwrap().privileges_multi_string();
    assert!(wide.ends_with(&[0, 0]) && !wide.ends_with(&[0, 0, 0]));
    let text = String::from_utf16(&wide).unwrap();
    assert_eq!(text.trim_end_matches('\0').split('\0').count(), 3);
}
