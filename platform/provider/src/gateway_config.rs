//! One gateway's file: what `init` writes and the gateway reads.

use crate::init::InitOptions;
use crate::list::{ExitSpec, ServerSpec};
use anyhow::{Context, Result};
use hamn_core::key::SecretKey;
use hamn_core::net::InterfaceName;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;

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
    pub(crate) private_key: String,
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
    pub(crate) token: String,
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
}
