//! What makes a data plane a tunnel: who is heard, what is refused, how it recovers. Needs root.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test file: it may panic")]

mod common;

use common::{Setup, client_key, client_peer, fast_timers, gateway_peer, lab, nets, until};
use hamn_wireguard::x25519::{PublicKey, StaticSecret};
use hamn_wireguard::{
    Device, DeviceError, Engine, EngineError, EngineOptions, Event, Listen, Offload, PeerConfig, PeerUpdate, Roaming, TimerParams,
};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::VecDeque;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const SECONDS: Duration = Duration::from_secs(10);
const GATEWAY: &str = "10.0.0.1:51820";

fn gateway_public() -> PublicKey {
    PublicKey::from(&common::gateway_key())
}

fn with(change: impl FnOnce(&mut EngineOptions) + Send + 'static) -> Setup {
    Setup { change: Box::new(change), ..Setup::default() }
}

#[test]
fn only_addresses_of_the_peer_come_in() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let _client = lab.client(gateway_peer(GATEWAY), Setup::default());
    lab.pings();
    lab.client.sh("ip addr add 10.64.0.77/24 dev hc0");
    let before = gateway.totals();
    assert!(!lab.client.try_sh("ping -q -c 2 -i 0.05 -W 1 -I 10.64.0.77 10.64.0.1").0);
    let after = gateway.totals();
    assert_eq!((after.rx_packets, after.refused), (before.rx_packets, before.refused + 2));
    // Allowed, it works: the control of this test.
    let allowed = Some(nets(&["10.64.0.2/32", "10.64.0.77/32"]));
    gateway
        .engine
        .update_peer(PublicKey::from(&client_key()), PeerUpdate { allowed_ips: allowed, ..PeerUpdate::default() })
        .wait()
        .unwrap();
    lab.client.sh("ping -q -c 2 -i 0.05 -W 1 -I 10.64.0.77 10.64.0.1");
    // Taken by another peer, it ends.
    let other = PeerConfig::new(PublicKey::from(&StaticSecret::from([9; 32])), nets(&["10.64.0.77/32"]));
    gateway.engine.add_peer(other).wait().unwrap();
    assert!(!lab.client.try_sh("ping -q -c 2 -i 0.05 -W 1 -I 10.64.0.77 10.64.0.1").0);
    assert_eq!(gateway.engine.peers().wait().unwrap()[0].allowed_ips, nets(&["10.64.0.2/32"]));
    gateway.engine.remove_peer(PublicKey::from(&client_key())).wait().unwrap();
    assert!(!lab.ping("10.64.0.1"));
    assert!(matches!(gateway.engine.remove_peer(PublicKey::from(&client_key())).wait(), Err(EngineError::NoPeer)));
}

#[test]
fn a_gateway_follows_and_a_client_stays() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    lab.pings();
    let seen = || gateway.engine.peers().wait().unwrap()[0].endpoint.unwrap();
    let first = seen();
    client.engine.rebind().wait().unwrap();
    lab.pings();
    assert_ne!(first.port(), seen().port(), "a new source port");
    assert_eq!(client.engine.port().wait().unwrap(), Some(seen().port()));
    // The gateway speaks from elsewhere: a client that stays does not hear it, one that follows does.
    lab.gateway.sh("ip addr add 10.0.0.9/24 dev g0; nft -f - <<'END'
        table ip moved {
            chain out {
                type route hook output priority 0
                udp sport 51820 ip saddr set 10.0.0.9
            }
        }
END");
    let refused = client.totals().refused;
    assert!(!lab.ping("10.64.0.1"));
    assert!(client.totals().refused > refused);
    let follow = PeerUpdate { roaming: Some(Roaming::Follow), ..PeerUpdate::default() };
    client.engine.update_peer(gateway_public(), follow).wait().unwrap();
    lab.pings();
    assert_eq!(client.engine.peers().wait().unwrap()[0].endpoint, Some("10.0.0.9:51820".parse().unwrap()));
    lab.gateway.sh("nft delete table ip moved");
    // Another family: the socket of the one is opened, that of the other closed.
    client.engine.set_endpoint(gateway_public(), "[fd01::1]:51820".parse().unwrap()).wait().unwrap();
    lab.pings();
    assert!(seen().is_ipv6());
}

