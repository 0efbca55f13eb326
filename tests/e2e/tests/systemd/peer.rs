//! A WireGuard server with a resolver that writes down its questions, on the laboratory's gateway host.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::InterfaceName;
use hamn_provider::sandbox::Lab;
use hamn_provider::sandbox::address::WIREGUARD_PORT;
use hamn_provider::sandbox::service::{self, Log, Query, Stop};
use hamn_tunnel::wireguard::server::{ServerOptions, WireGuardServer};
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use x25519_dalek::{PublicKey as Point, StaticSecret};

/// The client's traffic leaves with this address.
pub const EXIT: &str = "198.51.100.1";
/// The resolver inside the tunnel.
pub const RESOLVER: &str = "10.99.0.1";
const SERVER_SECRET: [u8; 32] = [0x51; 32];
const CLIENT_SECRET: [u8; 32] = [0x42; 32];

const NAT: &str = "table ip peer { chain out { type nat hook postrouting priority srcnat; policy accept;
    oifname \"eth0\" ip saddr 10.99.0.0/24 snat to 198.51.100.1
}
}
";

/// The server. Dropping it ends it.
pub struct Peer {
    /// Questions that came through the tunnel.
    pub dns: Log<Query>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _stop: Stop,
}

impl Peer {
    /// Starts it and waits until it listens.
    pub fn start(lab: &Lab) -> Result<Self> {
        let gateway = &lab.gateway;
        let (end, ended) = oneshot::channel();
        let (ready, started) = sync_channel(1);
        let thread = gateway.thread("wireguard", move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async move {
                match serve().await {
                    Ok(server) => {
                        let _ = ready.send(Ok(()));
                        let _ = ended.await;
                        server.stop().await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        started.recv().context("the server's thread ended early")??;
        gateway.nft(NAT)?;
        let stop = Stop::new()?;
        let dns = service::resolver(gateway, &stop, &[SocketAddr::new(RESOLVER.parse()?, 53)])?;
        Ok(Self { dns, end: Some(end), thread: Some(thread), _stop: stop })
    }

    /// The profile that a person would import.
    pub fn profile(&self) -> String {
        let (client, server) = (STANDARD.encode(CLIENT_SECRET), STANDARD.encode(public(SERVER_SECRET)));
        format!(
            "[Interface]\nPrivateKey = {client}\nAddress = 10.99.0.2/32\nDNS = {RESOLVER}\n[Peer]\nPublicKey = {server}\nAllowedIPs = 0.0.0.0/0\nEndpoint = 198.51.100.1:{WIREGUARD_PORT}\n"
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn public(secret: [u8; 32]) -> [u8; 32] {
    Point::from(&StaticSecret::from(secret)).to_bytes()
}

async fn serve() -> Result<WireGuardServer> {
    let options = ServerOptions {
        interface: InterfaceName::try_from("peer0".to_owned())?,
        addresses: vec!["10.99.0.1/24".parse()?],
        mtu: 1420,
        listen_port: WIREGUARD_PORT,
        private_key: SecretKey::new(SERVER_SECRET),
    };
    let server = WireGuardServer::start(options).await?;
    server.add_peer(PublicKey::new(public(CLIENT_SECRET))?, &["10.99.0.2/32".parse()?], None).await?;
    Ok(server)
}
