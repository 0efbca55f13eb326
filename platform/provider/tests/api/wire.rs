//! The HTTP surface itself: problem documents everywhere, caching headers, the OpenAPI document, bounds.

use crate::harness::{DEMO, Provider};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let provider = Provider::start().await;
    let big = json!({ "account": "x".repeat(100_000) }).to_string();
    for (method, path, body, status, code) in [
        ("GET", "/nothing", "", 404, "not_found"),
        ("GET", "/v1/devices/../../etc/passwd", "", 404, "not_found"),
        ("DELETE", "/v1/servers", "", 405, "method_not_allowed"),
        ("POST", "/v1/sessions", "{", 400, "bad_request"),
        ("POST", "/v1/sessions", "{}", 422, "invalid_request"),
        ("POST", "/v1/sessions", "", 415, "unsupported_media_type"),
        ("POST", "/v1/sessions", big.as_str(), 413, "too_large"),
        ("POST", "/v1/sessions", r#"{"account":"12"}"#, 401, "invalid_credentials"),
        ("GET", "/v1/account", "", 401, "unauthorized"),
        ("PUT", "/v1/devices/dev_1/wireguard-key", r#"{"wg_public_key":"x"}"#, 401, "unauthorized"),
    ] {
        let (seen, head, problem) = provider.call(method, path, None, body).await;
        assert_eq!((seen, problem["code"].as_str()), (status, Some(code)), "{method} {path}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        assert_eq!(problem["status"], json!(status));
        assert!(problem["title"].is_string() && problem["type"].is_string());
    }
    let (_, _, session) = provider.call("POST", "/v1/sessions", None, &json!({ "account": DEMO }).to_string()).await;
    let token = session["access_token"].as_str();
    let low_order =
        json!({"name": "x", "platform": "linux", "wg_public_key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}).to_string();
    let (status, _, problem) = provider.call("POST", "/v1/devices", token, &low_order).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("invalid_request")));
}

#[tokio::test]
async fn the_list_is_cacheable_and_tokens_are_not() {
    let provider = Provider::start().await;
    let (status, head, _) = provider.call("GET", "/v1/servers", None, "").await;
    assert_eq!(status, 200);
    assert!(head.contains("cache-control: public, max-age=300, stale-while-revalidate=3600, stale-if-error=604800"), "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    for (given, expected) in
        [(etag.clone(), 304), (format!("W/{etag}"), 304), (format!("\"x\", {etag}"), 304), ("\"x\"".into(), 200)]
    {
        let request = format!("GET /v1/servers HTTP/1.1\r\nHost: api\r\nConnection: close\r\nIf-None-Match: {given}\r\n\r\n");
        let answer = provider.raw(provider.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{given}: {}", answer.lines().next().unwrap());
    }
    let (_, head, _) = provider.call("POST", "/v1/sessions", None, &json!({ "account": DEMO }).to_string()).await;
    assert!(head.contains("cache-control: no-store"), "{head}");
}

#[tokio::test]
async fn the_caller_is_told_how_it_is_seen() {
    let provider = Provider::start().await;
    let answer = provider.client().ip().await.unwrap();
    assert_eq!((answer.ip.to_string().as_str(), answer.family.as_str(), answer.via_vpn), ("127.0.0.1", "v4", false));
    hamn_provider::list::edit(provider.path(), |source| {
        source["servers"][4]["exits"][1]["ipv4"] = json!("127.0.0.1");
        Ok(())
    })
    .unwrap();
    hamn_provider::list::sign(provider.path(), time::OffsetDateTime::now_utc()).unwrap();
    provider.app.reload_list();
    let answer = provider.client().ip().await.unwrap();
    assert_eq!((answer.via_vpn, answer.server.as_deref(), answer.exit.as_deref()), (true, Some("vpn05"), Some("us")));
}

#[tokio::test]
async fn loads_come_from_heartbeats() {
    let provider = Provider::start().await;
    assert!(provider.client().loads().await.unwrap().servers.is_empty());
    let beat = hamn_provider::store::Heartbeat { load_pct: 8.0, throughput_bps: 109_000_000, ..Default::default() };
    let now = hamn_provider::api_server::now();
    provider.app.store.heartbeat("vpn05", &beat, now).await.unwrap();
    let loads = provider.client().loads().await.unwrap();
    assert_eq!((loads.servers["vpn05"].load_pct, loads.servers["vpn05"].state.as_deref()), (Some(8.0), Some("online")));
    provider.app.store.heartbeat("vpn05", &beat, now - 60).await.unwrap();
    assert_eq!(provider.client().loads().await.unwrap().servers["vpn05"].state.as_deref(), Some("offline"));
}

#[tokio::test]
async fn the_openapi_document_is_sound_and_complete() {
    let provider = Provider::start().await;
    let (status, _, document) = provider.call("GET", "/v1/openapi.json", None, "").await;
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    let mut refs = Vec::new();
    collect_refs(&document, &mut refs);
    assert!(refs.len() > 20);
    for reference in refs {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
    let routes = include_str!("../../src/api_server/mod.rs");
    let paths = document["paths"].as_object().unwrap();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["responses"].as_object().is_some_and(|responses| responses.len() > 1), "{path}");
            let (status, ..) = provider.call(&method.to_uppercase(), &path.replace("{id}", "dev_x"), None, "").await;
            assert!(![404, 405, 500].contains(&status), "{method} {path}: {status}");
        }
        // A method that the document does not name is refused.
        let (status, ..) = provider.call("PATCH", &path.replace("{id}", "dev_x"), None, "").await;
        assert_eq!(status, 405, "{path}");
    }
    for route in routes
        .split(".route(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|path| !path.starts_with("/internal"))
    {
        assert!(paths.contains_key(route), "{route} is not described");
    }
}

fn collect_refs(value: &Value, refs: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            refs.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect_refs(value, refs));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_refs(value, refs)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn a_slow_caller_is_cut_off_and_others_are_served_meanwhile() {
    let provider = Provider::start().await;
    let started = Instant::now();
    let (slow, quick) = tokio::join!(provider.raw(provider.address, b"GET /v1/servers HTTP/1.1\r\nHost: "), async {
        provider.client().loads().await.unwrap();
        started.elapsed()
    });
    assert!(quick < Duration::from_secs(2), "{quick:?}");
    assert!(!slow.contains("200 OK"), "{slow}");
    assert!((4..8).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn health_follows_the_database() {
    let provider = Provider::start().await;
    let (status, ..) = provider.call("GET", "/healthz", None, "").await;
    assert_eq!(status, 200);
    provider.app.store.close().await;
    let (status, _, problem) = provider.call("GET", "/healthz", None, "").await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("auth_backend_unavailable")));
}
