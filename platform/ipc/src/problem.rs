//! Errors as RFC 9457 problem documents: a stable code for programs, one sentence and one action for people.

use crate::names;
use hamn_core::profile::ProfileError;
use hamn_core::state::BlockReason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Stable code of a problem, the same in API, CLI and window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The request is not understood: bad JSON, unknown field, bad query.
    BadRequest,
    /// The caller's user account may not do this.
    NotAllowed,
    /// No such path or object.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The request or its answer took too long.
    RequestTimeout,
    /// The request contradicts the present state.
    Conflict,
    /// The body is larger than 64 KiB.
    TooLarge,
    /// A value is understood but not acceptable.
    InvalidValue,
    /// The setting is fixed by the administrator's policy.
    SettingLocked,
    /// More calls per second than one user may make.
    TooManyRequests,
    /// More connections than one user may hold, or than the helper serves.
    TooManyConnections,
    /// The helper's queue of calls is full.
    Busy,
    /// Something failed that has no better name; the helper's log says more.
    Internal,
    /// Nothing answers at the helper's socket (made by the client).
    HelperUnreachable,
    /// What answers at the socket is not the helper (made by the client).
    HelperUntrusted,
    /// The client gave up waiting for the state it was told to wait for.
    WaitTimeout,
    /// The provider's API answered with an error that is not the user's.
    ProviderError,
    /// The imported profile is not acceptable; `detail` names the line.
    ProfileInvalid,
    /// There is no network connection.
    Offline,
    /// No provider is configured.
    NoProvider,
    /// The provider's API cannot be reached.
    ApiUnreachable,
    /// Nobody is logged in.
    LoggedOut,
    /// The provider refused the credentials.
    CredentialsRejected,
    /// The account has run out.
    AccountExpired,
    /// The account has its maximum of devices.
    TooManyDevices,
    /// This device was removed from the account.
    DeviceRevoked,
    /// No server matches the destination.
    NoServer,
    /// The profile does not exist.
    NoProfile,
    /// The VPN server does not answer.
    GatewaySilent,
    /// The tunnel device could not be created.
    TunnelDevice,
    /// Firewall, routes or DNS could not be set.
    CannotProtect,
    /// The stored intent could not be read.
    IntentUnreadable,
    /// The clock is wrong.
    ClockWrong,
    /// A code of a newer helper.
    #[serde(other)]
    Unknown,
}

/// What is fixed about a code: HTTP status, title, default action.
struct Facts(u16, &'static str, &'static str);

impl ProblemCode {
    /// All codes that a helper or client of this version can send.
    pub const ALL: [Self; 33] = [
        Self::BadRequest,
        Self::NotAllowed,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::TooLarge,
        Self::InvalidValue,
        Self::SettingLocked,
        Self::TooManyRequests,
        Self::TooManyConnections,
        Self::Busy,
        Self::Internal,
        Self::HelperUnreachable,
        Self::HelperUntrusted,
        Self::WaitTimeout,
        Self::ProviderError,
        Self::ProfileInvalid,
        Self::Offline,
        Self::NoProvider,
        Self::ApiUnreachable,
        Self::LoggedOut,
        Self::CredentialsRejected,
        Self::AccountExpired,
        Self::TooManyDevices,
        Self::DeviceRevoked,
        Self::NoServer,
        Self::NoProfile,
        Self::GatewaySilent,
        Self::TunnelDevice,
        Self::CannotProtect,
        Self::IntentUnreadable,
        Self::ClockWrong,
    ];

