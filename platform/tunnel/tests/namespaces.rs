//! The tunnel on real parts: two network namespaces, TUN devices, UDP over a veth pair. Needs root.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test file: it may panic, and says what it measured"
)]

mod common;

use common::{ECHO, WireguardGo, first_after, inner, interface, lab, public, v4, v6};
use hamn_core::event::TunnelEvent;
use hamn_core::key::SecretKey;
use hamn_core::net::Endpoint;
use hamn_core::state::BlockReason;
use hamn_tunnel::{Engine, Limits, TunnelError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SILENT: TunnelEvent = TunnelEvent::Failed(BlockReason::GatewaySilent);

/// Each test runs on both data planes, at both ends.
macro_rules! on_both_engines {
    ($($test:ident),* $(,)?) => {
        mod hamn {
            $(#[tokio::test]
            async fn $test() {
                super::$test(hamn_tunnel::Engine::Best).await;
            })*
        }
        mod gotatun {
            $(#[tokio::test]
            async fn $test() {
                super::$test(hamn_tunnel::Engine::Gotatun).await;
            })*
        }
    };
}

on_both_engines! {
    own_gateway_carries_both_families_marked_quiet_and_leaves_nothing_behind,
    wireguard_go_over_ipv6_with_a_preshared_key,
    wireguard_go_over_ipv4_verified_by_a_resolver_alone,
    a_handshake_alone_is_not_connected,
    a_silent_gateway_fails_in_time,
    a_restarted_gateway_carries_traffic_within_three_seconds,
    without_the_watch_a_restarted_gateway_costs_more_than_ten_seconds,
    a_restarted_wireguard_go_carries_traffic_within_three_seconds,
    a_new_address_and_a_rebind_carry_traffic_within_a_second,
    a_turned_away_client_stalls_and_recovers_when_admitted_again,
    a_stalled_tunnel_goes_on_over_the_gateways_other_address,
    a_deleted_device_fails_the_tunnel,
    an_interface_of_somebody_else_is_not_taken_over,
    a_new_key_under_transfer_loses_no_byte,
    an_idle_tunnel_wakes_seldom,
}

const fn shown(engine: Engine) -> &'static str {
    match engine {
        Engine::Best | Engine::Kernel => "hamn",
        Engine::Gotatun => "gotatun",
    }
}

async fn own_gateway_carries_both_families_marked_quiet_and_leaves_nothing_behind(engine: Engine) {
    let lab = lab(engine).await;
    let server = lab.server().await;
    let mut ports = Vec::new();
    for _ in 0..3 {
        let mut connection = lab.connect(lab.plan(&[v4()]), Limits::default()).await;
        println!("verified after {:?}", connection.verified().await);
        // The interface says nothing by itself, and no route leads into it.
        assert_eq!(connection.tunnel.stats().tx_bytes, 0);
        let routes = lab.client.sh("ip route show table main; ip -6 route show table main").await;
        assert!(!routes.contains("hamn0"), "{routes}");
        lab.route().await;
        lab.tcp_echo("10.64.0.1").await;
        lab.tcp_echo("fd64::1").await;
        let stats = connection.tunnel.stats();
        assert_eq!((stats.engine, stats.mtu, stats.verified, stats.stalled), (shown(engine), 1400, true, false));
        assert_eq!(stats.endpoint, Endpoint::udp(v4()));
        assert!(stats.rx_bytes > 36 && stats.tx_bytes > 36 && stats.last_handshake_age_ms.unwrap() < 5_000, "{stats:?}");
        let peers = server.peers().await;
        assert_eq!(peers.len(), 1);
        assert!(peers[0].key == public(&lab.client_key) && peers[0].rx_bytes > 0 && peers[0].tx_bytes > 0);
        ports.push(peers[0].endpoint.unwrap().port());
        connection.tunnel.stop().await;
        assert!(!lab.interface_exists("hamn0").await, "stop removes the interface before it returns");
    }
    // WG-05
    assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2], "{ports:?}");
    // G8
    let (marked, unmarked) = lab.outer_packets().await;
    assert!(marked > 20 && unmarked == 0, "{marked} marked, {unmarked} not");
    server.stop().await;
    assert!(!lab.gateway.sh("ip -br link").await.contains("gw0"));
}

