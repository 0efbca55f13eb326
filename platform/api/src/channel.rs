//! A bare JSON channel with the same pinned transport, for the provider's own programs (a gateway talking to its API).

use crate::config::{Limits, Origin, ProviderConfig, tls_config};
use crate::error::ApiError;
use crate::session::Token;
use crate::transport::{Call, Candidate, PrepareSocket, Transport};
use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;

/// Requests with a fixed bearer token to fixed addresses. Unlike `Client` it keeps no cache and no token bucket.
pub struct Channel {
    candidates: Vec<Candidate>,
    transport: Transport,
    token: Token,
    limit: usize,
}

impl Channel {
    /// `limit` is the most bytes of one answer.
    ///
    /// # Errors
    /// `Config` when URLs or roots cannot be used or no address is given for a name.
    pub fn new(
        config: &ProviderConfig,
        token: Token,
        limits: Limits,
        limit: usize,
        prepare: PrepareSocket,
    ) -> Result<Self, ApiError> {
        let mut candidates = Vec::new();
        for origin in config.origins()?.into_iter().map(Arc::<Origin>::new) {
            let addresses: Vec<SocketAddr> = origin.literal().map_or_else(|| config.addresses.clone(), |address| vec![address]);
            candidates.extend(addresses.into_iter().map(|address| Candidate { origin: Arc::clone(&origin), address }));
        }
        if candidates.is_empty() {
            return Err(ApiError::Config("no address of the API is given".to_owned()));
        }
        Ok(Self { candidates, transport: Transport::new(tls_config(config.roots()?)?, prepare, limits), token, limit })
    }

    /// `GET path`.
    ///
    /// # Errors
    /// Any transport error; `NotJson` when the answer is not a `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let call = Call { bearer: Some(self.token.clone()), ..Call::get(path, self.limit) };
        let answer = self.transport.send(self.candidates.clone(), &call).await?;
        serde_json::from_slice(&answer.body).map_err(|_| ApiError::NotJson)
    }

    /// `POST path`; the answer's body is ignored.
    ///
    /// # Errors
    /// Any transport error.
    pub async fn post<T: Serialize>(&self, path: &str, body: &T) -> Result<(), ApiError> {
        let body = Bytes::from(serde_json::to_vec(body).map_err(|_| ApiError::NotJson)?);
        let call =
            Call { method: Method::POST, body: Some(body), bearer: Some(self.token.clone()), ..Call::get(path, self.limit) };
        self.transport.send(self.candidates.clone(), &call).await.map(drop)
    }
}
