//! The gateway agent: WireGuard, address translation with a choice of exits, a resolver inside the tunnel, and the peers
//! that the API wants.
//!
//! Peers come by long poll and are kept on disk, so an outage of the API changes nothing for known devices, and what was
//! revoked before stays revoked.

mod agent;
mod nat;
mod report;
mod resolver;

pub use crate::gateway_config::GatewayConfig;
use crate::list::{TUNNEL_V4, TUNNEL_V6};
use anyhow::{Context, Result};
use hamn_api::{Channel, Limits, ProviderConfig, Token};
use hamn_core::key::SecretKey;
use hamn_tunnel::wireguard::server::{ServerOptions, WireGuardServer};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Largest answer of the peers feed: 65 000 devices of about 250 bytes.
const MAX_FEED: usize = 32 * 1024 * 1024;

fn channel(config: &GatewayConfig, total: Duration) -> Result<Channel> {
    let provider = ProviderConfig {
        urls: config.api_urls.clone(),
        addresses: config.api_addresses.clone(),
        tls_roots_pem: config.tls_roots_pem.clone(),
        list_keys: Vec::new(),
    };
    let limits = Limits { total, ..Limits::default() };
    Channel::new(&provider, Token::new(config.token.clone()), limits, MAX_FEED, Arc::new(|_| Ok(())))
        .context("prepare the way to the API")
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
    tasks.spawn(agent::follow(channel(&config, Duration::from_secs(40))?, config.id.clone(), feed_tx));
    tasks.spawn(report::send(channel(&config, Duration::from_secs(10))?, config.id.clone(), report_rx));
    let agent = agent::Agent::new(server, config.exits.clone(), state_dir, report_tx).await?;
    let server = agent.run(feed_rx, ready, stop).await;

    tasks.shutdown().await;
    nat::remove().await?;
    server.stop().await;
    Ok(())
}
