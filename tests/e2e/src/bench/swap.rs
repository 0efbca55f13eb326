//! How long the firewall takes from one policy to the next, in a namespace, alone and under a flood of datagrams.

use crate::bench::report::SwapRow;
use crate::bench::stats::Spread;
use crate::bench::{inside, millis, some};
use anyhow::{Context, Result};
use hamn_core::net::{Endpoint, InterfaceName};
use hamn_core::policy::{Enforced, NetworkPolicy, TunnelAccess, TunnelTraffic};
use hamn_network::firewall::Ruleset;
use hamn_network::firewall::apply::linux::Nft;
use hamn_network::firewall::compile::nftables;
use hamn_provider::sandbox::Host;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A link of its own, whose other end goes nowhere; the neighbour is known for good, so that nothing waits for it.
const LINK: &str = "link set lo up
link add eth0 type veth peer name far0
link set far0 up
link set eth0 up
address add 10.0.1.2/24 dev eth0
neighbor replace 10.0.1.1 lladdr 02:00:00:00:00:01 nud permanent dev eth0
route add default via 10.0.1.1 dev eth0
";

/// Measures `swaps` swaps alone, and as many under load.
///
/// # Errors
/// When a namespace or nft is refused.
pub fn measure(swaps: usize) -> Result<Vec<SwapRow>> {
    let host = Host::new("client")?;
    host.ip_batch(LINK)?;
    let alone = inside(&host, "swap", move || row(swaps, "alone", None))?;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (ends, count) = (Arc::clone(&stop), Arc::clone(&sent));
    let flooder = host.thread("flood", move || drop(flood(&ends, &count)))?;
    let start = Instant::now();
    let flooded = inside(&host, "swap", move || row(swaps, "under a flood", None));
    stop.store(true, Ordering::Relaxed);
    let _ = flooder.join();
    let mut flooded = flooded?;
    let total = u32::try_from(sent.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
    flooded.datagrams_per_s = Some(f64::from(total) / start.elapsed().as_secs_f64());
    inside(&host, "remove", || runtime()?.block_on(async { Ok(Nft::find()?.remove().await?) }))?;
    Ok(vec![alone, flooded])
}

/// A datagram after the other to the internet, as fast as one thread can; almost all are refused by the rules.
fn flood(stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    while !stop.load(Ordering::Relaxed) {
        let _ = socket.send_to(b"flood", "192.0.2.66:9999");
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")
}

fn row(swaps: usize, load: &str, datagrams_per_s: Option<f64>) -> Result<SwapRow> {
    let policies = [connecting()?, connected()?];
    runtime()?.block_on(async {
        let nft = Nft::find()?;
        nft.enforce(&policies[1]).await?;
        let (mut verified_ms, mut in_force_ms) = (Vec::new(), Vec::new());
        for policy in policies.iter().cycle().take(swaps) {
            let start = Instant::now();
            nft.enforce(policy).await?;
            verified_ms.push(millis(start.elapsed()));
        }
        for policy in policies.iter().cycle().take(swaps / 2) {
            let rules = Ruleset::lower(policy).context("an open policy")?;
            let start = Instant::now();
            nft.load(&nftables::batch(&rules)).await?;
            in_force_ms.push(millis(start.elapsed()));
        }
        Ok(SwapRow {
            load: load.to_owned(),
            verified_ms: some(Spread::of(&verified_ms), "no swap")?,
            in_force_ms: some(Spread::of(&in_force_ms), "no swap")?,
            datagrams_per_s,
        })
    })
}

fn tunnel(traffic: TunnelTraffic) -> Result<TunnelAccess> {
    Ok(TunnelAccess {
        interface: InterfaceName::tunnel(),
        addresses: vec!["10.64.0.2/32".parse()?, "fd64::2/128".parse()?],
        traffic,
        resolvers: vec!["10.64.0.1".parse()?],
        lan_resolvers: Vec::new(),
    })
}

fn gateways() -> Result<Vec<Endpoint>> {
    Ok(vec![Endpoint::udp("198.51.100.1:51820".parse()?), Endpoint::udp("[2001:db8:5::1]:51820".parse()?)])
}

/// While a tunnel is being verified.
fn connecting() -> Result<NetworkPolicy> {
    Ok(NetworkPolicy::Enforce(Enforced {
        endpoints: gateways()?,
        api: vec![Endpoint::tcp("192.0.2.10:443".parse()?), Endpoint::tcp("192.0.2.11:443".parse()?)],
        tunnel: Some(tunnel(TunnelTraffic::VerifyOnly { peers: vec!["10.64.0.1".parse()?, "fd64::1".parse()?] })?),
        lan: vec!["10.0.1.0/24".parse()?],
    }))
}

/// While everything goes through the tunnel.
fn connected() -> Result<NetworkPolicy> {
    let carries = vec!["0.0.0.0/0".parse()?, "::/0".parse()?];
    Ok(NetworkPolicy::Enforce(Enforced {
        endpoints: gateways()?,
        api: Vec::new(),
        tunnel: Some(tunnel(TunnelTraffic::Everything { carries })?),
        lan: vec!["10.0.1.0/24".parse()?],
    }))
}
