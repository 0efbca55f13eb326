//! How the helper ends: by which signal, in which state, with which exit code, and what it leaves in the kernel (BOOT-04).
//! Needs root.
#![cfg(test)]
#![cfg(target_os = "linux")]

use hamn_core::location::{Destination, Target};
use hamn_core::settings::{KillSwitch, Settings};
use hamn_helper::store::Store;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A host whose namespace lasts as long as its first process, which does nothing.
struct Host {
    base: tempfile::TempDir,
    keeper: Child,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl Host {
    fn new(kill_switch: KillSwitch, target: &Target) -> Self {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(&base.path().join("state")).unwrap();
        store.save_settings(&Settings { kill_switch, ..Settings::default() }).unwrap();
        store.save_target(target).unwrap();
        std::fs::write(base.path().join("nft"), "#!/bin/sh\nexec sleep 60\n").unwrap();
        assert!(Command::new("chmod").arg("755").arg(base.path().join("nft")).status().unwrap().success());
        let mut keeper = Command::new("unshare")
            .args(["-n", "-m", "sh", "-c", "ip link set lo up && echo ready && exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 5];
        keeper.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Self { base, keeper }
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-m", "-t", &self.keeper.id().to_string(), program]);
        command
    }

    fn socket(&self) -> PathBuf {
        self.base.path().join("run/helper.sock")
    }

    /// Starts the helper and waits until it has decided.
    fn start(&self) -> Helper<'_> {
        let mut command = self.inside(env!("CARGO_BIN_EXE_hamn-helper"));
        for (option, name) in [("--state-dir", "state"), ("--runtime-dir", "run"), ("--policy-dir", "etc")] {
            command.arg(option).arg(self.base.path().join(name));
        }
        let process = command.stderr(Stdio::piped()).spawn().unwrap();
        let helper = Helper { host: self, process: Some(process) };
        helper.wait_until("it answers", |status| status.contains(r#""sequence":"#) && !status.contains(r#""sequence":0,"#));
        helper
    }

    fn tables(&self) -> String {
        String::from_utf8(self.inside("nft").args(["list", "tables"]).output().unwrap().stdout).unwrap()
    }

    fn hang_nft(&self) {
        let status =
            self.inside("mount").args(["--bind"]).arg(self.base.path().join("nft")).arg("/usr/sbin/nft").status().unwrap();
        assert!(status.success());
    }

    fn mend_nft(&self) {
        assert!(self.inside("umount").arg("/usr/sbin/nft").status().unwrap().success());
    }
}

struct Helper<'a> {
    host: &'a Host,
    process: Option<Child>,
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Helper<'_> {
    fn ask(&self, request: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.host.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "{request} HTTP/1.1\r\nHost: hamn\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn wait_until(&self, what: &str, is: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let status = self.ask("GET /v1/status").unwrap_or_default();
            if is(&status) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{what}: {status}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn in_force(self) -> Self {
        self.wait_until("the policy is in force", |status| status.contains(r#""in_force":true"#));
        self
    }

    /// Ends it; returns its exit and how long that took.
    fn end(mut self, signal: Signal) -> (Output, Duration) {
        let process = self.process.take().unwrap();
        let started = Instant::now();
        kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
        let output = process.wait_with_output().unwrap();
        (output, started.elapsed())
    }
}

fn wanted() -> Target {
    Target::Connected { destination: Destination::Profile { name: "none".to_owned() } }
}

#[test]
fn rules_go_when_nothing_was_wanted_and_stay_otherwise() {
    for (kill_switch, target, closed) in [
        (KillSwitch::WhileConnected, Target::Disconnected, false),
        (KillSwitch::Off, wanted(), false),
        (KillSwitch::WhileConnected, wanted(), true),
        (KillSwitch::Always, Target::Disconnected, true),
    ] {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
            let host = Host::new(kill_switch, &target);
            let (output, took) = host.start().in_force().end(signal);
            let why = format!("{kill_switch:?} {target:?} {signal}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.status.code(), Some(0), "{why}");
            assert!(took < Duration::from_secs(3), "{took:?} {why}");
            assert_eq!(host.tables().contains("hamn"), closed, "{why}");
            assert!(!host.socket().exists(), "{why}");
        }
    }
}

/// A firewall program that hangs: the end comes in time, says that it failed, and what was closed stays closed.
#[test]
fn a_hanging_firewall_program_does_not_hold_up_the_end() {
    let host = Host::new(KillSwitch::Always, &Target::Disconnected);
    let helper = host.start().in_force();
    host.hang_nft();
    // It opens the network, which nft does not do now.
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| helper.ask("POST /v1/restore"));
        helper.wait_until("the other policy is wanted", |status| status.contains(r#""in_force":false"#));
        let started = Instant::now();
        assert!(helper.ask("GET /v1/settings").unwrap().contains("kill_switch"));
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        drop(opening.join().unwrap());
    });
    let (output, took) = helper.end(Signal::SIGTERM);
    assert!(took < Duration::from_millis(9_900), "the service manager kills after ten seconds: {took:?}");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    host.mend_nft();
    assert!(host.tables().contains("hamn"), "not opened half-way");
    // The next one opens: that is the saved intent.
    let helper = host.start().in_force();
    assert!(!host.tables().contains("hamn"));
    assert_eq!(helper.end(Signal::SIGUSR1).0.status.code(), Some(0));
}

/// A second signal while the first one is being obeyed.
#[test]
fn signals_one_after_the_other_end_it_once() {
    let host = Host::new(KillSwitch::Always, &wanted());
    let helper = host.start().in_force();
    let pid = Pid::from_raw(i32::try_from(helper.process.as_ref().unwrap().id()).unwrap());
    for signal in [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT] {
        let _ = kill(pid, signal);
    }
    let (output, _) = helper.end(Signal::SIGTERM);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(host.tables().contains("hamn"));
}

/// A directory that cannot be trusted: it does not start, and what is in the kernel stays.
#[test]
fn a_helper_that_cannot_start_changes_nothing() {
    let host = Host::new(KillSwitch::Always, &Target::Disconnected);
    host.start().in_force().end(Signal::SIGTERM);
    assert!(Command::new("chmod").arg("777").arg(host.base.path().join("state")).status().unwrap().success());
    let mut command = host.inside(env!("CARGO_BIN_EXE_hamn-helper"));
    command.arg("--state-dir").arg(host.base.path().join("state")).arg("--runtime-dir").arg(host.base.path().join("run"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("chmod 0700"));
    assert!(host.tables().contains("hamn"));
}
