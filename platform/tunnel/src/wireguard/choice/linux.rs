//! The choice of a data plane on Linux: our own, the kernel's where the administrator asks for it, or the stock one where the
//! kernel refuses ours.

use super::carrier::Carrier;
use super::client::Client;
use super::{kernel, own, stock};
use crate::error::TunnelError;
use crate::options::Engine;

/// Starts the data plane that is chosen, or another where the kernel refuses it.
pub(super) async fn start(client: Client<'_>, engine: Engine) -> Result<Box<dyn Carrier>, TunnelError> {
    let interface = &client.options.interface;
    if let Err(error) = kernel::remove_leftover(interface) {
        tracing::warn!(%error, "what an earlier run left was not looked for");
    }
    if engine == Engine::Kernel {
        match kernel::start(&client).await? {
            Some(kernel) => return Ok(Box::new(kernel)),
            None => tracing::warn!("the kernel has no WireGuard"),
        }
    }
    let device = match engine {
        Engine::Best | Engine::Kernel => own::open(interface)?,
        Engine::Gotatun => None,
    };
    Ok(match device {
        Some(device) => Box::new(own::start(device, client).await?),
        None => Box::new(stock::start(client).await?),
    })
}
