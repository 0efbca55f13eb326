//! FS-01, FS-02, BOOT-02: whatever happens to the files, early boot and the helper's start are closed whenever they might
//! have to be, and early boot is never more open than the helper (G6, G7, G15, G16).
#![cfg(test)]
#![cfg(target_os = "linux")]

use hamn_core::event::Event;
use hamn_core::location::{Destination, Target};
use hamn_core::machine::Machine;
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::time::Now;
use hamn_helper::arguments::Arguments;
use hamn_helper::store::Store;
use hamn_helper::{administrator, early_boot};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Directories of one machine.
struct Host {
    base: tempfile::TempDir,
}

impl Host {
    /// As the helper left it with these settings and this intent.
    fn new(kill_switch: KillSwitch, auto_connect: bool, target: &Target) -> Self {
        let host = Self::empty();
        let store = host.store().unwrap();
        store.save_settings(&Settings { kill_switch, auto_connect, ..Settings::default() }).unwrap();
        store.save_target(target).unwrap();
        host
    }

    fn empty() -> Self {
        let base = tempfile::tempdir().unwrap();
        for (name, mode) in [("run", 0o755), ("etc", 0o755), ("etc/policy.d", 0o755)] {
            fs::create_dir(base.path().join(name)).unwrap();
            fs::set_permissions(base.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        Self { base }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn arguments(&self) -> Arguments {
        Arguments {
            state_dir: self.path("state"),
            runtime_dir: self.path("run"),
            policy_dir: self.path("etc"),
            provider: None,
            restore_network: false,
            early_boot: true,
            system: hamn_helper::host::Options {},
        }
    }

    fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.path("state"))?.with_runtime_dir(&self.path("run")))
    }

    fn early_boot_is_closed(&self) -> bool {
        early_boot::is_closed(&self.arguments())
    }

    /// What the helper does with these files: `None` when it refuses to start and the kernel keeps what it has.
    fn helper_is_closed(&self) -> Option<bool> {
        let (managed, _) = administrator::policy(&self.path("etc"));
        let found = self.store().ok()?.load(&managed.defaults());
        let mut machine = Machine::new(managed.apply(&found.settings).settings, Vec::new(), 1);
        machine.handle(Event::Started { target: found.target }, Now::default());
        assert!(!machine.is_closed() || machine.policy().is_some_and(|policy| !policy.is_open()), "closed means enforced");
        Some(machine.is_closed())
    }

    /// Both are closed, now and at every later start until the user decides.
    fn assert_closed(&self, why: &str) {
        assert!(self.early_boot_is_closed(), "{why}: early boot is open");
        for start in 1..=3 {
            assert_ne!(self.helper_is_closed(), Some(false), "{why}: start {start} is open");
            assert!(self.early_boot_is_closed(), "{why}: early boot is open after start {start}");
        }
    }

    /// Early boot is at least as closed as the helper.
    fn assert_consistent(&self, why: &str) -> Option<bool> {
        let early = self.early_boot_is_closed();
        let helper = self.helper_is_closed();
        assert!(early || helper == Some(false), "{why}: early boot is open, the helper says {helper:?}");
        helper
    }
}

fn wanted() -> Target {
    Target::Connected { destination: Destination::Best }
}

/// Every combination of what may have been saved, and whether it is closed.
fn saved() -> Vec<(KillSwitch, bool, Target, bool)> {
    let mut all = Vec::new();
    for kill_switch in [KillSwitch::Off, KillSwitch::WhileConnected, KillSwitch::Always] {
        for auto_connect in [false, true] {
            for target in [Target::Disconnected, wanted()] {
                let closed = match kill_switch {
                    KillSwitch::Off => false,
                    KillSwitch::WhileConnected => auto_connect || target != Target::Disconnected,
                    KillSwitch::Always => true,
                };
                all.push((kill_switch, auto_connect, target, closed));
            }
        }
    }
    all
}

