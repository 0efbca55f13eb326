//! A signed list of 10,000 servers: verify, parse, choose.

use crate::bench::report::ListRows;
use crate::bench::stats::Spread;
use crate::bench::{millis, some};
use anyhow::{Context, Result, ensure};
use hamn_core::location::Destination;
use hamn_core::server::{ListRules, Loads, Preferences, Quality, parse, select};
use hamn_provider::keys::wireguard_pair;
use hamn_provider::list::{ExitSpec, ServerSpec, sign_bytes, source};
use minisign::KeyPair;
use std::net::Ipv4Addr;
use std::time::Instant;

const SERVERS: u32 = 10_000;

/// Reads the list `times` times.
///
/// # Errors
/// When the list is refused.
pub fn measure(times: usize) -> Result<ListRows> {
    let directory = tempfile::tempdir().context("make a directory for a key")?;
    let pair = KeyPair::generate_unencrypted_keypair().context("make a signing key")?;
    let key_file = directory.path().join("list.key");
    std::fs::write(&key_file, pair.sk.to_box(None)?.into_string())?;
    let bytes = list()?;
    let signature = sign_bytes(&bytes, &key_file, "serial=1")?;
    let public = minisign_verify::PublicKey::from_base64(&pair.pk.to_base64())?;
    let (mut verified, mut parsed, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
    for seed in (0_u64..).take(times) {
        let start = Instant::now();
        let signature = minisign_verify::Signature::decode(&signature)?;
        public.verify(&bytes, &signature, false)?;
        verified.push(millis(start.elapsed()));
        let start = Instant::now();
        let list = parse(&bytes, &ListRules::default())?;
        parsed.push(millis(start.elapsed()));
        ensure!(
            list.list.servers.len() == usize::try_from(SERVERS)?,
            "{} servers, {:?}",
            list.list.servers.len(),
            list.rejected.first()
        );
        let quality = Quality::default();
        let wishes =
            Preferences { ipv6: true, near: Some((59.3, 18.1)), avoid: &[], quality: &quality, now_unix_s: 1_800_000_000 };
        let start = Instant::now();
        let choices = select(&list.list, &Loads::default(), &Destination::Best, &wishes, seed)?;
        chosen.push(millis(start.elapsed()));
        ensure!(!choices.is_empty(), "no choice");
    }
    Ok(ListRows {
        servers: SERVERS,
        bytes: bytes.len(),
        verify_ms: some(Spread::of(&verified), "no samples")?,
        parse_ms: some(Spread::of(&parsed), "no samples")?,
        choose_ms: some(Spread::of(&chosen), "no samples")?,
    })
}

/// The provider's own document, with many servers.
fn list() -> Result<Vec<u8>> {
    let (_, key) = wireguard_pair()?;
    let servers = (0..SERVERS).map(|number| {
        // Public addresses, each its own.
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(185, 0, 0, 1)) + number * 4);
        let spec = ServerSpec {
            id: format!("vpn{number:05}"),
            datacenter: if number % 2 == 0 { "se-sto" } else { "se-mma" }.to_owned(),
            state: "online".to_owned(),
            addresses: vec![address.into()],
            port: 51820,
            exits: vec![ExitSpec { id: "se".to_owned(), country: "SE".to_owned(), ipv4: address, ipv6: None }],
        };
        (spec, key)
    });
    let servers: Vec<_> = servers.collect();
    let mut document = source(&servers, &["https://192.0.2.10".to_owned()], &[]);
    document["serial"] = 1.into();
    document["generated_at"] = "2026-01-01T00:00:00Z".into();
    document["expires_at"] = "2036-01-01T00:00:00Z".into();
    Ok(serde_json::to_vec(&document)?)
}
