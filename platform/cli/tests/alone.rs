//! The program itself where no helper runs, the same on every system: version, help, exit codes, where text and JSON go.
#![cfg(test)]

use serde_json::Value;
use std::process::{Command, Output, Stdio};

fn hamn(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hamn"));
    // A name that no system gives a helper.
    let nowhere = if cfg!(windows) { r"\\.\pipe\hamn-nobody-listens" } else { "/nonexistent/helper.sock" };
    command.args(arguments).env("HAMN_SOCKET", nowhere).stdin(Stdio::null()).output().unwrap()
}

fn code(arguments: &[&str]) -> Option<i32> {
    hamn(arguments).status.code()
}

#[test]
fn the_version_is_the_packages() {
    let output = hamn(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), concat!("hamn ", env!("CARGO_PKG_VERSION")));
    assert_eq!(output.stderr, b"");
}

#[test]
fn each_end_has_its_code() {
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["completions", "bash"]), Some(0));
    assert_eq!(code(&["--no-such-option"]), Some(2));
    assert_eq!(code(&["no-such-command"]), Some(2));
    for command in [&["status"][..], &["login", "-"], &["connect", "se"], &["verify"], &["settings", "get"], &["events"]] {
        assert_eq!(code(command), Some(3), "{command:?}");
    }
}

#[test]
fn with_json_a_missing_helper_is_one_object_on_standard_output() {
    let output = hamn(&["status", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((text.lines().count(), output.stderr.as_slice()), (1, &b""[..]), "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["code"], "helper_unreachable");
    let output = hamn(&["status"]);
    assert_eq!(output.stdout, b"");
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("hamn: "));
}