#[test]
fn files_that_are_whole_mean_what_they_say() {
    for (kill_switch, auto_connect, target, closed) in saved() {
        let why = format!("{kill_switch:?} {auto_connect} {target:?}");
        let host = Host::new(kill_switch, auto_connect, &target);
        assert_eq!(host.early_boot_is_closed(), closed, "{why}");
        assert_eq!(host.helper_is_closed(), Some(closed), "{why}");
    }
    let new = Host::empty();
    assert!(!new.early_boot_is_closed(), "a new installation is open");
    assert!(!new.path("state").exists(), "early boot creates nothing");
    assert_eq!(new.helper_is_closed(), Some(false));
    assert_eq!(new.helper_is_closed(), Some(false), "and stays so");
}

type Damage = (&'static str, fn(&Path));

/// What can happen to one file. After each of these nothing can be read from it.
const DAMAGES: [Damage; 10] = [
    ("removed", |path| fs::remove_file(path).unwrap()),
    ("garbage", |path| fs::write(path, b"\x00\xff{").unwrap()),
    ("newer version", |path| fs::write(path, br#"{"version":4000000000}"#).unwrap()),
    ("version zero", |path| fs::write(path, br#"{"version":0,"want":"disconnected"}"#).unwrap()),
    ("too long", |path| fs::write(path, vec![b' '; 70_000]).unwrap()),
    ("link", |path| {
        let elsewhere = path.with_file_name("elsewhere");
        fs::rename(path, &elsewhere).unwrap();
        symlink(elsewhere, path).unwrap();
    }),
    ("fifo", |path| {
        fs::remove_file(path).unwrap();
        nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    }),
    ("directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("owner", |path| nix::unistd::chown(path, Some(65534.into()), None).unwrap()),
    ("writable for others", |path| fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap()),
];

/// G16: a file that cannot be read may have said "closed".
#[test]
fn every_damage_to_either_file_is_closed_and_stays_so() {
    for (kill_switch, auto_connect, target, _) in saved() {
        for (what, damage) in DAMAGES {
            for file in ["settings.json", "target.json"] {
                // A wanted tunnel that is still known holds by itself, unless the kill switch is known to be off.
                let host = Host::new(kill_switch, auto_connect, &target);
                damage(&host.path("state").join(file));
                host.assert_closed(&format!("{kill_switch:?} {auto_connect} {target:?}, {file} {what}"));
            }
        }
    }
}

#[test]
fn damage_to_both_files_at_once_or_one_after_the_other_is_closed() {
    for (first, one) in DAMAGES {
        for (second, two) in DAMAGES {
            let host = Host::new(KillSwitch::Always, false, &Target::Disconnected);
            // Something was imported, so this is no new installation.
            fs::write(host.path("state/profiles/work.conf"), b"").unwrap();
            one(&host.path("state/settings.json"));
            two(&host.path("state/target.json"));
            host.assert_closed(&format!("settings {first}, target {second}"));
            let host = Host::new(KillSwitch::WhileConnected, false, &wanted());
            fs::write(host.path("state/device.json"), b"{}").unwrap();
            one(&host.path("state/target.json"));
            host.assert_closed(&format!("target {first}"));
            two(&host.path("state/settings.json"));
            host.assert_closed(&format!("target {first}, later settings {second}"));
        }
    }
}

/// Cut at every byte, and with every bit flipped: closed, or read as something that is well-formed.
#[test]
fn cut_and_flipped_files_are_never_more_open_at_boot_than_in_the_helper() {
    let host = Host::new(KillSwitch::Always, false, &Target::Disconnected);
    for file in ["settings.json", "target.json"] {
        let path = host.path("state").join(file);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            // Without its last line feed it is still whole.
            if length + 1 < whole.len() {
                host.assert_closed(&format!("{file} cut at {length}"));
            }
            restore(&host, file, &whole);
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            host.assert_consistent(&format!("{file} bit {bit}"));
            restore(&host, file, &whole);
        }
    }
}

fn restore(host: &Host, file: &str, whole: &[u8]) {
    fs::write(host.path("state").join(file), whole).unwrap();
    let kept = fs::read_dir(host.path("state")).unwrap().count();
    assert!(kept < 20, "{kept} files: what is set aside is bounded");
}

/// FS-03: a state directory that cannot be trusted: the helper refuses to start, and early boot has closed.
#[test]
fn a_state_directory_of_the_wrong_kind_is_closed() {
    let open = || Host::new(KillSwitch::WhileConnected, false, &Target::Disconnected);
    let host = open();
    fs::set_permissions(host.path("state"), Permissions::from_mode(0o777)).unwrap();
    assert_eq!((host.early_boot_is_closed(), host.helper_is_closed()), (true, None));
    let host = open();
    nix::unistd::chown(&host.path("state"), Some(65534.into()), None).unwrap();
    assert_eq!((host.early_boot_is_closed(), host.helper_is_closed()), (true, None));
    let host = open();
    fs::rename(host.path("state"), host.path("elsewhere")).unwrap();
    symlink(host.path("elsewhere"), host.path("state")).unwrap();
    assert_eq!((host.early_boot_is_closed(), host.helper_is_closed()), (true, None));
    let host = Host::empty();
    symlink(host.path("nowhere"), host.path("state")).unwrap();
    assert_eq!((host.early_boot_is_closed(), host.helper_is_closed()), (true, None));
    let host = Host::empty();
    fs::write(host.path("state"), b"").unwrap();
    assert_eq!((host.early_boot_is_closed(), host.helper_is_closed()), (true, None));
}

type PolicyDamage = (&'static str, fn(&Host));

/// G15: a policy that is broken, or that others can write, locks down; one that is whole is followed.
#[test]
fn broken_policies_are_closed_and_policies_count_at_boot() {
    let broken: [PolicyDamage; 9] = [
        ("not JSON", |host| fs::write(host.path("etc/policy.d/a.json"), b"{").unwrap()),
        ("empty", |host| fs::write(host.path("etc/policy.d/a.json"), b"").unwrap()),
        ("wrong type", |host| fs::write(host.path("etc/policy.d/a.json"), br#"{"lockdown":{"value":7}}"#).unwrap()),
        ("writable", |host| {
            fs::write(host.path("etc/policy.d/a.json"), b"{}").unwrap();
            fs::set_permissions(host.path("etc/policy.d/a.json"), Permissions::from_mode(0o666)).unwrap();
        }),
        ("link", |host| symlink("/dev/null", host.path("etc/policy.d/a.json")).unwrap()),
        ("fifo", |host| nix::unistd::mkfifo(&host.path("etc/policy.d/a.json"), Mode::S_IRUSR).unwrap()),
        ("directory is writable", |host| fs::set_permissions(host.path("etc/policy.d"), Permissions::from_mode(0o777)).unwrap()),
        ("the one above is writable", |host| fs::set_permissions(host.path("etc"), Permissions::from_mode(0o777)).unwrap()),
        ("the one above is a file", |host| {
            fs::remove_dir_all(host.path("etc")).unwrap();
            fs::write(host.path("etc"), b"").unwrap();
        }),
    ];
    for (what, damage) in broken {
        for host in [Host::empty(), Host::new(KillSwitch::Off, false, &Target::Disconnected)] {
            damage(&host);
            host.assert_closed(what);
        }
    }
    for (policy, closed) in [
        (r#"{"lockdown":{"value":true}}"#, true),
        (r#"{"kill_switch":{"value":"always","locked":true}}"#, true),
        (r#"{"always_on":{"value":true}}"#, true),
        (r#"{"ipv6":{"value":false}}"#, false),
    ] {
        let host = Host::new(KillSwitch::WhileConnected, false, &Target::Disconnected);
        fs::write(host.path("etc/policy.d/a.json"), policy).unwrap();
        assert_eq!(host.early_boot_is_closed(), closed, "{policy}");
        assert_eq!(host.assert_consistent(policy), Some(closed), "{policy}");
    }
    // A value that is not locked is where a new installation starts, from its first boot.
    let host = Host::empty();
    fs::write(host.path("etc/policy.d/a.json"), r#"{"kill_switch":{"value":"always","locked":false}}"#).unwrap();
    host.assert_closed("a new installation that starts in lockdown");
}

/// Runs `work` with a mount namespace of its own.
fn in_private_mounts(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn small_disk(at: &Path) {
    fs::create_dir(at).unwrap();
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=700")).unwrap();
}

fn read_only(at: &Path, read_only: bool) {
    let flags = if read_only { MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY } else { MsFlags::MS_REMOUNT };
    let none: Option<&str> = None;
    mount(none, at, none, flags, none).unwrap();
}

/// FS-02, ENOSPC: what the user wants is refused by the disk, and the helper crashes: it is not more open afterwards.
#[test]
fn an_intent_that_the_disk_refuses_outlives_a_crash() {
    in_private_mounts(|| {
        let host = Host::empty();
        small_disk(&host.path("state"));
        let store = host.store().unwrap();
        let _ = store.load(&Settings::default());
        let filler = host.path("state/filler");
        let mut content = vec![0; 1 << 20];
        while fs::write(&filler, &content).is_err() {
            content.truncate(content.len() / 2);
            if content.is_empty() {
                break;
            }
        }
        // Until not one more page fits.
        let mut number = 0;
        while fs::write(host.path("state").join(format!("filler-{number}")), [0; 4096]).is_ok() {
            number += 1;
        }
        let saved = store.save_target(&wanted());
        assert!(saved.is_err(), "the user is told that it is not saved");
        host.assert_closed("the disk is full");
        let found = host.store().unwrap().load(&Settings::default());
        assert_eq!(found.target, Some(wanted()), "and it is known where to");
        // A decision that is saved ends it.
        for entry in fs::read_dir(host.path("state"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("filler"))
        {
            fs::remove_file(entry.path()).unwrap();
        }
        store.save_target(&Target::Disconnected).unwrap();
        assert_eq!(host.helper_is_closed(), Some(false));
        assert!(!host.early_boot_is_closed());
        assert_eq!(fs::read_dir(host.path("run")).unwrap().count(), 0);
    });
}

/// FS-02, EROFS: a damaged file that cannot even be moved aside, and an intent that cannot be written.
#[test]
fn a_read_only_disk_is_not_more_open() {
    in_private_mounts(|| {
        for file in ["settings.json", "target.json"] {
            let host = Host::empty();
            small_disk(&host.path("state"));
            let store = host.store().unwrap();
            store.save_settings(&Settings { kill_switch: KillSwitch::Always, ..Settings::default() }).unwrap();
            store.save_target(&Target::Disconnected).unwrap();
            fs::write(host.path("state").join(file), b"{\"version\":").unwrap();
            read_only(&host.path("state"), true);
            host.assert_closed(&format!("{file} is damaged on a read-only disk"));
            read_only(&host.path("state"), false);
        }
        let host = Host::empty();
        small_disk(&host.path("state"));
        let store = host.store().unwrap();
        let _ = store.load(&Settings::default());
        read_only(&host.path("state"), true);
        assert!(store.save_target(&wanted()).is_err());
        host.assert_closed("wanted on a read-only disk");
        assert!(store.save_target(&Target::Disconnected).is_err());
        assert_eq!(host.helper_is_closed(), Some(false), "the newest word counts");
        // An unsaved intent that is damaged is closed, and an older one on the disk does not count again.
        fs::write(host.path("run/intent.json"), b"{").unwrap();
        host.assert_closed("a damaged unsaved intent");
    });
}

/// The state directory vanishes while the helper runs.
#[test]
fn an_intent_outlives_its_directory_until_the_next_boot() {
    let host = Host::new(KillSwitch::WhileConnected, false, &Target::Disconnected);
    let store = host.store().unwrap();
    fs::remove_dir_all(host.path("state")).unwrap();
    assert!(store.save_target(&wanted()).is_err());
    host.assert_closed("the directory is gone");
}
