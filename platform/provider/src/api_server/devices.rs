//! Devices: register, list, remove, change key, choose exit.

use super::{App, Caller, Refusal, now};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use hamn_api::{Device, Devices, NewDevice};
use hamn_core::key::PublicKey;
use serde::Deserialize;
use std::sync::Arc;

/// Body of `PUT /devices/{id}/wireguard-key`.
#[derive(Deserialize)]
pub(super) struct NewKey {
    wg_public_key: PublicKey,
}

/// Body of `PUT /devices/{id}/exit`.
#[derive(Deserialize)]
pub(super) struct NewExit {
    exit: Option<String>,
}

fn plain_text(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
}

pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Devices>, Refusal> {
    Ok(Json(Devices { items: app.store.devices(&caller.account).await?, next_cursor: None }))
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Json(new): Json<NewDevice>,
) -> Result<(StatusCode, Json<Device>), Refusal> {
    let key = headers.get("idempotency-key").map(|value| value.to_str().unwrap_or_default());
    let good_key = key.is_none_or(|key| (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()));
    if !good_key || !plain_text(&new.name, 64) || !plain_text(&new.platform, 32) {
        return Err(Refusal::INVALID);
    }
    let device = app.store.add_device(&caller.account, &new, key, now()).await?;
    app.notify_gateways();
    Ok((StatusCode::CREATED, Json(device)))
}

pub(super) async fn one(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Json<Device>, Refusal> {
    Ok(Json(app.store.device(&caller.account, &id).await?))
}

pub(super) async fn remove(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    app.store.remove_device(&caller.account, &id).await?;
    app.notify_gateways();
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(new): Json<NewKey>,
) -> Result<Json<Device>, Refusal> {
    let device = app.store.rotate_key(&caller.account, &id, &new.wg_public_key, now()).await?;
    app.notify_gateways();
    Ok(Json(device))
}

pub(super) async fn set_exit(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(new): Json<NewExit>,
) -> Result<Json<Device>, Refusal> {
    let known = new.exit.as_ref().is_none_or(|exit| app.list().exits.iter().any(|(.., id)| id == exit));
    if !known {
        return Err(Refusal::INVALID);
    }
    let device = app.store.set_exit(&caller.account, &id, new.exit.as_deref()).await?;
    app.notify_gateways();
    Ok(Json(device))
}
