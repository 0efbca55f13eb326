//! Errors as `application/problem+json` (RFC 9457) with a stable code, whatever produced them.

use crate::store::Refused;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

const TYPE: &str = "application/problem+json";

/// An error answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    retry_after_s: Option<u64>,
}

impl Refusal {
    pub(super) const NOT_FOUND: Self = Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this address");
    pub(super) const UNAUTHORIZED: Self = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "This needs a valid token");
    pub(super) const INVALID: Self =
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", "A field of the request cannot be used");
    pub(super) const CREDENTIALS: Self =
        Self::new(StatusCode::UNAUTHORIZED, "invalid_credentials", "The account number or password is wrong");
    pub(super) const UNAVAILABLE: Self =
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "auth_backend_unavailable", "The service is not available at the moment");
    const INTERNAL: Self = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something failed inside the service");

    const fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self { status, code, title, retry_after_s: None }
    }

    pub(super) fn rate_limited(wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(1);
        Self { retry_after_s: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests") }
    }

    /// For statuses that the framework itself produces.
    fn for_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NOT_FOUND,
            StatusCode::METHOD_NOT_ALLOWED => Self::new(status, "method_not_allowed", "This address does not take this method"),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(status, "too_large", "The request is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(status, "unsupported_media_type", "The body must be application/json")
            }
            StatusCode::UNPROCESSABLE_ENTITY => Self::INVALID,
            _ if status.is_client_error() => Self::new(status, "bad_request", "The request cannot be read"),
            _ => Self::INTERNAL,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": format!("https://errors.sandbox.test/{}", self.code),
            "title": self.title, "status": self.status.as_u16(), "code": self.code,
        });
        let mut response = (self.status, [(header::CONTENT_TYPE, TYPE)], body.to_string()).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::InvalidCredentials => Self::CREDENTIALS,
            Refused::AccountExpired => Self::new(StatusCode::FORBIDDEN, "account_expired", "The account has expired"),
            Refused::TokenExpired => Self::new(StatusCode::UNAUTHORIZED, "token_expired", "The token is unknown or has expired"),
            Refused::SessionRevoked => Self::new(StatusCode::UNAUTHORIZED, "session_revoked", "The session was ended"),
            Refused::DeviceLimit => Self::new(
                StatusCode::CONFLICT,
                "device_limit_reached",
                "The account has its maximum number of devices; see /v1/devices",
            ),
            Refused::KeyInUse => Self::new(StatusCode::CONFLICT, "public_key_in_use", "This key belongs to another device"),
            Refused::IdempotencyReuse => {
                Self::new(StatusCode::CONFLICT, "idempotency_key_reused", "This idempotency key was used for another request")
            }
            Refused::DeviceNotFound => Self::new(StatusCode::NOT_FOUND, "device_not_found", "The account has no such device"),
            Refused::PoolEmpty => Self::new(StatusCode::SERVICE_UNAVAILABLE, "address_pool_empty", "No address is left"),
            Refused::Backend(error) => {
                tracing::error!(%error, "the database failed");
                Self::UNAVAILABLE
            }
        }
    }
}

/// The framework answers bad JSON, unknown methods and large bodies as plain text: give those the common form.
pub(super) async fn describe_errors(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let status = response.status();
    let described = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == TYPE);
    if (status.is_client_error() || status.is_server_error()) && !described {
        let mut plain = Refusal::for_status(status).into_response();
        if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
            plain.headers_mut().insert(header::ALLOW, allow);
        }
        response = plain;
    }
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A handler that panics or takes too long costs one answer and nothing else.
pub(super) async fn contain(limit: Duration, request: Request<Body>, next: Next) -> Response {
    match tokio::time::timeout(limit, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => Refusal::INTERNAL.into_response(),
        Err(_) => Refusal::UNAVAILABLE.into_response(),
    }
}
