//! Address translation and filtering of a gateway, in nftables' own text, and the choice of exit by source address.
//!
//! ```text
//! table inet hamn_gateway {
//!   map exit4 { ipv4_addr : ipv4_addr }   map exit6 { ipv6_addr : ipv6_addr }   set no6 { ipv6_addr }
//!   postrouting: from the tunnel -> snat to the device's exit, else to the default exit
//!   forward:     no client reaches another; no foreign source; no IPv6 for exits without IPv6; inwards only answers
//!   input:       from the tunnel only ICMP and DNS
//! }
//! ```

use crate::list::ExitSpec;
use crate::store::FeedPeer;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::net::IpAddr;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const NFT: &str = "/usr/sbin/nft";
const CONNTRACK: &str = "/usr/sbin/conntrack";

/// Lets the kernel forward, in the network namespace of the calling process.
pub(super) fn forward() -> Result<()> {
    for path in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        if std::fs::read_to_string(path).with_context(|| format!("read {path}"))?.trim() != "1" {
            std::fs::write(path, "1").with_context(|| format!("write {path}"))?;
        }
    }
    Ok(())
}

/// The whole table with empty maps, in one transaction.
pub(super) async fn install(interface: &str, exits: &[ExitSpec]) -> Result<()> {
    nft(&ruleset(interface, exits)?).await
}

fn ruleset(interface: &str, exits: &[ExitSpec]) -> Result<String> {
    let default = exits.first().context("a gateway needs an exit")?;
    let (v4, v6) = ("10.64.0.0/16", "fd5a:7e57::/64");
    let (snat6, refuse6) = default.ipv6.map_or_else(
        || (String::new(), format!("iifname \"{interface}\" ip6 saddr != @exit6_users reject with icmpv6 no-route")),
        |address| (format!("ip6 saddr {v6} snat ip6 to {address}"), String::new()),
    );
    let default4 = default.ipv4;
    Ok(format!(
        "add table inet hamn_gateway
delete table inet hamn_gateway
table inet hamn_gateway {{
    map exit4 {{ type ipv4_addr : ipv4_addr; }}
    map exit6 {{ type ipv6_addr : ipv6_addr; }}
    set exit6_users {{ type ipv6_addr; }}
    set no6 {{ type ipv6_addr; }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"{interface}\" accept
        ip saddr {v4} snat ip to ip saddr map @exit4
        ip saddr {v4} snat ip to {default4}
        ip6 saddr {v6} snat ip6 to ip6 saddr map @exit6
        {snat6}
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname \"{interface}\" oifname \"{interface}\" drop
        iifname \"{interface}\" ip saddr != {v4} drop
        iifname \"{interface}\" ip6 saddr != {v6} drop
        iifname \"{interface}\" ip6 saddr @no6 reject with icmpv6 no-route
        {refuse6}
        tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
        oifname \"{interface}\" ct state established,related accept
        oifname \"{interface}\" drop
    }}
    chain input {{
        type filter hook input priority filter; policy accept;
        iifname \"{interface}\" meta l4proto {{ icmp, ipv6-icmp }} accept
        iifname \"{interface}\" udp dport 53 accept
        iifname \"{interface}\" tcp dport 53 accept
        iifname \"{interface}\" ct state established,related accept
        iifname \"{interface}\" drop
    }}
}}
"
    ))
}

/// Fills the maps with the devices that chose another exit than the default, in one transaction.
pub(super) async fn set_exits(exits: &[ExitSpec], peers: impl Iterator<Item = &FeedPeer>) -> Result<()> {
    nft(&exit_elements(exits, peers)?).await
}

fn exit_elements<'a>(exits: &[ExitSpec], peers: impl Iterator<Item = &'a FeedPeer>) -> Result<String> {
    let mut text = String::new();
    for name in [
        "map inet hamn_gateway exit4",
        "map inet hamn_gateway exit6",
        "set inet hamn_gateway no6",
        "set inet hamn_gateway exit6_users",
    ] {
        writeln!(text, "flush {name}")?;
    }
    for peer in peers {
        // An exit that this server does not have means the default.
        let Some(exit) = peer.exit.as_ref().and_then(|id| exits.iter().skip(1).find(|exit| exit.id == *id)) else { continue };
        writeln!(text, "add element inet hamn_gateway exit4 {{ {} : {} }}", peer.ipv4, exit.ipv4)?;
        match exit.ipv6 {
            Some(ipv6) => {
                writeln!(text, "add element inet hamn_gateway exit6 {{ {} : {ipv6} }}", peer.ipv6)?;
                writeln!(text, "add element inet hamn_gateway exit6_users {{ {} }}", peer.ipv6)?;
            }
            // Better no IPv6 than IPv6 from another country.
            None => writeln!(text, "add element inet hamn_gateway no6 {{ {} }}", peer.ipv6)?,
        }
    }
    Ok(text)
}

/// Removes the table.
pub(super) async fn remove() -> Result<()> {
    nft("add table inet hamn_gateway\ndelete table inet hamn_gateway\n").await
}

/// Ends the flows from an address, so that the next packet is translated anew.
pub(super) async fn forget_flows(address: IpAddr) {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let mut command = Command::new(CONNTRACK);
    command.args(["-D", "-f", family, "-s", &address.to_string()]).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Status 1 means that there were none.
    if let Err(error) = command.status().await {
        tracing::warn!(%error, "conntrack cannot be run; old flows keep their exit");
    }
}

async fn nft(text: &str) -> Result<()> {
    let mut command = Command::new(NFT);
    command.args(["-f", "-"]).env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("run nft")?;
    let mut stdin = child.stdin.take().context("open nft's input")?;
    stdin.write_all(text.as_bytes()).await.context("write to nft")?;
    drop(stdin);
    let output = child.wait_with_output().await.context("wait for nft")?;
    if !output.status.success() {
        bail!("nft refuses: {}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FeedKey;

    #[test]
    fn an_exit_without_ipv6_gets_none_and_an_unknown_exit_is_the_default() {
        let exits: Vec<ExitSpec> = serde_json::from_value(serde_json::json!([
            {"id": "se", "country": "SE", "ipv4": "198.51.100.1", "ipv6": "2001:db8:5::1"},
            {"id": "us", "country": "US", "ipv4": "198.51.100.129"}]))
        .unwrap();
        let peer = |last: u8, exit: Option<&str>| FeedPeer {
            device: format!("dev_{last}"),
            ipv4: [10, 64, 0, last].into(),
            ipv6: format!("fd5a:7e57::{last:x}").parse().unwrap(),
            exit: exit.map(str::to_owned),
            keys: Vec::<FeedKey>::new(),
        };
        let peers = [peer(10, Some("us")), peer(11, Some("se")), peer(12, Some("nowhere")), peer(13, None)];
        let text = exit_elements(&exits, peers.iter()).unwrap();
        let elements: Vec<&str> = text.lines().filter(|line| line.starts_with("add")).collect();
        assert_eq!(
            elements,
            [
                "add element inet hamn_gateway exit4 { 10.64.0.10 : 198.51.100.129 }",
                "add element inet hamn_gateway no6 { fd5a:7e57::a }"
            ]
        );
    }
}
