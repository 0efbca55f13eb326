//! Login, refresh, logout, account.

use super::{App, Caller, Peer, Refusal, lock, now};
use crate::store::{IssuedTokens, Refused};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Body of `POST /sessions`.
#[derive(Deserialize)]
pub(super) struct Login {
    account: String,
    password: Option<String>,
}

/// Body of `POST /sessions/refresh`.
#[derive(Deserialize)]
pub(super) struct Refresh {
    refresh_token: String,
}

fn answer(tokens: &IssuedTokens) -> Json<Value> {
    Json(json!({
        "session_id": tokens.session, "access_token": tokens.access, "refresh_token": tokens.refresh,
        "expires_in": crate::store::ACCESS_S, "account": tokens.account.public(now()),
    }))
}

pub(super) async fn login(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    Json(login): Json<Login>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    lock(&app.logins).take(peer.ip()).map_err(Refusal::rate_limited)?;
    let number = Zeroizing::new(login.account);
    let password = login.password.map(Zeroizing::new);
    if number.len() != 16
        || !number.bytes().all(|b| b.is_ascii_digit())
        || password.as_ref().is_some_and(|password| password.len() > 1024)
    {
        return Err(Refusal::CREDENTIALS);
    }
    let account = app.store.account_by_number(&number).await?;
    let permit = app.hashing.acquire().await.map_err(|_| Refusal::UNAVAILABLE)?;
    let checked = account.clone();
    let fits = tokio::task::spawn_blocking(move || checked.password_fits(password.as_ref().map(|password| password.as_str())));
    let fits = fits.await.map_err(|_| Refusal::UNAVAILABLE)?;
    drop(permit);
    if !fits {
        return Err(Refusal::CREDENTIALS);
    }
    lock(&app.logins).succeeded(peer.ip());
    if account.expired(now()) {
        return Err(Refused::AccountExpired.into());
    }
    Ok((StatusCode::CREATED, answer(&app.store.start_session(&account, now()).await?)))
}

pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    Json(body): Json<Refresh>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let token = Zeroizing::new(body.refresh_token);
    Ok((StatusCode::CREATED, answer(&app.store.refresh_session(&token, now()).await?)))
}

pub(super) async fn logout(State(app): State<Arc<App>>, caller: Caller) -> Result<StatusCode, Refusal> {
    app.store.end_session(&caller.session).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn account(caller: Caller) -> Json<hamn_api::Account> {
    Json(caller.account.public(now()))
}
