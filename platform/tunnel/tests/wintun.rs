//! Windows: without the right `wintun.dll` beside the program no tunnel starts, and the error says why. Runs under Wine.
#![cfg(windows)]
#![expect(clippy::unwrap_used, reason = "a test file: it may panic")]

use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::{Endpoint, InterfaceName};
use hamn_core::plan::{KeySource, Place, TunnelPlan};
use hamn_core::state::BlockReason;
use hamn_tunnel::{Options, Secrets, TunnelError, start};
use std::path::PathBuf;
use tokio::sync::mpsc;

fn plan() -> TunnelPlan {
    TunnelPlan {
        place: Place::default(),
        endpoints: vec![Endpoint::udp("192.0.2.1:51820".parse().unwrap())],
        peer: PublicKey::new([9; 32]).unwrap(),
        key: KeySource::Device,
        has_preshared_key: false,
        addresses: vec!["10.64.0.2/32".parse().unwrap(), "fd64::2/128".parse().unwrap()],
        allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        resolvers: vec![],
        gateway: vec!["10.64.0.1".parse().unwrap()],
        mtu: 1400,
        keepalive_s: None,
    }
}

async fn refusal() -> TunnelError {
    let secrets = Secrets { private_key: SecretKey::new([7; 32]), preshared_key: None };
    let (events, mut told) = mpsc::channel(8);
    let error = start(&plan(), secrets, Options::default(), events).await.err().unwrap();
    assert!(told.recv().await.is_none(), "no event comes of a tunnel that did not start");
    error
}

/// Removed whatever happens.
struct Planted(PathBuf);

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One test, because the file beside the running program is one.
#[tokio::test]
async fn a_missing_or_tampered_library_is_refused_and_named() {
    assert_eq!(InterfaceName::tunnel().as_str(), "Hamn");
    let path = std::env::current_exe().unwrap().with_file_name("wintun.dll");
    assert!(!path.exists(), "{} is in the way", path.display());
    let error = refusal().await;
    assert!(matches!(error, TunnelError::Device { .. }), "{error}");
    assert_eq!(error.reason(), BlockReason::TunnelDevice);
    let (text, shown) = (error.to_string(), path.display().to_string());
    assert!(text.contains(&shown) && text.contains("is missing: install the program again"), "{text}");

    let planted = Planted(path);
    for content in [&b"MZ and no more"[..], &[]] {
        std::fs::write(&planted.0, content).unwrap();
        let text = refusal().await.to_string();
        assert!(text.contains(&shown) && text.contains("is not the wintun.dll that belongs to this program"), "{text}");
    }
    // One that Windows would load, were it asked to.
    let system = PathBuf::from(std::env::var_os("SystemRoot").unwrap());
    std::fs::copy(system.join("System32").join("kernel32.dll"), &planted.0).unwrap();
    let text = refusal().await.to_string();
    assert!(text.contains("is not the wintun.dll"), "{text}");
}
