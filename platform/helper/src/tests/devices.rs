//! Session, device and list against a scripted provider (KEY-02, KEY-03, KEY-04, API-06).

use super::scripted::{Scripted, list};
use crate::clock;
use crate::device::Rotation;
use crate::prepare;
use crate::provider::Provider;
use crate::store::Store;
use crate::store::secrets::SecretName;
use hamn_api::{Client, Credentials, Limits, Token};
use hamn_core::location::Destination;
use hamn_core::settings::Settings;
use hamn_core::state::BlockReason;
use hamn_core::time::Now;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) async fn provider(scripted: &Scripted, state_dir: &Path) -> Arc<Provider> {
    let limits = Limits { burst: 10_000, connect: Duration::from_secs(2), total: Duration::from_secs(3), ..Limits::default() };
    let store = Store::open(state_dir).unwrap();
    let client = Client::with_limits(scripted.config.clone(), store.cache_dir(), Arc::new(|_| Ok(())), limits).unwrap();
    Arc::new(Provider::open(client, "https://api.test".to_owned(), store).await)
}

async fn stand() -> (Scripted, tempfile::TempDir, Arc<Provider>) {
    let scripted = Scripted::start().await;
    let base = tempfile::tempdir().unwrap();
    let provider = provider(&scripted, &base.path().join("state")).await;
    (scripted, base, provider)
}

fn account(name: &str) -> Credentials {
    Credentials { account: Token::new(name.to_owned()), password: None, otp: None }
}

async fn plan(provider: &Arc<Provider>, failures: u32) -> Result<hamn_core::plan::TunnelPlan, BlockReason> {
    let request = prepare::Request { destination: Destination::Best, settings: Settings::default(), seed: 1, failures };
    prepare::plan(&provider.store, Some(Arc::clone(provider)), request).await
}

fn private_key(provider: &Provider, failures: u32) -> String {
    provider.stored_device().unwrap().unwrap().private_key(failures).unwrap().reveal_base64().to_string()
}

#[tokio::test]
async fn a_login_registers_once_and_a_second_one_keeps_the_device() {
    let (scripted, base, provider) = stand().await;
    assert!(!provider.logged_in());
    assert!(provider.login(&account("A")).await.unwrap());
    assert!(provider.logged_in());
    let key = private_key(&provider, 0);
    assert!(!provider.login(&account("A")).await.unwrap(), "it is the same device");
    assert_eq!((private_key(&provider, 0), scripted.count("POST /v1/devices")), (key.clone(), 1));
    // After a restart, too.
    let again = super::devices::provider(&scripted, &base.path().join("state")).await;
    assert!(again.logged_in());
    assert_eq!(private_key(&again, 0), key);
    assert!(again.list().is_some(), "the list is there without asking");
}

#[tokio::test]
async fn another_account_gets_another_key() {
    let (scripted, _base, provider) = stand().await;
    provider.login(&account("A")).await.unwrap();
    let old = private_key(&provider, 0);
    assert!(provider.login(&account("B")).await.unwrap());
    assert_ne!(private_key(&provider, 0), old, "the key of A links B to A");
    assert_eq!(scripted.state().devices.values().map(|(owner, ..)| owner.clone()).collect::<Vec<_>>(), ["A", "B"]);
}

// KEY-02: whoever removed the device meant it; only a login registers it again.
#[tokio::test]
async fn a_removed_device_stays_removed_until_the_next_login_and_nobody_asks_again() {
    let (scripted, base, provider) = stand().await;
    provider.login(&account("A")).await.unwrap();
    assert!(plan(&provider, 0).await.is_ok());
    scripted.state().devices.clear();
    assert!(plan(&provider, 0).await.is_ok(), "nothing is known of it yet");
    assert_eq!(plan(&provider, 1).await.unwrap_err(), BlockReason::DeviceRevoked);
    assert!(provider.stored_device().unwrap().is_none(), "its key is gone");
    scripted.state().calls.clear();
    for _ in 0..20 {
        assert_eq!(plan(&provider, 2).await.unwrap_err(), BlockReason::DeviceRevoked);
    }
    let again = super::devices::provider(&scripted, &base.path().join("state")).await;
    assert_eq!(plan(&again, 0).await.unwrap_err(), BlockReason::DeviceRevoked, "also after a restart");
    assert_eq!(scripted.state().calls, Vec::<String>::new(), "no call, so no storm of them");
    again.login(&account("A")).await.unwrap();
    assert!(plan(&again, 0).await.is_ok());
}

