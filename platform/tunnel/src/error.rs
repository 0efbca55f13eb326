//! Why a tunnel could not be started or changed.

use hamn_core::net::InterfaceName;
use hamn_core::state::BlockReason;
use std::error::Error;
use std::io;

/// Why a tunnel could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// An interface of that name exists, made by somebody else; it is never taken over (TAMPER-04).
    #[error("an interface named {0} exists already and is not ours")]
    InterfaceExists(InterfaceName),
    /// The TUN device could not be created.
    #[error("create the TUN device {name}: {source}")]
    Device {
        /// Interface name.
        name: InterfaceName,
        /// What the system said.
        source: io::Error,
    },
    /// Address, MTU or state of the interface could not be set.
    #[error("set {what} of {name}: {source}")]
    Configure {
        /// "address", "mtu", ...
        what: &'static str,
        /// Interface name.
        name: InterfaceName,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The plan names no gateway.
    #[error("the plan has no UDP endpoint")]
    NoEndpoint,
    /// The plan gives us no address inside the tunnel.
    #[error("the plan has no address inside the tunnel")]
    NoAddress,
    /// The timer that wakes through suspend could not be made.
    #[error("make a timer: {0}")]
    Alarm(#[source] io::Error),
    /// Our data plane refused; most often the UDP socket could not be opened.
    #[error("run the data plane: {0}")]
    DataPlane(#[source] Box<dyn Error + Send + Sync>),
    /// gotatun's data plane refused; most often the UDP socket could not be opened.
    #[error("run the WireGuard engine: {0}")]
    Engine(#[from] gotatun::device::Error),
    /// The tunnel has ended.
    #[error("the tunnel has ended")]
    Ended,
}

impl TunnelError {
    /// The reason to show.
    #[must_use]
    pub const fn reason(&self) -> BlockReason {
        match self {
            Self::InterfaceExists(_) | Self::Device { .. } | Self::Configure { .. } => BlockReason::TunnelDevice,
            Self::NoEndpoint | Self::NoAddress | Self::Alarm(_) | Self::DataPlane(_) | Self::Engine(_) | Self::Ended => {
                BlockReason::Internal
            }
        }
    }
}
