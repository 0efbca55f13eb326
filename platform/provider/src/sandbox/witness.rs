//! The independent witness: what the ISP sees of the client, counted twice.
//!
//! nft counters at the ingress of the ISP's end of each of the client's links lose nothing and give the numbers; a packet
//! socket on the same links gives words for what escaped. Neither knows anything of the client.

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::address;
use super::namespace::Host;
use super::packet::{Allowed, Class, arp_target, classify, describe};

/// How many escaped packets are described; the rest is only counted.
const SAMPLES: usize = 20;

/// Numbers since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// All frames that the client sent.
    pub total: u64,
    /// WireGuard messages to a gateway.
    pub tunnel: u64,
    /// TCP segments to the API.
    pub api: u64,
    /// DHCP messages.
    pub dhcp: u64,
    /// Neighbour discovery.
    pub neighbour: u64,
    /// ARP frames.
    pub arp: u64,
    /// Reports of multicast groups.
    pub membership: u64,
    /// Everything else: what a protected client must never send.
    pub outside: u64,
}

/// What the packet socket collected.
#[derive(Debug, Default)]
struct Heard {
    samples: Vec<String>,
    arp_targets: BTreeSet<Ipv4Addr>,
    outside: u64,
}

/// See the module.
pub struct Witness {
    allowed: Allowed,
    links: Vec<String>,
    baseline: Seen,
    heard: Arc<Mutex<Heard>>,
    ending: Arc<AtomicBool>,
    sniffer: Option<JoinHandle<()>>,
}

impl Witness {
    /// Starts to count on the ISP's ends of the client's links.
    ///
    /// # Errors
    /// When nft or the packet socket is refused.
    pub fn start(router: &Host, links: &[&str], allowed: Allowed) -> Result<Self> {
        let links: Vec<String> = links.iter().map(|link| (*link).to_owned()).collect();
        router.nft(&ruleset(&links, &allowed)).context("load the witness's counters")?;
        let indexes = links.iter().map(|link| index_of(router, link)).collect::<Result<BTreeSet<_>>>()?;
        let (heard, ending) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
        let socket = router.run(open_packet_socket)??;
        let (out, stop, rules) = (Arc::clone(&heard), Arc::clone(&ending), allowed.clone());
        let sniffer = router.thread("witness", move || sniff(&socket, &indexes, &rules, &out, &stop))?;
        Ok(Self { allowed, links, baseline: Seen::default(), heard, ending, sniffer: Some(sniffer) })
    }

    /// Replaces what counts as tunnel and API, and starts from zero.
    ///
    /// # Errors
    /// As `start`.
    pub fn allow(&mut self, router: &Host, allowed: Allowed) -> Result<()> {
        router.nft("delete table netdev witness\n")?;
        let links: Vec<&str> = self.links.iter().map(String::as_str).collect();
        *self = Self::start(router, &links, allowed)?;
        Ok(())
    }

