//! Sessions, devices, keys, limits, and what gateways hear of it.

use crate::harness::{DEMO, Provider, credentials, wireguard_key};
use hamn_api::{ApiError, Client, StoredSession};
use hamn_core::state::BlockReason;
use hamn_provider::store::Feed;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn code(error: &ApiError) -> &str {
    error.code()
}

async fn logged_in(provider: &Provider) -> Client {
    let client = provider.client();
    client.login(&credentials(DEMO, None), "linux").await.unwrap();
    client
}

#[tokio::test]
async fn login_account_and_logout() {
    let provider = Provider::start().await;
    let client = provider.client();
    assert_eq!(client.account().await.unwrap_err(), ApiError::NotLoggedIn);
    let session = client.login(&credentials("1000-2000 3000-4000", None), "linux").await.unwrap();
    assert_eq!((session.account.status.as_str(), session.account.device_limit), ("active", 6));
    assert_eq!(client.account().await.unwrap(), session.account);
    client.logout().await.unwrap();
    assert!(!client.is_logged_in().await);
    assert_eq!(client.account().await.unwrap_err().block_reason(), BlockReason::LoggedOut);
}

#[tokio::test]
async fn wrong_and_expired_accounts_are_told_apart() {
    let provider = Provider::with(|options| options.demo_password = Some("correct horse".into())).await;
    let client = provider.client();
    for (account, password, reason) in [
        (DEMO, Some("wrong"), BlockReason::CredentialsRejected),
        (DEMO, None, BlockReason::CredentialsRejected),
        ("9999999999999999", None, BlockReason::CredentialsRejected),
        ("1000200030004002", None, BlockReason::AccountExpired),
    ] {
        let error = client.login(&credentials(account, password), "linux").await.unwrap_err();
        assert_eq!(error.block_reason(), reason, "{account} {error}");
    }
    client.login(&credentials(DEMO, Some("correct horse")), "linux").await.unwrap();
}

#[tokio::test]
async fn the_sixth_wrong_login_is_limited_and_the_client_then_waits_by_itself() {
    let provider = Provider::start().await;
    let client = provider.client();
    for _ in 0..5 {
        assert_eq!(
            code(&client.login(&credentials("9999999999999999", None), "linux").await.unwrap_err()),
            "invalid_credentials"
        );
    }
    let error = client.login(&credentials(DEMO, None), "linux").await.unwrap_err();
    assert!(
        matches!(&error, ApiError::Problem(problem) if problem.status == 429 && problem.retry_after_s.is_some()),
        "{error:?}"
    );
    assert!(matches!(client.login(&credentials(DEMO, None), "linux").await.unwrap_err(), ApiError::Throttled { .. }));
}

/// Tokens as they would be on disk.
#[derive(Clone, Default)]
struct Stored(Arc<Mutex<Option<StoredSession>>>);

impl Stored {
    fn watch(&self, client: &Client) {
        let slot = Arc::clone(&self.0);
        client.on_session(Arc::new(move |session| {
            *slot.lock().unwrap() = session.cloned();
            Ok(())
        }));
    }
    fn get(&self) -> Option<StoredSession> {
        self.0.lock().unwrap().clone()
    }
    fn token(&self, name: &str) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.get().unwrap().reveal_json()).unwrap();
        json[name].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_expired_access_token_is_refreshed_once_for_all_callers_and_stored() {
    let provider = Provider::start().await;
    let (client, stored) = (provider.client(), Stored::default());
    stored.watch(&client);
    client.login(&credentials(DEMO, None), "linux").await.unwrap();
    let before = stored.token("access");
    let database = sqlx::SqlitePool::connect(&format!("sqlite:{}", provider.path().join("provider.db").display())).await.unwrap();
    sqlx::query("UPDATE token SET expires_at=0 WHERE kind='access'").execute(&database).await.unwrap();
    let (a, b, c) = tokio::join!(client.account(), client.devices(), client.account());
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
    assert_ne!(stored.token("access"), before);
    // What was stored is enough for the next run.
    let next = provider.client();
    next.restore(stored.get().unwrap()).await;
    next.account().await.unwrap();
}

