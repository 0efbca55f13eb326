//! The gateway's side of WireGuard on the same data planes: for the reference provider and for tests.

mod own;
mod sockets;
mod stock;

use crate::error::TunnelError;
use crate::options::Engine;
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use std::net::SocketAddr;

/// How to run a gateway.
pub struct ServerOptions {
    /// Interface to create; it must not exist.
    pub interface: InterfaceName,
    /// The gateway's addresses inside the tunnel, with the prefix that its clients are in: the kernel makes the routes.
    pub addresses: Vec<IpNet>,
    /// MTU in bytes.
    pub mtu: u16,
    /// UDP port, on all addresses of both families; 0 takes any.
    pub listen_port: u16,
    /// The gateway's private key.
    pub private_key: SecretKey,
}

/// What a gateway knows of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// The client's public key.
    pub key: PublicKey,
    /// Bytes received from it, as the data plane counts them.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Milliseconds since the last handshake.
    pub last_handshake_age_ms: Option<u64>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
}

/// A running gateway. Dropping it ends it, too; [`WireGuardServer::stop`] waits until the interface is gone.
pub struct WireGuardServer(Plane);

enum Plane {
    Own(own::Server),
    Stock(Box<stock::Server>),
}

impl WireGuardServer {
    /// Creates the interface and listens, on the data plane that the kernel allows and the environment names
    /// ([`Engine::from_environment`]).
    ///
    /// # Errors
    /// If the interface exists, or the device or the socket cannot be made.
    pub async fn start(options: ServerOptions) -> Result<Self, TunnelError> {
        Self::start_on(Engine::from_environment(), options).await
    }

    /// As [`Self::start`], on this data plane.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(engine: Engine, options: ServerOptions) -> Result<Self, TunnelError> {
        let device = match engine {
            // The kernel's is for clients.
            Engine::Best | Engine::Kernel => super::own::open(&options.interface)?,
            Engine::Gotatun => None,
        };
        let server = Self(match device {
            Some(device) => Plane::Own(own::Server::start(device, options).await?),
            None => Plane::Stock(Box::new(stock::Server::start(options).await?)),
        });
        tracing::info!(engine = server.engine(), port = server.listen_port(), "the gateway's data plane");
        Ok(server)
    }

    /// Which data plane carries the packets: `hamn` or `gotatun`.
    #[must_use]
    pub const fn engine(&self) -> &'static str {
        match &self.0 {
            Plane::Own(_) => super::own::NAME,
            Plane::Stock(_) => super::stock::NAME,
        }
    }

    /// The UDP port in use.
    #[must_use]
    pub const fn listen_port(&self) -> u16 {
        match &self.0 {
            Plane::Own(server) => server.port,
            Plane::Stock(server) => server.port,
        }
    }

    /// Admits a client, or changes what it may use; its session and its endpoint stay then. An address that another client
    /// has moves to this one.
    ///
    /// # Errors
    /// If the data plane refuses.
    pub async fn add_peer(
        &self,
        key: PublicKey,
        allowed_ips: &[IpNet],
        preshared_key: Option<&SecretKey>,
    ) -> Result<(), TunnelError> {
        match &self.0 {
            Plane::Own(server) => server.add_peer(key, allowed_ips, preshared_key).await,
            Plane::Stock(server) => server.add_peer(key, allowed_ips, preshared_key).await,
        }
    }

    /// Turns a client away: at once, its sessions end. False if it was not known.
    ///
    /// # Errors
    /// If the data plane refuses.
    pub async fn remove_peer(&self, key: &PublicKey) -> Result<bool, TunnelError> {
        match &self.0 {
            Plane::Own(server) => server.remove_peer(key).await,
            Plane::Stock(server) => server.remove_peer(key).await,
        }
    }

    /// All clients.
    pub async fn peers(&self) -> Vec<PeerStats> {
        match &self.0 {
            Plane::Own(server) => server.peers().await,
            Plane::Stock(server) => server.peers().await,
        }
    }

    /// Ends when the gateway cannot go on: its interface was deleted, or its socket failed.
    pub async fn failed(&mut self) {
        match &mut self.0 {
            Plane::Own(server) => server.failed().await,
            Plane::Stock(server) => server.failed().await,
        }
    }

    /// Ends the gateway; afterwards the interface is gone and the port free.
    pub async fn stop(self) {
        match self.0 {
            Plane::Own(server) => server.stop().await,
            Plane::Stock(server) => server.stop().await,
        }
    }
}
