//! The signed list: round trip, cache, tampering, rollback, expiry, keys.

use crate::harness::{Provider, canned, client, hostile, ok};
use hamn_api::ApiError;
use hamn_core::server::{ListRules, parse};
use hamn_provider::init::{InitOptions, init};
use hamn_provider::list;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use time::{Duration, OffsetDateTime};
use tokio::io::AsyncWriteExt;

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

pub(crate) fn unix() -> i64 {
    now().unix_timestamp()
}

#[tokio::test]
async fn list_round_trips_and_is_cached_on_disk() {
    let provider = Provider::start().await;
    let fetching = provider.client();
    let fresh = fetching.server_list(unix()).await.unwrap();
    assert_eq!((fresh.serial, fresh.from_cache, fresh.stale, &fresh.problem), (1, false, false, &None));
    assert_eq!(fresh.bytes, std::fs::read(provider.path().join("servers.json")).unwrap());
    let again = fetching.server_list(unix()).await.unwrap();
    assert!(again.from_cache && again.problem.is_none(), "a 304 is good news");
    // Another run of the client knows it without asking.
    let (address, cache) = (provider.config_for("127.0.0.1:1".parse().unwrap()), provider.cache());
    drop(provider.tasks);
    let offline = client(address, cache);
    assert_eq!(offline.cached_list(unix()).unwrap().bytes, fresh.bytes);
    let kept = offline.server_list(unix()).await.unwrap();
    assert!(kept.from_cache && matches!(kept.problem, Some(ApiError::Unreachable(_))), "{:?}", kept.problem);
}

#[tokio::test]
async fn the_fixture_parses_without_a_rejected_item() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &InitOptions::default()).await.unwrap();
    let parsed = parse(&std::fs::read(dir.path().join("servers.json")).unwrap(), &ListRules::default()).unwrap();
    assert_eq!(parsed.rejected, []);
    let vpn05 = parsed.list.server("vpn05").unwrap();
    assert_eq!(vpn05.exits.iter().map(|exit| exit.id.to_string()).collect::<Vec<_>>(), ["se", "us"]);
    assert_eq!(parsed.list.servers.len(), 8);
    assert_eq!(parsed.list.datacenters.len(), 2);
    assert!(!parsed.list.api.reachable_while_blocked().is_empty());
}

#[tokio::test]
async fn one_bad_server_costs_only_itself() {
    let provider = Provider::start().await;
    list::edit(provider.path(), |source| {
        source["servers"][0]["endpoints"][0]["addresses"] = json!(["127.0.0.1"]);
        source["servers"][1]["name"] = json!("evil\n; $(reboot)");
        Ok(())
    })
    .unwrap();
    list::sign(provider.path(), now()).unwrap();
    provider.app.reload_list();
    let fetched = provider.client().server_list(unix()).await.unwrap();
    let parsed = parse(&fetched.bytes, &ListRules::default()).unwrap();
    assert_eq!(parsed.list.servers.len(), 6, "{:?}", parsed.rejected);
    assert!(parsed.list.server("vpn05").is_some());
}

