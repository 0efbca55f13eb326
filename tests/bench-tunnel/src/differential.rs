//! The same bytes whoever talks to whom: our engine, gotatun's `Device` and wireguard-go in both roles, over a clean link that keeps
//! trains together, and through a relay that puts datagrams out of order while the firewall drops some at random.

use crate::bench::Programs;
use crate::conf::{Conf, Peer, new_key};
use crate::lab::Namespace;
use crate::ping::{await_answer, ping};
use crate::programs::{End, Program};
use crate::relay::Relay;
use crate::transfer::{Bytes, echoes, tcp};
use anyhow::{Context, Result, anyhow, ensure};
use hamn_wireguard::x25519::PublicKey;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A connection that stalls longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One kind of link.
#[derive(Clone, Copy, Debug)]
struct Phase {
    name: &'static str,
    loss_percent: u32,
    held_per_mille: u64,
    /// Bytes of TCP, each way and of each family.
    bytes: usize,
    datagrams: usize,
    fragmented: usize,
    pings: u32,
}

const CLEAN: Phase = Phase {
    name: "clean, trains",
    loss_percent: 0,
    held_per_mille: 0,
    bytes: 8_000_000,
    datagrams: 150,
    fragmented: 15,
    pings: 30,
};
const RELAYED: [Phase; 3] = [
    Phase { name: "out of order", held_per_mille: 50, bytes: 2_000_000, ..CLEAN },
    Phase { name: "1 % lost, out of order", loss_percent: 1, held_per_mille: 50, bytes: 500_000, ..CLEAN },
    Phase { name: "10 % lost, out of order", loss_percent: 10, held_per_mille: 50, bytes: 30_000, datagrams: 80, ..CLEAN },
];

/// What one pair did on one link.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    tcp_bytes: usize,
    sent: usize,
    answered: usize,
    pings: usize,
}

/// client – relay – gateway.
#[derive(Clone)]
struct Link {
    client: Namespace,
    relay: Namespace,
    gateway: Namespace,
}

const RELAY: [u8; 4] = [10, 0, 1, 1];
const GATEWAY: [u8; 4] = [10, 0, 2, 2];

impl Link {
    fn new() -> Result<Self> {
        let link = Self { client: Namespace::new()?, relay: Namespace::new()?, gateway: Namespace::new()? };
        let Self { client, relay, gateway } = &link;
        client.sh(&format!("ip link add eth0 type veth peer name near0; ip link set near0 netns {}", relay.id()))?;
        gateway.sh(&format!("ip link add eth0 type veth peer name far0; ip link set far0 netns {}", relay.id()))?;
        client.sh("ip addr add 10.0.1.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.1.1")?;
        gateway.sh("ip addr add 10.0.2.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.1")?;
        relay.sh(
            "ip addr add 10.0.1.1/24 dev near0; ip addr add 10.0.2.1/24 dev far0; ip link set near0 up; ip link set far0 up
             echo 1 > /proc/sys/net/ipv4/ip_forward
             nft 'table ip loss { chain input { type filter hook input priority 0; }; }'",
        )?;
        Ok(link)
    }

    /// Single datagrams instead of trains, so that single ones are lost.
    fn single_datagrams(&self) -> Result<()> {
        for end in [&self.client, &self.gateway] {
            end.sh("ethtool -K eth0 tx-udp-segmentation off")?;
        }
        Ok(())
    }

    fn lose(&self, percent: u32) -> Result<()> {
        self.relay.sh(&format!(
            "nft flush chain ip loss input; nft 'add rule ip loss input meta l4proto udp numgen random mod 100 < {percent} counter drop'"
        ))?;
        Ok(())
    }