    fn facts(self) -> Facts {
        match self {
            Self::BadRequest => Facts(400, "The request is not understood", "Compare the request with /v1/openapi.json."),
            Self::NotAllowed => Facts(403, "This user account may not do that", names::GET_RIGHTS),
            Self::NotFound => Facts(404, "There is no such thing", "Check the name; the list commands show what exists."),
            Self::MethodNotAllowed => Facts(405, "That method does not exist here", "Compare the request with /v1/openapi.json."),
            Self::RequestTimeout => {
                Facts(408, "The request took too long", "Try again; if it happens often, look at the helper's log.")
            }
            Self::Conflict => Facts(409, "That does not fit the present state", "Look at `hamn status`, then try again."),
            Self::TooLarge => Facts(413, "The request is too large", "Send at most 64 KiB."),
            Self::InvalidValue => Facts(422, "A value is not acceptable", "Correct the value and try again."),
            Self::SettingLocked => {
                Facts(423, "The administrator's policy fixes this setting", "Ask the administrator to change the policy.")
            }
            Self::TooManyRequests => Facts(429, "Too many requests", "Wait a second, then try again."),
            Self::TooManyConnections => Facts(503, "Too many connections", "Close other programs that use Hamn, then try again."),
            Self::Busy => Facts(503, "The helper is busy", "Try again in a moment."),
            Self::Internal => Facts(500, "Something unexpected failed inside Hamn", "Look at the helper's log, then try again."),
            Self::HelperUnreachable => Facts(503, "The helper does not answer", names::START_HELPER),
            Self::HelperUntrusted => Facts(503, "What answers at the socket is not the helper", names::CHECK_OWNER),
            Self::WaitTimeout => {
                Facts(504, "It takes longer than you wanted to wait", "Look at `hamn status`; Hamn goes on trying by itself.")
            }
            Self::ProviderError => {
                Facts(502, "The provider answered with an error", "Try again later, or choose another server.")
            }
            Self::ProfileInvalid => {
                Facts(422, "The profile cannot be used", "Correct the line that is named, then import it again.")
            }
            Self::Offline => reason(409, BlockReason::Offline),
            Self::NoProvider => reason(409, BlockReason::NoProvider),
            Self::ApiUnreachable => reason(502, BlockReason::ApiUnreachable),
            Self::LoggedOut => reason(409, BlockReason::LoggedOut),
            Self::CredentialsRejected => reason(403, BlockReason::CredentialsRejected),
            Self::AccountExpired => reason(403, BlockReason::AccountExpired),
            Self::TooManyDevices => reason(409, BlockReason::TooManyDevices),
            Self::DeviceRevoked => reason(403, BlockReason::DeviceRevoked),
            Self::NoServer => reason(404, BlockReason::NoServer),
            Self::NoProfile => reason(404, BlockReason::NoProfile),
            Self::GatewaySilent => reason(504, BlockReason::GatewaySilent),
            Self::TunnelDevice => reason(500, BlockReason::TunnelDevice),
            Self::CannotProtect => reason(500, BlockReason::CannotProtect),
            Self::IntentUnreadable => reason(500, BlockReason::IntentUnreadable),
            Self::ClockWrong => reason(500, BlockReason::ClockWrong),
            Self::Unknown => Facts(500, "A problem this version does not know", "Use the same version of `hamn` and its helper."),
        }
    }

    /// HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.facts().0
    }
    /// Short title.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.facts().1
    }
    /// The one thing to do.
    #[must_use]
    pub fn action(self) -> &'static str {
        self.facts().2
    }
    /// The code as written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotAllowed => "not_allowed",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::InvalidValue => "invalid_value",
            Self::SettingLocked => "setting_locked",
            Self::TooManyRequests => "too_many_requests",
            Self::TooManyConnections => "too_many_connections",
            Self::Busy => "busy",
            Self::Internal => "internal",
            Self::HelperUnreachable => "helper_unreachable",
            Self::HelperUntrusted => "helper_untrusted",
            Self::WaitTimeout => "wait_timeout",
            Self::ProviderError => "provider_error",
            Self::ProfileInvalid => "profile_invalid",
            Self::Offline => "offline",
            Self::NoProvider => "no_provider",
            Self::ApiUnreachable => "api_unreachable",
            Self::LoggedOut => "logged_out",
            Self::CredentialsRejected => "credentials_rejected",
            Self::AccountExpired => "account_expired",
            Self::TooManyDevices => "too_many_devices",
            Self::DeviceRevoked => "device_revoked",
            Self::NoServer => "no_server",
            Self::NoProfile => "no_profile",
            Self::GatewaySilent => "gateway_silent",
            Self::TunnelDevice => "tunnel_device",
            Self::CannotProtect => "cannot_protect",
            Self::IntentUnreadable => "intent_unreadable",
            Self::ClockWrong => "clock_wrong",
            Self::Unknown => "unknown",
        }
    }
}

fn reason(status: u16, reason: BlockReason) -> Facts {
    Facts(status, reason.message(), reason.action())
}

