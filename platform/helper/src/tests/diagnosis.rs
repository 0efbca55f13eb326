//! Log, report, ladder, exit address, key rotation and latency: what people see of the helper's insides.

use super::devices::provider;
use super::scripted::Scripted;
use super::stand::{ROOT, Setup, Stand, USER, with_service};
use crate::exits;
use crate::service::Report;
use hamn_core::event::TunnelEvent;
use hamn_core::location::Destination;
use hamn_core::settings::KillSwitch;
use hamn_core::state::{Attempt, Phase};
use hamn_ipc::wire::{CHECK_CODES, Check, CheckResult, LoginRequest, Secret, SettingsPatch, WARNING_CODES};
use hamn_ipc::{ProblemCode, Request, Response};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;

const ACCOUNT: &str = "4242424242424242";

fn login() -> Request {
    Request::Login(LoginRequest { account: Secret::new(ACCOUNT.to_owned()), password: None, otp: None })
}

fn connect() -> Request {
    Request::Connect { destination: Some(Destination::Best), if_needed: false }
}

async fn ladder(stand: &Stand) -> Vec<Check> {
    let Response::Ladder(ladder) = stand.call(USER, Request::Diagnose).await.unwrap() else { panic!() };
    let ids: Vec<&str> = ladder.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["link", "dns", "api", "handshake", "traffic"]);
    ladder.steps
}

/// Checks with their codes, whatever asked for them.
async fn all_checks(stand: &Stand) -> Vec<Check> {
    let Response::Verify(report) = stand.call(USER, Request::Verify).await.unwrap() else { panic!() };
    [report.checks, ladder(stand).await].concat()
}

// The window translates codes: one that is not in the list would show nothing.
#[test]
fn every_check_has_a_published_code_in_every_state() {
    with_service(Setup::default(), async |stand: &Stand| {
        let mut seen = BTreeSet::new();
        let mut look = async || {
            for check in all_checks(stand).await {
                assert!(CHECK_CODES.contains(&check.code.as_str()), "{check:?}");
                seen.insert(check.code);
            }
        };
        look().await;
        stand.call(ROOT, login()).await.unwrap();
        stand.call(USER, connect()).await.unwrap();
        look().await;
        let patch = SettingsPatch { kill_switch: Some(KillSwitch::Always), ..SettingsPatch::default() };
        stand.call(ROOT, Request::ChangeSettings(patch)).await.unwrap();
        stand.call(USER, Request::Disconnect).await.unwrap();
        look().await;
        for code in ["open", "left", "stopped", "no_route", "in_force", "read_back_same", "dns_refused", "no_tunnel", "link_up"] {
            assert!(seen.contains(code), "{code} in {seen:?}");
        }
    });
}

/// The quoted words of a source text, without its tests.
fn quoted(source: &str) -> BTreeSet<&str> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    source.split('"').skip(1).step_by(2).collect()
}

