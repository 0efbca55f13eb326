//! The data plane where there is no choice: ours needs segmentation offload of a TUN device, which only Linux has.

use super::carrier::Carrier;
use super::client::Client;
use super::stock;
use crate::error::TunnelError;
use crate::options::Engine;

/// Starts the stock data plane, whatever was asked for.
pub(super) async fn start(client: Client<'_>, _engine: Engine) -> Result<Box<dyn Carrier>, TunnelError> {
    Ok(Box::new(stock::start(client).await?))
}
