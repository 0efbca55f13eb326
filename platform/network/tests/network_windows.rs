//! The facade on Windows. Where there is no filter engine (Wine) it must refuse and say so; where there is one, lockdown is
//! tried only when `HAMN_TEST_LOCKDOWN` is set, because it cuts this computer off for a moment.
#![cfg(windows)]
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use hamn_core::event::HostEvent;
use hamn_core::policy::{Enforced, NetworkPolicy};
use hamn_network::{Config, Network, NetworkError, restore};
use std::time::Duration;
use tokio::sync::mpsc;

/// True where filters cannot be stored at all.
async fn no_engine(config: &Config) -> bool {
    match restore(config).await {
        Ok(done) => {
            assert_eq!(restore(config).await.unwrap(), Vec::<String>::new(), "a second call does nothing, after {done:?}");
            false
        }
        Err(NetworkError::Incomplete { failed, .. }) => {
            assert!(failed.len() == 1 && failed[0].starts_with("firewall: FwpmEngineOpen0 failed"), "{failed:?}");
            failed[0].contains("1764")
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn without_an_engine_nothing_is_claimed_and_with_one_lockdown_comes_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::new(&directory.path().join("network"));
    let without = no_engine(&config).await;
    let (sender, mut events) = mpsc::channel(16);
    let mut network = Network::open(config, sender).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap();
    assert!(matches!(first, Some(HostEvent::Facts { facts, path_changed: false }) if facts == network.facts()));
    assert!(network.verify().await.iter().all(|finding| !finding.ok), "no policy yet");

    let lockdown = NetworkPolicy::Enforce(Enforced::default());
    if without {
        let refused = network.apply(&lockdown).await.unwrap_err().to_string();
        assert!(refused.contains("this system has no Base Filtering Engine (1764)"), "{refused}");
        let firewall = &network.verify().await[0];
        assert!(!firewall.ok && firewall.detail.contains("1764"), "{firewall:?}");
        assert_eq!(network.dns_backend(), None);
        assert!(network.apply(&NetworkPolicy::Open).await.is_err(), "nor is it claimed that nothing of ours is there");
    } else if std::env::var_os("HAMN_TEST_LOCKDOWN").is_some() {
        network.apply(&lockdown).await.unwrap();
        assert!(network.verify().await.iter().all(|finding| finding.ok), "{:?}", network.verify().await);
        let api = std::net::TcpStream::connect_timeout(&"192.0.2.1:443".parse().unwrap(), Duration::from_secs(2)).unwrap_err();
        assert_eq!(api.kind(), std::io::ErrorKind::PermissionDenied, "refused at once, by a filter: {api}");
        network.apply(&NetworkPolicy::Open).await.unwrap();
        assert!(network.verify().await.iter().all(|finding| finding.ok), "{:?}", network.verify().await);
    }
}