#[tokio::test]
async fn reuse_of_an_old_refresh_token_ends_the_session_but_a_lost_answer_does_not() {
    let provider = Provider::start().await;
    let (client, stored) = (provider.client(), Stored::default());
    stored.watch(&client);
    client.login(&credentials(DEMO, None), "linux").await.unwrap();
    let first = stored.token("refresh");
    let refresh = |token: String| {
        let body = json!({ "refresh_token": token }).to_string();
        let provider = &provider;
        async move { provider.call("POST", "/v1/sessions/refresh", None, &body).await }
    };
    // The answer to this one is lost; the client asks again with the same token and goes on.
    let (status, _, lost) = refresh(first.clone()).await;
    assert_eq!(status, 201);
    client.refresh().await.unwrap();
    client.account().await.unwrap();
    // The tokens of the lost answer are void.
    let (status, ..) = provider.call("GET", "/v1/account", lost["access_token"].as_str(), "").await;
    assert_eq!(status, 401);
    // Now the successor has been used: whoever shows the old one has stolen it.
    let (status, _, body) = refresh(first).await;
    assert_eq!((status, body["code"].as_str()), (401, Some("session_revoked")));
    let error = client.account().await.unwrap_err();
    assert_eq!(error.block_reason(), BlockReason::LoggedOut, "{error:?}");
    assert!(stored.get().is_none() && !client.is_logged_in().await);
}

#[tokio::test]
async fn devices_are_limited_idempotent_and_removable() {
    let provider = Provider::start().await;
    let client = logged_in(&provider).await;
    let key = wireguard_key();
    let device = client.add_device(key, "laptop", "linux", "one").await.unwrap();
    assert_eq!(device.ipv4.to_string(), "10.64.0.10/32");
    assert_eq!(device.ipv6.to_string(), format!("{}/128", hamn_provider::keys::derived_ipv6(&key)));
    assert!(device.ipv6.to_string().starts_with("fd5a:7e57::"));
    assert_eq!(client.add_device(key, "laptop", "linux", "one").await.unwrap(), device, "a lost answer");
    assert_eq!(code(&client.add_device(wireguard_key(), "laptop", "linux", "one").await.unwrap_err()), "idempotency_key_reused");
    assert_eq!(code(&client.add_device(key, "laptop", "linux", "two").await.unwrap_err()), "public_key_in_use");
    for n in 2..=6 {
        client.add_device(wireguard_key(), "phone", "linux", &format!("n{n}")).await.unwrap();
    }
    let error = client.add_device(wireguard_key(), "one too many", "linux", "n7").await.unwrap_err();
    assert_eq!((code(&error), error.block_reason()), ("device_limit_reached", BlockReason::TooManyDevices));
    assert_eq!(client.devices().await.unwrap().len(), 6);
    client.remove_device(&device.id).await.unwrap();
    assert_eq!(client.device(&device.id).await.unwrap_err().block_reason(), BlockReason::DeviceRevoked);
    let again = client.add_device(wireguard_key(), "one more", "linux", "n8").await.unwrap();
    assert_eq!(again.ipv4.to_string(), "10.64.0.16/32", "a freed address rests");
    assert_eq!(code(&client.add_device(wireguard_key(), "bad\nname", "linux", "n9").await.unwrap_err()), "invalid_request");
}

#[tokio::test]
async fn devices_of_another_account_do_not_exist() {
    let provider = Provider::start().await;
    let device = logged_in(&provider).await.add_device(wireguard_key(), "laptop", "linux", "one").await.unwrap();
    let other = provider.client();
    other.login(&credentials("1000200030004001", None), "linux").await.unwrap();
    assert_eq!(code(&other.device(&device.id).await.unwrap_err()), "device_not_found");
    assert_eq!(code(&other.remove_device(&device.id).await.unwrap_err()), "device_not_found");
    assert_eq!(code(&other.rotate_key(&device.id, wireguard_key()).await.unwrap_err()), "device_not_found");
    assert_eq!(code(&other.set_exit(&device.id, Some("us")).await.unwrap_err()), "device_not_found");
    assert_eq!(other.devices().await.unwrap(), []);
}

