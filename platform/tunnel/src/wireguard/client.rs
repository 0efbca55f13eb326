//! What a client's data plane is started with.

use super::outer_interface::OuterInterface;
use super::probe::Probe;
use crate::options::{Options, Secrets};
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
    pub(super) outer: OuterInterface,
}
