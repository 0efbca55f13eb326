//! What anybody may ask: the list and its signature, loads, how we see the caller, health, and the description of the API.

use super::{App, Peer, Refusal, now};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hamn_api::{IpAnswer, Loads};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const LIST_CACHING: &str = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=604800";

/// The description of this API.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// Exactly the signed bytes; 304 when the caller has them.
pub(super) async fn servers(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let list = app.list();
    let caching = [(header::ETAG, list.etag.clone()), (header::CACHE_CONTROL, LIST_CACHING.to_owned())];
    if has_tag(&headers, &list.etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, "application/json")], list.bytes.clone()).into_response()
}

/// `If-None-Match`: a list of tags, weak ones compare equal (RFC 9110 section 13.1.2).
fn has_tag(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

pub(super) async fn signature(State(app): State<Arc<App>>) -> Response {
    let caching = [(header::CACHE_CONTROL, "no-cache"), (header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (caching, app.list().minisig.clone()).into_response()
}

pub(super) async fn loads(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let servers = app.store.loads(now()).await?;
    let generated_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let caching = [(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=10"))];
    Ok((caching, Json(Loads { generated_at, servers })).into_response())
}

pub(super) async fn config() -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "support": {"mail": "support@sandbox.test"},
        "key_rotation_days": 7, "features": ["wireguard", "exit_choice"], "min_client_version": "0.1.0",
    }))
}

pub(super) async fn ip(State(app): State<Arc<App>>, Extension(Peer(peer)): Extension<Peer>) -> Json<IpAnswer> {
    let ip = peer.ip().to_canonical();
    let list = app.list();
    let exit = list.exits.iter().find(|(address, ..)| *address == ip);
    Json(IpAnswer {
        ip,
        family: if ip.is_ipv4() { "v4" } else { "v6" }.to_owned(),
        via_vpn: exit.is_some(),
        server: exit.map(|(_, server, _)| server.clone()),
        exit: exit.map(|(.., exit)| exit.clone()),
    })
}

/// A node whose database does not answer cannot authenticate: the balancer must leave it out.
pub(super) async fn healthz(State(app): State<Arc<App>>) -> Result<&'static str, Refusal> {
    if app.store.healthy().await { Ok("ok\n") } else { Err(Refusal::UNAVAILABLE) }
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
