//! Credentials and tokens. None of these types can be printed or serialised by accident.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A secret text: wiped on drop, shown by nothing, taken out by `reveal`.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The secret, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// What a user types to log in.
#[derive(Clone)]
pub struct Credentials {
    /// Account number; spaces and dashes are ignored.
    pub account: Token,
    /// Password, for accounts that have one.
    pub password: Option<Token>,
    /// One-time code, for accounts that use one.
    pub otp: Option<Token>,
}

/// A session in the form that survives a restart. The helper stores the bytes of [`StoredSession::reveal_json`] as a secret.
#[derive(Clone)]
pub struct StoredSession {
    /// Opaque id; no secret.
    pub id: String,
    pub(crate) access: Token,
    pub(crate) refresh: Token,
}

/// Called with the new session after login and after every refresh, with `None` after logout or revocation. Refresh tokens
/// rotate, so the bytes must be stored durably before it returns.
pub type SaveSession = Arc<dyn Fn(Option<&StoredSession>) -> std::io::Result<()> + Send + Sync>;

#[derive(Serialize, Deserialize)]
struct Form {
    id: String,
    access: Zeroizing<String>,
    refresh: Zeroizing<String>,
}

impl StoredSession {
    /// The secret bytes to store.
    #[must_use]
    pub fn reveal_json(&self) -> Zeroizing<Vec<u8>> {
        let form = Form { id: self.id.clone(), access: self.access.0.clone(), refresh: self.refresh.0.clone() };
        Zeroizing::new(serde_json::to_vec(&form).unwrap_or_default())
    }

    /// Reads what `reveal_json` wrote; `None` when it is anything else.
    #[must_use]
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let form: Form = serde_json::from_slice(bytes).ok()?;
        Some(Self { id: form.id, access: Token(form.access), refresh: Token(form.refresh) })
    }
}

/// Body of `POST /sessions`; borrowed so that nothing is copied but the request itself.
#[derive(Serialize)]
pub(crate) struct LoginBody<'a> {
    pub account: &'a str,
    pub password: Option<&'a str>,
    pub otp: Option<&'a str>,
    pub client: ClientInfo<'a>,
}

#[derive(Serialize)]
pub(crate) struct ClientInfo<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub platform: &'a str,
}

#[derive(Serialize)]
pub(crate) struct RefreshBody<'a> {
    pub refresh_token: &'a str,
}

/// Answer of `POST /sessions` and `POST /sessions/refresh`.
#[derive(Deserialize)]
pub(crate) struct TokensAnswer {
    pub session_id: String,
    pub access_token: Zeroizing<String>,
    pub refresh_token: Zeroizing<String>,
    pub account: crate::types::Account,
}

impl TokensAnswer {
    pub(crate) fn split(self) -> (StoredSession, crate::types::Session) {
        let Self { session_id, access_token, refresh_token, account } = self;
        let stored = StoredSession { id: session_id.clone(), access: Token(access_token), refresh: Token(refresh_token) };
        (stored, crate::types::Session { id: session_id, account })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_session_round_trips_and_refuses_anything_else() {
        let session = StoredSession { id: "ses_1".into(), access: Token::new("a".into()), refresh: Token::new("r".into()) };
        let again = StoredSession::from_json(&session.reveal_json()).unwrap();
        assert_eq!((again.id.as_str(), again.access.reveal(), again.refresh.reveal()), ("ses_1", "a", "r"));
        assert!(StoredSession::from_json(b"{}").is_none());
    }
}