#[test]
fn the_published_lists_hold_what_the_code_says_and_no_more() {
    let sources = [include_str!("../verify.rs"), include_str!("../ladder.rs")];
    let said: BTreeSet<&str> = sources.iter().flat_map(|source| quoted(source)).collect();
    let published: BTreeSet<&str> = CHECK_CODES.into_iter().collect();
    assert_eq!(published.len(), CHECK_CODES.len());
    let unused: Vec<_> = published.difference(&said).collect();
    assert!(unused.is_empty(), "{unused:?} are published and never said");
    let looks_like_a_code = |word: &&&str| {
        word.len() > 1 && word.len() > 1 && word.contains('_') && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let unpublished: Vec<_> = said.difference(&published).filter(looks_like_a_code).collect();
    // Ids of checks.
    assert_eq!(unpublished, [&"exit_address", &"read_back"]);
    let sources = [include_str!("../service.rs"), include_str!("../run.rs")];
    let mut warned = BTreeSet::new();
    for source in sources {
        for beginning in [".warn(\"", "tell_of_interference(\""] {
            warned.extend(source.split(beginning).skip(1).filter_map(|rest| rest.split('"').next()));
        }
    }
    assert_eq!(warned, WARNING_CODES.into_iter().collect());
}

#[test]
fn the_ladder_shows_how_far_a_connection_comes() {
    with_service(Setup::default(), async |stand: &Stand| {
        let results = async || ladder(stand).await.into_iter().map(|step| (step.result, step.code)).collect::<Vec<_>>();
        let resting = results().await;
        assert_eq!(resting[0], (CheckResult::Pass, "link_up".to_owned()));
        assert_eq!(resting[2], (CheckResult::Pass, "api_answers".to_owned()));
        assert_eq!(resting[3..], vec![(CheckResult::Skipped, "no_tunnel".to_owned()); 2]);
        stand.call(USER, login()).await.unwrap();
        stand.call(USER, connect()).await.unwrap();
        let verifying =
            |status: &hamn_core::status::Status| status.attempt.as_ref().is_some_and(|a| a.phase == Some(Phase::Verifying));
        stand.until("a tunnel", Duration::from_secs(10), verifying).await;
        let trying = results().await;
        assert_eq!(trying[1], (CheckResult::Skipped, "dns_refused".to_owned()));
        assert_eq!(trying[3], (CheckResult::Fail, "handshake_none".to_owned()));
        assert_eq!(trying[4], (CheckResult::Fail, "traffic_none".to_owned()));
        // The API does not answer: the step says so in time.
        stand.scripted.state().silent = true;
        assert_eq!(results().await[2].0, CheckResult::Fail);
    });
}

// SEC-01: nothing of a login, a connection and a profile is in log or report.
#[test]
fn log_and_report_hold_no_account_key_or_address() {
    with_service(Setup::default(), async |stand: &Stand| {
        stand.call(USER, login()).await.unwrap();
        stand.call(USER, connect()).await.unwrap();
        stand.until("a tunnel", Duration::from_secs(10), |status| status.tunnel.is_some()).await;
        let provider = stand.provider.clone().unwrap();
        let device = provider.stored_device().unwrap().unwrap();
        // An error that quotes all that it can.
        tracing::warn!(account = ACCOUNT, "198.51.100.1:51820 and {}", device.private_key(0).unwrap().reveal_base64().as_str());
        let Response::Report(report) = stand.call(USER, Request::Report).await.unwrap() else { panic!() };
        let Response::Log(log) = stand.call(USER, Request::Log { lines: 2_000 }).await.unwrap() else { panic!() };
        let said: String = log.lines.iter().map(|line| format!("{}\n", line.message)).collect();
        assert!(said.contains("account=\"<number>\""), "the line was kept: {said}");
        assert!(report.text.contains("policy applied") && report.text.contains("Rules"), "{}", report.text);
        let key = device.private_key(0).unwrap().reveal_base64().to_string();
        let session = String::from_utf8(
            stand.store.read_secret_bytes(&crate::store::secrets::SecretName::Session).unwrap().unwrap().to_vec(),
        );
        let session = session.unwrap();
        assert!(session.contains(ACCOUNT), "the control: {session}");
        for secret in [ACCOUNT, key.as_str(), "198.51.100.", "10.64.0.10", "10.9.0.", "fd5a:7e57", "api.test"] {
            assert!(!report.text.contains(secret), "{secret} in\n{}", report.text);
            assert!(!said.contains(secret), "{secret} in\n{said}");
        }
        assert!(report.text.len() <= 256 * 1024);
        let Response::Log(few) = stand.call(USER, Request::Log { lines: 2 }).await.unwrap() else { panic!() };
        assert_eq!(few.lines.len(), 2);
    });
}

// KEY-01
#[test]
fn the_key_is_replaced_when_asked_and_only_where_there_is_one() {
    with_service(Setup::default(), async |stand: &Stand| {
        let refused = stand.call(USER, Request::RotateKey).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::LoggedOut);
        stand.call(USER, login()).await.unwrap();
        let provider = stand.provider.clone().unwrap();
        let key = || provider.stored_device().unwrap().unwrap().private_key(0).unwrap().reveal_base64().to_string();
        let before = key();
        let Response::Devices(list) = stand.call(USER, Request::RotateKey).await.unwrap() else { panic!() };
        assert_eq!(list.devices.iter().filter(|device| device.current).count(), 1);
        assert_ne!(key(), before);
        assert_eq!(stand.scripted.count("PUT "), 1);
        stand.scripted.state().devices.clear();
        let refused = stand.call(USER, Request::RotateKey).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::DeviceRevoked);
    });
}

