//! For gateways: the peers feed (long poll) and heartbeats.

use super::{App, Refusal, bearer, now};
use crate::keys::token_hash;
use crate::store::{Feed, Heartbeat};
use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::{StatusCode, request::Parts};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a gateway's question waits for news.
pub(super) const LONG_POLL: Duration = Duration::from_secs(25);
/// Another process on the same database is noticed within this time.
const OTHERS: Duration = Duration::from_millis(500);

/// A gateway with its token.
pub(super) struct Gateway(String);

impl FromRequestParts<Arc<App>> for Gateway {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let hash = bearer(parts).map(token_hash).ok_or(Refusal::UNAUTHORIZED)?;
        let Path(id) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| Refusal::NOT_FOUND)?;
        if app.store.is_gateway(&id, &hash).await? { Ok(Self(id)) } else { Err(Refusal::UNAUTHORIZED) }
    }
}

/// The revision that the gateway knows; without one it wants everything at once.
#[derive(Deserialize)]
pub(super) struct Since {
    #[serde(default = "nothing_known")]
    since: i64,
}

const fn nothing_known() -> i64 {
    -1
}

pub(super) async fn peers(
    State(app): State<Arc<App>>,
    Gateway(_id): Gateway,
    Query(Since { since }): Query<Since>,
) -> Result<Json<Feed>, Refusal> {
    let mut changes = app.changes.subscribe();
    let deadline = Instant::now() + LONG_POLL;
    while since >= 0 && app.store.revision().await? == since && Instant::now() < deadline {
        let _ = timeout(OTHERS, changes.changed()).await;
    }
    Ok(Json(app.store.feed(since, now()).await?))
}

pub(super) async fn heartbeat(
    State(app): State<Arc<App>>,
    Gateway(id): Gateway,
    Json(beat): Json<Heartbeat>,
) -> Result<StatusCode, Refusal> {
    app.store.heartbeat(&id, &beat, now()).await?;
    if !beat.used_keys.is_empty() {
        app.notify_gateways();
    }
    Ok(StatusCode::NO_CONTENT)
}
