//! `hamn-provider init`: everything a provider needs in one directory.

use crate::gateway_config::GatewayConfig;
use crate::keys::{issue_tls, private_dir, random_token, token_hash, wireguard_pair, write_file};
use crate::list::{self, ServerSpec};
use crate::store::{NewAccount, Store};
use anyhow::{Context, Result, bail};
use hamn_api::ProviderConfig;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use time::OffsetDateTime;

/// The demonstration accounts: name, number, device limit.
pub const ACCOUNTS: [(&str, &str, u32); 3] =
    [("demo", "1000200030004000", 6), ("basic", "1000200030004001", 2), ("expired", "1000200030004002", 6)];

/// What `init` is told.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Host name of the API; the certificate names it.
    pub api_name: String,
    /// Addresses and ports of the API as clients reach them.
    pub api_addresses: Vec<SocketAddr>,
    /// Address and port of the listener for gateways.
    pub internal_address: SocketAddr,
    /// The servers; empty means the sandbox's fleet.
    pub servers: Vec<ServerSpec>,
    /// Resolvers that gateways forward to.
    pub dns_upstreams: Vec<SocketAddr>,
    /// Password of the account `demo`, if it shall have one.
    pub demo_password: Option<String>,
}

impl Default for InitOptions {
    /// The sandbox's addresses.
    fn default() -> Self {
        let v4 = |last, port| SocketAddr::new(Ipv4Addr::new(192, 0, 2, last).into(), port);
        let v6 = SocketAddr::new(std::net::Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10).into(), 443);
        Self {
            api_name: "api.sandbox.test".to_owned(),
            api_addresses: vec![v4(10, 443), v4(11, 443), v6],
            internal_address: v4(10, 8444),
            servers: Vec::new(),
            dns_upstreams: vec![v4(53, 53)],
            demo_password: None,
        }
    }
}

/// Where `api` listens unless it is told otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiConfig {
    /// Public listeners.
    pub listen: Vec<SocketAddr>,
    /// Listener for gateways.
    pub internal: SocketAddr,
}

/// Fills an empty directory: database, certificates, signing keys, signed list, `provider.json`, one file per gateway.
///
/// # Errors
/// When the directory already holds a provider or cannot be written.
pub async fn init(dir: &Path, options: &InitOptions) -> Result<()> {
    if dir.join("provider.json").exists() {
        bail!("{} already holds a provider", dir.display());
    }
    if options.api_addresses.is_empty() {
        bail!("the API needs at least one address");
    }
    for sub in ["", "tls", "offline", "gateways"] {
        private_dir(&dir.join(sub))?;
    }
    let now = OffsetDateTime::now_utc();
    let pin = write_tls(dir, options, now)?;
    let list_keys = [write_list_key(dir, "list")?, write_list_key(dir, "list-next")?];
    let config = client_config(dir, options, list_keys.to_vec())?;
    write_file(&dir.join("provider.json"), 0o644, &serde_json::to_vec_pretty(&config).context("write provider.json")?)?;
    let api = ApiConfig { listen: options.api_addresses.clone(), internal: options.internal_address };
    write_file(&dir.join("api.json"), 0o600, &serde_json::to_vec_pretty(&api).context("write api.json")?)?;

    let store = Store::open(&dir.join("provider.db")).await?;
    let servers = if options.servers.is_empty() { list::fixture() } else { options.servers.clone() };
    let mut keyed = Vec::new();
    for spec in servers {
        let (secret, public) = wireguard_pair()?;
        let token = random_token("gateway");
        store.set_gateway_token(&spec.id, &token_hash(&token)).await?;
        let gateway = GatewayConfig::from_spec(&spec, &secret, &token, options, &config.tls_roots_pem);
        let path = dir.join("gateways").join(format!("{}.json", spec.id));
        write_file(&path, 0o600, &serde_json::to_vec_pretty(&gateway).context("write a gateway's file")?)?;
        keyed.push((spec, public));
    }
    list::write_source(dir, &list::source(&keyed, &api_urls(options), &[pin]))?;
    list::sign(dir, now)?;
    add_accounts(dir, &store, options, now).await?;
    store.close().await;
    Ok(())
}

fn write_tls(dir: &Path, options: &InitOptions, now: OffsetDateTime) -> Result<String> {
    let mut names = vec![options.api_name.clone()];
    names.extend(options.api_addresses.iter().map(|address| address.ip().to_string()));
    names.push(options.internal_address.ip().to_string());
    names.dedup();
    let tls = issue_tls(&names, now)?;
    write_file(&dir.join("tls/ca.pem"), 0o644, tls.ca_pem.as_bytes())?;
    write_file(&dir.join("tls/ca.key"), 0o600, tls.ca_key_pem.as_bytes())?;
    write_file(&dir.join("tls/server.pem"), 0o644, tls.server_pem.as_bytes())?;
    write_file(&dir.join("tls/server.key"), 0o600, tls.server_key_pem.as_bytes())?;
    Ok(tls.ca_pin)
}

fn write_list_key(dir: &Path, name: &str) -> Result<String> {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().context("make a signing key")?;
    let secret = pair.sk.to_box(Some("Hamn server list signing key")).context("write a signing key")?;
    write_file(&dir.join(format!("offline/{name}.key")), 0o600, secret.into_string().as_bytes())?;
    let public = pair.pk.to_base64();
    write_file(&dir.join(format!("offline/{name}.pub")), 0o644, public.as_bytes())?;
    Ok(public)
}

fn client_config(dir: &Path, options: &InitOptions, list_keys: Vec<String>) -> Result<ProviderConfig> {
    let tls_roots_pem = std::fs::read_to_string(dir.join("tls/ca.pem")).context("read the root certificate")?;
    let port = options.api_addresses.first().map_or(443, SocketAddr::port);
    let urls = vec![https(&options.api_name, port)];
    Ok(ProviderConfig { urls, addresses: options.api_addresses.clone(), tls_roots_pem, list_keys })
}

fn https(host: &str, port: u16) -> String {
    if port == 443 { format!("https://{host}") } else { format!("https://{host}:{port}") }
}

/// The URLs that the list tells clients: the name, then each address.
fn api_urls(options: &InitOptions) -> Vec<String> {
    let port = options.api_addresses.first().map_or(443, SocketAddr::port);
    let mut urls = vec![https(&options.api_name, port)];
    for address in &options.api_addresses {
        let host = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
        urls.push(https(&host, address.port()));
    }
    urls
}

async fn add_accounts(dir: &Path, store: &Store, options: &InitOptions, now: OffsetDateTime) -> Result<()> {
    let year = 365 * 86_400;
    for (name, number, device_limit) in ACCOUNTS {
        let paid_until = now.unix_timestamp() + if name == "expired" { -86_400 } else { year };
        let password = if name == "demo" { options.demo_password.clone() } else { None };
        let addons = if name == "demo" { vec!["filtering".to_owned(), "public-ipv4".to_owned()] } else { Vec::new() };
        store.add_account(&NewAccount { number: number.to_owned(), password, paid_until, device_limit, addons }).await?;
    }
    let known: Vec<_> = ACCOUNTS.iter().map(|(name, number, _)| serde_json::json!({"name": name, "account": number})).collect();
    write_file(&dir.join("accounts.json"), 0o600, &serde_json::to_vec_pretty(&known).context("write the accounts")?)
}
