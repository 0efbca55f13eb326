//! The server list on the provider's side: an unsigned source that people edit, and the signed bytes that are served.

use crate::keys::write_file;
use anyhow::{Context, Result, bail};
use hamn_core::key::PublicKey;
use minisign::{PublicKey as SigningPublicKey, SecretKeyBox};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// The gateways' IPv4 address inside the tunnel.
pub const TUNNEL_V4: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
/// The gateways' IPv6 address inside the tunnel.
pub const TUNNEL_V6: Ipv6Addr = Ipv6Addr::new(0xfd5a, 0x7e57, 0, 0, 0, 0, 0, 1);
/// Capacity of every server of the 2015 report, computed from its percentages, in bit/s.
const CAPACITY_BPS: u64 = 1_424_000_000;
/// How long a signed list counts as fresh.
const VALID: Duration = Duration::days(7);

const SOURCE: &str = "list.json";
const SIGNED: &str = "servers.json";
const SIGNATURE: &str = "servers.json.minisig";
const SERIAL: &str = "servers.serial";

/// One VPN server, as `init` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// Id, such as `vpn05`.
    pub id: String,
    /// `se-sto` or `se-mma`.
    pub datacenter: String,
    /// `online`, `draining`, `maintenance` or `offline`.
    #[serde(default = "online")]
    pub state: String,
    /// Addresses that clients connect to.
    pub addresses: Vec<IpAddr>,
    /// WireGuard's UDP port.
    #[serde(default = "wireguard_port")]
    pub port: u16,
    /// Where traffic comes out; the first is the default.
    pub exits: Vec<ExitSpec>,
}

/// One exit of a server (row O17).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitSpec {
    /// Id, such as `us`.
    pub id: String,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: String,
    /// Source address of IPv4 traffic.
    pub ipv4: Ipv4Addr,
    /// Source address of IPv6 traffic; without one this exit carries no IPv6.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
}

fn online() -> String {
    "online".to_owned()
}

const fn wireguard_port() -> u16 {
    51820
}

/// The fleet of the 2015 report (table A2) on the sandbox's addresses. Only vpn05, with exits in Sweden and the United
/// States, is online; the others are switched on with `list set-state` when a gateway runs for them.
#[must_use]
pub fn fixture() -> Vec<ServerSpec> {
    let sites = ["se-mma", "se-sto", "se-sto", "se-sto", "se-sto", "se-mma", "se-mma", "se-mma"];
    let host = |number: u8| match number {
        5 => 1,
        6 => 2,
        other => 10_u8.saturating_add(other),
    };
    let server = |(index, site): (usize, &&str)| {
        let number = u8::try_from(index).unwrap_or(0).saturating_add(1);
        let v4 = Ipv4Addr::new(198, 51, 100, host(number));
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, u16::from(host(number)));
        let mut exits = vec![ExitSpec { id: "se".into(), country: "SE".into(), ipv4: v4, ipv6: Some(v6) }];
        if number == 5 {
            exits.push(ExitSpec { id: "us".into(), country: "US".into(), ipv4: Ipv4Addr::new(198, 51, 100, 129), ipv6: None });
        }
        ServerSpec {
            id: format!("vpn{number:02}"),
            datacenter: (*site).to_owned(),
            state: if number == 5 { "online" } else { "offline" }.to_owned(),
            addresses: vec![v4.into(), v6.into()],
            port: wireguard_port(),
            exits,
        }
    };
    sites.iter().enumerate().map(server).collect()
}

