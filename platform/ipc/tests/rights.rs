//! IPC-01: what other users get over a real socket.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod fake;
mod raw;

use fake::{Fake, Script};
use hamn_ipc::classes::Class;
use hamn_ipc::routes::{Method, ROUTES};

const NOBODY: u32 = 65534;
const GROUP: u32 = 54_321;
const SOMEBODY: u32 = 54_320;

fn requests() -> Vec<(Class, String)> {
    let request = |route: &hamn_ipc::routes::Route| {
        let method = match route.method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        };
        let path = route.path.replace("{id}", "dev_2").replace("{name}", "home");
        let body = match route.path {
            "/v1/login" => r#"{"account":"4242"}"#,
            "/v1/profiles" if route.method == Method::Post => r#"{"name":"home","conf":"[Interface]"}"#,
            "/v1/settings" if route.method == Method::Patch => r#"{"ipv6":false}"#,
            "/v1/settings/reset" => r#"{"keys":["ipv6"]}"#,
            _ => "",
        };
        (route.operation.class(), raw::text(method, &path, body))
    };
    // A stream has no end to wait for; the rights of events are tested on their own.
    ROUTES.iter().filter(|route| route.path != "/v1/events").map(request).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_gets_the_same_refusal_for_every_operation() {
    let fake = Fake::start(Script { control_group: Some(GROUP.into()), ..Script::default() });
    let socket = fake.socket.clone();
    let answers = tokio::task::spawn_blocking(move || {
        let mut all = requests();
        all.push((Class::View, raw::text("GET", "/v1/events", "")));
        all.into_iter()
            .map(|(class, text)| (class, raw::exchange_as(NOBODY, NOBODY, &socket, text.as_bytes()), text))
            .collect::<Vec<_>>()
    })
    .await
    .unwrap();
    let mut refusals = Vec::new();
    for (class, answer, text) in answers {
        if class == Class::Public {
            assert_eq!(answer.status, 200, "{text}");
        } else {
            assert_eq!(answer.status, 403, "{text} {answer:?}");
            refusals.push(answer.body);
        }
    }
    assert_eq!(refusals.len(), ROUTES.len() - 3);
    assert!(refusals.iter().all(|body| body == &refusals[0]), "{refusals:?}");
    assert!(refusals[0].contains("not_allowed") && refusals[0].contains("group `hamn`"));
    assert_eq!(fake.asked(), [], "nothing reached the helper");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_group_controls_but_does_not_administer() {
    let fake = Fake::start(Script { control_group: Some(GROUP.into()), ..Script::default() });
    let socket = fake.socket.clone();
    let answers = tokio::task::spawn_blocking(move || {
        let all = requests().into_iter();
        all.map(|(class, text)| (class, raw::exchange_as(SOMEBODY, GROUP, &socket, text.as_bytes()), text)).collect::<Vec<_>>()
    })
    .await
    .unwrap();
    for (class, answer, text) in answers {
        let expected = if class == Class::Administer { 403 } else { 200 };
        assert_eq!(answer.status, expected, "{text} {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_open_the_network_are_for_root_only() {
    let fake = Fake::start(Script { control_group: Some(GROUP.into()), ..Script::default() });
    let socket = fake.socket.clone();
    tokio::task::spawn_blocking(move || {
        for body in [
            r#"{"kill_switch":"off"}"#,
            r#"{"ipv6":true,"allow_lan":true}"#,
            r#"{"dns":{"use":"provider"}}"#,
            r#"{"auto_connect":false}"#,
        ] {
            let text = raw::text("PATCH", "/v1/settings", body);
            let refused = raw::exchange_as(SOMEBODY, GROUP, &socket, text.as_bytes());
            assert_eq!((refused.status, refused.code().as_str()), (403, "not_allowed"), "{body}");
            assert_eq!(raw::exchange(&socket, text.as_bytes()).status, 200, "root may: {body}");
        }
        let all = raw::text("POST", "/v1/settings/reset", "");
        assert_eq!(raw::exchange_as(SOMEBODY, GROUP, &socket, all.as_bytes()).status, 403);
        assert_eq!(raw::exchange(&socket, all.as_bytes()).status, 200);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_learns_no_more_than_protected_or_not() {
    let fake = Fake::start(Script::default());
    let socket = fake.socket.clone();
    let answer = tokio::task::spawn_blocking(move || {
        raw::exchange_as(NOBODY, NOBODY, &socket, raw::text("GET", "/v1/public", "").as_bytes())
    })
    .await
    .unwrap();
    assert_eq!(answer.json(), serde_json::json!({ "protected": false, "state": "disconnected" }));
}
