//! The rules in a real kernel: swaps under load, read-back, a foreign flush, the mark, the guards. Needs root.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod firewall_lab;
mod firewall_policies;

use firewall_lab::{CLIENT_V4, Lab, Sniffer, TUNNEL_V4, until};
use firewall_policies::{enforced, policy};
use hamn_core::net::FWMARK;
use hamn_network::firewall::Ruleset;
use hamn_network::firewall::apply::linux::{Nft, NftError};
use hamn_network::firewall::apply::watch::Watch;
use hamn_network::firewall::compile::nftables;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const GATEWAY: &str = "192.0.2.1:51820";
const NOBODY: libc::uid_t = 65534;

fn rules(name: &str) -> Ruleset {
    Ruleset::lower(&policy(name)).unwrap()
}

fn nft() -> Nft {
    Nft::find().unwrap()
}

fn apply(lab: &Lab, rules: &Ruleset) {
    lab.client.block_on(|| async { nft().apply(rules).await.unwrap() });
}

fn udp(bind: &str, marked: bool) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    if marked {
        setsockopt(&socket, sockopt::Mark, &FWMARK).unwrap();
    }
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// From here on the calling thread is an ordinary user. glibc's `setresuid` would change all threads of the process.
#[expect(unsafe_code, reason = "the raw system call changes one thread only")]
fn become_nobody() {
    // SAFETY: the call takes three numbers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    assert_eq!(result, 0);
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}

// ---- LEAK-01 ---------------------------------------------------------------------------------------------------------

/// Where the flooders send; none of the named policies allows an unmarked socket to.
const PROBES: [&str; 6] =
    ["198.51.100.9:53", "198.51.100.9:9999", "[2001:db8:ffff::9]:53", "[2001:db8:ffff::9]:9999", GATEWAY, "[2001:db8::1]:51820"];
const PROBE: &[u8] = b"probe";
const OWN: &[u8] = b"own!!";

#[derive(Debug, Default)]
struct Counted {
    sent: u64,
    leaked: u64,
    own: u64,
}

/// Runs `swaps` while three ordinary users send as fast as they can, and counts what reaches the far end of the cable.
fn flood(lab: &Lab, swaps: impl FnOnce() + Send) -> Counted {
    let (stop, silent, ready) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let (sent, leaked, own) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            lab.isp.run(|| {
                let sniffer = Sniffer::open();
                ready.store(true, Ordering::SeqCst);
                loop {
                    match sniffer.next() {
                        Some(frame) if frame.payload == PROBE => drop(leaked.fetch_add(1, Ordering::Relaxed)),
                        Some(frame) if frame.payload == OWN => drop(own.fetch_add(1, Ordering::Relaxed)),
                        Some(_) => {}
                        None if silent.load(Ordering::SeqCst) => return,
                        None => {}
                    }
                }
            });
        });
        until("the sniffer listens", || ready.load(Ordering::SeqCst));
        let flooders: Vec<_> = (0..3).map(|_| scope.spawn(|| lab.client.run(|| flood_as_nobody(&stop, &sent)))).collect();
        let owner = scope.spawn(|| lab.client.run(|| send_as_owner(&stop)));
        let end = EndOnDrop([&stop, &silent]);
        until("the flood runs", || sent.load(Ordering::Relaxed) > 1000);
        swaps();
        stop.store(true, Ordering::SeqCst);
        flooders.into_iter().for_each(|thread| thread.join().unwrap());
        owner.join().unwrap();
        drop(end);
    });
    Counted { sent: sent.into_inner(), leaked: leaked.into_inner(), own: own.into_inner() }
}

/// Ends the threads also when the test fails half-way.
struct EndOnDrop<'a>([&'a AtomicBool; 2]);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::SeqCst));
    }
}

fn flood_as_nobody(stop: &AtomicBool, sent: &AtomicU64) {
    become_nobody();
    let (v4, v6) = (udp("0.0.0.0:0", false), udp("[::]:0", false));
    let targets = PROBES.map(|text| text.parse::<SocketAddr>().unwrap());
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..16 {
            for target in targets {
                // Refusal is what the test is about.
                let _ = if target.is_ipv4() { &v4 } else { &v6 }.send_to(PROBE, target);
            }
            sent.fetch_add(u64::try_from(PROBES.len()).unwrap(), Ordering::Relaxed);
        }
        // Without a breath the swaps wait for the processor, and a thousand of them take minutes.
        std::thread::sleep(Duration::from_micros(250));
    }
}

