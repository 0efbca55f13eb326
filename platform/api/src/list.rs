//! The signed server list: verified over the exact bytes before anything is parsed, never older than one seen before.

use crate::error::ApiError;
use bytes::Bytes;
use minisign_verify::{PublicKey, Signature};
use serde::Deserialize;
use std::net::SocketAddr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Most bytes of a list.
pub(crate) const MAX_LIST: usize = 8 * 1024 * 1024;
/// Most bytes of a minisign signature file; a real one has about 350.
pub(crate) const MAX_SIGNATURE: usize = 4 * 1024;
/// Most API addresses that are taken from a list.
const MAX_API_ENDPOINTS: usize = 16;

/// A list whose signature is good. `bytes` are exactly what was signed.
#[derive(Clone, Debug)]
pub struct FetchedList {
    /// The JSON, for `hamn_core::server` to read.
    pub bytes: Bytes,
    /// Grows with every list the provider signs.
    pub serial: u64,
    /// Seconds since 1970 at which it was made.
    pub generated_unix: i64,
    /// Seconds since 1970 after which a fresher one should exist.
    pub expires_unix: i64,
    /// It has expired by the clock that was passed in. It is still used (G17): an outage of the API locks nobody out.
    pub stale: bool,
    /// It comes from the disk or memory, because it is unchanged or because no better one could be had.
    pub from_cache: bool,
    /// Why no better one could be had.
    pub problem: Option<ApiError>,
    pub(crate) api: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope {
    format: u32,
    serial: u64,
    generated_at: String,
    expires_at: String,
    #[serde(default)]
    api: ApiPart,
}

#[derive(Deserialize, Default)]
struct ApiPart {
    #[serde(default)]
    endpoints: Vec<String>,
}

impl FetchedList {
    pub(crate) fn seen_at(&self, now_unix: i64, from_cache: bool, problem: Option<ApiError>) -> Self {
        Self { stale: self.expires_unix <= now_unix, from_cache, problem, ..self.clone() }
    }

    /// Addresses of the API that the list names directly.
    pub(crate) fn api_addresses(&self) -> Vec<(crate::config::Origin, SocketAddr)> {
        let literal = |url: &String| {
            let origin = crate::config::Origin::parse(url).ok()?;
            let address = origin.literal()?;
            Some((origin, address))
        };
        self.api.iter().filter_map(literal).take(MAX_API_ENDPOINTS).collect()
    }
}

/// Checks a signature with the keys of `provider.json` and reads the list's head.
///
/// # Errors
/// `BadSignature` when no key fits, `BadList` when the signed bytes are no list of a format that is known here.
pub(crate) fn verify_list(keys: &[PublicKey], bytes: Bytes, minisig: &str) -> Result<FetchedList, ApiError> {
    let signature = Signature::decode(minisig).map_err(|_| ApiError::BadSignature)?;
    // `false`: only prehashed (Blake2b) signatures; the legacy form would sign the list's raw bytes.
    if !keys.iter().any(|key| key.verify(&bytes, &signature, false).is_ok()) {
        return Err(ApiError::BadSignature);
    }
    let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|_| ApiError::BadList("it is not the expected JSON"))?;
    if envelope.format != 1 {
        return Err(ApiError::BadList("its format is not known here"));
    }
    // The trusted comment is signed too; one that contradicts the list is a mistake of the signer.
    if let Some(serial) = signature.trusted_comment().split_whitespace().find_map(|word| word.strip_prefix("serial="))
        && serial != envelope.serial.to_string()
    {
        return Err(ApiError::BadList("its serial differs from the one in the signature"));
    }
    Ok(FetchedList {
        serial: envelope.serial,
        generated_unix: unix(&envelope.generated_at)?,
        expires_unix: unix(&envelope.expires_at)?,
        stale: false,
        from_cache: false,
        problem: None,
        api: envelope.api.endpoints,
        bytes,
    })
}

fn unix(text: &str) -> Result<i64, ApiError> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map(OffsetDateTime::unix_timestamp)
        .map_err(|_| ApiError::BadList("a time is not RFC 3339"))
}