async fn wireguard_go_over_ipv6_with_a_preshared_key(engine: Engine) {
    let lab = lab(engine).await;
    let psk = SecretKey::new([7; 32]);
    let gateway = WireguardGo::start(&lab, Some(&psk)).await;
    let mut connection = lab.connect_with(lab.plan(&[v6()]), Limits::default(), Some(psk)).await.unwrap();
    connection.verified().await;
    lab.route().await;
    lab.tcp_echo("10.64.0.1").await;
    lab.tcp_echo("fd64::1").await;
    let (marked, unmarked) = lab.outer_packets().await;
    assert!(marked > 5 && unmarked == 0);
    connection.tunnel.stop().await;
    gateway.kill().await;
}

async fn wireguard_go_over_ipv4_verified_by_a_resolver_alone(engine: Engine) {
    let lab = lab(engine).await;
    let gateway = WireguardGo::start(&lab, None).await;
    for (address, resolver) in [("10.64.0.2/32", "10.64.0.1"), ("fd64::2/128", "fd64::1")] {
        let mut plan = lab.plan(&[v4()]);
        plan.gateway.clear();
        plan.addresses = vec![address.parse().unwrap()];
        plan.resolvers = vec![resolver.parse().unwrap()];
        let mut connection = lab.connect(plan, Limits::default()).await;
        connection.verified().await;
        connection.tunnel.stop().await;
    }
    gateway.kill().await;
}

async fn a_handshake_alone_is_not_connected(engine: Engine) {
    let lab = lab(engine).await;
    let server = lab.server().await;
    // The gateway agrees on keys and drops what we send, as with a revoked account.
    server.add_peer(public(&lab.client_key), &["10.64.0.99/32".parse().unwrap()], None).await.unwrap();
    let limits = Limits { verify_timeout_ms: 1_500, ..Limits::default() };
    let mut connection = lab.connect(lab.plan(&[v4()]), limits).await;
    assert_eq!(connection.event(Duration::from_secs(5)).await, SILENT);
    let stats = connection.tunnel.stats();
    assert!(stats.last_handshake_age_ms.is_some() && !stats.verified, "{stats:?}");
    assert!(lab.interface_exists("hamn0").await, "the interface stays, so that nothing goes elsewhere");
    connection.tunnel.stop().await;

    // Negative control: with nobody to ask, the handshake counts.
    let mut plan = lab.plan(&[v4()]);
    plan.gateway.clear();
    let mut connection = lab.connect(plan, limits).await;
    connection.verified().await;
    connection.tunnel.stop().await;
}

