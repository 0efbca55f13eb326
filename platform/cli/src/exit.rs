//! Exit codes: stable, so that scripts can rely on them. `EXIT_CODES.md` is made from this table.

use hamn_core::status::{StateKind, Status};
use hamn_ipc::wire::VerifyReport;
use hamn_ipc::{Problem, ProblemCode};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Ok,
    /// Anything without a number of its own.
    Unexpected,
    /// The command line is wrong.
    Usage,
    /// No helper, or not the helper.
    HelperUnreachable,
    /// No right to do it.
    NotAllowed,
    /// A name that does not exist or a value that is not acceptable.
    BadInput,
    /// Not logged in, or refused.
    Login,
    /// The wait was too long.
    Timeout,
    /// Blocked.
    Blocked,
    /// `verify` found a leak.
    Leak,
    /// The provider.
    Provider,
    /// Busy.
    Busy,
}

impl Exit {
    /// All codes.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Unexpected,
        Self::Usage,
        Self::HelperUnreachable,
        Self::NotAllowed,
        Self::BadInput,
        Self::Login,
        Self::Timeout,
        Self::Blocked,
        Self::Leak,
        Self::Provider,
        Self::Busy,
    ];

    /// The number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::HelperUnreachable => 3,
            Self::NotAllowed => 4,
            Self::BadInput => 5,
            Self::Login => 6,
            Self::Timeout => 7,
            Self::Blocked => 8,
            Self::Leak => 9,
            Self::Provider => 10,
            Self::Busy => 11,
        }
    }

    /// What it means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "Done.",
            Self::Unexpected => "Something unexpected failed.",
            Self::Usage => "The command line is wrong.",
            Self::HelperUnreachable => "The helper does not answer, or what answers is not the helper.",
            Self::NotAllowed => "This user may not do that, or the administrator's policy fixes it.",
            Self::BadInput => "Something named does not exist, or a value is not acceptable.",
            Self::Login => "Not logged in, login refused, account expired, or no device left.",
            Self::Timeout => "The wait was too long; Hamn goes on trying.",
            Self::Blocked => "There is no tunnel and traffic is blocked; the reason is shown.",
            Self::Leak => "`verify`: something can leave outside the tunnel, or this cannot be ruled out.",
            Self::Provider => "The provider cannot be reached, answers with an error, or none is configured.",
            Self::Busy => "The helper is busy; try again.",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

impl From<&Problem> for Exit {
    fn from(problem: &Problem) -> Self {
        of_code(problem.code)
    }
}

fn of_code(code: ProblemCode) -> Exit {
    match code {
        ProblemCode::HelperUnreachable | ProblemCode::HelperUntrusted => Exit::HelperUnreachable,
        ProblemCode::NotAllowed | ProblemCode::SettingLocked => Exit::NotAllowed,
        ProblemCode::BadRequest
        | ProblemCode::NotFound
        | ProblemCode::MethodNotAllowed
        | ProblemCode::TooLarge
        | ProblemCode::InvalidValue
        | ProblemCode::ProfileInvalid
        | ProblemCode::NoServer
        | ProblemCode::NoProfile => Exit::BadInput,
        ProblemCode::LoggedOut
        | ProblemCode::CredentialsRejected
        | ProblemCode::AccountExpired
        | ProblemCode::TooManyDevices
        | ProblemCode::DeviceRevoked => Exit::Login,
        ProblemCode::WaitTimeout | ProblemCode::RequestTimeout => Exit::Timeout,
        ProblemCode::Offline
        | ProblemCode::GatewaySilent
        | ProblemCode::TunnelDevice
        | ProblemCode::CannotProtect
        | ProblemCode::IntentUnreadable
        | ProblemCode::ClockWrong => Exit::Blocked,
        ProblemCode::NoProvider | ProblemCode::ApiUnreachable | ProblemCode::ProviderError => Exit::Provider,
        ProblemCode::TooManyRequests | ProblemCode::TooManyConnections | ProblemCode::Busy => Exit::Busy,
        ProblemCode::Conflict | ProblemCode::Internal | ProblemCode::Unknown => Exit::Unexpected,
    }
}

/// How a command that wanted a tunnel ended, from the status it left behind.
pub fn of_status(status: &Status) -> Exit {
    match (&status.blocked, status.state) {
        (Some(blocked), StateKind::Blocked) => {
            let exit = of_code(blocked.code.into());
            if exit == Exit::Unexpected { Exit::Blocked } else { exit }
        }
        (None, StateKind::Blocked) => Exit::Blocked,
        (_, StateKind::Disconnected | StateKind::Connecting | StateKind::Connected | StateKind::Disconnecting) => Exit::Ok,
    }
}

/// How `verify` ended.
pub fn of_report(report: &VerifyReport) -> Exit {
    if report.ok { Exit::Ok } else { Exit::Leak }
}

/// The table for `--help`.
pub fn table_text() -> String {
    let lines = Exit::ALL.map(|exit| format!("  {:>2}  {}\n", exit.number(), exit.meaning()));
    format!(
        "Exit codes:\n{}\nEnvironment:\n  HAMN_SOCKET  The helper's socket, instead of {}\n  NO_COLOR     No colours",
        lines.concat(),
        hamn_ipc::DEFAULT_SOCKET
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamn_core::state::BlockReason;
    use std::path::Path;

    #[test]
    fn the_documented_table_is_this_one() {
        let rows: String = Exit::ALL.iter().map(|exit| format!("| {} | {} |\n", exit.number(), exit.meaning())).collect();
        let codes: String = ProblemCode::ALL
            .iter()
            .map(|code| format!("| `{}` | {} | {} |\n", code.as_str(), code.status(), of_code(*code).number()))
            .collect();
        let wanted = format!(
            "# Exit codes of `hamn`\n\nStable: a number never changes its meaning. With `--json` the reason is also in the field `code` of the \
             object that is printed.\n\n| Code | Meaning |\n|---|---|\n{rows}\n## From problem code to exit code\n\nA tunnel that stays blocked ends \
             with the exit code of its reason; a reason without one of its own gives 8.\n\n| Problem code | HTTP status | Exit code |\n|---|---|---|\n{codes}"
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("EXIT_CODES.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == wanted, "EXIT_CODES.md is out of date: run the tests with UPDATE=1");
    }

    #[test]
    fn every_block_reason_is_a_failure() {
        for reason in BlockReason::ALL {
            assert_ne!(of_code(reason.into()), Exit::Ok);
        }
        for (number, exit) in Exit::ALL.iter().enumerate() {
            assert_eq!(usize::from(exit.number()), number, "stable");
        }
    }
}