#[tokio::test]
async fn every_answer_that_knows_no_such_device_ends_its_use() {
    let (scripted, _base, provider) = stand().await;
    provider.login(&account("A")).await.unwrap();
    let mut device = provider.device().await.unwrap();
    scripted.state().devices.clear();
    assert!(provider.choose_exit(&mut device, Some("us")).await.is_err());
    assert_eq!(plan(&provider, 0).await.unwrap_err(), BlockReason::DeviceRevoked);
    provider.login(&account("A")).await.unwrap();
    scripted.state().devices.clear();
    assert!(provider.rotate_key_if_due(clock::now().unix_s, Rotation::Now).await.is_err());
    assert_eq!(plan(&provider, 0).await.unwrap_err(), BlockReason::DeviceRevoked);
    provider.login(&account("A")).await.unwrap();
    // At the login itself: a device that is gone is made anew.
    scripted.state().devices.clear();
    assert!(provider.login(&account("A")).await.unwrap());
    assert!(plan(&provider, 0).await.is_ok());
    // Its own device, by its own user.
    let id = provider.stored_device().unwrap().unwrap().id;
    assert!(provider.remove_device(&id).await.unwrap());
    assert!(provider.stored_device().unwrap().is_none());
    assert_eq!(plan(&provider, 0).await.unwrap_err(), BlockReason::DeviceRevoked);
}

// KEY-02
#[tokio::test]
async fn too_many_devices_keep_the_session_so_that_one_can_be_removed() {
    let (scripted, _base, provider) = stand().await;
    scripted.state().refuse.insert("POST /v1/devices", (409, "device_limit_reached"));
    assert_eq!(provider.login(&account("A")).await.unwrap_err().block_reason(), BlockReason::TooManyDevices);
    assert!(provider.logged_in() && provider.list().is_some());
    assert_eq!(plan(&provider, 0).await.unwrap_err(), BlockReason::TooManyDevices);
    scripted.state().refuse.clear();
    assert!(plan(&provider, 0).await.is_ok(), "the next attempt registers");
}

// KEY-02: the account's end is told apart from a silent server; the session's end is seen in the status.
#[tokio::test]
async fn an_expired_account_and_an_ended_session_have_their_own_reasons() {
    let (scripted, _base, provider) = stand().await;
    provider.login(&account("A")).await.unwrap();
    scripted.state().account_status = "expired";
    assert_eq!(plan(&provider, 1).await.unwrap_err(), BlockReason::AccountExpired);
    scripted.state().calls.clear();
    assert!(plan(&provider, 1).await.is_ok(), "asked again only after a while");
    assert_eq!(scripted.state().calls.len(), 0);
    scripted.state().account_status = "active";
    for refused in ["GET /v1/account", "POST /v1/sessions/refresh"] {
        scripted.state().refuse.insert(refused, (401, "session_revoked"));
    }
    assert!(provider.client.account().await.is_err());
    assert!(!provider.logged_in());
    assert!(provider.store.read_secret_bytes(&SecretName::Session).unwrap().is_none());
    assert_eq!(plan(&provider, 0).await.unwrap_err(), BlockReason::LoggedOut);
}

// G17: a provider that is silent does not hold a connection up, whatever it would have to say.
#[tokio::test]
async fn a_silent_provider_costs_a_failed_attempt_little() {
    let (scripted, _base, provider) = stand().await;
    provider.login(&account("A")).await.unwrap();
    scripted.state().silent = true;
    let started = Instant::now();
    assert!(plan(&provider, 1).await.is_ok());
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
}

