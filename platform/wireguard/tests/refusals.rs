//! What older kernels and poorer links refuse, and links of other sizes: the same bytes arrive, in smaller pieces. Needs root.
#![cfg(target_os = "linux")]

mod common;

use common::{Argument, Lab, Namespace, Running, Setup, fast_timers, gateway_peer, lab, refuse, until};
use hamn_wireguard::{EngineOptions, Offload, PeerConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const GATEWAY: &str = "10.0.0.1:51820";
const SECONDS: Duration = Duration::from_secs(10);
const MB: usize = 1_000_000;
const LEVEL: u32 = libc::SOL_UDP.cast_unsigned();
const SEND: u32 = libc::UDP_SEGMENT.cast_unsigned();
const RECEIVE: u32 = libc::UDP_GRO.cast_unsigned();

/// Both ends on a kernel that refuses a system call.
fn refused(call: libc::c_long, arguments: &'static [Argument], errno: i32, agreed: Offload) -> (Lab, Running, Running) {
    let lab = lab();
    for namespace in [&lab.client, &lab.gateway] {
        namespace.run(move || refuse(call, arguments, errno));
    }
    let setup = || Setup { agreed, ..Setup::default() };
    let gateway = lab.gateway(setup());
    let client = lab.client(gateway_peer(GATEWAY), setup());
    client.await_handshake();
    lab.pings();
    lab.transfer("10.64.0.1", 3 * MB);
    lab.transfer("fd64::1", 3 * MB);
    assert_eq!((client.totals().unsent, gateway.totals().unsent, lab.checksum_errors()), (0, 0, 0));
    (lab, client, gateway)
}

#[test]
fn a_kernel_without_udp_super_packets_gets_tcp_only() {
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    assert_eq!(udp, 0x60);
    let (lab, client, _gateway) =
        refused(libc::SYS_ioctl, &[Argument::Is(1, 0x4004_54d0), Argument::HasAny(2, 0x60)], libc::EINVAL, Offload::Tcp);
    let totals = client.totals();
    assert!(totals.frames * 3 < totals.rx_packets, "TCP still travels in trains: {totals:?}");
    drop(lab);
}

#[test]
fn a_kernel_without_offload_on_the_device_gets_packets() {
    assert_eq!(libc::TUNSETOFFLOAD, 0x4004_54d0);
    let (_lab, client, _gateway) = refused(libc::SYS_ioctl, &[Argument::Is(1, 0x4004_54d0)], libc::EINVAL, Offload::Header);
    let totals = client.totals();
    assert!(totals.frames + 10 > totals.rx_packets, "one by one: {totals:?}");
}

/// Such a kernel ignores the option in a message and would send a whole train as one datagram.
#[test]
fn a_kernel_that_does_not_segment_datagrams_gets_them_one_by_one() {
    let arguments = &[Argument::Is(1, LEVEL), Argument::Is(2, SEND)];
    let (_lab, client, gateway) = refused(libc::SYS_getsockopt, arguments, libc::ENOPROTOOPT, Offload::TcpUdp);
    for totals in [client.totals(), gateway.totals()] {
        assert!(totals.messages >= totals.tx_packets && totals.segments_refused == 0, "{totals:?}");
    }
}

#[test]
fn a_kernel_that_does_not_join_datagrams_delivers_them_one_by_one() {
    let arguments = &[Argument::Is(1, LEVEL), Argument::Is(2, RECEIVE)];
    let (_lab, client, _gateway) = refused(libc::SYS_setsockopt, arguments, libc::ENOPROTOOPT, Offload::TcpUdp);
    let totals = client.totals();
    assert!(totals.messages * 2 < totals.tx_packets, "sending is as before: {totals:?}");
}

/// Every send fails: with an error that is about segments, everything is tried singly and then lost, without a loop or an end.
#[test]
fn a_kernel_that_sends_nothing_ends_nothing() {
    for errno in [libc::EIO, libc::EMSGSIZE, libc::EPERM, libc::ENOBUFS] {
        let lab = lab();
        let _gateway = lab.gateway(Setup::default());
        lab.client.run(move || refuse(libc::SYS_sendmmsg, &[], errno));
        let client = lab.client(gateway_peer(GATEWAY), Setup::default());
        until("several attempts", SECONDS, || client.totals().unsent >= 2);
        assert!(!lab.ping("10.64.0.1"));
        let before = client.totals();
        std::thread::sleep(Duration::from_secs(1));
        let after = client.totals();
        assert!(after.wakeups - before.wakeups < 50, "no busy loop: {before:?} {after:?}");
        assert_eq!(client.engine.peers().wait().unwrap().len(), 1, "it still obeys");
        client.engine.stop();
    }
}

fn dribble(lab: &Lab, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (ends, stop) = ([lab.client.clone(), lab.gateway.clone()], Arc::clone(stop));
    std::thread::spawn(move || {
        let set = |namespace: &Namespace, name: &str, mtu: u32| namespace.sh(&format!("ip link set {name} mtu {mtu}"));
        for mtu in [1_280, 1_420, 1_333, 1_400, 1_285, 1_420].into_iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            set(&ends[0], "hc0", mtu);
            std::thread::sleep(Duration::from_millis(30));
            set(&ends[1], "hg0", mtu);
            std::thread::sleep(Duration::from_millis(30));
        }
    })
}

