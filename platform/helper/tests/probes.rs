//! The probes of the self-test against real interfaces: they find a leak where there is one, they pass under lockdown, and
//! they never pass for a reason that is not the firewall's. Needs root.
#![cfg(test)]
#![cfg(target_os = "linux")]

use hamn_helper::probe::{Fate, ask_resolver, physical_interfaces, probe_all};
use hamn_network::firewall::apply::linux::Nft;
use hamn_network::firewall::ruleset::Ruleset;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

fn sh(lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Runs `work` in a network namespace of its own, gone when the thread ends.
fn in_namespace(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link set lo up");
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn lock_down() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Nft::find().unwrap().apply(&Ruleset::lockdown()).await.unwrap() });
}

fn targets() -> Vec<(&'static str, SocketAddr)> {
    vec![
        ("v4", "203.0.113.254:443".parse().unwrap()),
        ("v4 dns", "203.0.113.254:53".parse().unwrap()),
        ("v6", "[2001:db8:ffff::fe]:443".parse().unwrap()),
        ("v6 dns", "[2001:db8:ffff::fe]:53".parse().unwrap()),
    ]
}

fn fates() -> Vec<(String, &'static str, Fate)> {
    probe_all(&targets()).unwrap().into_iter().map(|outcome| (outcome.interface, outcome.what, outcome.fate)).collect()
}

const WITH_ROUTES: &str = "ip link add eth0 type veth peer name peer0
    ip addr add 10.9.0.2/24 dev eth0
    ip -6 addr add 2001:db8:9::2/64 dev eth0 nodad
    ip link set peer0 up
    ip link set eth0 up
    ip route add default via 10.9.0.1
    ip -6 route add default via 2001:db8:9::1";

#[test]
fn without_protection_every_probe_is_a_leak_and_under_lockdown_none_is() {
    in_namespace(|| {
        sh(WITH_ROUTES);
        let open = fates();
        let left = |name: &str| open.iter().filter(|(interface, _, fate)| interface == name && *fate == Fate::Left).count();
        assert_eq!(left("eth0"), 4, "the control: {open:?}");
        lock_down();
        let closed = fates();
        assert!(closed.iter().all(|(.., fate)| *fate != Fate::Left), "{closed:?}");
        let stopped =
            |name: &str| closed.iter().filter(|(interface, _, fate)| interface == name && *fate == Fate::Stopped).count();
        assert_eq!(stopped("eth0"), 4, "{closed:?}");
    });
}

#[test]
fn a_probe_that_has_no_route_proves_nothing() {
    in_namespace(|| {
        assert!(fates().is_empty(), "no interface but loopback");
        sh("ip link add eth0 type veth peer name peer0
            ip addr add 10.9.0.2/24 dev eth0
            ip link set peer0 up
            ip link set eth0 up
            ip route add default via 10.9.0.1");
        lock_down();
        let found = fates();
        let of = |what: &str| found.iter().find(|(interface, known, _)| interface == "eth0" && *known == what).unwrap().2;
        assert_eq!(of("v4"), Fate::Stopped);
        // The host has no IPv6: that the probe did not leave is not our doing.
        assert!(matches!(of("v6"), Fate::NoRoute(Errno::ENETUNREACH | Errno::EADDRNOTAVAIL)), "{found:?}");
    });
}

#[test]
fn many_interfaces_are_bounded_and_loopback_and_tunnel_are_none() {
    in_namespace(|| {
        for number in 0..10 {
            sh(&format!(
                "ip link add a{number} type veth peer name b{number}\nip link set a{number} up\nip link set b{number} up"
            ));
        }
        sh("ip link add hamn0 type veth peer name down0\nip link set hamn0 up");
        let names = physical_interfaces().unwrap();
        assert_eq!(names.len(), 20, "{names:?}");
        assert!(fates().len() <= 16 * targets().len());
    });
}

#[test]
fn a_resolver_counts_only_when_it_answers_the_question() {
    for (first, answers) in [
        (Some([0x81, 0x80]), true),
        // Refused by the resolver is an answer.
        (Some([0x81, 0x85]), true),
        // A query is none.
        (Some([0x01, 0x00]), false),
        (None, false),
    ] {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let mut query = [0; 512];
            let (length, from) = server.recv_from(&mut query).unwrap();
            assert_eq!(length, 17, "a header and one question");
            if let Some(flags) = first {
                query[2..4].copy_from_slice(&flags);
                server.send_to(&query[..length], from).unwrap();
            }
        });
        assert_eq!(ask_resolver(address).is_ok(), answers, "{first:?}");
        serving.join().unwrap();
    }
    assert!(ask_resolver("127.0.0.1:1".parse().unwrap()).is_err(), "nobody listens");
}