async fn a_silent_gateway_fails_in_time(engine: Engine) {
    let lab = lab(engine).await;
    let limits = Limits { handshake_timeout_ms: 1_000, ..Limits::default() };
    let mut connection = lab.connect(lab.plan(&[v4()]), limits).await;
    assert_eq!(connection.event(Duration::from_secs(3)).await, SILENT);
    drop(connection);
    // Dropping the handle is enough.
    let deadline = Instant::now() + Duration::from_secs(3);
    while lab.interface_exists("hamn0").await {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn seconds_after_gateway_restart(engine: Engine, limits: Limits, within: Duration) -> Duration {
    let lab = lab(engine).await;
    let server = lab.server().await;
    let mut connection = lab.connect(lab.plan(&[v4()]), limits).await;
    connection.verified().await;
    lab.route().await;
    let mut answers = lab.stream_of_echoes().await;
    answers.recv().await.unwrap();
    server.stop().await;
    let server = lab.server().await;
    let restarted = Instant::now();
    let took = first_after(&mut answers, restarted, within).await;
    connection.tunnel.stop().await;
    server.stop().await;
    took
}

async fn a_restarted_gateway_carries_traffic_within_three_seconds(engine: Engine) {
    let took = seconds_after_gateway_restart(engine, Limits::default(), Duration::from_secs(20)).await;
    println!("traffic {took:?} after the restart");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

async fn without_the_watch_a_restarted_gateway_costs_more_than_ten_seconds(engine: Engine) {
    let took = seconds_after_gateway_restart(engine, Limits::engine_only(), Duration::from_secs(30)).await;
    println!("traffic {took:?} after the restart, engine alone");
    assert!(took > Duration::from_secs(10), "{took:?}: the negative control");
}

async fn a_restarted_wireguard_go_carries_traffic_within_three_seconds(engine: Engine) {
    let lab = lab(engine).await;
    let gateway = WireguardGo::start(&lab, None).await;
    let mut connection = lab.connect(lab.plan(&[v4()]), Limits::default()).await;
    connection.verified().await;
    lab.route().await;
    let mut answers = lab.stream_of_echoes().await;
    answers.recv().await.unwrap();
    gateway.kill().await;
    let gateway = WireguardGo::start(&lab, None).await;
    let took = first_after(&mut answers, Instant::now(), Duration::from_secs(20)).await;
    println!("traffic {took:?} after the restart of wireguard-go");
    assert!(took < Duration::from_secs(3), "{took:?}");
    connection.tunnel.stop().await;
    gateway.kill().await;
}

async fn a_new_address_and_a_rebind_carry_traffic_within_a_second(engine: Engine) {
    let lab = lab(engine).await;
    let server = lab.server().await;
    let mut connection = lab.connect(lab.plan(&[v4()]), Limits::default()).await;
    connection.verified().await;
    lab.route().await;
    let mut answers = lab.stream_of_echoes().await;
    answers.recv().await.unwrap();
    let before = server.peers().await[0].endpoint.unwrap();
    lab.client.sh("ip addr del 10.0.0.2/24 dev c0; ip addr add 10.0.0.3/24 dev c0").await;
    let changed = Instant::now();
    connection.tunnel.rebind().await.unwrap();
    let took = first_after(&mut answers, changed, Duration::from_secs(20)).await;
    println!("traffic {took:?} after the change of address");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let after = server.peers().await[0].endpoint.unwrap();
    assert_eq!(after.ip().to_string(), "10.0.0.3");
    assert_ne!(after.port(), before.port());
    assert_eq!(lab.outer_packets().await.1, 0, "the new socket is marked, too");
    assert!(connection.events.try_recv().is_err(), "nobody noticed");
    connection.tunnel.stop().await;
    server.stop().await;
}

async fn a_turned_away_client_stalls_and_recovers_when_admitted_again(engine: Engine) {
    let lab = lab(engine).await;
    let server = lab.server().await;
    let mut connection = lab.connect(lab.plan(&[v4()]), Limits::default()).await;
    connection.verified().await;
    lab.route().await;
    let _answers = lab.stream_of_echoes().await;
    let key = public(&lab.client_key);
    assert!(server.remove_peer(&key).await.unwrap());
    assert!(!server.remove_peer(&key).await.unwrap());
    assert_eq!(connection.event(Duration::from_secs(5)).await, TunnelEvent::Stalled);
    assert!(connection.tunnel.stats().stalled);
    server.add_peer(key, &inner(), None).await.unwrap();
    assert_eq!(connection.event(Duration::from_secs(5)).await, TunnelEvent::Recovered);
    server.remove_peer(&key).await.unwrap();
    let removed = Instant::now();
    assert_eq!(connection.event(Duration::from_secs(5)).await, TunnelEvent::Stalled);
    assert_eq!(connection.event(Duration::from_secs(12)).await, SILENT);
    assert!(removed.elapsed() < Duration::from_secs(11), "{:?}", removed.elapsed());
    connection.tunnel.stop().await;
}

async fn a_stalled_tunnel_goes_on_over_the_gateways_other_address(engine: Engine) {
    let lab = lab(engine).await;
    let server = lab.server().await;
    let mut connection = lab.connect(lab.plan(&[v4(), v6()]), Limits::default()).await;
    connection.verified().await;
    lab.route().await;
    let mut answers = lab.stream_of_echoes().await;
    answers.recv().await.unwrap();
    lab.gateway
        .sh("nft 'add table ip f; add chain ip f i { type filter hook input priority 0; }; add rule ip f i udp dport 51820 drop'")
        .await;
    assert_eq!(connection.event(Duration::from_secs(5)).await, TunnelEvent::Stalled);
    assert_eq!(connection.event(Duration::from_secs(6)).await, TunnelEvent::Recovered);
    assert_eq!(connection.tunnel.stats().endpoint, Endpoint::udp(v6()));
    assert_eq!(lab.outer_packets().await.1, 0);
    connection.tunnel.stop().await;
    server.stop().await;
}

async fn a_deleted_device_fails_the_tunnel(engine: Engine) {
    let lab = lab(engine).await;
    let server = lab.server().await;
    let mut connection = lab.connect(lab.plan(&[v4()]), Limits::default()).await;
    connection.verified().await;
    lab.client.sh("ip link del hamn0").await;
    let failed = TunnelEvent::Failed(BlockReason::TunnelDevice);
    assert_eq!(connection.event(Duration::from_secs(2)).await, failed);
    connection.tunnel.stop().await;
    server.stop().await;
}

async fn an_interface_of_somebody_else_is_not_taken_over(engine: Engine) {
    let lab = lab(engine).await;
    for make in ["ip tuntap add hamn0 mode tun", "ip link add hamn0 type veth peer name x0"] {
        lab.client.sh(make).await;
        let result = lab.connect_with(lab.plan(&[v4()]), Limits::default(), None).await;
        let error = result.err().expect("refused");
        assert!(matches!(&error, TunnelError::InterfaceExists(name) if *name == interface()), "{error}");
        assert_eq!(error.reason(), BlockReason::TunnelDevice);
        assert!(lab.interface_exists("hamn0").await);
        lab.client.sh("ip link del hamn0").await;
    }
}

async fn a_new_key_under_transfer_loses_no_byte(engine: Engine) {
    const BYTES: usize = 24 << 20;
    let lab = lab(engine).await;
    let server = lab.server().await;
    let mut connection = lab.connect(lab.plan(&[v4()]), Limits::default()).await;
    connection.verified().await;
    lab.route().await;
    let (half, at_half) = tokio::sync::oneshot::channel();
    let transfer = async move {
        let stream = tokio::net::TcpStream::connect(("10.64.0.1", ECHO)).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let byte = |at: usize| u8::try_from(at % 251).unwrap();
        tokio::spawn(async move {
            let data: Vec<u8> = (0..BYTES).map(byte).collect();
            to.write_all(&data).await.unwrap();
        });
        let mut buffer = vec![0; 64 << 10];
        let (mut at, mut half) = (0, Some(half));
        while at < BYTES {
            let count = from.read(&mut buffer).await.unwrap();
            assert!(count > 0, "closed after {at} bytes");
            for (offset, got) in buffer[..count].iter().enumerate() {
                assert_eq!(*got, byte(at + offset));
            }
            at += count;
            if at > BYTES / 4 {
                half.take().map(|half| half.send(at));
            }
        }
        at
    };
    let transfer = lab.client.run(transfer);
    let rotate = async {
        at_half.await.unwrap();
        let new = SecretKey::new([0x77; 32]);
        server.add_peer(public(&new), &inner(), None).await.unwrap();
        let started = Instant::now();
        connection.tunnel.set_private_key(new.clone()).await.unwrap();
        server.remove_peer(&public(&lab.client_key)).await.unwrap();
        println!("key changed in {:?}", started.elapsed());
        public(&new)
    };
    let both = async { tokio::join!(transfer, rotate) };
    let (bytes, new) = tokio::time::timeout(Duration::from_secs(40), both).await.expect("the transfer ends");
    assert_eq!(bytes, BYTES);
    let peers = server.peers().await;
    assert!(peers.len() == 1 && peers[0].key == new && peers[0].rx_bytes > 1 << 20, "{peers:?}");
    assert!(connection.events.try_recv().is_err(), "no stall");
    connection.tunnel.stop().await;
    server.stop().await;
}

async fn an_idle_tunnel_wakes_seldom(engine: Engine) {
    let lab = lab(engine).await;
    let server = lab.server().await;
    let mut connection = lab.connect(lab.plan(&[v4()]), Limits::default()).await;
    connection.verified().await;
    // The client's runtime and, where there are any, the data threads of both ends.
    let switches = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
        let counted = threads.filter(|thread| {
            let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
            name.trim() == "hamn-wireguard" || thread.ends_with(lab.client.thread_id.to_string())
        });
        let woken = counted.map(|thread| {
            let status = std::fs::read_to_string(thread.join("status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        });
        woken.sum::<u64>()
    };
    // The handshake's last words.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = switches();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let woken = switches() - before;
    println!("{woken} wake-ups in 4 s");
    // gotatun's timer fires 4 times a second, which the runtime makes 8.
    let bound = match engine {
        Engine::Best | Engine::Kernel => 4,
        Engine::Gotatun => 4 * 10,
    };
    assert!(woken <= bound, "{woken} wake-ups in 4 s");
    let age = || connection.tunnel.stats().last_handshake_age_ms.unwrap();
    assert!(age() >= 3_900);
    connection.tunnel.force_handshake().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(3);
    while age() > 3_000 {
        assert!(Instant::now() < deadline, "a handshake while the session is in use");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connection.tunnel.stop().await;
    server.stop().await;
}

/// A kernel that does not know the offloads of TUN devices, by a filter on the thread that asks.
#[tokio::test]
async fn where_the_kernel_refuses_the_offloads_gotatun_serves_both_ends() {
    let lab = lab(Engine::Best).await;
    for namespace in [&lab.client, &lab.gateway] {
        namespace.run(async { common::refuse_ioctl(libc::TUNSETOFFLOAD, libc::EINVAL) }).await;
    }
    let server = lab.server().await;
    assert_eq!(server.engine(), "gotatun");
    let mut connection = lab.connect(lab.plan(&[v4()]), Limits::default()).await;
    connection.verified().await;
    assert_eq!(connection.tunnel.stats().engine, "gotatun");
    lab.route().await;
    lab.tcp_echo("10.64.0.1").await;
    connection.tunnel.stop().await;
    server.stop().await;
    assert!(!lab.interface_exists("hamn0").await);
}

/// With WireGuard in the kernel this is a test of that; without, of what is chosen instead.
#[tokio::test]
async fn the_kernels_wireguard_is_used_where_it_is_asked_for_and_there() {
    let mut lab = lab(Engine::Best).await;
    let server = lab.server().await;
    let there = lab.client.run(async { common::makes_wireguard_interfaces().await }).await;
    let expected = if there { "kernel" } else { "hamn" };
    println!("the kernel has WireGuard: {there}");
    lab.engine = Engine::Kernel;
    for endpoint in [v4(), v6()] {
        let mut connection = lab.connect(lab.plan(&[endpoint]), Limits::default()).await;
        connection.verified().await;
        assert_eq!(connection.tunnel.stats().engine, expected);
        lab.route().await;
        lab.tcp_echo("10.64.0.1").await;
        lab.tcp_echo("fd64::1").await;
        connection.tunnel.force_handshake().await.unwrap();
        lab.tcp_echo("10.64.0.1").await;
        connection.tunnel.rebind().await.unwrap();
        lab.tcp_echo("fd64::1").await;
        let stats = connection.tunnel.stats();
        assert!(stats.verified && !stats.stalled && stats.last_handshake_age_ms.unwrap() < 5_000, "{stats:?}");
        connection.tunnel.stop().await;
        assert!(!lab.interface_exists("hamn0").await);
    }
    // G8
    let (marked, unmarked) = lab.outer_packets().await;
    assert!(marked > 10 && unmarked == 0, "{marked} marked, {unmarked} not");
    server.stop().await;
}

/// Our data plane at one end, gotatun's at the other.
#[tokio::test]
async fn the_data_planes_understand_each_other() {
    for (near, far) in [(Engine::Best, Engine::Gotatun), (Engine::Gotatun, Engine::Best)] {
        let mut lab = lab(far).await;
        let server = lab.server().await;
        lab.engine = near;
        let mut connection = lab.connect(lab.plan(&[v6()]), Limits::default()).await;
        connection.verified().await;
        assert_eq!((connection.tunnel.stats().engine, server.engine()), (shown(near), shown(far)));
        lab.route().await;
        lab.tcp_echo("10.64.0.1").await;
        lab.tcp_echo("fd64::1").await;
        connection.tunnel.rebind().await.unwrap();
        lab.tcp_echo("10.64.0.1").await;
        connection.tunnel.stop().await;
        server.stop().await;
    }
}