#[test]
fn a_measured_round_trip_is_in_the_listing_and_survives_a_restart() {
    with_service(Setup::default(), async |stand: &Stand| {
        stand.call(USER, login()).await.unwrap();
        let provider = stand.provider.clone().unwrap();
        provider.learn("vpn05", &TunnelEvent::Verified, Some(23));
        provider.learn("vpn06", &TunnelEvent::Verified, None);
        let Response::Servers(listing) = stand.call(USER, Request::Servers).await.unwrap() else { panic!() };
        let mut found: Vec<_> =
            listing.countries[0].cities[0].servers.iter().map(|server| (server.id.as_str(), server.latency_ms)).collect();
        found.sort_unstable();
        assert_eq!(found, [("vpn05", Some(23)), ("vpn06", None)]);
        let kept = || stand.store.read_state::<hamn_core::server::Quality>("quality.json");
        let started = std::time::Instant::now();
        while kept().is_none_or(|quality| quality.get("vpn06").is_none()) {
            assert!(started.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(kept().unwrap().get("vpn05").unwrap().round_trip_ms, Some(23));
    });
}

// One writer at a time, and each writes what is newest: whoever comes last leaves everything behind.
#[test]
fn what_is_learnt_at_once_of_many_servers_is_all_kept() {
    with_service(Setup::default(), async |stand: &Stand| {
        stand.call(USER, login()).await.unwrap();
        let provider = stand.provider.clone().unwrap();
        let kept = || stand.store.read_state::<hamn_core::server::Quality>("quality.json");
        // Without an order about one burst in three ends with an older record.
        for burst in 0..20 {
            for number in 0..64 {
                provider.learn(&format!("vpn{number:02}"), &TunnelEvent::Verified, Some(64 * burst + number));
            }
            let started = std::time::Instant::now();
            while kept() != Some(provider.quality_and_failed().0) {
                assert!(started.elapsed() < Duration::from_secs(10), "an older record landed over a newer one");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        assert!(kept().unwrap().get("vpn63").unwrap().round_trip_ms.is_some());
    });
}

#[tokio::test]
async fn only_an_address_of_the_provider_is_told_and_only_over_a_family_that_it_has() {
    let scripted = Scripted::start().await;
    let base = tempfile::tempdir().unwrap();
    let provider = provider(&scripted, &base.path().join("state")).await;
    let (reports, mut told) = mpsc::channel(4);
    // The provider has no IPv6 address: nobody is asked.
    exits::ask(&provider, Attempt(7), true, &reports).await;
    assert_eq!((scripted.count("GET /v1/ip"), told.try_recv().is_err()), (0, true));
    // A real address of the user's is never shown as the tunnel's; it is asked again, and not for ever.
    scripted.state().seen = json!({ "ip": "203.0.113.9", "family": "v4", "via_vpn": false });
    let change = async {
        while scripted.count("GET /v1/ip") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        scripted.state().seen = json!({ "ip": "198.51.100.1", "family": "v4", "via_vpn": true });
    };
    tokio::join!(exits::ask(&provider, Attempt(7), false, &reports), change);
    let Ok(Report::ExitSeen(Attempt(7), address)) = told.try_recv() else { panic!("nothing was told") };
    assert_eq!((address.to_string().as_str(), scripted.count("GET /v1/ip")), ("198.51.100.1", 2));
    scripted.state().refuse.insert("GET /v1/ip", (500, "internal"));
    exits::ask(&provider, Attempt(8), false, &reports).await;
    assert!(told.try_recv().is_err());
    assert_eq!(scripted.count("GET /v1/ip"), 2 + usize::try_from(exits::TRIES).unwrap());
}