/// The source document: everything of the list but serial and times.
#[must_use]
pub fn source(servers: &[(ServerSpec, PublicKey)], api_endpoints: &[String], pins: &[String]) -> Value {
    let datacenter = |id: &str, slug: &str, city: &str, latitude: f64, longitude: f64| {
        json!({"id": id, "slug": slug, "city": city, "latitude": latitude, "longitude": longitude, "hosting": "own_rack",
               "security": ["locked_rack", "diskless", "no_ports"], "asn": 64496, "pools": [format!("pool-{id}-1")]})
    };
    let pool = |id: &str, slug: &str| {
        let members: Vec<&str> =
            servers.iter().filter(|(spec, _)| spec.datacenter == id).map(|(spec, _)| spec.id.as_str()).collect();
        json!({"id": format!("pool-{id}-1"), "datacenter": id, "dns": format!("pool-1.{slug}.sandbox.test"), "servers": members})
    };
    json!({
        "format": 1, "serial": 0, "generated_at": "", "expires_at": "",
        "regions": [{"id": "se", "country": "SE", "name": "Sweden", "datacenters": [
            datacenter("se-sto", "stockholm", "Stockholm", 59.33, 18.07),
            datacenter("se-mma", "malmo", "Malmö", 55.61, 13.0)]}],
        "pools": [pool("se-sto", "stockholm"), pool("se-mma", "malmo")],
        "servers": servers.iter().map(|(spec, key)| server(spec, key)).collect::<Vec<_>>(),
        "openvpn_ca": {},
        "dns": {"plain": [TUNNEL_V4, TUNNEL_V6], "filtering": {}},
        "api": {"endpoints": api_endpoints, "pins": pins},
    })
}

fn server(spec: &ServerSpec, key: &PublicKey) -> Value {
    let city = if spec.datacenter == "se-mma" { "Malmö" } else { "Stockholm" };
    let exit = |(index, exit): (usize, &ExitSpec)| {
        let mut value = json!({"id": exit.id, "country": exit.country, "ipv4": exit.ipv4});
        if let Some(object) = value.as_object_mut() {
            if let Some(ipv6) = exit.ipv6 {
                object.insert("ipv6".to_owned(), json!(ipv6));
            }
            if index == 0 {
                object.insert("default".to_owned(), json!(true));
            }
        }
        value
    };
    json!({
        "id": spec.id, "name": format!("{} - {city}", spec.id.to_uppercase()), "datacenter": spec.datacenter, "state": spec.state,
        "weight": 100, "capacity_bps": CAPACITY_BPS, "features": ["ipv6"],
        "exits": spec.exits.iter().enumerate().map(exit).collect::<Vec<_>>(),
        "endpoints": [{"protocol": "wireguard", "service": "shared", "addresses": spec.addresses, "public_key": key.to_string(),
            "ports": [spec.port], "gateway_ipv4": TUNNEL_V4, "gateway_ipv6": TUNNEL_V6, "auth": "strict"}],
    })
}

/// Writes the source document.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_source(dir: &Path, source: &Value) -> Result<()> {
    write_file(&dir.join(SOURCE), 0o644, &serde_json::to_vec_pretty(source).context("write the list's source")?)
}

/// Changes the state of one server in the source.
///
/// # Errors
/// When the server or the state does not exist.
pub fn set_state(dir: &Path, server: &str, state: &str) -> Result<()> {
    if !["online", "draining", "maintenance", "offline"].contains(&state) {
        bail!("a state is one of online, draining, maintenance, offline");
    }
    edit(dir, |source| {
        let servers = source.get_mut("servers").and_then(Value::as_array_mut).context("the list has no servers")?;
        let found =
            servers.iter_mut().find(|item| item.get("id").and_then(Value::as_str) == Some(server)).context("no such server")?;
        let object = found.as_object_mut().context("the server is no object")?;
        object.insert("state".to_owned(), json!(state));
        Ok(())
    })
}

/// Changes the source by a function.
///
/// # Errors
/// What the function returns, or when the source cannot be read or written.
pub fn edit(dir: &Path, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
    let mut source: Value = serde_json::from_slice(&fs::read(dir.join(SOURCE)).context("read the list's source")?)
        .context("read the list's source")?;
    change(&mut source)?;
    write_source(dir, &source)
}

/// Signs the source with the next serial.
///
/// # Errors
/// When key or source cannot be read.
pub fn sign(dir: &Path, now: OffsetDateTime) -> Result<u64> {
    let serial = last_serial(dir).checked_add(1).context("the serial has run out")?;
    sign_as(dir, serial, now, now + VALID, &dir.join("offline/list.key"))?;
    Ok(serial)
}

