//! What a client's data plane is started with, and the choice of one.

use super::carrier::Carrier;
use super::probe::Probe;
use super::{own, stock};
use crate::error::TunnelError;
use crate::options::{Engine, Options, Secrets};
use hamn_core::plan::TunnelPlan;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything that a data plane needs to know.
pub(super) struct Client<'a> {
    pub(super) plan: &'a TunnelPlan,
    pub(super) secrets: &'a Secrets,
    pub(super) options: &'a Options,
    /// Ours, without their networks.
    pub(super) addresses: Vec<IpNet>,
    /// The gateway.
    pub(super) endpoint: SocketAddr,
    /// Seconds between keepalives.
    pub(super) keepalive_s: u16,
    pub(super) probe: Option<Arc<Probe>>,
}

/// Starts the data plane that is chosen, or the other where the kernel refuses it.
pub(super) async fn start(client: Client<'_>, engine: Engine) -> Result<Box<dyn Carrier>, TunnelError> {
    let device = match engine {
        Engine::Best => own::open(&client.options.interface)?,
        Engine::Gotatun => None,
    };
    Ok(match device {
        Some(device) => Box::new(own::start(device, client).await?),
        None => Box::new(stock::start(client).await?),
    })
}
