//! The calls of the local API against the whole service: each is answered once, and none gets around the administrator.

use super::stand::{ROOT, Setup, Stand, USER, with_service};
use hamn_core::location::{Destination, Target};
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::BlockReason;
use hamn_core::status::StateKind;
use hamn_ipc::wire::{CheckResult, ImportProfile, LoginRequest, Secret, SettingKey, SettingsPatch};
use hamn_ipc::{ProblemCode, Request, Response};
use std::time::{Duration, Instant};

const S: fn(u64) -> Duration = Duration::from_secs;

fn login(account: &str) -> Request {
    Request::Login(LoginRequest { account: Secret::new(account.to_owned()), password: None, otp: None })
}

fn connect(destination: Destination) -> Request {
    Request::Connect { destination: Some(destination), if_needed: false }
}

fn profile(replace: bool) -> Request {
    let conf = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nAddress = 10.9.1.2/32\n[Peer]\n\
        PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 0.0.0.0/0\nEndpoint = 198.51.100.7:51820\n";
    Request::ImportProfile(ImportProfile { name: "work".to_owned(), conf: Secret::new(conf.to_owned()), replace })
}

fn work() -> Destination {
    Destination::Profile { name: "work".to_owned() }
}

fn every_request() -> Vec<Request> {
    let patch = SettingsPatch { allow_lan: Some(true), ..SettingsPatch::default() };
    vec![
        Request::Settings,
        Request::Policy,
        Request::Servers,
        Request::Profiles,
        Request::Account,
        Request::Devices,
        Request::Reconnect,
        login("A"),
        Request::Account,
        Request::Devices,
        Request::RemoveDevice { id: "nosuch".to_owned() },
        Request::ChangeSettings(patch),
        Request::ResetSettings { keys: None },
        profile(false),
        profile(false),
        Request::RemoveProfile { name: "nosuch".to_owned() },
        Request::Connect { destination: None, if_needed: true },
        Request::Reconnect,
        connect(work()),
        Request::RemoveProfile { name: "work".to_owned() },
        Request::Verify,
        Request::Diagnose,
        Request::Log { lines: 10 },
        Request::Report,
        Request::RotateKey,
        Request::Disconnect,
        Request::RemoveProfile { name: "work".to_owned() },
        Request::RestoreNetwork,
        Request::Logout,
        Request::Logout,
    ]
}

#[test]
fn every_call_is_answered_with_what_belongs_to_it() {
    for with_provider in [true, false] {
        with_service(Setup { with_provider, ..Setup::default() }, async |stand: &Stand| {
            for request in every_request() {
                let what = format!("{request:?}");
                let answer = stand.call(ROOT, request.clone()).await;
                let fits = match (&request, &answer) {
                    (_, Err(problem)) => {
                        !matches!(problem.code, ProblemCode::Internal | ProblemCode::Busy | ProblemCode::RequestTimeout)
                    }
                    (
                        Request::Connect { .. } | Request::Disconnect | Request::Reconnect | Request::RestoreNetwork,
                        Ok(Response::Intent(_)),
                    )
                    | (Request::Servers, Ok(Response::Servers(_)))
                    | (Request::Login(_) | Request::Logout | Request::Account, Ok(Response::Account(_)))
                    | (Request::Devices | Request::RemoveDevice { .. }, Ok(Response::Devices(_)))
                    | (
                        Request::Profiles | Request::ImportProfile(_) | Request::RemoveProfile { .. },
                        Ok(Response::Profiles(_)),
                    )
                    | (
                        Request::Settings | Request::ChangeSettings(_) | Request::ResetSettings { .. },
                        Ok(Response::Settings(_)),
                    )
                    | (Request::Policy, Ok(Response::Policy(_)))
                    | (Request::Verify, Ok(Response::Verify(_)))
                    | (Request::Diagnose, Ok(Response::Ladder(_)))
                    | (Request::Log { .. }, Ok(Response::Log(_)))
                    | (Request::Report, Ok(Response::Report(_)))
                    | (Request::RotateKey, Ok(Response::Devices(_))) => true,
                    _ => false,
                };
                assert!(fits, "{what}: {answer:?}");
            }
        });
    }
}

