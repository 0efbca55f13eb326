//! The gateway agent: WireGuard, address translation with a choice of exits, a resolver inside the tunnel, and the peers
//! that the API wants.
//!
//! Peers come by long poll and are kept on disk, so an outage of the API changes nothing for known devices, and what was
//! revoked before stays revoked.

mod agent;
mod nat;
mod report;
mod resolver;

use crate::init::InitOptions;
use crate::list::{ExitSpec, ServerSpec, TUNNEL_V4, TUNNEL_V6};
use anyhow::{Context, Result};
use hamn_api::{Channel, Limits, ProviderConfig, Token};
use hamn_core::key::SecretKey;
use hamn_core::net::InterfaceName;
use hamn_tunnel::wireguard::server::{ServerOptions, WireGuardServer};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Largest answer of the peers feed: 65 000 devices of about 250 bytes.
const MAX_FEED: usize = 32 * 1024 * 1024;

/// One gateway's file, as `init` writes it: it holds the private key and the token, so it is 0600.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Server id.
    pub id: String,
    /// Interface to create.
    #[serde(default = "interface")]
    pub interface: InterfaceName,
    /// WireGuard private key, base64.
    private_key: String,
    /// WireGuard's UDP port.
    pub listen_port: u16,
    /// MTU of the tunnel in bytes.
    #[serde(default = "mtu")]
    pub mtu: u16,
    /// Exits; the first is the default.
    pub exits: Vec<ExitSpec>,
    /// URLs of the API's listener for gateways.
    pub api_urls: Vec<String>,
    /// Addresses of it, when a URL has a name.
    #[serde(default)]
    pub api_addresses: Vec<SocketAddr>,
    /// The root that its certificate must lead to, PEM.
    pub tls_roots_pem: String,
    /// Bearer token.
    token: String,
    /// Resolvers that questions from inside the tunnel go to.
    pub dns_upstreams: Vec<SocketAddr>,
}

fn interface() -> InterfaceName {
    InterfaceName::try_from("hamngw0".to_owned()).unwrap_or_else(|_| InterfaceName::tunnel())
}

const fn mtu() -> u16 {
    1420
}

impl GatewayConfig {
    pub(crate) fn from_spec(spec: &ServerSpec, secret: &SecretKey, token: &str, options: &InitOptions, roots: &str) -> Self {
        Self {
            id: spec.id.clone(),
            interface: interface(),
            private_key: secret.reveal_base64().to_string(),
            listen_port: spec.port,
            mtu: mtu(),
            exits: spec.exits.clone(),
            api_urls: vec![format!("https://{}", options.internal_address)],
            api_addresses: Vec::new(),
            tls_roots_pem: roots.to_owned(),
            token: token.to_owned(),
            dns_upstreams: options.dns_upstreams.clone(),
        }
    }

    /// Reads a gateway's file.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))
    }

    fn channel(&self, total: Duration) -> Result<Channel> {
        let config = ProviderConfig {
            urls: self.api_urls.clone(),
            addresses: self.api_addresses.clone(),
            tls_roots_pem: self.tls_roots_pem.clone(),
            list_keys: Vec::new(),
        };
        let limits = Limits { total, ..Limits::default() };
        Channel::new(&config, Token::new(self.token.clone()), limits, MAX_FEED, Arc::new(|_| Ok(())))
            .context("prepare the way to the API")
    }
}

/// Runs a gateway in the network namespace of the calling process until `stop` resolves. `ready` is told once traffic can
/// flow: peers are known from the API or the disk, or the API has not answered for five seconds.
///
/// # Errors
/// When the interface, the firewall or the resolver cannot be set up.
pub async fn run(
    config: GatewayConfig,
    state_dir: &Path,
    ready: oneshot::Sender<()>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let inside = [IpNet::new(IpAddr::from(TUNNEL_V4), 16), IpNet::new(IpAddr::from(TUNNEL_V6), 64)];
    let addresses = inside.into_iter().collect::<Result<Vec<_>, _>>().context("address the tunnel")?;
    let server = WireGuardServer::start(ServerOptions {
        interface: config.interface.clone(),
        addresses,
        mtu: config.mtu,
        listen_port: config.listen_port,
        private_key: SecretKey::parse(&config.private_key).context("read the private key")?,
    })
    .await
    .context("start WireGuard")?;
    nat::forward()?;
    nat::install(config.interface.as_str(), &config.exits).await?;

    let mut tasks = JoinSet::new();
    for address in [SocketAddr::new(TUNNEL_V4.into(), 53), SocketAddr::new(TUNNEL_V6.into(), 53)] {
        resolver::start(&mut tasks, address, config.dns_upstreams.clone()).await?;
    }
    let (feed_tx, feed_rx) = mpsc::channel(1);
    let (report_tx, report_rx) = mpsc::channel(8);
    tasks.spawn(agent::follow(config.channel(Duration::from_secs(40))?, config.id.clone(), feed_tx));
    tasks.spawn(report::send(config.channel(Duration::from_secs(10))?, config.id.clone(), report_rx));
    let agent = agent::Agent::new(server, config.exits.clone(), state_dir, report_tx).await?;
    let server = agent.run(feed_rx, ready, stop).await;

    tasks.shutdown().await;
    nat::remove().await?;
    server.stop().await;
    Ok(())
}