// KEY-03: an answer that is lost, or a crash, costs no second device.
#[tokio::test]
async fn a_lost_answer_to_a_registration_makes_no_second_device() {
    let (scripted, base, provider) = stand().await;
    scripted.state().lose.insert("POST /v1/devices", 10);
    assert!(provider.login(&account("A")).await.is_err());
    scripted.state().lose.clear();
    let again = super::devices::provider(&scripted, &base.path().join("state")).await;
    again.login(&account("A")).await.unwrap();
    assert_eq!(scripted.state().devices.len(), 1);
    assert!(again.store.read_secret_bytes(&SecretName::NewDevice).unwrap().is_none());
    // For another account the key that was offered is somebody's already.
    let (scripted, _base, provider) = stand().await;
    scripted.state().lose.insert("POST /v1/devices", 10);
    assert!(provider.login(&account("A")).await.is_err());
    scripted.state().lose.clear();
    provider.login(&account("B")).await.unwrap();
    assert!(plan(&provider, 0).await.is_ok());
}

// KEY-03: a change of the key that was cut off heals, with the provider and without it.
#[tokio::test]
async fn an_unfinished_change_of_the_key_heals() {
    let (scripted, _base, provider) = stand().await;
    provider.login(&account("A")).await.unwrap();
    let old = private_key(&provider, 0);
    scripted.state().lose.insert("PUT", 10);
    assert!(provider.rotate_key_if_due(clock::now().unix_s, Rotation::Now).await.is_err());
    assert_eq!(private_key(&provider, 0), old);
    assert_ne!(private_key(&provider, 1), old, "every other failure tries the new key");
    scripted.state().silent = true;
    assert!(plan(&provider, 0).await.is_ok());
    scripted.state().silent = false;
    scripted.state().lose.clear();
    assert!(plan(&provider, 0).await.is_ok());
    let new = private_key(&provider, 0);
    assert_ne!(new, old);
    assert_eq!(private_key(&provider, 1), new, "the change is finished");
    assert!(
        provider.rotate_key_if_due(clock::now().unix_s, Rotation::AfterDays(7)).await.unwrap().is_none(),
        "the new key is young"
    );
    // A key that was made by a clock years ahead is not kept for years.
    assert!(provider.rotate_key_if_due(clock::now().unix_s - 10 * 86_400, Rotation::AfterDays(7)).await.unwrap().is_some());
}

// KEY-04
#[tokio::test]
async fn a_logout_leaves_no_secret_also_without_the_provider() {
    for silent in [false, true] {
        let (scripted, _base, provider) = stand().await;
        provider.login(&account("A")).await.unwrap();
        provider.store.write_secret(&SecretName::NewDevice, &"x").unwrap();
        scripted.state().silent = silent;
        provider.logout().await.unwrap();
        assert!(!provider.logged_in() && !provider.client.is_logged_in().await);
        for secret in [SecretName::Session, SecretName::Device, SecretName::NewDevice] {
            assert!(provider.store.read_secret_bytes(&secret).unwrap().is_none(), "{secret:?}, silent: {silent}");
        }
        assert_eq!(scripted.state().devices.is_empty(), !silent);
        scripted.state().silent = false;
        assert_eq!(plan(&provider, 0).await.unwrap_err(), BlockReason::LoggedOut);
        assert!(provider.client.account().await.is_err(), "the old session is not used any more");
    }
}

