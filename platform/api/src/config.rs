//! The file `provider.json`: where the provider is and which roots and keys it is known by.

use crate::error::ApiError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Most URLs, addresses, roots and keys that are taken from a configuration.
const MAX_ENTRIES: usize = 16;

/// What a client knows about its provider before the first contact. This is the format of `provider.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// `https://host[:port]`, at least one; the host is a name or an IP address and is what the certificate must name.
    pub urls: Vec<String>,
    /// Addresses to connect to for every URL whose host is a name. With these the system's resolver is never asked.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
    /// The only root certificates that are trusted, PEM. The system's own store plays no part.
    pub tls_roots_pem: String,
    /// minisign public keys (the base64 line) that may sign the server list: current and next.
    pub list_keys: Vec<String>,
}

impl ProviderConfig {
    /// Reads and checks the text of `provider.json`.
    ///
    /// # Errors
    /// [`ApiError::Config`] when a field is missing, unknown or cannot be used.
    pub fn parse(text: &[u8]) -> Result<Self, ApiError> {
        let config: Self = serde_json::from_slice(text).map_err(|error| ApiError::Config(error.to_string()))?;
        config.origins()?;
        config.roots()?;
        config.keys()?;
        Ok(config)
    }

    pub(crate) fn origins(&self) -> Result<Vec<Origin>, ApiError> {
        if self.urls.is_empty() || self.urls.len() > MAX_ENTRIES || self.addresses.len() > MAX_ENTRIES {
            return Err(ApiError::Config(format!("1 to {MAX_ENTRIES} urls and at most {MAX_ENTRIES} addresses are needed")));
        }
        self.urls.iter().map(|url| Origin::parse(url)).collect()
    }

    pub(crate) fn roots(&self) -> Result<rustls::RootCertStore, ApiError> {
        let mut store = rustls::RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(self.tls_roots_pem.as_bytes()).take(MAX_ENTRIES) {
            let der = der.map_err(|_| ApiError::Config("tls_roots_pem is not PEM".to_owned()))?;
            store.add(der).map_err(|error| ApiError::Config(format!("a root certificate cannot be used: {error}")))?;
        }
        if store.is_empty() {
            return Err(ApiError::Config("tls_roots_pem holds no certificate".to_owned()));
        }
        Ok(store)
    }

    pub(crate) fn keys(&self) -> Result<Vec<minisign_verify::PublicKey>, ApiError> {
        if self.list_keys.is_empty() || self.list_keys.len() > MAX_ENTRIES {
            return Err(ApiError::Config("list_keys needs at least one minisign public key".to_owned()));
        }
        let read = |key: &String| {
            minisign_verify::PublicKey::from_base64(key.trim())
                .map_err(|_| ApiError::Config("a list key is not a minisign public key".to_owned()))
        };
        self.list_keys.iter().map(read).collect()
    }
}

/// Limits of the client (attack class C1). The defaults are what the helper uses; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP and TLS handshake together, per address.
    pub connect: Duration,
    /// A whole call over all addresses.
    pub total: Duration,
    /// Calls that may be made at once after a pause.
    pub burst: u32,
    /// One further call is allowed per this time.
    pub refill: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(10), burst: 30, refill: Duration::from_secs(10) }
    }
}

/// Scheme, host and port of one URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Value of the `Host` header.
    pub authority: String,
    /// Host without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What the certificate must name.
    pub name: ServerName<'static>,
}

impl Origin {
    pub(crate) fn parse(url: &str) -> Result<Self, ApiError> {
        let bad = |why: &str| ApiError::Config(format!("a provider URL {why}"));
        let uri: http::Uri = url.parse().map_err(|_| bad("cannot be read"))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("must start with https://"));
        }
        if !matches!(uri.path_and_query().map(http::uri::PathAndQuery::as_str), None | Some("" | "/")) {
            return Err(bad("must not have a path"));
        }
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("must not hold a user name"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| bad("has no valid host"))?;
        Ok(Self { authority: authority.as_str().to_owned(), host, port: authority.port_u16().unwrap_or(443), name })
    }

    /// The address, when the host is one.
    pub(crate) fn literal(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// TLS 1.3 with the given roots and nothing else.
pub(crate) fn tls_config(roots: rustls::RootCertStore) -> Result<Arc<rustls::ClientConfig>, ApiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ApiError::Config(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // No tickets: every connection is checked in full, and nothing links two of them.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_origins_are_accepted() {
        for (url, good) in [
            ("https://api.example.test", true),
            ("https://192.0.2.1:8443", true),
            ("https://[2001:db8::1]/", true),
            ("http://api.example.test", false),
            ("https://user@api.example.test", false),
            ("https://api.example.test/v1", false),
            ("https://", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(Origin::parse(url).is_ok(), good, "{url}");
        }
        assert_eq!(Origin::parse("https://[2001:db8::1]:444").unwrap().literal().unwrap().to_string(), "[2001:db8::1]:444");
    }
}
