//! What can go wrong between us and the provider, each with a stable code and the reason a user is shown.

use hamn_core::state::BlockReason;
use serde::Deserialize;

/// An RFC 9457 answer of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("the provider answered {status} {code}: {title}")]
pub struct Problem {
    /// HTTP status.
    #[serde(default)]
    pub status: u16,
    /// Stable code, such as `device_limit_reached`.
    pub code: String,
    /// One sentence in English; shown only where no translation of `code` exists.
    #[serde(default)]
    pub title: String,
    /// Seconds after which trying again makes sense, from `Retry-After`.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
}

/// Why a call gave no answer that can be used. No variant holds a secret or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// `provider.json` cannot be used.
    #[error("the provider's configuration cannot be used: {0}")]
    Config(String),
    /// No address accepted a connection.
    #[error("no address of the provider accepts a connection: {0}")]
    Unreachable(String),
    /// Connected, but the answer did not come (or not completely) in time.
    #[error("the provider did not answer in time")]
    Timeout,
    /// The connection broke, or what came was no HTTP.
    #[error("the provider's answer is not valid HTTP or broke off")]
    Broken,
    /// The certificate was refused or no TLS 1.3 was offered.
    #[error("the provider's certificate or TLS was refused: {reason}")]
    Tls {
        /// The certificate is outside its time of validity by this computer's clock.
        clock: bool,
        /// Why, for the log.
        reason: String,
    },
    /// Body or headers exceed the limit of that call.
    #[error("the provider's answer is larger than allowed")]
    TooBig,
    /// The answer was a redirect; none is ever followed.
    #[error("the provider answered with a redirect ({0}), which is never followed")]
    Redirect(u16),
    /// The answer is compressed although that was not asked for.
    #[error("the provider's answer is compressed, which was not asked for")]
    Compressed,
    /// The answer is not the JSON that this call expects.
    #[error("the provider's answer is not what this call expects")]
    NotJson,
    /// The list's signature does not fit any of the known keys.
    #[error("the signature of the server list is not valid")]
    BadSignature,
    /// The list is signed but cannot be used as a whole.
    #[error("the server list cannot be used: {0}")]
    BadList(&'static str),
    /// The list is older than one seen before.
    #[error("the server list (serial {offered}) is older than one seen before (serial {seen})")]
    Rollback {
        /// Highest serial seen.
        seen: u64,
        /// Serial that was offered.
        offered: u64,
    },
    /// An error that the provider described.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// An HTTP status without a description.
    #[error("the provider answered with status {0}")]
    Status(u16),
    /// We asked too often; nothing was sent.
    #[error("too many requests; the next one may be sent in {retry_after_s} s")]
    Throttled {
        /// Seconds to wait.
        retry_after_s: u64,
    },
    /// The call needs a session and there is none.
    #[error("nobody is logged in")]
    NotLoggedIn,
    /// Cache or session could not be written.
    #[error("the cache could not be written: {0}")]
    Storage(String),
}

impl ApiError {
    /// Stable code for logs, the local API and scripts.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Config(_) => "provider_config",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken => "broken_answer",
            Self::Tls { clock: true, .. } => "certificate_time",
            Self::Tls { clock: false, .. } => "certificate",
            Self::TooBig => "too_big",
            Self::Redirect(_) => "redirect",
            Self::Compressed => "compressed",
            Self::NotJson => "not_json",
            Self::BadSignature => "bad_signature",
            Self::BadList(_) => "bad_list",
            Self::Rollback { .. } => "rollback",
            Self::Problem(problem) => &problem.code,
            Self::Status(_) => "status",
            Self::Throttled { .. } => "throttled",
            Self::NotLoggedIn => "logged_out",
            Self::Storage(_) => "storage",
        }
    }

    /// The reason shown when a connection attempt fails because of this error.
    #[must_use]
    pub fn block_reason(&self) -> BlockReason {
        match self {
            Self::Config(_) => BlockReason::NoProvider,
            Self::Tls { clock: true, .. } => BlockReason::ClockWrong,
            Self::NotLoggedIn => BlockReason::LoggedOut,
            Self::Storage(_) => BlockReason::Internal,
            Self::Problem(problem) => match problem.code.as_str() {
                "invalid_credentials" => BlockReason::CredentialsRejected,
                "token_expired" | "session_revoked" | "unauthorized" => BlockReason::LoggedOut,
                "account_expired" => BlockReason::AccountExpired,
                "device_limit_reached" => BlockReason::TooManyDevices,
                "device_not_found" => BlockReason::DeviceRevoked,
                _ => BlockReason::ApiUnreachable,
            },
            Self::Unreachable(_)
            | Self::Timeout
            | Self::Broken
            | Self::Tls { clock: false, .. }
            | Self::TooBig
            | Self::Redirect(_)
            | Self::Compressed
            | Self::NotJson
            | Self::BadSignature
            | Self::BadList(_)
            | Self::Rollback { .. }
            | Self::Status(_)
            | Self::Throttled { .. } => BlockReason::ApiUnreachable,
        }
    }

    /// True when another address of the provider may answer better.
    pub(crate) const fn other_address_may_help(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Timeout
                | Self::Broken
                | Self::Tls { .. }
                | Self::TooBig
                | Self::Redirect(_)
                | Self::Compressed
                | Self::NotJson
                | Self::Status(500..=599)
        ) || matches!(self, Self::Problem(problem) if problem.status >= 500)
    }
}