/// Signs the source with any serial, times and key; tests make stale and old lists with it.
///
/// # Errors
/// When key or source cannot be read.
pub fn sign_as(dir: &Path, serial: u64, generated: OffsetDateTime, expires: OffsetDateTime, key: &Path) -> Result<()> {
    let mut list: Value = serde_json::from_slice(&fs::read(dir.join(SOURCE)).context("read the list's source")?)
        .context("read the list's source")?;
    let object = list.as_object_mut().context("the list is no object")?;
    let expires_at = expires.replace_nanosecond(0).unwrap_or(expires).format(&Rfc3339).context("write a time")?;
    let generated_at = generated.replace_nanosecond(0).unwrap_or(generated).format(&Rfc3339).context("write a time")?;
    object.insert("serial".to_owned(), json!(serial));
    object.insert("generated_at".to_owned(), json!(generated_at));
    object.insert("expires_at".to_owned(), json!(expires_at));
    let bytes = serde_json::to_vec(&list).context("write the list")?;
    let signature = sign_bytes(&bytes, key, &format!("serial={serial} expires={expires_at}"))?;
    // The signature goes first: a reader that sees the new list finds a signature that fits, or tries again.
    write_file(&dir.join(SIGNATURE), 0o644, signature.as_bytes())?;
    write_file(&dir.join(SIGNED), 0o644, &bytes)?;
    write_file(&dir.join(SERIAL), 0o644, serial.to_string().as_bytes())
}

fn last_serial(dir: &Path) -> u64 {
    fs::read_to_string(dir.join(SERIAL)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A minisign signature file over `bytes`.
///
/// # Errors
/// When the key cannot be read.
pub fn sign_bytes(bytes: &[u8], key: &Path, comment: &str) -> Result<String> {
    let text = fs::read_to_string(key).with_context(|| format!("read {}", key.display()))?;
    let secret =
        SecretKeyBox::from_string(&text).and_then(SecretKeyBox::into_unencrypted_secret_key).context("read the signing key")?;
    let public = SigningPublicKey::from_secret_key(&secret).context("read the signing key")?;
    let signature = minisign::sign(Some(&public), &secret, Cursor::new(bytes), Some(comment), Some("Hamn server list"))
        .context("sign the list")?;
    Ok(signature.into_string())
}

/// The signed list as it is served.
pub struct SignedList {
    /// Exactly the signed bytes.
    pub bytes: bytes::Bytes,
    /// The signature file.
    pub minisig: String,
    /// Strong entity tag, quoted.
    pub etag: String,
    /// Source address of each exit with server and exit id.
    pub exits: Vec<(IpAddr, String, String)>,
}

impl SignedList {
    /// Reads the signed files; refuses a pair that does not fit together (it is being replaced).
    ///
    /// # Errors
    /// When a file is missing or the signature does not fit.
    pub fn read(dir: &Path) -> Result<Self> {
        let bytes = fs::read(dir.join(SIGNED)).context("read the signed list")?;
        let minisig = fs::read_to_string(dir.join(SIGNATURE)).context("read the list's signature")?;
        let fits = ["offline/list.pub", "offline/list-next.pub"].iter().any(|name| {
            let key = fs::read_to_string(dir.join(name)).ok().and_then(|text| SigningPublicKey::from_base64(text.trim()).ok());
            let signature = minisign::SignatureBox::from_string(&minisig).ok();
            key.zip(signature).is_some_and(|(key, signature)| {
                minisign::verify(&key, &signature, Cursor::new(&bytes), true, false, false).is_ok()
            })
        });
        if !fits {
            bail!("the list and its signature do not fit");
        }
        let list: Value = serde_json::from_slice(&bytes).context("read the signed list")?;
        let etag = format!("\"{}\"", crate::keys::hex_digest(&bytes));
        Ok(Self { etag, exits: exits(&list), minisig, bytes: bytes.into() })
    }
}

fn exits(list: &Value) -> Vec<(IpAddr, String, String)> {
    let mut found = Vec::new();
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    for server in list.get("servers").and_then(Value::as_array).into_iter().flatten() {
        for exit in server.get("exits").and_then(Value::as_array).into_iter().flatten() {
            for family in ["ipv4", "ipv6"] {
                let address = text(exit, family).and_then(|address| address.parse().ok());
                if let (Some(address), Some(server), Some(exit)) = (address, text(server, "id"), text(exit, "id")) {
                    found.push((address, server, exit));
                }
            }
        }
    }
    found
}
