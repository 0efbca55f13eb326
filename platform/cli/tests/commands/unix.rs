//! The program run by other users, on Linux and macOS. Needs root.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

/// A directory that every user can enter: the build directory may lie in a closed home.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("hamn").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_told_what_to_do() {
    let fake = Fake::start(Script::default());
    let socket = fake.socket.clone();
    let directory = open_directory();
    let program = directory.path().join("hamn");
    std::fs::copy(env!("CARGO_BIN_EXE_hamn"), &program).unwrap();
    let run = tokio::task::spawn_blocking(move || {
        run_program(&program, &socket, &["status"], "", |command| {
            command.uid(65534).gid(65534);
        })
    })
    .await
    .unwrap();
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains("group `hamn`"), "{run:?}");
}

#[test]
fn restore_works_with_the_helper_dead_and_runs_only_a_trusted_program() {
    let directory = open_directory();
    let own = directory.path().join("hamn");
    std::fs::copy(env!("CARGO_BIN_EXE_hamn"), &own).unwrap();
    let run = |user: u32| {
        let mut command = Command::new(&own);
        command
            .args(["restore-network", "--json", "--state-dir", "/tmp/s"])
            .env_clear()
            .env("HAMN_SOCKET", "/nonexistent/helper.sock");
        let output = command.env("SECRET", "x").current_dir("/").uid(user).gid(user).output().unwrap();
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    if !Path::new("/usr/lib/hamn/hamn-helper").exists() {
        assert_eq!(run(0).0, 5, "no program");
    }
    let program = directory.path().join("hamn-helper");
    let witness = directory.path().join("witness");
    std::fs::write(&program, format!("#!/bin/sh\n/bin/echo \"$@\" \"[$SECRET]\" > {}\n", witness.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (code, output) = run(65534);
    assert_eq!((code, output["code"].as_str()), (4, Some("not_allowed")));
    assert!(!witness.exists());
    let (code, output) = run(0);
    assert_eq!(code, 0, "{output}");
    fits("restore-network", &output);
    assert_eq!(output["by_running_helper"], false);
    assert_eq!(
        std::fs::read_to_string(&witness).unwrap(),
        "--restore-network --state-dir /tmp/s --runtime-dir /nonexistent []\n"
    );
    std::fs::write(&program, "#!/bin/sh\necho no rights >&2\nexit 1\n").unwrap();
    let (code, output) = run(0);
    assert_eq!(code, 1);
    assert!(output["detail"].as_str().unwrap().contains("no rights"), "{output}");
}
