//! The helper as a process on Windows (or Wine): its pipe answers `hamn.exe`, it never claims protection that it does not
//! have, and settings and intent survive being killed at any moment. Needs `hamn.exe` beside the helper: build it with
//! `cargo build -p hamn-cli` for the same target first.
#![cfg(test)]
#![cfg(windows)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const HELPER: &str = env!("CARGO_BIN_EXE_hamn-helper");

/// The directories of one computer and the name of its pipe.
struct Host {
    base: tempfile::TempDir,
    pipe: String,
}

/// A helper in the foreground; killed when the test ends.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Host {
    fn new(name: &str) -> Self {
        let base = tempfile::tempdir().unwrap();
        Self { base, pipe: format!("\\\\.\\pipe\\hamn-test-{name}-{}", std::process::id()) }
    }

    fn state(&self) -> PathBuf {
        self.base.path().join("state")
    }

    /// A pipe that nobody reads would stop the helper once it is full.
    fn log(&self) -> std::fs::File {
        std::fs::OpenOptions::new().create(true).append(true).open(self.base.path().join("log")).unwrap()
    }

    fn start(&self) -> Helper {
        let mut command = Command::new(HELPER);
        command.arg("--foreground").env("HAMN_SOCKET", &self.pipe);
        for (option, path) in [("--state-dir", "state"), ("--runtime-dir", "state\\run"), ("--policy-dir", "etc")] {
            command.arg(option).arg(self.base.path().join(path));
        }
        Helper(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log()).spawn().unwrap())
    }

    fn hamn(&self, arguments: &[&str]) -> Output {
        let program = Path::new(HELPER).with_file_name("hamn.exe");
        assert!(program.is_file(), "{} is missing: cargo build -p hamn-cli for this target", program.display());
        Command::new(program).args(arguments).env("HAMN_SOCKET", &self.pipe).stdin(Stdio::null()).output().unwrap()
    }

    /// Waits until the helper answers.
    fn status(&self, helper: &mut Helper) -> serde_json::Value {
        let started = Instant::now();
        loop {
            let output = self.hamn(&["status", "--json"]);
            if let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout)
                && status.get("sequence").is_some()
            {
                return status;
            }
            if let Some(code) = helper.0.try_wait().unwrap() {
                let said = std::fs::read_to_string(self.base.path().join("log")).unwrap();
                panic!("the helper ended ({code}): {said}");
            }
            assert!(started.elapsed() < Duration::from_secs(40), "no answer: {}", text(&output));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn text(output: &Output) -> String {
    format!("{} {} {}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_command_line_talks_to_the_helper_over_its_pipe() {
    let host = Host::new("talk");
    assert!(text(&host.hamn(&["--version"])).contains(env!("CARGO_PKG_VERSION")));
    let nobody = host.hamn(&["status", "--json"]);
    assert!(!nobody.status.success(), "{}", text(&nobody));
    let mut helper = host.start();
    let status = host.status(&mut helper);
    assert_eq!(status["state"], "disconnected", "{status:#}");
    assert_eq!(status["protected"], false, "{status:#}");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    if is_wine() {
        // It gives the name of a pipe to everybody (`FILE_FLAG_FIRST_PIPE_INSTANCE` is not known to it).
        return;
    }
    let mut second = host.start();
    let started = Instant::now();
    while second.0.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(30), "two helpers on one pipe");
        std::thread::sleep(Duration::from_millis(50));
    }
    host.status(&mut helper);
}

/// Wine leaves its own programs in the system's directory.
fn is_wine() -> bool {
    Path::new("C:\\windows\\system32\\winecfg.exe").exists()
}

/// Lockdown on a system whose filters cannot be set (Wine has none): the status says that it is not in force, and why.
#[test]
fn protection_that_could_not_be_put_in_force_is_never_claimed() {
    let host = Host::new("claim");
    let mut helper = host.start();
    host.status(&mut helper);
    let changed = host.hamn(&["settings", "set", "kill-switch", "always", "--json"]);
    let started = Instant::now();
    loop {
        let status = host.status(&mut helper);
        let protection = &status["protection"];
        let (in_force, protected) = (protection["in_force"] == true, status["protected"] == true);
        assert!(!protected || in_force, "{status:#}");
        if in_force || protection["error"].is_string() {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "neither in force nor an error: {status:#} {}", text(&changed));
        std::thread::sleep(Duration::from_millis(100));
    }
}