/// Forwards datagrams between the client and the gateway's port, and does to them what a network can do.
fn relay(lab: &common::Lab, loss_percent: u32, replay: bool) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (ready, is_ready) = std::sync::mpsc::channel();
    lab.gateway.spawn(move || {
        let outer = UdpSocket::bind("10.0.0.1:5555").unwrap();
        let inner = UdpSocket::bind("127.0.0.1:0").unwrap();
        outer.set_nonblocking(true).unwrap();
        inner.set_nonblocking(true).unwrap();
        ready.send(()).unwrap();
        let (mut client, mut state, mut buffer) = (None, 1_u32, [0_u8; 2048]);
        let mut held: [VecDeque<Vec<u8>>; 2] = Default::default();
        let mut chance = move |percent: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % 100 < percent
        };
        while !stopped.load(Ordering::Relaxed) {
            let mut quiet = true;
            for (way, held) in held.iter_mut().enumerate() {
                let received = if way == 0 { outer.recv_from(&mut buffer) } else { inner.recv_from(&mut buffer) };
                let Ok((count, from)) = received else { continue };
                quiet = false;
                if way == 0 {
                    client = Some(from);
                }
                let send = |bytes: &[u8]| {
                    let _ = if way == 0 {
                        inner.send_to(bytes, ("127.0.0.1", common::PORT))
                    } else {
                        outer.send_to(bytes, client.unwrap())
                    };
                };
                let bytes = buffer[..count].to_vec();
                if chance(loss_percent) {
                    continue;
                }
                if !replay {
                    // A third waits for its successor.
                    held.push_back(bytes);
                    while held.len() > 1 || (!held.is_empty() && !chance(33)) {
                        let place = usize::from(held.len() > 1 && chance(50));
                        send(&held.remove(place).unwrap());
                    }
                    continue;
                }
                send(&bytes);
                send(&bytes);
                held.push_back(bytes);
                if held.len() > 50 {
                    send(&held.pop_front().unwrap());
                }
            }
            if quiet {
                // Nobody needs what is held to wait for ever.
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    is_ready.recv().unwrap();
    stop
}

#[test]
fn replayed_datagrams_are_refused() {
    let lab = lab();
    let stop = relay(&lab, 0, true);
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer("10.0.0.1:5555"), Setup::default());
    client.await_handshake();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let server = lab.gateway.spawn(move || {
        let socket = UdpSocket::bind("10.64.0.1:7000").unwrap();
        ready.send(()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1_500))).unwrap();
        let (mut seen, mut buffer) = (vec![0_u32; 500], [0; 16]);
        while let Ok((4, _)) = socket.recv_from(&mut buffer) {
            seen[usize::try_from(u32::from_le_bytes(buffer[..4].try_into().unwrap())).unwrap()] += 1;
        }
        seen
    });
    is_ready.recv().unwrap();
    lab.client.run(|| {
        let socket = UdpSocket::bind("10.64.0.2:0").unwrap();
        for number in 0..500_u32 {
            socket.send_to(&number.to_le_bytes(), "10.64.0.1:7000").unwrap();
            if number % 10 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    assert_eq!(server.join().unwrap(), vec![1; 500], "each once");
    assert!(gateway.totals().refused > 900, "{:?}", gateway.totals());
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn loss_of_a_tenth_and_disorder_cost_time_and_no_bytes() {
    let lab = lab();
    let stop = relay(&lab, 10, false);
    let _gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer("10.0.0.1:5555"), Setup::default());
    client.await_handshake();
    println!("300 kB each way: {:?}", lab.transfer("10.64.0.1", 300_000));
    println!("300 kB each way: {:?}", lab.transfer("fd64::1", 300_000));
    assert_eq!(lab.checksum_errors(), 0);
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn under_load_a_cookie_is_asked_for() {
    let lab = lab();
    let gateway = lab.gateway(with(|options| options.handshakes_per_second = 0));
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    lab.pings();
    assert!(gateway.totals().cookies >= 1, "{:?}", gateway.totals());
    let lab = common::lab();
    let gateway = lab.gateway(with(|options| options.handshakes_per_source = 0));
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    assert!(gateway.totals().cookies >= 1, "{:?}", gateway.totals());
}

#[test]
fn keys_are_renewed_under_load() {
    let lab = lab();
    let _gateway = lab.gateway(Setup::default());
    let second = Duration::from_secs(1);
    let timers = TimerParams { rekey_after_time: second..=second, ..fast_timers() };
    let client = lab.client(PeerConfig { timers: Some(timers), ..gateway_peer(GATEWAY) }, Setup::default());
    let mut handshakes = 0;
    until("four handshakes", SECONDS, || {
        lab.transfer("10.64.0.1", 5_000_000);
        handshakes += client.events.try_iter().filter(|event| matches!(event, Event::Handshake(_))).count();
        handshakes >= 4
    });
    assert_eq!(client.totals().unsent, 0);
}

#[test]
fn marks_of_congestion_cross_the_tunnel() {
    let lab = lab();
    lab.gateway.sh("nft -f - <<'END'
        table inet marks {
            counter outer { }
            counter outer_none { }
            counter inner_ce { }
            counter inner_other { }
            chain before {
                type filter hook prerouting priority -200
                udp dport 51820 ip ecn ect0 counter name outer
                udp dport 51820 ip6 ecn ect0 counter name outer
                udp dport 51820 ip ecn not-ect counter name outer_none
                udp dport 51820 ip ecn set ce
                udp dport 51820 ip6 ecn set ce
                iifname hg0 ip ecn ce counter name inner_ce
                iifname hg0 ip6 ecn ce counter name inner_ce
                iifname hg0 ip ecn != ce counter name inner_other
                iifname hg0 ip6 ecn != ce counter name inner_other
            }
        }
END");
    let count = |name: &str| {
        let text = lab.gateway.sh(&format!("nft list counter inet marks {name}"));
        text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse::<u32>().unwrap()
    };
    let _gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    for (endpoint, address) in
        [(GATEWAY, "10.64.0.1"), (GATEWAY, "fd64::1"), ("[fd01::1]:51820", "10.64.0.1"), ("[fd01::1]:51820", "fd64::1")]
    {
        client.engine.set_endpoint(gateway_public(), endpoint.parse().unwrap()).wait().unwrap();
        let before = [count("outer"), count("inner_ce"), count("inner_other")];
        lab.client.sh(&format!("ping -q -c 4 -i 0.02 -Q 2 {address}"));
        lab.client.sh(&format!("ping -q -c 4 -i 0.02 {address}"));
        let after = [count("outer"), count("inner_ce"), count("inner_other")];
        assert_eq!((after[0] - before[0], after[1] - before[1]), (4, 4), "{endpoint} {address}: marked, {before:?} {after:?}");
        assert!(after[2] - before[2] >= 4, "{endpoint} {address}: who does not understand marks gets none");
    }
    assert!(count("outer_none") > 0);
    lab.client.sh("sysctl -qw net.ipv4.tcp_ecn=1");
    lab.gateway.sh("sysctl -qw net.ipv4.tcp_ecn=1; nft flush chain inet marks before");
    lab.transfer("10.64.0.1", 3_000_000);
}

/// The class of the inner packet stays inside; of its ECN bits those that the path needs come out (RFC 6040).
#[test]
fn the_outer_header_tells_nothing_of_the_inner_class() {
    let lab = lab();
    lab.gateway.sh("nft -f - <<'END'
        table inet class {
            counter outer_class { }
            counter outer_none { }
            counter outer_ect1 { }
            counter inner_class { }
            chain before {
                type filter hook prerouting priority -200
                udp dport 51820 ip dscp != cs0 counter name outer_class
                udp dport 51820 ip6 dscp != cs0 counter name outer_class
                udp dport 51820 ip ecn not-ect counter name outer_none
                udp dport 51820 ip6 ecn not-ect counter name outer_none
                udp dport 51820 ip ecn ect1 counter name outer_ect1
                udp dport 51820 ip6 ecn ect1 counter name outer_ect1
                iifname hg0 ip dscp ef counter name inner_class
                iifname hg0 ip6 dscp ef counter name inner_class
            }
        }
END");
    let count = |name: &str| {
        let text = lab.gateway.sh(&format!("nft list counter inet class {name}"));
        text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse::<u32>().unwrap()
    };
    let _gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    for (endpoint, address) in
        [(GATEWAY, "10.64.0.1"), (GATEWAY, "fd64::1"), ("[fd01::1]:51820", "10.64.0.1"), ("[fd01::1]:51820", "fd64::1")]
    {
        client.engine.set_endpoint(gateway_public(), endpoint.parse().unwrap()).wait().unwrap();
        let before = [count("inner_class"), count("outer_ect1"), count("outer_none")];
        // EF, and EF with ECT(1).
        lab.client.sh(&format!("ping -q -c 4 -i 0.02 -Q 0xb8 {address}; ping -q -c 3 -i 0.02 -Q 0xb9 {address}"));
        let after = [count("inner_class"), count("outer_ect1"), count("outer_none")];
        assert_eq!((after[0] - before[0], after[1] - before[1]), (7, 3), "{endpoint} {address}");
        assert!(after[2] - before[2] >= 4, "{endpoint} {address}");
    }
    assert_eq!(count("outer_class"), 0);
}

#[test]
fn a_smaller_path_refuses_segments_and_loses_nothing() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    lab.pings();
    lab.client.sh("ip link set c0 mtu 1300");
    lab.gateway.sh("ip link set g0 mtu 1300");
    lab.transfer("10.64.0.1", 2_000_000);
    lab.transfer("fd64::1", 2_000_000);
    let (near, far) = (client.totals(), gateway.totals());
    assert!(near.segments_refused >= 1 && far.segments_refused >= 1, "{near:?} {far:?}");
    assert_eq!((near.unsent, lab.checksum_errors()), (0, 0));
    client.engine.set_endpoint(gateway_public(), "[fd01::1]:51820".parse().unwrap()).wait().unwrap();
    lab.transfer("10.64.0.1", 1_000_000);
    // A smaller MTU inside: segments fit again and travel in trains, once the refusal is forgotten.
    client.engine.set_mtu(1_200).wait().unwrap();
    client.engine.rebind().wait().unwrap();
    lab.gateway.sh("ip link set hg0 mtu 1280; ip -6 addr add fd64::1/64 dev hg0 nodad 2>/dev/null || true");
    let before = client.totals();
    lab.transfer("10.64.0.1", 2_000_000);
    let after = client.totals();
    assert_eq!(after.segments_refused, before.segments_refused);
    assert!((after.messages - before.messages) * 3 < after.tx_packets - before.tx_packets, "{before:?} {after:?}");
    // 60 bytes of padding and headers beyond 1200 would not be caught by anything: what went out is at most that.
    assert!(lab.client.sh("ip link show hc0").contains("mtu 1200"));
}

#[test]
fn without_checksum_offload_on_the_link_packets_go_one_by_one_or_segmented() {
    let lab = lab();
    let _gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    lab.pings();
    lab.client.run(|| common::ethtool("c0", common::ETHTOOL_STXCSUM, 0));
    assert_eq!(lab.client.run(|| common::ethtool("c0", common::ETHTOOL_GTXCSUM, 1)), 0, "it is off");
    lab.transfer("10.64.0.1", 2_000_000);
    lab.transfer("fd64::1", 2_000_000);
    println!("{:?}", client.totals());
    assert_eq!((client.totals().unsent, lab.checksum_errors()), (0, 0));
}

#[test]
fn datagrams_of_every_size_come_back_whole() {
    let lab = lab();
    let _gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    for address in ["10.64.0", "fd64:"] {
        let (own, far) = if address.starts_with('f') {
            (format!("[{address}:2]:0"), format!("[{address}:1]:7000"))
        } else {
            (format!("{address}.2:0"), format!("{address}.1:7000"))
        };
        let (ready, is_ready) = std::sync::mpsc::channel();
        let bind = far.clone();
        let server = lab.gateway.spawn(move || {
            let socket = UdpSocket::bind(&bind).unwrap();
            socket.set_read_timeout(Some(SECONDS)).unwrap();
            ready.send(()).unwrap();
            let mut buffer = vec![0; 65_536];
            loop {
                let (count, from) = socket.recv_from(&mut buffer).expect("datagrams in time");
                if count == 3 {
                    return;
                }
                socket.send_to(&buffer[..count], from).unwrap();
            }
        });
        is_ready.recv().unwrap();
        lab.client.run(move || {
            let socket = UdpSocket::bind(own).unwrap();
            socket.set_read_timeout(Some(SECONDS)).unwrap();
            socket.connect(&far).unwrap();
            let mut buffer = vec![0; 65_536];
            for round in 0..300_usize {
                // Up to 40 kB: fragments inside the tunnel.
                let length = if round < 250 { 1_200 + round * 2 } else { round * 133 };
                let sent: Vec<u8> = (0..length).map(|place| u8::try_from((place * 7 + round) % 251).unwrap()).collect();
                socket.send(&sent).unwrap();
                let count = socket.recv(&mut buffer).expect("an echo in time");
                assert!(buffer[..count] == sent, "{length} bytes");
            }
            // Trains of datagrams: the kernel hands them over as one.
            for size in [1_u16, 20, 999, 1_200, 1_372] {
                setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(size)).unwrap();
                let size = usize::from(size);
                let sent: Vec<u8> = (0..size * 40 + size / 2).map(|place| u8::try_from(place % 253).unwrap()).collect();
                socket.send(&sent).unwrap();
                for expected in sent.chunks(size) {
                    let count = socket.recv(&mut buffer).expect("an echo in time");
                    assert!(&buffer[..count] == expected, "segments of {size}");
                }
            }
            socket.send(b"end").unwrap();
        });
        server.join().unwrap();
    }
    assert_eq!(lab.checksum_errors(), 0);
}

#[test]
fn suspend_resume_and_another_key() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    lab.pings();
    client.engine.suspend().wait().unwrap();
    assert!(!lab.ping("10.64.0.1"));
    assert!(matches!(client.engine.handshake(gateway_public()).wait(), Err(EngineError::Stopped)));
    assert_eq!(client.engine.peers().wait().unwrap()[0].last_handshake_age, None, "the keys are wiped");
    client.engine.resume().wait().unwrap();
    client.await_handshake();
    lab.pings();
    // Another key: the gateway learns it first. Packets wait for the handshake.
    let key = StaticSecret::from([0x33; 32]);
    gateway.engine.remove_peer(PublicKey::from(&client_key())).wait().unwrap();
    gateway.engine.add_peer(PeerConfig { public_key: PublicKey::from(&key), ..client_peer() }).wait().unwrap();
    client.engine.set_private_key(key).wait().unwrap();
    lab.client.sh("ping -q -c 1 -W 2 10.64.0.1");
    client.await_handshake();
    lab.pings();
    // A handshake at once keeps the session.
    client.engine.handshake(gateway_public()).wait().unwrap();
    client.await_handshake();
    lab.pings();
    assert!(matches!(client.engine.handshake(PublicKey::from([8; 32])).wait(), Err(EngineError::NoPeer)));
}

#[test]
fn idle_it_sleeps_and_the_device_may_go() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    lab.pings();
    // The last packets' timers.
    std::thread::sleep(Duration::from_millis(600));
    let before = [client.totals().wakeups, gateway.totals().wakeups];
    std::thread::sleep(Duration::from_secs(4));
    let woken = [client.totals().wakeups - before[0], gateway.totals().wakeups - before[1]];
    println!("wake-ups in 4 s: {woken:?}");
    assert!(woken.iter().all(|count| *count <= 8), "{woken:?}");
    // Traffic is told once when asked for.
    while client.events.try_recv().is_ok() {}
    client.engine.counters().await_traffic();
    lab.pings();
    assert_eq!(client.events.try_iter().filter(|event| *event == Event::Traffic).count(), 1);
    lab.client.sh("ip link del hc0");
    assert_eq!(client.events.recv_timeout(SECONDS), Ok(Event::DeviceLost));
    let before = client.totals().wakeups;
    std::thread::sleep(Duration::from_millis(500));
    assert!(client.totals().wakeups - before < 5, "no busy loop");
    client.engine.stop();
}

#[test]
fn packets_may_be_injected_and_kept() {
    let lab = lab();
    let _gateway = lab.gateway(Setup::default());
    let kept = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&kept);
    let inspect = move |packet: &[u8]| {
        // ICMP answers to our own identifier.
        let ours = packet.get(9) == Some(&1) && packet.get(24..26) == Some(&[0xab, 0xcd]);
        count.fetch_add(u32::from(ours), Ordering::Relaxed);
        ours
    };
    let client = lab.client(gateway_peer(GATEWAY), with(move |options| options.inspect = Some(Box::new(inspect))));
    client.await_handshake();
    lab.pings();
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 64, 0, 2, 10, 64, 0, 1, 8, 0, 0, 0, 0xab, 0xcd, 0, 1];
    let sum = |bytes: &[u8]| hamn_wireguard::checksum::Sum::default().over(bytes).finish().to_be_bytes();
    let (ip, icmp) = (sum(&packet[..20]), sum(&packet[20..]));
    packet[10..12].copy_from_slice(&ip);
    packet[22..24].copy_from_slice(&icmp);
    let mut sent = 0;
    until("an answer", SECONDS, || {
        client.engine.inject(packet.as_slice().into());
        sent += 1;
        kept.load(Ordering::Relaxed) > 0
    });
    assert!(sent < 100);
}

