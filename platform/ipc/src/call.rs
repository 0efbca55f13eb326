//! How the server hands an authorised request to the helper: one `Call` on a bounded channel, one answer.

pub use crate::caller::Caller;
use crate::problem::Problem;
use crate::wire;
use hamn_core::location::Destination;
use hamn_core::status::Status;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Bound of the channel of calls.
pub const CALL_QUEUE: usize = 256;
/// Bound of one event reader's queue; a reader that falls further behind is dropped.
pub const EVENT_QUEUE: usize = 256;

/// What the helper is asked. The caller is allowed to ask it: the server has checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Bring up a tunnel. `None`: to the destination in the settings.
    Connect {
        /// Where to.
        destination: Option<Destination>,
        /// Do nothing when a tunnel to there is up or under way.
        if_needed: bool,
    },
    /// Give up the intent.
    Disconnect,
    /// A new attempt to the same destination.
    Reconnect,
    /// List the places.
    Servers,
    /// Log in with the provider.
    Login(wire::LoginRequest),
    /// Log out and forget the session and device key.
    Logout,
    /// Who is logged in.
    Account,
    /// The account's devices.
    Devices,
    /// Remove a device from the account.
    RemoveDevice {
        /// Its id (checked text, 1 to 64 of `[A-Za-z0-9_.-]`).
        id: String,
    },
    /// List imported profiles.
    Profiles,
    /// Import a WireGuard profile.
    ImportProfile(wire::ImportProfile),
    /// Remove an imported profile.
    RemoveProfile {
        /// Its name (checked text).
        name: String,
    },
    /// All settings, with defaults and locks.
    Settings,
    /// Change the named settings, all or none.
    ChangeSettings(wire::SettingsPatch),
    /// Set the named settings (all when `None`) back to their defaults.
    ResetSettings {
        /// Which.
        keys: Option<Vec<wire::SettingKey>>,
    },
    /// The rules in force.
    Policy,
    /// Run the live self-test.
    Verify,
    /// The newest lines of the log.
    Log {
        /// How many (1 to `wire::LOG_LINES`).
        lines: u32,
    },
    /// Find out how far a connection comes.
    Diagnose,
    /// A report for support.
    Report,
    /// Replace this computer's key now.
    RotateKey,
    /// Give up the intent and open the network even in lockdown; the kill-switch mode `always` becomes `while_connected`.
    RestoreNetwork,
}

/// The helper's answer; which variant belongs to which request is said at the variant.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To `Connect`, `Disconnect`, `Reconnect`, `RestoreNetwork`.
    Intent(Box<wire::IntentResult>),
    /// To `Servers`.
    Servers(wire::ServerListing),
    /// To `Login`, `Logout`, `Account`.
    Account(wire::AccountInfo),
    /// To `Devices`, `RemoveDevice`, `RotateKey`.
    Devices(wire::DeviceList),
    /// To `Profiles`, `ImportProfile`, `RemoveProfile`.
    Profiles(wire::ProfileList),
    /// To `Settings`, `ChangeSettings`, `ResetSettings`.
    Settings(Box<wire::SettingsView>),
    /// To `Policy`.
    Policy(Box<wire::PolicyView>),
    /// To `Verify`.
    Verify(wire::VerifyReport),
    /// To `Log`.
    Log(wire::LogView),
    /// To `Diagnose`.
    Ladder(wire::Ladder),
    /// To `Report`.
    Report(wire::Report),
}

/// One authorised request and where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    /// What.
    pub request: Request,
    /// The answer. Dropping it answers `internal`; a closed receiver means that the caller has gone.
    pub reply: oneshot::Sender<Result<Response, Problem>>,
}

/// What the server needs of the helper.
#[derive(Clone, Debug)]
pub struct ServerHandles {
    /// Requests (bound `CALL_QUEUE`).
    pub calls: mpsc::Sender<Call>,
    /// The present status.
    pub status: watch::Receiver<Arc<Status>>,
    /// Events as they happen (bound `EVENT_QUEUE`).
    pub events: broadcast::Sender<Arc<wire::EventLine>>,
}