// FS-01, FS-02: what was acknowledged is there, what was not is old or new, and nothing between.
#[test]
fn settings_and_intent_survive_being_killed_at_any_moment() {
    let host = Host::new("kill");
    let mut acknowledged = None;
    for round in 0..6_u64 {
        let mut helper = host.start();
        host.status(&mut helper);
        let output = host.hamn(&["settings", "get", "--json"]);
        let settings = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(mtu) = acknowledged {
            assert!(settings.contains(&format!("{mtu}")), "round {round}: {mtu} was acknowledged: {settings}");
        }
        let mtu = 1300 + round;
        let pipe = host.pipe.clone();
        let program = Path::new(HELPER).with_file_name("hamn.exe");
        let writer = std::thread::spawn(move || {
            let arguments = ["settings", "set", "mtu", &mtu.to_string()];
            Command::new(program).args(arguments).env("HAMN_SOCKET", pipe).stdin(Stdio::null()).output().unwrap().status.success()
        });
        // Each round another moment: before, in and after the writing.
        std::thread::sleep(Duration::from_millis(60 * round));
        helper.0.kill().unwrap();
        helper.0.wait().unwrap();
        let written = writer.join().unwrap();
        let kept = std::fs::read_to_string(host.state().join("settings.json")).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&kept).unwrap();
        assert!(parsed.is_object(), "{kept}");
        serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(host.state().join("target.json")).unwrap()).unwrap();
        // Not acknowledged and yet written is as good as not written; the next round expects what is there.
        acknowledged = if written || kept.contains(&mtu.to_string()) { Some(mtu) } else { acknowledged };
        assert!(!written || kept.contains(&mtu.to_string()), "acknowledged and lost: {kept}");
    }
    let mut helper = host.start();
    host.status(&mut helper);
    let names: Vec<String> = std::fs::read_dir(host.state())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("unreadable") || name.starts_with(".new-"))
        .collect();
    assert_eq!(names, Vec::<String>::new());
}

// FS-01, G16
#[test]
fn a_damaged_intent_is_closed_and_told() {
    let host = Host::new("damaged");
    {
        let mut helper = host.start();
        host.status(&mut helper);
    }
    std::fs::write(host.state().join("target.json"), "{").unwrap();
    let mut helper = host.start();
    let status = host.status(&mut helper);
    assert_eq!(status["state"], "blocked", "{status:#}");
    assert!(host.state().join("target.json.unreadable").exists());
}

/// Registered and removed twice, as an installer that repairs does it. What this system does not know is told.
#[test]
fn the_service_is_installed_and_removed_as_often_as_one_likes() {
    let helper = |argument: &str| Command::new(HELPER).arg(argument).stdin(Stdio::null()).output().unwrap();
    let image_path = || {
        let output = Command::new("reg")
            .args(["query", "HKLM\\SYSTEM\\CurrentControlSet\\Services\\HamnHelper", "/v", "ImagePath"])
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if image_path().is_some() {
        // An installed Hamn is not to be taken away by a test.
        return;
    }
    for command in ["install-service", "--configure-service", "install-service"] {
        let output = helper(command);
        assert!(output.status.success(), "{command}: {}", text(&output));
    }
    let registered = image_path().expect("the service is registered");
    assert!(registered.contains("hamn-helper.exe") && registered.contains("--service"), "{registered}");
    for _ in 0..2 {
        let output = helper("uninstall-service");
        assert!(output.status.success(), "{}", text(&output));
    }
    assert_eq!(image_path(), None);
    // Started by hand, it says how it is meant.
    let output = helper("--service");
    assert!(!output.status.success() && text(&output).contains("--foreground"), "{}", text(&output));
}