fn gateway_token(provider: &Provider) -> String {
    let file = std::fs::read(provider.path().join("gateways/vpn05.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&file).unwrap()["token"].as_str().unwrap().to_owned()
}

async fn feed(provider: &Provider, token: &str, since: i64) -> Feed {
    let (status, _, body) =
        provider.call("GET", &format!("/internal/v1/gateways/vpn05/peers?since={since}"), Some(token), "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_value(body).unwrap()
}

#[tokio::test]
async fn a_changed_key_overlaps_until_the_new_one_is_used() {
    let provider = Provider::start().await;
    let (client, token) = (logged_in(&provider).await, gateway_token(&provider));
    let (old, new) = (wireguard_key(), wireguard_key());
    let device = client.add_device(old, "laptop", "linux", "one").await.unwrap();
    let rotated = client.rotate_key(&device.id, new).await.unwrap();
    assert_eq!((rotated.wg_public_key, rotated.ipv4, rotated.ipv6), (new, device.ipv4, device.ipv6));
    assert_eq!(client.rotate_key(&device.id, new).await.unwrap(), rotated, "a lost answer");
    let both = feed(&provider, &token, 0).await;
    let keys = |feed: &Feed| feed.peers[0].keys.iter().map(|key| (key.public_key, key.current)).collect::<Vec<_>>();
    assert_eq!(keys(&both), [(new, true), (old, false)]);
    let beat = json!({ "used_keys": [new] }).to_string();
    let (status, ..) = provider.call("POST", "/internal/v1/gateways/vpn05/heartbeat", Some(&token), &beat).await;
    assert_eq!(status, 204);
    let after = feed(&provider, &token, both.revision).await;
    assert!(!after.full);
    assert_eq!(keys(&after), [(new, true)]);
    // Without a handshake the old key ends after five minutes.
    client.rotate_key(&device.id, wireguard_key()).await.unwrap();
    let now = hamn_provider::api_server::now();
    provider.app.store.sweep(now).await.unwrap();
    assert!(!provider.app.store.sweep(now + 299).await.unwrap());
    assert!(provider.app.store.sweep(now + 301).await.unwrap());
    assert_eq!(feed(&provider, &token, 0).await.peers[0].keys.len(), 1);
}

#[tokio::test]
async fn gateways_hear_of_revocation_and_expiry_at_once() {
    let provider = Provider::start().await;
    let (client, token) = (logged_in(&provider).await, gateway_token(&provider));
    let device = client.add_device(wireguard_key(), "laptop", "linux", "one").await.unwrap();
    let kept = client.add_device(wireguard_key(), "phone", "linux", "two").await.unwrap();
    let start = feed(&provider, &token, 0).await;
    assert_eq!((start.full, start.peers.len()), (true, 2));
    let (news, seconds) = tokio::join!(
        async {
            let started = Instant::now();
            (feed(&provider, &token, start.revision).await, started.elapsed())
        },
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            client.remove_device(&device.id).await.unwrap();
        }
    )
    .0;
    assert_eq!((news.full, news.peers.len(), news.removed), (false, 0, vec![device.id]));
    assert!(seconds < Duration::from_secs(2), "{seconds:?}");
    client.set_exit(&kept.id, Some("us")).await.unwrap();
    assert_eq!(code(&client.set_exit(&kept.id, Some("mars")).await.unwrap_err()), "invalid_request");
    let moved = feed(&provider, &token, news.revision).await;
    assert_eq!(moved.peers[0].exit.as_deref(), Some("us"));
    let now = hamn_provider::api_server::now();
    provider.app.store.set_paid_until(DEMO, now + 1, now).await.unwrap();
    assert!(provider.app.store.sweep(now + 2).await.unwrap());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(feed(&provider, &token, moved.revision).await.removed, std::slice::from_ref(&kept.id));
    assert_eq!(
        client.add_device(wireguard_key(), "x", "linux", "x").await.unwrap_err().block_reason(),
        BlockReason::AccountExpired
    );
    // Paid again: back.
    provider.app.store.set_paid_until(DEMO, now + 1000, now).await.unwrap();
    assert_eq!(feed(&provider, &token, 0).await.peers[0].device, kept.id);
    // A revision from another life of the database gets everything.
    assert!(feed(&provider, &token, 1_000_000).await.full);
}

#[tokio::test]
async fn the_gateways_listener_wants_the_gateways_own_token() {
    let provider = Provider::start().await;
    let token = gateway_token(&provider);
    for (path, token) in [("vpn05", None), ("vpn05", Some("gateway_x")), ("vpn06", Some(token.as_str()))] {
        let (status, head, body) = provider.call("GET", &format!("/internal/v1/gateways/{path}/peers"), token, "").await;
        assert_eq!((status, body["code"].as_str()), (401, Some("unauthorized")), "{head}");
    }
    let (status, ..) = provider.call("GET", "/v1/account", Some(&token), "").await;
    assert_eq!(status, 401);
}
