//! Keys, certificates and tokens of the provider, and the private files that hold them.

#[cfg(unix)]
#[path = "keys/unix.rs"]
mod files;
#[cfg(windows)]
#[path = "keys/windows.rs"]
mod files;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use blake2::Blake2s256;
use hamn_core::key::{PublicKey, SecretKey};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::net::Ipv6Addr;
use std::path::Path;
use time::{Duration, OffsetDateTime};

/// A fresh secret of 256 bits as text, with a prefix that tells people what it is.
#[must_use]
pub fn random_token(prefix: &str) -> String {
    format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// A fresh id of 80 bits; no secret.
#[must_use]
pub fn random_id(prefix: &str) -> String {
    format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 10]>()).replace(['-', '_'], "x"))
}

/// What is stored instead of a token.
#[must_use]
pub fn token_hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// SHA-256 in hexadecimal, for strong entity tags.
#[must_use]
pub fn hex_digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A fresh WireGuard key pair.
///
/// # Errors
/// Never in practice: a random key is degenerate with probability 2^-250.
pub fn wireguard_pair() -> Result<(SecretKey, PublicKey)> {
    let secret = x25519_dalek::StaticSecret::from(rand::random::<[u8; 32]>());
    let public = x25519_dalek::PublicKey::from(&secret);
    Ok((SecretKey::new(secret.to_bytes()), PublicKey::new(public.to_bytes()).context("make a WireGuard key")?))
}

/// The IPv6 address inside the tunnel that belongs to a key: `fd5a:7e57::` and 64 bits of BLAKE2s("addr" ‖ key). Gateways and
/// clients can compute it without asking anybody.
#[must_use]
pub fn derived_ipv6(key: &PublicKey) -> Ipv6Addr {
    let digest = Blake2s256::new().chain_update(b"addr").chain_update(key.as_bytes()).finalize();
    let tail = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    Ipv6Addr::from_bits((u128::from(0xfd5a_7e57_u32) << 96) | u128::from(tail))
}

/// A certificate authority and one server certificate, PEM.
pub struct TlsFiles {
    /// The root that clients trust.
    pub ca_pem: String,
    /// The root's private key.
    pub ca_key_pem: String,
    /// The server's certificate.
    pub server_pem: String,
    /// The server's private key.
    pub server_key_pem: String,
    /// SHA-256 of the root's public key, as in `api.pins` of the list.
    pub ca_pin: String,
}

/// Makes a root for ten years and a server certificate for `names` (host names and addresses) for 397 days.
///
/// # Errors
/// When a name is no name.
pub fn issue_tls(names: &[String], now: OffsetDateTime) -> Result<TlsFiles> {
    let ca_key = KeyPair::generate().context("make the root's key")?;
    let mut ca = CertificateParams::new(Vec::new()).context("prepare the root")?;
    ca.distinguished_name.push(DnType::CommonName, "Hamn provider root");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (ca.not_before, ca.not_after) = (now - Duration::days(1), now + Duration::days(3650));
    let root = ca.self_signed(&ca_key).context("sign the root")?;
    let issuer = Issuer::from_params(&ca, &ca_key);

    let server_key = KeyPair::generate().context("make the server's key")?;
    let mut server = CertificateParams::new(names.to_vec()).context("prepare the server's certificate")?;
    server.distinguished_name.push(DnType::CommonName, "Hamn provider API");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    (server.not_before, server.not_after) = (now - Duration::days(1), now + Duration::days(397));
    let leaf = server.signed_by(&server_key, &issuer).context("sign the server's certificate")?;
    let spki = rcgen::PublicKeyData::subject_public_key_info(&ca_key);
    Ok(TlsFiles {
        ca_pem: root.pem(),
        ca_key_pem: ca_key.serialize_pem(),
        server_pem: leaf.pem(),
        server_key_pem: server_key.serialize_pem(),
        ca_pin: format!("sha256/{}", STANDARD.encode(Sha256::digest(spki))),
    })
}

/// Writes a file atomically with this mode (Windows: with what the directory grants): temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_file(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a path without a directory")?;
    let name = path.file_name().context("a path without a name")?.to_string_lossy();
    let temporary = dir.join(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        let mut file = files::create(&temporary, mode)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Windows moves no file that is open.
        drop(file);
        files::replace(&temporary, path, dir)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Creates a directory that only its owner may enter.
///
/// # Errors
/// When it cannot be created.
pub fn private_dir(path: &Path) -> Result<()> {
    files::private_dir(path).with_context(|| format!("create {}", path.display()))
}