    fn lost(&self) -> Result<u64> {
        let text = self.relay.sh("nft list chain ip loss input")?;
        let count = text.split_once("packets ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        count.context("no counter")
    }

    /// Packets that a kernel found damaged.
    fn checksum_errors(&self) -> Result<u64> {
        let mut sum = 0;
        for end in [&self.client, &self.gateway] {
            let text = end.run(|| {
                let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
                read("snmp") + &read("snmp6")
            })?;
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.windows(2) {
                let columns = pair[0].split_whitespace().zip(pair[1].split_whitespace());
                sum +=
                    columns.filter(|(name, _)| *name == "InCsumErrors").filter_map(|(_, n)| n.parse::<u64>().ok()).sum::<u64>();
            }
            let v6 = lines.iter().filter(|line| line.contains("6InCsumErrors")).filter_map(|line| line.split_whitespace().nth(1));
            sum += v6.filter_map(|n| n.parse::<u64>().ok()).sum::<u64>();
        }
        Ok(sum)
    }
}

struct Pair {
    name: String,
    index: u8,
    near: End,
    far: End,
    relay: Option<Relay>,
    engine: [bool; 2],
}

impl Pair {
    fn start(link: &Link, index: u8, near: &Program, far: &Program, relayed: Option<u64>, directory: &Path) -> Result<Self> {
        let (near_key, far_key) = (new_key(), new_key());
        let (near_public, far_public) = (PublicKey::from(&near_key), PublicKey::from(&far_key));
        let gateway: SocketAddr = (GATEWAY, 52_000 + u16::from(index)).into();
        let relay = relayed
            .map(|seed| Relay::start(&link.relay, (RELAY, 53_000 + u16::from(index)).into(), gateway, seed ^ u64::from(index)))
            .transpose()?;
        let clients = vec![format!("10.150.{index}.2/32").parse()?, format!("fd00:150:{index}::2/128").parse()?];
        let gateways = vec![format!("10.150.{index}.1/32").parse()?, format!("fd00:150:{index}::1/128").parse()?];
        let far_peer = Peer { public_key: near_public, endpoint: None, allowed_ips: clients };
        let endpoint = relay.as_ref().map_or(gateway, |relay| relay.address);
        let near_peer = Peer { public_key: far_public, endpoint: Some(endpoint), allowed_ips: gateways };
        let far_conf = Conf { private_key: far_key, port: gateway.port(), peers: vec![far_peer] };
        let near_conf = Conf { private_key: near_key, port: 0, peers: vec![near_peer] };
        let inside = |last: u8| vec![format!("10.150.{index}.{last}/24"), format!("fd00:150:{index}::{last}/64")];
        let word = if relayed.is_some() { "r" } else { "d" };
        let far_end = End::start(&link.gateway, far, &format!("g{word}{index}"), &inside(1), &far_conf, directory)?;
        let near_end = End::start(&link.client, near, &format!("c{word}{index}"), &inside(2), &near_conf, directory)?;
        let engine = [near, far].map(|program| program.name == crate::bench::ENGINE);
        let name = format!("{} -> {}", near.name, far.name);
        let pair = Self { name, index, near: near_end, far: far_end, relay, engine };
        for address in pair.addresses()? {
            await_answer(&link.client, address).with_context(|| pair.name.clone())?;
        }
        Ok(pair)
    }

    fn addresses(&self) -> Result<[IpAddr; 2]> {
        Ok([format!("10.150.{}.1", self.index).parse()?, format!("fd00:150:{}::1", self.index).parse()?])
    }

    fn check(&mut self, link: &Link, phase: Phase, seed: u64) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut random = Bytes(seed);
        let lossless = phase.loss_percent == 0;
        for (number, address) in self.addresses()?.into_iter().enumerate() {
            counts.pings += ping(&link.client, address, phase.pings, 5)?.len();
            let mut sizes: Vec<usize> = (0..phase.datagrams).map(|_| 4 + random.below(1_389)).collect();
            sizes.extend((0..phase.fragmented).map(|_| 1_400 + random.below(38_000)));
            let patience = if lossless { Duration::from_secs(5) } else { Duration::from_millis(250) };
            let answers = echoes(&link.client, &link.gateway, address, &sizes, patience)?;
            counts.sent += answers.sent;
            counts.answered += answers.answered;
            ensure!(answers.answered > 0, "not one datagram came back");
            // New keys in the midst of it.
            for (end, engine) in [&mut self.near, &mut self.far].into_iter().zip(self.engine) {
                if engine {
                    end.tell("handshake")?;
                }
            }
            tcp(&link.client, &link.gateway, address, phase.bytes, PATIENCE).with_context(|| format!("TCP, family {number}"))?;
            counts.tcp_bytes += 2 * phase.bytes;
        }
        // Other programs drop a packet now and then when they get no processor time.
        let asked = usize::try_from(phase.pings)? * 2 + counts.sent;
        let may_miss = if self.engine == [true, true] { 0 } else { asked / 50 };
        let missing = asked - counts.pings - counts.answered;
        ensure!(!lossless || missing <= may_miss, "{missing} packets were lost on a link that loses nothing: {counts:?}");
        Ok(counts)
    }
}