// What the answer to "connect" promises: from then on nothing leaves. And to "disconnect": the network is open again.
#[test]
fn an_intent_is_answered_when_the_rules_are_in_force() {
    with_service(Setup::default(), async |stand: &Stand| {
        stand.call(ROOT, login("A")).await.unwrap();
        for _ in 0..3 {
            let Response::Intent(result) = stand.call(USER, connect(Destination::Best)).await.unwrap() else { panic!() };
            assert!(result.changed && result.status.protection.enforcing && result.status.protection.in_force, "{result:#?}");
            let Response::Intent(result) = stand.call(USER, Request::Disconnect).await.unwrap() else { panic!() };
            assert!(
                result.changed && result.status.protection.in_force && result.status.state == StateKind::Disconnected,
                "{result:#?}"
            );
            assert!(!result.status.protection.enforcing);
        }
    });
}

// G15: an always-on tunnel is not ended by logging out, restoring or removing either.
#[test]
fn no_call_of_a_user_ends_a_tunnel_that_only_an_administrator_may_end() {
    let setup = Setup { policy: r#"{"who_may_disconnect":{"value":"admin"}}"#, ..Setup::default() };
    with_service(setup, async |stand: &Stand| {
        stand.call(USER, login("A")).await.unwrap();
        stand.call(USER, connect(Destination::Best)).await.unwrap();
        for request in [Request::Disconnect, Request::Logout, Request::RestoreNetwork] {
            let refused = stand.call(USER, request.clone()).await.unwrap_err();
            assert_eq!(refused.code, ProblemCode::NotAllowed, "{request:?}");
        }
        let device = stand.provider.as_ref().unwrap().stored_device().unwrap().unwrap().id;
        stand.call(USER, Request::RemoveDevice { id: device }).await.unwrap();
        let status = stand.until("blocked", S(10), |status| status.state == StateKind::Blocked).await;
        assert!(status.protection.enforcing && matches!(status.target, Target::Connected { .. }), "{status:#?}");
        assert!(stand.provider.as_ref().unwrap().logged_in());
        stand.call(ROOT, Request::Logout).await.unwrap();
        assert_eq!(stand.status().target, Target::Disconnected);
    });
}

// G15
#[test]
fn locked_settings_hold_against_every_way_around_them() {
    let policy = r#"{"lockdown":{"value":true},"destination":{"value":"se"},"ipv6":{"value":false,"locked":false}}"#;
    with_service(Setup { policy, ..Setup::default() }, async |stand: &Stand| {
        stand.call(ROOT, login("A")).await.unwrap();
        assert_eq!(stand.call(ROOT, Request::RestoreNetwork).await.unwrap_err().code, ProblemCode::SettingLocked);
        for keys in [vec![SettingKey::KillSwitch], vec![SettingKey::Mtu, SettingKey::Destination]] {
            let refused = stand.call(ROOT, Request::ResetSettings { keys: Some(keys) }).await.unwrap_err();
            assert_eq!(refused.code, ProblemCode::SettingLocked);
        }
        let patch = SettingsPatch { destination: Some(Destination::Best), ..SettingsPatch::default() };
        assert_eq!(stand.call(ROOT, Request::ChangeSettings(patch)).await.unwrap_err().code, ProblemCode::SettingLocked);
        assert_eq!(stand.call(USER, connect(Destination::Best)).await.unwrap_err().code, ProblemCode::SettingLocked);
        stand.call(USER, Request::Connect { destination: None, if_needed: false }).await.unwrap();
        assert_eq!(stand.status().destination, Some(Destination::Country { country: "se".to_owned() }));
        // What is not locked is where a user starts, and goes back to.
        let patch = SettingsPatch { ipv6: Some(true), mtu: Some(Some(1300)), ..SettingsPatch::default() };
        stand.call(USER, Request::ChangeSettings(patch)).await.unwrap();
        stand.call(ROOT, Request::ResetSettings { keys: None }).await.unwrap();
        let kept = stand.store.load(&Settings::default()).settings;
        assert_eq!((kept.ipv6, kept.mtu), (false, None));
    });
}

// G15: a policy that arrives while the helper runs holds from then on, and its end gives the user's own settings back.
#[test]
fn a_policy_takes_effect_while_the_helper_runs() {
    with_service(Setup::default(), async |stand: &Stand| {
        let change = async |policy: &str| {
            let (managed, notes) = hamn_core::managed::load(&[("a".to_owned(), Some(policy.as_bytes().to_vec()))]);
            stand.reports.send(crate::service::Report::PolicyChanged(Box::new(managed), notes)).await.unwrap();
        };
        stand.call(ROOT, login("A")).await.unwrap();
        change(r#"{"lockdown":{"value":true}}"#).await;
        stand
            .until("lockdown is in force", S(10), |s| s.protection.kill_switch == KillSwitch::Always && s.protection.in_force)
            .await;
        let open = SettingsPatch { kill_switch: Some(KillSwitch::Off), ..SettingsPatch::default() };
        assert_eq!(stand.call(ROOT, Request::ChangeSettings(open)).await.unwrap_err().code, ProblemCode::SettingLocked);
        change(r#"{"lockdown":{"value":true},"always_on":{"value":true},"destination":{"value":"se"}}"#).await;
        let se = Destination::Country { country: "se".to_owned() };
        stand.until("always on connects", S(10), |s| s.target == Target::Connected { destination: se.clone() }).await;
        assert_eq!(stand.call(USER, Request::Disconnect).await.unwrap_err().code, ProblemCode::NotAllowed);
        change(r#"{"lockdown":3}"#).await;
        stand.until("nonsense is told", S(10), |s| s.warnings.iter().any(|warning| warning.code == "policy")).await;
        assert_eq!(stand.status().protection.kill_switch, KillSwitch::Always);
        change("{}").await;
        stand.until("the user's own again", S(10), |s| s.protection.kill_switch == KillSwitch::WhileConnected).await;
        assert!(!stand.status().warnings.iter().any(|warning| warning.code == "policy"));
    });
}

#[test]
fn a_profile_that_is_replaced_while_in_use_is_used_from_then_on_and_works_in_lockdown() {
    with_service(Setup { with_provider: false, ..Setup::default() }, async |stand: &Stand| {
        let patch = SettingsPatch { kill_switch: Some(KillSwitch::Always), ..SettingsPatch::default() };
        stand.call(ROOT, Request::ChangeSettings(patch)).await.unwrap();
        stand.call(ROOT, profile(false)).await.unwrap();
        stand.call(USER, connect(work())).await.unwrap();
        let verifying = |status: &hamn_core::status::Status| {
            status.attempt.as_ref().is_some_and(|attempt| attempt.phase == Some(hamn_core::state::Phase::Verifying))
        };
        let first = stand.until("a tunnel", S(5), verifying).await.attempt.as_ref().unwrap().number;
        stand.call(ROOT, profile(true)).await.unwrap();
        stand
            .until("a tunnel of the new profile", S(5), |status| {
                verifying(status) && status.attempt.as_ref().is_some_and(|attempt| attempt.number > first)
            })
            .await;
        assert_eq!(
            stand.call(ROOT, Request::RemoveProfile { name: "work".to_owned() }).await.unwrap_err().code,
            ProblemCode::Conflict
        );
    });
}

// KEY-02: removed here, removed elsewhere: blocked with the reason, no storm, and a login heals it.
#[test]
fn a_device_that_is_removed_blocks_with_the_reason_and_a_login_heals() {
    with_service(Setup::default(), async |stand: &Stand| {
        let provider = stand.provider.clone().unwrap();
        stand.call(USER, login("A")).await.unwrap();
        stand.call(USER, connect(Destination::Best)).await.unwrap();
        let revoked = |status: &hamn_core::status::Status| {
            status.blocked.as_ref().is_some_and(|blocked| blocked.code == BlockReason::DeviceRevoked)
        };
        let id = provider.stored_device().unwrap().unwrap().id;
        stand.call(USER, Request::RemoveDevice { id }).await.unwrap();
        let status = stand.until("this device is removed", S(5), revoked).await;
        assert!(status.protection.enforcing && !status.blocked.as_ref().unwrap().retrying);
        stand.call(USER, login("A")).await.unwrap();
        stand.until("an attempt with a new device", S(5), |status| status.state == StateKind::Connecting).await;
        // Now from elsewhere: the gateway, which does not exist here, is as silent as one that lost the key.
        stand.scripted.state().devices.clear();
        stand.until("the removal is found out", S(25), revoked).await;
        stand.scripted.state().calls.clear();
        tokio::time::sleep(S(2)).await;
        assert_eq!(stand.scripted.state().calls, Vec::<String>::new());
    });
}

// The account's device goes with the account, also while it is in use.
#[test]
fn another_account_takes_over_a_running_connection_with_its_own_device() {
    with_service(Setup::default(), async |stand: &Stand| {
        stand.call(USER, login("A")).await.unwrap();
        stand.call(USER, connect(Destination::Best)).await.unwrap();
        let attempt = |status: &hamn_core::status::Status| status.attempt.as_ref().map_or(0, |attempt| attempt.number.0);
        let first = attempt(stand.until("an attempt", S(5), |status| attempt(status) > 0).await.as_ref());
        stand.until("a tunnel", S(5), |status| status.tunnel.is_some()).await;
        stand.call(USER, login("B")).await.unwrap();
        stand.until("a new attempt", S(10), |status| attempt(status) > first && status.tunnel.is_some()).await;
    });
}

// One bad client harms no other: what waits for a silent provider fills its own places only.
#[test]
fn a_flood_of_calls_that_wait_keeps_neither_root_nor_the_loop_waiting() {
    with_service(Setup::default(), async |stand: &Stand| {
        stand.call(USER, login("A")).await.unwrap();
        stand.scripted.state().silent = true;
        let mut floods = Vec::new();
        for _ in 0..200 {
            floods.push(stand.ask(USER, Request::Account).await);
        }
        let started = Instant::now();
        stand.call(USER, Request::Settings).await.unwrap();
        stand.call(USER, Request::Disconnect).await.unwrap();
        stand.call(ROOT, Request::Profiles).await.unwrap();
        assert!(started.elapsed() < S(1), "{:?}", started.elapsed());
        let mut busy = 0;
        for flood in floods {
            busy += usize::from(flood.await.unwrap().is_err_and(|problem| problem.code == ProblemCode::Busy));
        }
        assert_eq!(busy, 200 - 16);
    });
}

// An nft that hangs: commands, status and watchdog go on, and nothing is claimed that is not so.
#[test]
fn a_hanging_firewall_program_keeps_nobody_waiting() {
    let setup = Setup { nft: Some("#!/bin/sh\nexec sleep 60\n"), ..Setup::default() };
    with_service(setup, async |stand: &Stand| {
        let started = Instant::now();
        stand.call(USER, Request::Settings).await.unwrap();
        stand.call(USER, Request::Policy).await.unwrap();
        stand.call(USER, Request::Servers).await.unwrap();
        stand.call(USER, login("A")).await.unwrap();
        assert!(started.elapsed() < S(2), "{:?}", started.elapsed());
        let Response::Intent(result) = stand.call(USER, connect(Destination::Best)).await.unwrap() else { panic!() };
        assert!(started.elapsed() < S(12), "{:?}", started.elapsed());
        assert!(!result.status.protected, "{result:#?}");
        let status = stand.until("the reason is shown", S(20), |status| status.protection.error.is_some()).await;
        assert!(status.tunnel.is_none(), "no tunnel without rules: {status:#?}");
    });
}

// The self-test in a namespace without protection finds the leaks; connected or blocked it finds none.
#[test]
fn the_self_test_tells_open_from_closed() {
    with_service(Setup::default(), async |stand: &Stand| {
        let result = async |id: &str| {
            let Response::Verify(report) = stand.call(USER, Request::Verify).await.unwrap() else { panic!() };
            let check = report.checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("{id}: {report:#?}")).clone();
            (check.result, report.ok)
        };
        assert_eq!(result("probe_ipv4_v4_eth0").await, (CheckResult::Fail, false));
        let patch = SettingsPatch { kill_switch: Some(KillSwitch::Always), ..SettingsPatch::default() };
        stand.call(ROOT, Request::ChangeSettings(patch)).await.unwrap();
        assert_eq!(result("probe_ipv4_v4_eth0").await, (CheckResult::Pass, true));
        assert_eq!(result("probe_dns_over_ipv4_v4_eth0").await.0, CheckResult::Pass);
        // This host has no IPv6: nothing was put to the test.
        assert_eq!(result("probe_ipv6_v6_eth0").await.0, CheckResult::Skipped);
        assert_eq!(result("resolver").await.0, CheckResult::Skipped);
    });
}
