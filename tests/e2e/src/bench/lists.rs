//! A server list of 10,000 servers: verify, parse, choose.

use anyhow::{Context, Result};
use hamn_core::location::Destination;
use hamn_core::server;
use hamn_provider::list;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

/// How many servers.
const SERVERS: u32 = 10_000;

fn big_list(directory: &Path) -> Result<Vec<u8>> {
    list::edit(directory, |source| {
        let servers = source["servers"].as_array_mut().context("servers")?;
        let pattern = servers.first().context("a server")?.clone();
        servers.clear();
        for number in 0..SERVERS {
            let mut server = pattern.clone();
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x5000_0000 + number));
            server["id"] = format!("vpn{number:05}").into();
            server["name"] = format!("VPN{number:05}").into();
            server["state"] = "online".into();
            server["endpoints"][0]["addresses"] = json!([address]);
            server["exits"] = json!([{ "id": "se", "country": "SE", "ipv4": address, "default": true }]);
            servers.push(server);
        }
        Ok(())
    })?;
    let now = time::OffsetDateTime::now_utc();
    list::sign(directory, now)?;
    Ok(std::fs::read(directory.join("servers.json"))?)
}

/// Times in milliseconds for a list of 10,000 servers; `directory` holds a provider that nobody serves.
///
/// # Errors
/// When the list is refused.
pub fn measure(directory: &Path) -> Result<Value> {
    let bytes = big_list(directory)?;
    let key = std::fs::read_to_string(directory.join("offline/list.pub"))?;
    let signature = std::fs::read_to_string(directory.join("servers.json.minisig"))?;
    let (mut verifies, mut parses, mut choices) = (Vec::new(), Vec::new(), Vec::new());
    let mut usable = 0;
    for seed in 0..10 {
        let start = Instant::now();
        let public = minisign_verify::PublicKey::from_base64(key.trim()).context("read the key")?;
        public
            .verify(&bytes, &minisign_verify::Signature::decode(&signature).context("read the signature")?, false)
            .context("verify")?;
        verifies.push(start.elapsed());
        let start = Instant::now();
        let parsed = server::parse(&bytes, &server::ListRules { allow_private_gateways: false }).context("parse the list")?;
        parses.push(start.elapsed());
        usable = parsed.list.servers.len();
        let (loads, quality) = (server::Loads::default(), server::Quality::default());
        let preferences = server::Preferences { ipv6: true, near: None, avoid: &[], quality: &quality, now_unix_s: 0 };
        let start = Instant::now();
        server::select(&parsed.list, &loads, &Destination::Best, &preferences, seed).context("choose")?;
        choices.push(start.elapsed());
    }
    let middle = |mut series: Vec<Duration>| {
        series.sort();
        series.get(series.len() / 2).map(|time| (time.as_secs_f64() * 1e5).round() / 100.0)
    };
    Ok(
        json!({ "servers": usable, "bytes": bytes.len(), "verify_ms": middle(verifies), "parse_ms": middle(parses), "choose_ms": middle(choices) }),
    )
}