/// Runs every pair over every link, all pairs at the same time. Says what was counted and gives the failures.
///
/// # Errors
/// When the link cannot be built.
pub fn run(programs: &Programs, say: &dyn Fn(&str)) -> Result<Vec<String>> {
    let began = Instant::now();
    let seed: u64 = rand::random();
    say(&format!("seed {seed}; wireguard-go is {} ({})", programs.reference.path.display(), programs.reference.version));
    let directory = tempfile::tempdir()?;
    let link = Link::new()?;
    let mut failures = Vec::new();
    let clean = start(&link, programs, None, directory.path(), &mut failures);
    drop(phase(&link, clean, CLEAN, seed, &mut failures, say)?);
    link.single_datagrams()?;
    let mut relayed = start(&link, programs, Some(seed), directory.path(), &mut failures);
    for kind in RELAYED {
        link.lose(kind.loss_percent)?;
        relayed = phase(&link, relayed, kind, seed, &mut failures, say)?;
        let lost = link.lost()?;
        say(&format!("  the firewall dropped {lost} datagrams"));
        ensure!((lost > 0) == (kind.loss_percent > 0), "{}: {lost} dropped", kind.name);
    }
    let damaged = link.checksum_errors()?;
    say(&format!("{damaged} checksum errors, {} failures, {:.0} s", failures.len(), began.elapsed().as_secs_f64()));
    if damaged > 0 {
        failures.push(format!("{damaged} packets with a wrong checksum"));
    }
    Ok(failures)
}

fn start(link: &Link, programs: &Programs, relayed: Option<u64>, directory: &Path, failures: &mut Vec<String>) -> Vec<Pair> {
    let all = [&programs.engine, &programs.stock, &programs.reference];
    let pairs = all.iter().flat_map(|near| all.iter().map(move |far| (*near, *far)));
    let mut up = Vec::new();
    for (index, (near, far)) in (1..).zip(pairs) {
        match Pair::start(link, index, near, far, relayed, directory) {
            Ok(pair) => up.push(pair),
            Err(error) => failures.push(format!("{} -> {}: {error:#}", near.name, far.name)),
        }
    }
    up
}

fn phase(
    link: &Link,
    pairs: Vec<Pair>,
    kind: Phase,
    seed: u64,
    failures: &mut Vec<String>,
    say: &dyn Fn(&str),
) -> Result<Vec<Pair>> {
    let began = Instant::now();
    for relay in pairs.iter().filter_map(|pair| pair.relay.as_ref()) {
        relay.state.hold_per_mille.store(kind.held_per_mille, Ordering::Relaxed);
    }
    let held = |pair: &Pair| pair.relay.as_ref().map_or(0, |relay| relay.state.held.load(Ordering::Relaxed));
    let threads: Vec<_> = pairs
        .into_iter()
        .map(|mut pair| {
            let link = link.clone();
            std::thread::spawn(move || {
                let before = held(&pair);
                let result = pair.check(&link, kind, seed ^ u64::from(pair.index));
                let held = held(&pair) - before;
                (pair, result, held)
            })
        })
        .collect();
    let (mut back, mut lines) = (Vec::new(), Vec::new());
    for thread in threads {
        let (pair, result, held) = thread.join().map_err(|_| anyhow!("a pair panicked"))?;
        match result {
            Ok(Counts { tcp_bytes, sent, answered, pings }) => lines.push(format!(
                "  {}: {tcp_bytes} bytes of TCP equal, {answered} of {sent} datagrams back and equal, {pings} pings, {held} held back",
                pair.name
            )),
            Err(error) => {
                lines.push(format!("  {}: FAILED: {error:#}", pair.name));
                failures.push(format!("{}, {}: {error:#}", kind.name, pair.name));
            }
        }
        back.push(pair);
    }
    say(&format!("{} ({:.1} s)", kind.name, began.elapsed().as_secs_f64()));
    lines.iter().for_each(|line| say(line));
    Ok(back)
}
