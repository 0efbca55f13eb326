//! The part of a WireGuard configuration file that all programs here are given, written and read.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use hamn_wireguard::x25519::{PublicKey, StaticSecret};
use ipnet::IpNet;
use std::fmt::Write;
use std::net::SocketAddr;

/// What one end knows. No `Debug`: it holds the private key.
#[derive(Clone)]
pub struct Conf {
    /// The private key.
    pub private_key: StaticSecret,
    /// UDP port; 0 takes any.
    pub port: u16,
    /// The other ends.
    pub peers: Vec<Peer>,
}

/// One of the other ends.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its public key.
    pub public_key: PublicKey,
    /// Where it is, when it is known.
    pub endpoint: Option<SocketAddr>,
    /// What it may send from.
    pub allowed_ips: Vec<IpNet>,
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn key(text: &str) -> Result<[u8; 32]> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).context("decode a key")?;
    bytes.try_into().ok().context("a key has 32 bytes")
}

/// A new private key.
#[must_use]
pub fn new_key() -> StaticSecret {
    StaticSecret::from(rand::random::<[u8; 32]>())
}

impl Conf {
    /// The text of the file, for `wg setconf` too.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("[Interface]\nPrivateKey = {}\n", base64(&self.private_key.to_bytes()));
        if self.port != 0 {
            let _ = writeln!(text, "ListenPort = {}", self.port);
        }
        for peer in &self.peers {
            let allowed: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
            let _ =
                write!(text, "[Peer]\nPublicKey = {}\nAllowedIPs = {}\n", base64(peer.public_key.as_bytes()), allowed.join(", "));
            if let Some(endpoint) = peer.endpoint {
                let _ = writeln!(text, "Endpoint = {endpoint}");
            }
        }
        text
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// When it has another setting, or a value that cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let mut private_key = None;
        let (mut port, mut peers) = (0, Vec::<Peer>::new());
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else { continue };
            match (name, peers.last_mut()) {
                ("PrivateKey", _) => private_key = Some(StaticSecret::from(key(value)?)),
                ("ListenPort", _) => port = value.parse()?,
                ("PublicKey", _) => {
                    peers.push(Peer { public_key: PublicKey::from(key(value)?), endpoint: None, allowed_ips: Vec::new() });
                }
                ("Endpoint", Some(peer)) => peer.endpoint = Some(value.parse()?),
                ("AllowedIPs", Some(peer)) => {
                    for net in value.split(',') {
                        peer.allowed_ips.push(net.trim().parse()?);
                    }
                }
                _ => bail!("unknown setting {name}"),
            }
        }
        ensure!(!peers.is_empty(), "no peer");
        Ok(Self { private_key: private_key.context("no PrivateKey")?, port, peers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let peer = Peer {
            public_key: PublicKey::from(&new_key()),
            endpoint: Some("[2001:db8::1]:5".parse().unwrap()),
            allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        };
        let conf = Conf { private_key: new_key(), port: 7, peers: vec![peer] };
        let read = Conf::parse(&conf.text()).unwrap();
        assert_eq!((read.text(), read.port), (conf.text(), 7));
        assert!(Conf::parse("[Interface]\n").is_err() && Conf::parse("Colour = red").is_err());
    }
}