#[test]
fn sockets_are_prepared_before_they_are_bound_and_names_are_exclusive() {
    let lab = lab();
    let unbound = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&unbound);
    let _gateway = lab.gateway(Setup::default());
    let prepare = move |options: &mut EngineOptions| {
        options.prepare = Arc::new(move |socket| {
            let address =
                nix::sys::socket::getsockname::<nix::sys::socket::SockaddrIn>(std::os::fd::AsRawFd::as_raw_fd(&socket))?;
            count.fetch_add(u32::from(address.port() == 0), Ordering::Relaxed);
            setsockopt(&socket, sockopt::Mark, &7).map_err(Into::into)
        });
    };
    lab.client.sh("nft -f - <<'END'
        table inet marked {
            chain out {
                type filter hook output priority 0
                udp dport 51820 meta mark != 7 counter drop
            }
        }
END");
    let client = lab.client(gateway_peer(GATEWAY), with(prepare));
    client.await_handshake();
    lab.pings();
    assert_eq!(unbound.load(Ordering::Relaxed), 1, "one socket, in the family of the endpoint");
    client.engine.rebind().wait().unwrap();
    assert_eq!(unbound.load(Ordering::Relaxed), 2);
    assert!(lab.client.sh("nft list table inet marked").contains("packets 0"), "every packet is marked");
    lab.client.run(|| {
        assert!(matches!(Device::open("hc0", Offload::TcpUdp), Err(DeviceError::Exists(name)) if name == "hc0"));
        assert!(matches!(Device::open("c0", Offload::TcpUdp), Err(DeviceError::Exists(_))));
        assert!(matches!(Device::open("a name that is too long", Offload::TcpUdp), Err(DeviceError::Name(_))));
        let device = Device::open("other", Offload::TcpUdp).unwrap();
        let mut options = EngineOptions::new(client_key(), Listen::Port(0));
        options.prepare = Arc::new(|_| Err(std::io::ErrorKind::PermissionDenied.into()));
        assert!(matches!(Engine::start(device, options), Err(EngineError::Socket(_))), "fails closed");
    });
    assert!(!lab.client.sh("ip -br link").contains("other"));
    client.engine.stop();
    assert!(!lab.client.sh("ip -br link").contains("hc0"), "the interface is gone when stop returns");
}