impl From<BlockReason> for ProblemCode {
    fn from(reason: BlockReason) -> Self {
        match reason {
            BlockReason::Offline => Self::Offline,
            BlockReason::NoProvider => Self::NoProvider,
            BlockReason::ApiUnreachable => Self::ApiUnreachable,
            BlockReason::LoggedOut => Self::LoggedOut,
            BlockReason::CredentialsRejected => Self::CredentialsRejected,
            BlockReason::AccountExpired => Self::AccountExpired,
            BlockReason::TooManyDevices => Self::TooManyDevices,
            BlockReason::DeviceRevoked => Self::DeviceRevoked,
            BlockReason::NoServer => Self::NoServer,
            BlockReason::NoProfile => Self::NoProfile,
            BlockReason::GatewaySilent => Self::GatewaySilent,
            BlockReason::TunnelDevice => Self::TunnelDevice,
            BlockReason::CannotProtect => Self::CannotProtect,
            BlockReason::IntentUnreadable => Self::IntentUnreadable,
            BlockReason::ClockWrong => Self::ClockWrong,
            BlockReason::Internal => Self::Internal,
        }
    }
}

/// A problem document (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:hamn:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short title, the same for every problem of this code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: ProblemCode,
    /// What happened this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The one thing to do.
    pub action: String,
    /// Which line of the text that was handed in is wrong, and how; with `profile_invalid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Box<Fault>>,
}

/// What is wrong in a text that was handed in: with a code, for programs that say it in another language. Nothing of the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// Line, counted from 1.
    pub line: u32,
    /// Stable code.
    pub code: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do, in one sentence.
    pub action: String,
}

impl From<ProfileError> for Problem {
    fn from(error: ProfileError) -> Self {
        let found = error.problem;
        let [code, message, action] = [found.code(), found.message(), found.action()].map(str::to_owned);
        let fault = Some(Box::new(Fault { line: error.line, code, message, action }));
        Self { fault, ..Self::with_detail(ProblemCode::ProfileInvalid, error.to_string()) }
    }
}

impl Problem {
    /// A problem with the default texts of its code.
    #[must_use]
    pub fn new(code: ProblemCode) -> Self {
        let Facts(status, title, action) = code.facts();
        Self {
            kind: format!("urn:hamn:problem:{}", code.as_str()),
            title: title.to_owned(),
            status,
            code,
            detail: None,
            action: action.to_owned(),
            fault: None,
        }
    }

    /// A problem that says what happened this time. `detail` holds no secrets.
    #[must_use]
    pub fn with_detail(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(code) }
    }

    /// The same problem with another action.
    #[must_use]
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = action.into();
        self
    }
}

impl From<BlockReason> for Problem {
    fn from(reason: BlockReason) -> Self {
        Self::new(reason.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some titles are whole sentences.
        let title = self.title.trim_end_matches('.');
        match &self.detail {
            Some(detail) => write!(f, "{title}: {detail}"),
            None => f.write_str(title),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_written_as_its_serde_name_and_has_texts() {
        for code in ProblemCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.status()));
            assert!(!code.title().is_empty() && code.action().ends_with('.'), "{code:?}");
        }
    }

    #[test]
    fn a_code_of_a_newer_helper_is_unknown_and_not_an_error() {
        let code: ProblemCode = serde_json::from_str("\"something_new\"").unwrap();
        assert_eq!(code, ProblemCode::Unknown);
    }

    #[test]
    fn a_refused_profile_is_told_with_line_and_code() {
        let problem = Problem::from(ProfileError { line: 7, problem: hamn_core::profile::Problem::RunsPrograms });
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["code"], "profile_invalid");
        assert_eq!((&json["fault"]["line"], &json["fault"]["code"]), (&7.into(), &"runs_programs".into()));
        let detail =
            format!("line 7: {} {}", json["fault"]["message"].as_str().unwrap(), json["fault"]["action"].as_str().unwrap());
        assert_eq!(json["detail"], detail);
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
        let other = serde_json::to_value(Problem::new(ProblemCode::NoProfile)).unwrap();
        assert!(other.get("fault").is_none());
    }

    #[test]
    fn block_reasons_keep_their_code() {
        for reason in BlockReason::ALL {
            assert_eq!(ProblemCode::from(reason).as_str(), reason.code());
        }
    }
}