    /// Stops counting and listening for good, so that measurements of speed do not measure the witness.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn retire(&mut self, router: &Host) -> Result<()> {
        self.end();
        router.nft("delete table netdev witness\n")
    }

    /// The tuples that do not count as outside.
    #[must_use]
    pub const fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Counts from zero again.
    ///
    /// # Errors
    /// When nft cannot be read.
    pub fn reset(&mut self, router: &Host) -> Result<()> {
        // In this order, so that whatever is counted is also described.
        *self.lock() = Heard::default();
        self.baseline = read(router)?;
        Ok(())
    }

    /// Numbers since the last reset.
    ///
    /// # Errors
    /// When nft cannot be read.
    pub fn seen(&self, router: &Host) -> Result<Seen> {
        let (now, base) = (read(router)?, &self.baseline);
        Ok(Seen {
            total: now.total.saturating_sub(base.total),
            tunnel: now.tunnel.saturating_sub(base.tunnel),
            api: now.api.saturating_sub(base.api),
            dhcp: now.dhcp.saturating_sub(base.dhcp),
            neighbour: now.neighbour.saturating_sub(base.neighbour),
            arp: now.arp.saturating_sub(base.arp),
            membership: now.membership.saturating_sub(base.membership),
            outside: now.outside.saturating_sub(base.outside),
        })
    }

    /// The first packets that were outside, in words.
    #[must_use]
    pub fn samples(&self) -> Vec<String> {
        self.lock().samples.clone()
    }

    /// Packets outside as the packet socket counted them; it may miss some under flood, the nft counter does not.
    #[must_use]
    pub fn heard_outside(&self) -> u64 {
        self.lock().outside
    }

    /// Addresses that the client asked for by ARP.
    #[must_use]
    pub fn arp_targets(&self) -> BTreeSet<Ipv4Addr> {
        self.lock().arp_targets.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness {
    fn end(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.sniffer.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.end();
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// The same classification as `packet::classify`, in nft's words.
fn ruleset(links: &[String], allowed: &Allowed) -> String {
    // Four bytes at the start of the UDP payload: WireGuard's message type and three zero bytes.
    let wireguard = "@th,64,32 { 0x01000000, 0x02000000, 0x03000000, 0x04000000 }";
    let probes = format!("{}-{}", address::PROBE_PORTS.start(), address::PROBE_PORTS.end());
    let mut rules = String::from("counter name seen_total\nether type arp counter name seen_arp accept\n");
    for family in ["ip", "ip6"] {
        let of_family = |addresses: &[IpAddr]| list(addresses.iter().filter(|address| address.is_ipv4() == (family == "ip")));
        let (gateways, api, ports) = (of_family(&allowed.gateways), of_family(&allowed.api), list(&allowed.ports));
        if !gateways.is_empty() && !ports.is_empty() {
            rules +=
                &format!("{family} daddr {{ {gateways} }} udp dport {{ {ports} }} {wireguard} counter name seen_tunnel accept\n");
        }
        if !api.is_empty() {
            let port = address::API_PORT;
            rules += &format!("{family} daddr {{ {api} }} tcp dport {port} tcp sport != {probes} counter name seen_api accept\n");
        }
    }
    rules += "ip version 4 udp sport 68 udp dport 67 counter name seen_dhcp accept\n";
    rules += "ip6 version 6 udp sport 546 udp dport 547 counter name seen_dhcp accept\n";
    rules += "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 counter name seen_neighbour accept\n";
    rules += "icmpv6 type { 131, 132, 143 } counter name seen_membership accept\nip protocol igmp counter name seen_membership accept\n";
    rules += "counter name seen_outside\n";
    let mut text = String::from("table netdev witness {\n");
    for name in ["total", "tunnel", "api", "dhcp", "neighbour", "arp", "membership", "outside"] {
        text += &format!("counter seen_{name} {{ }}\n");
    }
    for (index, link) in links.iter().enumerate() {
        text += &format!(
            "chain link{index} {{\ntype filter hook ingress device \"{link}\" priority -400; policy accept;\n{rules}}}\n"
        );
    }
    text + "}\n"
}

fn read(router: &Host) -> Result<Seen> {
    let text = router.command("nft").args(["-j", "list", "counters", "table", "netdev", "witness"]).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).context("parse nft's counters")?;
    let count = |name: &str| {
        let counters = json.get("nftables")?.as_array()?.iter().filter_map(|entry| entry.get("counter"));
        counters
            .into_iter()
            .find(|counter| counter.get("name").is_some_and(|n| *n == format!("seen_{name}")))?
            .get("packets")?
            .as_u64()
    };
    let count = |name: &str| count(name).with_context(|| format!("counter {name} is missing"));
    Ok(Seen {
        total: count("total")?,
        tunnel: count("tunnel")?,
        api: count("api")?,
        dhcp: count("dhcp")?,
        neighbour: count("neighbour")?,
        arp: count("arp")?,
        membership: count("membership")?,
        outside: count("outside")?,
    })
}

fn index_of(router: &Host, link: &str) -> Result<usize> {
    let name = link.to_owned();
    let index = router.run(move || nix::net::if_::if_nametoindex(name.as_str()))?.with_context(|| format!("find link {link}"))?;
    usize::try_from(index).context("interface index out of range")
}

fn open_packet_socket() -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("open a packet socket")?;
    // Bigger than the system's limit allows, for floods; a user namespace may refuse, and the counters do not need it.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20));
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100)).context("set a timeout")?;
    Ok(socket)
}

fn sniff(socket: &OwnedFd, links: &BTreeSet<usize>, allowed: &Allowed, heard: &Mutex<Heard>, ending: &AtomicBool) {
    let mut frame = vec![0; 1 << 16];
    while !ending.load(Ordering::Relaxed) {
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) else { continue };
        // 4 is PACKET_OUTGOING (linux/if_packet.h): frames towards the client.
        if from.pkttype() == 4 || !links.contains(&from.ifindex()) {
            continue;
        }
        let Some(bytes) = frame.get(..length) else { continue };
        let class = classify(bytes, allowed);
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = arp_target(bytes) {
            heard.arp_targets.insert(target);
        }
        if class == Class::Outside || class == Class::Membership {
            heard.outside = heard.outside.saturating_add(u64::from(class == Class::Outside));
            if heard.samples.len() < SAMPLES {
                heard.samples.push(describe(bytes));
            }
        }
    }
}