#[tokio::test]
async fn damaged_secret_files_are_nobody_logged_in_and_quote_nothing() {
    let (_scripted, base, provider) = stand().await;
    provider.login(&account("A")).await.unwrap();
    let path = base.path().join("state/device.json");
    std::fs::write(&path, r#"{"id":{"key":"c2VjcmV0c2VjcmV0"}}"#).unwrap();
    let error = provider.store.read_secret::<crate::device::StoredDevice>(&SecretName::Device).err().unwrap();
    assert!(!format!("{error:#}").contains("c2VjcmV0"), "{error:#}");
    std::fs::write(&path, r#"{"id":"c2VjcmV0c2VjcmV0","addresses":"c2VjcmV0"}"#).unwrap();
    let error = provider.store.read_secret::<crate::device::StoredDevice>(&SecretName::Device).err().unwrap();
    assert!(!format!("{error:#}").contains("c2VjcmV0"), "{error:#}");
    assert_eq!(provider.stored_device().err(), Some(BlockReason::LoggedOut));
}

// API-06: a list that is signed and cannot be used replaces nothing, in memory or on the disk.
#[tokio::test]
async fn a_signed_list_that_is_no_use_leaves_the_last_good_one_also_after_a_restart() {
    let (scripted, base, provider) = stand().await;
    provider.refresh(clock::now().unix_s).await;
    assert_eq!(provider.list().unwrap().list.serial, 1);
    let mut bad = list(2);
    bad["servers"] = json!([]);
    scripted.state().sign(&bad);
    provider.refresh(clock::now().unix_s).await;
    assert_eq!(provider.list().unwrap().list.serial, 1);
    let again = super::devices::provider(&scripted, &base.path().join("state")).await;
    assert_eq!(again.list().unwrap().list.serial, 1);
    scripted.state().sign(&list(3));
    again.refresh(clock::now().unix_s).await;
    assert_eq!(again.list().unwrap().list.serial, 3);
}

#[tokio::test]
async fn refreshes_are_not_run_twice_at_once_and_not_sooner_than_due() {
    let (scripted, _base, provider) = stand().await;
    let now = clock::now().unix_s;
    tokio::join!(provider.refresh(now), provider.refresh(now), provider.refresh(now));
    assert_eq!((scripted.count("GET /v1/servers "), scripted.count("GET /v1/loads")), (1, 1));
    assert!(!provider.refresh_is_due());
    // One that fails is tried again sooner; another network is a reason to try at once.
    scripted.state().refuse.insert("GET /v1/servers", (500, "internal"));
    provider.refresh(now).await;
    assert!(!provider.refresh_is_due());
    assert_eq!(scripted.count("GET /v1/loads"), 1, "an API without a list is not asked for more");
    provider.network_changed();
    assert!(provider.refresh_is_due());
    assert!(!provider.refresh_is_due(), "for one of the askers");
}

#[tokio::test]
async fn a_list_goes_stale_by_itself_and_old_loads_do_not_count() {
    let (scripted, _base, provider) = stand().await;
    let mut expired = list(2);
    expired["expires_at"] = json!("2026-11-20T20:00:01Z");
    scripted.state().sign(&expired);
    scripted.state().loads = json!({ "servers": { "vpn05": { "load_pct": 90 } } });
    let now = clock::now();
    provider.refresh(now.unix_s).await;
    let in_use = provider.list().unwrap();
    let expiry = in_use.list.expires_at_unix_s;
    assert!(in_use.stale(expiry) && !in_use.stale(expiry - 1));
    let hour = Now { monotonic_ms: now.monotonic_ms + 3_700_000, unix_s: now.unix_s };
    assert!(in_use.loads(clock::now()).get("vpn05").is_some() && in_use.loads(hour).get("vpn05").is_none());
    // It is used all the same, at once.
    provider.login(&account("A")).await.unwrap();
    scripted.state().silent = true;
    let started = Instant::now();
    assert!(plan(&provider, 0).await.is_ok());
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    // Loads that say themselves that they are old.
    scripted.state().silent = false;
    scripted.state().loads = json!({ "generated_at": "2020-01-01T00:00:00Z", "servers": { "vpn05": { "load_pct": 10 } } });
    provider.refresh(clock::now().unix_s).await;
    assert_eq!(provider.list().unwrap().loads(clock::now()).get("vpn05").unwrap().load_pct, Some(90));
}

// TIME-01: a clock that was set back is answered by a key that has no past, once.
#[tokio::test]
async fn a_clock_that_went_back_gets_one_new_key_or_the_right_reason() {
    let (scripted, _base, provider) = stand().await;
    provider.login(&account("A")).await.unwrap();
    let old = private_key(&provider, 0);
    provider.store.write_state("last_verified.json", &(clock::now().unix_s + 3_600)).unwrap();
    assert!(plan(&provider, 0).await.is_ok());
    assert_ne!(private_key(&provider, 0), old);
    let new = private_key(&provider, 0);
    assert!(plan(&provider, 1).await.is_ok());
    assert_eq!((private_key(&provider, 0), scripted.count("PUT")), (new, 1));
    // With the provider out of reach the old key is tried all the same.
    provider.store.write_state("last_verified.json", &(clock::now().unix_s + 3_600)).unwrap();
    scripted.state().refuse.insert("PUT", (503, "internal"));
    assert!(plan(&provider, 0).await.is_ok());
}
