//! What the Windows service is: names, account, recovery, privileges, and its source in the event log. `install` makes it so
//! and reads it back.

use serde::Serialize;

/// Name of the service. Part of its account's name, and so of the filters that know our sockets.
pub const NAME: &str = "HamnHelper";
/// What the program is started with.
pub const ARGUMENT: &str = "--service";
/// The account whose SID the service manager adds to the token of the service ("Service security" at learn.microsoft.com).
pub const ACCOUNT: &str = "NT SERVICE\\HamnHelper";
/// Source in the application log.
pub const EVENT_SOURCE: &str = "Hamn";
/// Where sources of the application log are registered, below HKEY_LOCAL_MACHINE.
pub const EVENT_KEY: &str = "SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\Hamn";

/// The whole service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePlan {
    /// Name of the service.
    pub name: &'static str,
    /// As people see it.
    pub display_name: &'static str,
    /// One sentence about it.
    pub description: &'static str,
    /// The program and its arguments, quoted where that is needed: a path with spaces and no quotes could mean another
    /// program (CWE-428).
    pub image_path: String,
    /// The program alone.
    #[serde(skip)]
    pub program: String,
    /// Milliseconds before each new start after it ended by itself; the last one holds for every further time.
    pub restart_after_ms: [u32; 3],
    /// Seconds after which the count of ends begins anew.
    pub reset_after_s: u32,
    /// An end with an error that is no crash counts as well.
    pub also_without_crash: bool,
    /// Milliseconds that the system waits for it before it shuts down.
    pub preshutdown_ms: u32,
    /// The privileges that it keeps; the service manager takes all others away, and always leaves SeChangeNotifyPrivilege.
    pub privileges: [&'static str; 3],
    /// Its token gets the SID of its account (`SERVICE_SID_TYPE_UNRESTRICTED`): the filters ask for it.
    pub unrestricted_sid: bool,
    /// Values of the source in the event log.
    pub event_source: EventSource,
}

/// A source of the application log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventSource {
    /// Below HKEY_LOCAL_MACHINE.
    pub key: &'static str,
    /// Where the texts of events are. The system's own `EventCreate.exe` has, for the numbers 1 to 1000, the text "%1".
    pub message_file: &'static str,
    /// Errors, warnings and information (1 | 2 | 4).
    pub types: u32,
}

impl ServicePlan {
    /// The service that runs `program`, an absolute path.
    ///
    /// # Errors
    /// The path has a quotation mark or a control character in it, which no path of Windows has.
    pub fn new(program: &str) -> Result<Self, BadProgram> {
        let absolute = program.as_bytes().get(1..3) == Some(b":\\") && program.starts_with(|c: char| c.is_ascii_alphabetic());
        if !absolute || program.contains(['"', '%']) || program.chars().any(char::is_control) {
            return Err(BadProgram(program.to_owned()));
        }
        let quote = if program.contains([' ', '\t']) { "\"" } else { "" };
        Ok(Self {
            name: NAME,
            display_name: "Hamn helper",
            description: "Protects this computer's network and keeps the tunnel of the VPN client Hamn.",
            image_path: format!("{quote}{program}{quote} {ARGUMENT}"),
            program: program.to_owned(),
            restart_after_ms: [0, 1_000, 5_000],
            reset_after_s: 86_400,
            also_without_crash: true,
            preshutdown_ms: 15_000,
            // To ask who is at the other end of the pipe; to load the driver of the adapter; to pass directories.
            privileges: ["SeImpersonatePrivilege", "SeLoadDriverPrivilege", "SeChangeNotifyPrivilege"],
            unrestricted_sid: true,
            event_source: EventSource { key: EVENT_KEY, message_file: "%SystemRoot%\\System32\\EventCreate.exe", types: 7 },
        })
    }

    /// The privileges as `SERVICE_REQUIRED_PRIVILEGES_INFOW` takes them: UTF-16, each with a zero, one more at the end.
    #[must_use]
    pub fn privileges_multi_string(&self) -> Vec<u16> {
        let each = self.privileges.iter().flat_map(|name| name.encode_utf16().chain([0]));
        each.chain([0]).collect()
    }
}

/// A program that cannot be a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no absolute path of a program")]
pub struct BadProgram(pub String);

#[cfg(all(test, unix))]
mod tests;