fn send_as_owner(stop: &AtomicBool) {
    let socket = udp("0.0.0.0:0", true);
    while !stop.load(Ordering::Relaxed) {
        let _ = socket.send_to(OWN, GATEWAY);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Visits `0..n` so that every ordered pair is a step, the last step being back to the start.
fn all_ordered_pairs(n: usize) -> Vec<usize> {
    (0..n).flat_map(|low| (low + 1..n).flat_map(move |high| [low, high])).collect()
}

#[test]
fn the_walk_contains_every_ordered_pair_once() {
    let walk = all_ordered_pairs(6);
    let steps: std::collections::HashSet<_> = (0..walk.len()).map(|i| (walk[i], walk[(i + 1) % walk.len()])).collect();
    assert_eq!((walk.len(), steps.len()), (30, 30));
}

/// LEAK-01: every transition between two protected states, under load; not one packet gets out. The same load with the table
/// deleted and added in two transactions is seen.
#[test]
fn no_packet_escapes_any_transition_between_enforcing_policies() {
    let lab = Lab::new();
    let batches: Vec<Value> = enforced().iter().map(|(_, policy)| nftables::batch(&Ruleset::enforce(policy))).collect();
    apply(&lab, &rules("lockdown"));
    let walk = all_ordered_pairs(batches.len());
    let mut times = Vec::new();
    let counted = flood(&lab, || {
        lab.client.block_on(|| async {
            for at in walk.iter().cycle().take(1000) {
                let start = Instant::now();
                nft().load(&batches[*at]).await.unwrap();
                times.push(start.elapsed());
            }
        });
    });
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!("LEAK-01: {} swaps, {counted:?}, swap p50 {p50:?} p99 {p99:?} under load", times.len());
    assert!(times.len() >= 1000 && counted.sent > 50_000, "the flood is too thin to mean anything");
    assert_eq!(counted.leaked, 0, "G4");
    assert!(counted.own > 0, "our own socket got through in no state: the lab does not work");
}

#[test]
fn control_deleting_and_adding_in_two_transactions_is_seen() {
    let lab = Lab::new();
    let batches: Vec<Value> = ["connecting_v4", "connected_v4"].map(|name| nftables::batch(&rules(name))).into();
    apply(&lab, &rules("connecting_v4"));
    let counted = flood(&lab, || {
        lab.client.block_on(|| async {
            for at in 0..20 {
                nft().load(&nftables::remove()).await.unwrap();
                nft().load(&batches[at % 2]).await.unwrap();
            }
        });
    });
    println!("LEAK-01 control: {counted:?}");
    assert!(counted.leaked > 0, "the sniffer does not see a leak: LEAK-01 means nothing");
}

// ---- apply, read back, remove ----------------------------------------------------------------------------------------

/// Every named policy is accepted by the kernel and reads back as asked; the text form says the same as the JSON form.
#[test]
fn every_named_policy_loads_and_reads_back() {
    let lab = Lab::new();
    let mut times = Vec::new();
    lab.client.block_on(|| async {
        let nft = nft();
        for (name, policy) in enforced() {
            let rules = Ruleset::enforce(&policy);
            let start = Instant::now();
            nft.apply(&rules).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            times.push(start.elapsed());
            nft.load(&nftables::remove()).await.unwrap();
            load_text(&nftables::script(&rules));
            assert!(nft.matches(&rules).await.unwrap(), "{name}: the script differs from the batch");
        }
    });
    println!("apply with read-back: p50 {:?}, p99 {:?}", percentile(&mut times, 50), percentile(&mut times, 99));
}

fn load_text(script: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let output = std::process::Command::new("nft").arg("-f").arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_foreign_change_of_any_kind_is_a_difference_and_is_repaired() {
    let lab = Lab::new();
    let rules = rules("connected_dual");
    apply(&lab, &rules);
    let changes = [
        "nft flush ruleset",
        "nft delete table inet hamn",
        "nft delete table arp hamn",
        "nft flush chain inet hamn guard",
        "nft insert rule inet hamn output accept",
        "nft add rule inet hamn input accept",
        "nft chain inet hamn output { policy accept ; }",
        "nft add table inet hamn { flags dormant ; }",
    ];
    for change in changes {
        lab.client.sh(change);
        lab.client.block_on(|| async {
            assert!(!nft().matches(&rules).await.unwrap(), "{change}: not noticed");
            nft().apply(&rules).await.unwrap_or_else(|error| panic!("{change}: {error}"));
        });
    }
    // What others keep beside our chains opens nothing and is left alone.
    lab.client.sh("nft add table inet other
         nft add chain inet hamn theirs");
    lab.client.block_on(|| async { assert!(nft().matches(&rules).await.unwrap()) });
}

#[test]
fn removing_leaves_nothing_of_ours_and_everything_of_others() {
    let lab = Lab::new();
    lab.client.sh("nft add table inet other");
    lab.client.block_on(|| async {
        let nft = nft();
        nft.enforce(&policy("connected_dual_lan")).await.unwrap();
        assert!(nft.is_present().await.unwrap());
        nft.enforce(&policy("open")).await.unwrap();
        assert!(!nft.is_present().await.unwrap());
        nft.remove().await.unwrap();
    });
    assert_eq!(lab.client.output_of("nft list ruleset").trim(), "table inet other {\n}");
}

#[test]
fn a_refused_transaction_keeps_the_rules_in_force() {
    let lab = Lab::new();
    let rules = rules("connected_v4");
    lab.client.block_on(|| async {
        nft().apply(&rules).await.unwrap();
        let mut bad = nftables::batch(&rules);
        bad["nftables"].as_array_mut().unwrap().push(json!({ "delete": { "table": { "family": "inet", "name": "none" } } }));
        let error = nft().load(&bad).await.unwrap_err();
        assert!(matches!(&error, NftError::NftRefused { reason } if !reason.is_empty()), "{error}");
        assert!(nft().matches(&rules).await.unwrap());
    });
}

// ---- TAMPER-01 -------------------------------------------------------------------------------------------------------

#[test]
fn a_foreign_flush_is_noticed_and_restored_within_100_ms() {
    let lab = Lab::new();
    let rules = rules("connected_dual");
    let mut times = lab.client.block_on(|| async {
        let nft = nft();
        nft.apply(&rules).await.unwrap();
        let mut watch = Watch::open().unwrap();
        let mut times = Vec::new();
        for _ in 0..20 {
            let flush = tokio::process::Command::new("nft").args(["flush", "ruleset"]).status();
            let start = Instant::now();
            let (status, change) = tokio::join!(flush, watch.until_different(&nft, &rules));
            assert!(status.unwrap().success());
            assert_eq!(change.unwrap().program, "nft");
            nft.apply(&rules).await.unwrap();
            times.push(start.elapsed());
        }
        // Our own transactions and those that leave us alone are no news.
        tokio::process::Command::new("nft").args(["add", "table", "inet", "other"]).status().await.unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(300), watch.until_different(&nft, &rules)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        times
    });
    let (p50, max) = (percentile(&mut times, 50), percentile(&mut times, 100));
    println!("TAMPER-01: start of a foreign flush to restored and read back: p50 {p50:?}, max {max:?}");
    assert!(p50 <= Duration::from_millis(100), "p50 {p50:?}");
}

// ---- G8, strict rp_filter, ICMP errors -------------------------------------------------------------------------------

/// LEAK-06: only a marked socket reaches the gateway, and only at the exact tuple.
#[test]
fn only_our_own_marked_socket_reaches_the_gateway() {
    let lab = Lab::new();
    lab.isp.sh("ip addr add 192.0.2.1/32 dev lo");
    let server = lab.isp.run(|| udp("0.0.0.0:51820", false));
    let other = lab.isp.run(|| udp("0.0.0.0:51821", false));
    let mut buffer = [0; 16];
    apply(&lab, &rules("connecting_v4"));
    lab.client.run(|| {
        let refused = udp("0.0.0.0:0", false).send_to(b"ordinary", GATEWAY).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
        assert!(udp("0.0.0.0:0", true).send_to(b"port", "192.0.2.1:51821").is_err());
        assert!(udp("0.0.0.0:0", true).send_to(b"address", "203.0.113.254:51820").is_err());
        udp("0.0.0.0:0", true).send_to(b"own", GATEWAY).unwrap();
    });
    assert_eq!(server.recv(&mut buffer).unwrap(), 3, "the first datagram to arrive is our own");
    assert!(other.recv(&mut buffer).is_err());
    // Control: without rules the ordinary socket is heard.
    lab.client.block_on(|| async { nft().remove().await.unwrap() });
    lab.client.run(|| udp("0.0.0.0:0", false).send_to(b"ordinary", GATEWAY).unwrap());
    assert_eq!(server.recv(&mut buffer).unwrap(), 8);
}

/// With every other packet routed into the tunnel and `rp_filter=1`, answers of the gateway need the restored mark.
#[test]
fn answers_pass_strict_rp_filter_because_the_mark_is_restored() {
    let lab = Lab::new();
    lab.isp.sh("ip addr add 192.0.2.1/32 dev lo");
    lab.client.sh(&format!(
        "ip route add default via 10.64.0.254 dev hamn0 onlink table 77
         ip rule add not fwmark {FWMARK} lookup 77 priority 100"
    ));
    for interface in ["all", "eth0", "hamn0"] {
        lab.client.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "1");
        lab.client.sysctl(&format!("ipv4/conf/{interface}/src_valid_mark"), "1");
    }
    let server = lab.isp.run(|| udp("192.0.2.1:51820", false));
    let answered = || {
        let client = lab.client.run(|| udp("0.0.0.0:0", true));
        let mut buffer = [0; 16];
        client.send_to(b"ask", GATEWAY).unwrap();
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"answer", from).unwrap();
        client.recv(&mut buffer).is_ok()
    };
    apply(&lab, &rules("connected_v4"));
    assert!(answered());
    // Control: the same rules without the two that keep the mark.
    let unmarked = Ruleset { mark_in: Vec::new(), mark_out: Vec::new(), ..rules("connected_v4") };
    apply(&lab, &unmarked);
    assert!(!answered(), "rp_filter is not strict here: the test means nothing");
}

/// "Port unreachable" stands for "fragmentation needed": both are errors about our own flow.
#[test]
fn icmp_errors_about_our_own_flow_arrive_and_others_do_not() {
    let lab = Lab::new();
    lab.isp.sh("ip addr add 192.0.2.1/32 dev lo");
    let refused = || {
        let client = lab.client.run(|| udp("0.0.0.0:0", true));
        client.connect(GATEWAY).unwrap();
        client.send(b"anyone?").unwrap();
        client.recv(&mut [0; 16]).unwrap_err().kind() == ErrorKind::ConnectionRefused
    };
    apply(&lab, &rules("connecting_v4"));
    assert!(refused());
    let mut without = rules("connecting_v4");
    without.input.retain(|rule| rule.purpose != hamn_network::firewall::ruleset::Purpose::OwnIcmpError);
    apply(&lab, &without);
    assert!(!refused());
}

// ---- IN-01, IN-02 ----------------------------------------------------------------------------------------------------

/// IN-01: nobody on the LAN learns the tunnel address by asking for it.
#[test]
fn arp_for_the_tunnel_address_is_not_answered() {
    let lab = Lab::new();
    lab.isp.sh("ip route add 10.64.0.2/32 dev isp0");
    lab.isp.sysctl("ipv4/neigh/isp0/retrans_time_ms", "50");
    let answered = || {
        lab.isp.sh("ip neigh flush to 10.64.0.2 dev isp0");
        lab.isp.run(|| udp("0.0.0.0:0", false).send_to(b"?", (TUNNEL_V4, 9999)).unwrap());
        let state = || lab.isp.output_of("ip neigh show to 10.64.0.2 dev isp0");
        until("the question is settled", || state().contains("FAILED") || state().contains("lladdr"));
        state().contains("lladdr")
    };
    assert!(answered(), "control: without rules Linux answers for every address on every link");
    lab.isp.sh("ip neigh flush to 10.64.0.2 dev isp0");
    for name in ["verifying", "connected_v4", "connected_dual_lan"] {
        apply(&lab, &rules(name));
        assert!(!answered(), "{name}: G11");
    }
}

/// IN-02: what a neighbour sends to the tunnel address does not arrive, even with LAN access and a known neighbour.
#[test]
fn packets_for_the_tunnel_address_from_another_link_are_dropped() {
    let lab = Lab::new();
    lab.isp.sh("ip addr add 192.168.1.50/24 dev isp0
         ip route add 10.64.0.2/32 dev isp0
         ip neigh replace 10.64.0.2 lladdr 02:00:00:00:00:01 nud permanent dev isp0");
    lab.client.sh("ip addr add 192.168.1.2/24 dev eth0
         ip neigh replace 192.168.1.50 lladdr 02:00:00:00:00:fe nud permanent dev eth0");
    let listener = lab.client.run(|| udp("0.0.0.0:4000", false));
    let heard = |to: std::net::Ipv4Addr| {
        lab.isp.run(|| udp("192.168.1.50:0", false).send_to(b"x", (to, 4000)).unwrap());
        listener.recv(&mut [0; 16]).is_ok()
    };
    assert!(heard(TUNNEL_V4), "control");
    apply(&lab, &rules("connected_dual_lan"));
    assert!(!heard(TUNNEL_V4), "G11");
    assert!(heard(CLIENT_V4), "the neighbour itself is allowed: the packet above was dropped for its destination");
    // Each of the two guards is enough by itself.
    let one = Ruleset { guard: Vec::new(), ..rules("connected_dual_lan") };
    apply(&lab, &one);
    assert!(!heard(TUNNEL_V4));
    let mut other = rules("connected_dual_lan");
    other.input.retain(|rule| rule.purpose != hamn_network::firewall::ruleset::Purpose::TunnelAddressGuard);
    apply(&lab, &other);
    assert!(!heard(TUNNEL_V4));
}