/// A server that hands out any list with any signature.
async fn serving(provider: &Provider, bytes: Vec<u8>, minisig: String) -> (std::net::SocketAddr, tokio::task::JoinSet<()>) {
    hostile(provider.acceptor(), move |mut stream, request| {
        let answer =
            if request.contains("minisig") { ok("text/plain", minisig.as_bytes()) } else { ok("application/json", &bytes) };
        async move {
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn signed(provider: &Provider) -> (Vec<u8>, String) {
    let read = |name| std::fs::read(provider.path().join(name)).unwrap();
    (read("servers.json"), String::from_utf8(read("servers.json.minisig")).unwrap())
}

#[tokio::test]
async fn one_changed_byte_is_a_bad_signature_and_the_last_good_list_stays() {
    let provider = Provider::start().await;
    let (mut bytes, minisig) = signed(&provider);
    let place = bytes.windows(12).position(|window| window == b"198.51.100.1").unwrap();
    bytes[place] = b'2';
    let (address, _tasks) = serving(&provider, bytes, minisig).await;
    let empty = client(provider.config_for(address), provider.path().join("empty"));
    assert_eq!(empty.server_list(unix()).await.unwrap_err(), ApiError::BadSignature);
    let good = provider.client().server_list(unix()).await.unwrap();
    let cached = client(provider.config_for(address), provider.cache());
    let kept = cached.server_list(unix()).await.unwrap();
    assert_eq!((kept.problem, kept.bytes), (Some(ApiError::BadSignature), good.bytes));
}

#[tokio::test]
async fn garbage_in_place_of_a_list_or_signature_is_refused_before_it_is_parsed() {
    let provider = Provider::start().await;
    let (bytes, minisig) = signed(&provider);
    let mut wrong_comment = minisig.clone();
    wrong_comment = wrong_comment.replace("serial=1", "serial=9");
    for (bytes, minisig) in [
        (b"<html>".to_vec(), minisig.clone()),
        (bytes[..bytes.len() / 2].to_vec(), minisig.clone()),
        (bytes.clone(), String::new()),
        (bytes.clone(), "untrusted comment: x\nAAAA\n".to_owned()),
        (bytes.clone(), wrong_comment),
        ([b"\xef\xbb\xbf".as_slice(), &bytes].concat(), minisig.clone()),
        (bytes.iter().flat_map(|byte| [*byte, 0]).collect(), minisig),
    ] {
        let (address, _tasks) = serving(&provider, bytes, minisig).await;
        let asking = client(provider.config_for(address), provider.path().join("empty"));
        assert_eq!(asking.server_list(unix()).await.unwrap_err(), ApiError::BadSignature);
    }
}

#[tokio::test]
async fn an_older_list_is_refused_even_when_the_cached_one_is_lost() {
    let provider = Provider::start().await;
    list::sign(provider.path(), now()).unwrap();
    provider.app.reload_list();
    assert_eq!(provider.client().server_list(unix()).await.unwrap().serial, 2);
    let key = provider.path().join("offline/list.key");
    list::sign_as(provider.path(), 1, now(), now() + Duration::days(7), &key).unwrap();
    provider.app.reload_list();
    let refused = provider.client().server_list(unix()).await.unwrap();
    assert_eq!((refused.serial, refused.problem), (2, Some(ApiError::Rollback { seen: 2, offered: 1 })));
    std::fs::remove_file(provider.cache().join("servers.list")).unwrap();
    assert_eq!(provider.client().server_list(unix()).await.unwrap_err(), ApiError::Rollback { seen: 2, offered: 1 });
    // Another list under a serial that was seen is no better.
    list::set_state(provider.path(), "vpn06", "online").unwrap();
    list::sign_as(provider.path(), 2, now(), now() + Duration::days(7), &key).unwrap();
    provider.app.reload_list();
    let fresh_start = provider.client();
    assert_eq!(fresh_start.server_list(unix()).await.unwrap().serial, 2);
    list::set_state(provider.path(), "vpn06", "offline").unwrap();
    list::sign_as(provider.path(), 2, now(), now() + Duration::days(6), &key).unwrap();
    provider.app.reload_list();
    assert!(matches!(fresh_start.server_list(unix()).await.unwrap().problem, Some(ApiError::Rollback { .. })));
}

#[tokio::test]
async fn an_expired_list_is_used_and_said_to_be_stale() {
    let provider = Provider::start().await;
    let asking = provider.client();
    let list = asking.server_list(unix()).await.unwrap();
    assert!(!asking.cached_list(list.expires_unix - 1).unwrap().stale);
    assert!(asking.cached_list(list.expires_unix).unwrap().stale);
    let key = provider.path().join("offline/list.key");
    list::sign_as(provider.path(), 2, now() - Duration::days(9), now() - Duration::days(2), &key).unwrap();
    provider.app.reload_list();
    let stale = asking.server_list(unix()).await.unwrap();
    assert_eq!((stale.serial, stale.stale, stale.problem), (2, true, None));
}

#[tokio::test]
async fn the_next_key_is_accepted_and_a_foreign_one_is_not() {
    let provider = Provider::start().await;
    list::sign_as(provider.path(), 2, now(), now() + Duration::days(7), &provider.path().join("offline/list-next.key")).unwrap();
    provider.app.reload_list();
    assert_eq!(provider.client().server_list(unix()).await.unwrap().serial, 2);
    let other = Provider::start().await;
    list::sign_as(provider.path(), 3, now(), now() + Duration::days(7), &other.path().join("offline/list.key")).unwrap();
    let (bytes, minisig) = signed(&provider);
    let (address, _tasks) = serving(&provider, bytes, minisig).await;
    let kept = client(provider.config_for(address), provider.cache()).server_list(unix()).await.unwrap();
    assert_eq!((kept.serial, kept.problem), (2, Some(ApiError::BadSignature)));
}

#[tokio::test]
async fn a_tampered_cache_counts_as_no_cache() {
    let provider = Provider::start().await;
    provider.client().server_list(unix()).await.unwrap();
    let file = provider.cache().join("servers.list");
    let text = std::fs::read_to_string(&file).unwrap().replace("198.51.100.1", "198.51.100.7");
    std::fs::write(&file, text).unwrap();
    assert!(provider.client().cached_list(unix()).is_none());
}

#[tokio::test]
async fn a_server_error_is_survived_with_the_cache_and_counted() {
    let mut provider = Provider::start().await;
    let good = provider.client().server_list(unix()).await.unwrap();
    // The list names this address too; it must not help.
    provider.tasks.shutdown().await;
    let calls = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&calls);
    let (address, _tasks) = hostile(provider.acceptor(), move |mut stream, _| {
        counting.fetch_add(1, Ordering::Relaxed);
        async move {
            let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let asking = client(provider.config_for(address), provider.cache());
    for _ in 0..100 {
        assert_eq!(asking.server_list(unix()).await.unwrap().bytes, good.bytes);
    }
    // API-02: the bucket lets 30 of 100 through; later ones fail without a packet.
    assert!((30..=31).contains(&calls.load(Ordering::Relaxed)), "{}", calls.load(Ordering::Relaxed));
}

#[tokio::test]
async fn the_minisign_program_accepts_the_signature() {
    let provider = Provider::start().await;
    let key = std::fs::read_to_string(provider.path().join("offline/list.pub")).unwrap();
    let check = |file: &str| {
        let output = std::process::Command::new("minisign")
            .args(["-V", "-P", key.trim(), "-m", file])
            .current_dir(provider.path())
            .output();
        output.expect("minisign is installed").status.success()
    };
    assert!(check("servers.json"));
    let path = provider.path().join("servers.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + " ").unwrap();
    assert!(!check("servers.json"));
}

#[tokio::test]
async fn a_snapshot_shipped_with_the_installer_is_taken_up() {
    let mut provider = Provider::start().await;
    let (bytes, minisig) = signed(&provider);
    let offline = client(provider.config_for("127.0.0.1:1".parse().unwrap()), provider.cache());
    assert!(offline.cached_list(unix()).is_none());
    offline.seed_list(bytes.clone().into(), &minisig, unix()).unwrap();
    assert_eq!(offline.cached_list(unix()).unwrap().bytes, bytes);
    provider.tasks.shutdown().await;
    let garbage = canned(provider.acceptor(), b"nonsense".to_vec()).await;
    let again = client(provider.config_for(garbage.0), provider.cache());
    assert!(again.server_list(unix()).await.unwrap().from_cache);
}