#[test]
fn somebody_changes_the_mtu_under_load() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    let stop = Arc::new(AtomicBool::new(false));
    let changes = dribble(&lab, &stop);
    for _ in 0..3 {
        lab.transfer("10.64.0.1", 20 * MB);
        lab.transfer("fd64::1", 20 * MB);
    }
    stop.store(true, Ordering::Relaxed);
    changes.join().unwrap();
    assert_eq!((client.totals().unsent, gateway.totals().unsent, lab.checksum_errors()), (0, 0, 0));
}

#[test]
fn padding_stops_at_the_mtu_that_somebody_else_sets() {
    let lab = lab();
    let _gateway = lab.gateway(Setup::default());
    // One by one, so that the firewall sees each.
    let single = Setup { change: Box::new(|options: &mut EngineOptions| options.segmentation = false), ..Setup::default() };
    let client = lab.client(gateway_peer(GATEWAY), single);
    client.await_handshake();
    // 1285 bytes are 1296 with padding: 20 + 8 of IP and UDP, 32 of WireGuard, and 1285.
    lab.client.sh("ip link set hc0 mtu 1285
        nft 'table ip sizes { counter every { }; counter longer { }; chain out { type filter hook output priority 0;
             udp dport 51820 counter name every; udp dport 51820 meta length > 1345 counter name longer; }; }'");
    let count = |name: &str| {
        let text = lab.client.sh(&format!("nft list counter ip sizes {name}"));
        text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse::<u32>().unwrap()
    };
    until("packets no longer than the new MTU allows", SECONDS, || {
        let (all, long) = (count("every"), count("longer"));
        lab.transfer("10.64.0.1", MB);
        assert!(count("every") > all + 500, "the negative control");
        count("longer") == long
    });
}

#[test]
fn jumbo_packets_and_jumbo_segments() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(PeerConfig { timers: Some(fast_timers()), ..gateway_peer(GATEWAY) }, Setup::default());
    client.await_handshake();
    for outer in [9_100, 1_500] {
        for (namespace, link) in [(&lab.client, "c0"), (&lab.gateway, "g0")] {
            namespace.sh(&format!("ip link set {link} mtu {outer}"));
        }
        client.engine.set_mtu(9_000).wait().unwrap();
        gateway.engine.set_mtu(9_000).wait().unwrap();
        // Where the link takes less, the outer packets are fragmented.
        lab.client.sh("ping -q -c 3 -i 0.02 -W 2 -s 8972 -M do 10.64.0.1; ping -q -c 3 -i 0.02 -W 2 -s 8952 fd64::1");
        let before = client.totals();
        lab.transfer("10.64.0.1", 10 * MB);
        lab.transfer("fd64::1", 10 * MB);
        let after = client.totals();
        let (packets, frames) = (after.rx_packets - before.rx_packets, after.frames - before.frames);
        println!("outer MTU {outer}: {packets} packets in {frames} frames");
        assert!(packets < 20_000, "packets of 9000 bytes");
        assert_eq!((after.unsent, gateway.totals().unsent, lab.checksum_errors()), (0, 0, 0));
    }
    // Super-packets beyond 64 KiB: TUN devices refuse them; should one not, they would be refused by nobody here.
    println!("{:?}", lab.client.try_sh("ip link set hc0 gso_max_size 200000 gro_max_size 200000"));
    lab.transfer("fd64::1", 10 * MB);
    assert_eq!(lab.checksum_errors(), 0);
}
