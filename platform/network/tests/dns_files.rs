//! `resolv.conf` where nobody else answers for it: set, guarded against rewriting, restored after a crash and from a bind mount.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod routes_lab;

use hamn_core::event::HostEvent;
use hamn_core::policy::NetworkPolicy;
use nix::mount::{MsFlags, mount};
use routes_lab::{Lab, blocked, connected, event, eventually, read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const OURS: &str = "nameserver 10.64.0.1\n";

fn is_ours(path: &Path) -> bool {
    read(path).ends_with(OURS)
}

/// Kind, mode and content, or the target.
fn state(path: &Path) -> (bool, u32, Vec<u8>, Option<std::path::PathBuf>) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    (metadata.is_symlink(), metadata.mode(), std::fs::read(path).unwrap_or_default(), std::fs::read_link(path).ok())
}

#[test]
fn dns_08_a_file_and_a_link_come_back_also_after_a_crash() {
    let lab = Lab::new();
    let path = lab.resolv_conf();
    lab.client.block_on(async || {
        for crash in [false, true] {
            for kind in ["file", "link"] {
                let _ = std::fs::remove_file(&path);
                if kind == "file" {
                    std::fs::write(&path, b"# by hand\nnameserver 192.168.1.53\n\xff").unwrap();
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
                } else {
                    symlink("../run/somewhere/resolv.conf", &path).unwrap();
                }
                let before = state(&path);
                let (mut network, _events) = lab.network().await;
                network.apply(&connected(|_| {})).await.unwrap();
                assert_eq!(network.dns_backend(), Some("static-file"));
                assert!(is_ours(&path), "{}", read(&path));
                if crash {
                    drop(network);
                    network = lab.network().await.0;
                    assert!(is_ours(&path), "a start alone changes nothing");
                    network.apply(&blocked()).await.unwrap();
                    assert!(is_ours(&path), "nor does a policy that is not open");
                }
                network.apply(&NetworkPolicy::Open).await.unwrap();
                assert_eq!(state(&path), before, "{kind}, crash: {crash}");
                assert_eq!(network.dns_backend(), None);
                assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no file is left behind");
            }
        }
    });
}

#[test]
fn a_bind_mounted_file_is_written_in_place_and_comes_back() {
    let lab = Lab::new();
    let path = lab.resolv_conf();
    let below = lab.dir.path().join("below");
    std::fs::write(&path, "").unwrap();
    std::fs::write(&below, "nameserver 192.168.1.53\n").unwrap();
    lab.client.block_on(async || {
        let none: Option<&str> = None;
        mount(Some(&below), &path, none, MsFlags::MS_BIND, none).unwrap();
        assert_eq!(read(&path), "nameserver 192.168.1.53\n");
        let (mut network, mut events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        assert!(is_ours(&below), "{}", read(&below));
        std::fs::write(&path, "nameserver 192.168.1.54\n").unwrap();
        event(&mut events, |event| matches!(event, HostEvent::Tampered { .. }).then_some(())).await;
        assert!(is_ours(&path));
        drop(network);
        // A crash in the middle of writing in place leaves the start of our file, or none of it.
        std::fs::write(&path, "").unwrap();
        let (mut network, _events) = lab.network().await;
        network.apply(&NetworkPolicy::Open).await.unwrap();
        assert_eq!(read(&below), "nameserver 192.168.1.54\n");
    });
}

/// Writes in place and replaces, in turn, until told to stop. Says how often.
fn rewrite(path: &Path, stop: &AtomicBool) -> u32 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let (content, new) = (format!("nameserver 192.0.2.{}\n", count % 250), path.with_extension("new"));
        if count % 2 == 0 {
            std::fs::write(path, content).unwrap();
        } else {
            std::fs::write(&new, content).unwrap();
            std::fs::rename(&new, path).unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    count
}

#[test]
fn dns_07_a_file_that_is_rewritten_every_100_ms_stays_ours_and_the_newest_comes_back() {
    let lab = Lab::new();
    let path = lab.resolv_conf();
    std::fs::write(&path, "nameserver 192.168.1.53\n").unwrap();
    lab.client.block_on(async || {
        let (mut network, mut events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (stop, path) = (Arc::clone(&stop), path.clone());
            move || rewrite(&path, &stop)
        });
        let end = Instant::now() + Duration::from_secs(3);
        let mut longest = Duration::ZERO;
        while Instant::now() < end {
            longest = longest.max(eventually("ours again", || is_ours(&path)).await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.store(true, Ordering::Relaxed);
        let rewritten = writer.join().unwrap();
        println!("{rewritten} times rewritten, never longer than {longest:?} another's");
        assert!(longest <= Duration::from_secs(1), "{longest:?}");
        assert!(rewritten > 15);
        eventually("ours in the end", || is_ours(&path)).await;
        event(&mut events, |event| matches!(event, HostEvent::Tampered { .. }).then_some(())).await;
        network.apply(&NetworkPolicy::Open).await.unwrap();
        assert_eq!(read(&path), format!("nameserver 192.0.2.{}\n", rewritten % 250));
    });
}

#[test]
fn a_removed_file_and_a_new_link_are_undone_too() {
    let lab = Lab::new();
    let path = lab.resolv_conf();
    std::fs::write(&path, "nameserver 192.168.1.53\n").unwrap();
    lab.client.block_on(async || {
        let (mut network, _events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        eventually("ours again", || is_ours(&path)).await;
        symlink("/nonexistent/resolv.conf", path.with_extension("new")).unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        eventually("ours again", || is_ours(&path)).await;
        network.apply(&NetworkPolicy::Open).await.unwrap();
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("/nonexistent/resolv.conf"));
    });
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_and_opens_nothing() {
    let lab = Lab::new();
    let path = lab.resolv_conf();
    std::fs::create_dir(&path).unwrap();
    lab.client.block_on(async || {
        let (mut network, _events) = lab.network().await;
        let error = network.apply(&connected(|_| {})).await.unwrap_err();
        assert!(matches!(error, hamn_network::ApplyError::Dns(_)), "{error}");
        let findings = network.verify().await;
        assert!(findings.iter().all(|finding| finding.ok == (finding.what != "DNS")), "{findings:?}");
        std::fs::remove_dir(&path).unwrap();
        network.apply(&connected(|_| {})).await.unwrap();
        assert!(is_ours(&path));
    });
}
