//! The documents of the local API: what requests and answers contain. The same types serve helper, CLI, window and scripts.

use hamn_core::location::Destination;
use hamn_core::policy::NetworkPolicy;
use hamn_core::state::Generation;
use hamn_core::status::{StateKind, Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

mod settings;

pub use settings::{ResetSettings, SettingEntry, SettingKey, SettingSource, SettingsPatch, SettingsView};

/// Version of the local API; grows when an old client could misunderstand an answer.
pub const API_VERSION: u32 = 1;

/// Secret text: wiped on drop, no `Display`, `Debug` without content. Serialised only into a request to the helper.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("writeOnly" = true, "maxLength" = 1024))]
pub struct Secret(String);

impl Secret {
    /// Wraps secret text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }
    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What any local user may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicStatus {
    /// Nothing leaves outside the tunnel.
    pub protected: bool,
    /// State without its data.
    pub state: StateKind,
}

/// What an event line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// `status` holds the new snapshot.
    Status,
    /// Something worth knowing: `code` and `message`.
    Warning,
    /// A line for people: `message`.
    Log,
    /// The last line of a stream: `code` says why (`lagged`, `shutdown`).
    End,
}

/// One line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// Number of the line in its stream, from 1; the server sets it.
    pub sequence: u64,
    /// Wall clock, seconds since 1970.
    pub at_unix_s: i64,
    /// What the line is about.
    pub kind: EventKind,
    /// Stable code, for `warning` and `end`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The snapshot, for `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// A destination as people write it, or exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DestinationText {
    /// `best`, a country (`se`), a city (`stockholm`), a server (`vpn05`) or a server with an exit (`vpn05/us`).
    Text(#[schemars(length(max = 128))] String),
    /// Exactly this.
    Exact(Destination),
}

/// Body of `POST /v1/connect`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// Where to; the destination of the settings when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationText>,
    /// Do nothing when a tunnel to there is up or under way.
    #[serde(default)]
    pub if_needed: bool,
}

/// Answer to connect, disconnect, reconnect and restore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IntentResult {
    /// False when it was so already.
    pub changed: bool,
    /// The status after the request was taken; it may go on changing.
    pub status: Status,
}

/// Answer of `GET /v1/servers`: countries, their cities, their servers.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServerListing {
    /// Serial of the signed list.
    pub serial: Option<u64>,
    /// When the provider made the list, seconds since 1970.
    pub generated_at_unix_s: Option<i64>,
    /// When the list expires, seconds since 1970.
    pub expires_at_unix_s: Option<i64>,
    /// The list is past its expiry and no fresher one could be fetched.
    pub stale: bool,
    /// Countries in order of name.
    pub countries: Vec<CountryEntry>,
}

/// A country with servers.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CountryEntry {
    /// ISO 3166-1 alpha-2, lower case.
    pub country: String,
    /// Name.
    pub name: String,
    /// Cities in order of name.
    pub cities: Vec<CityEntry>,
}

/// A data centre.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CityEntry {
    /// Data centre id.
    pub id: String,
    /// Short name for commands (`stockholm`).
    pub slug: String,
    /// Name.
    pub name: String,
    /// Latitude in degrees.
    pub latitude: f64,
    /// Longitude in degrees.
    pub longitude: f64,
    /// Servers in order of id.
    pub servers: Vec<ServerEntry>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServerEntry {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `online`, `draining`, `maintenance` or `offline`.
    pub state: String,
    /// Load in per cent, when known.
    pub load_pct: Option<u8>,
    /// Features (`ipv6`, `port_forward` …).
    pub features: Vec<String>,
    /// Protocols (`wireguard`, `openvpn`).
    pub protocols: Vec<String>,
    /// Exits; one is the default.
    pub exits: Vec<ExitEntry>,
    /// Round trip to it in milliseconds, when this computer has measured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
}

/// An exit of a server.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ExitEntry {
    /// Id on its server.
    pub id: String,
    /// Country where it comes out, lower case.
    pub country: String,
    /// Used when no exit is named.
    pub default: bool,
}

/// Body of `POST /v1/login`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Account number or name. It is the whole credential with account numbers, so it is a secret.
    pub account: Secret,
    /// Password, where accounts have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// One-time code, where accounts have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otp: Option<Secret>,
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AccountInfo {
    /// Somebody is.
    pub logged_in: bool,
    /// The provider's id of the account (not the account number).
    pub id: Option<String>,
    /// `active`, `expired` or another word of the provider.
    pub status: Option<String>,
    /// Paid until, RFC 3339 in UTC.
    pub paid_until: Option<String>,
    /// How many devices the account may have.
    pub device_limit: Option<u32>,
    /// Booked extras.
    pub addons: Vec<String>,
    /// Id of this computer among the account's devices.
    pub device: Option<String>,
}

/// The account's devices.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeviceList {
    /// How many the account may have.
    pub limit: Option<u32>,
    /// Devices.
    pub devices: Vec<DeviceEntry>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeviceEntry {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Platform, as the provider says.
    pub platform: Option<String>,
    /// Registered at, RFC 3339 in UTC.
    pub created_at: Option<String>,
    /// It is this computer.
    pub current: bool,
}

/// Body of `POST /v1/profiles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportProfile {
    /// Name to give it: 1 to 64 of `[A-Za-z0-9_.-]`, not starting with `.` or `-`.
    pub name: String,
    /// The text of the WireGuard `.conf` file. It holds a private key.
    pub conf: Secret,
    /// Replace a profile of that name.
    #[serde(default)]
    pub replace: bool,
}

/// Imported profiles.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProfileList {
    /// In order of name.
    pub profiles: Vec<ProfileEntry>,
}

/// An imported profile, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProfileEntry {
    /// Name.
    pub name: String,
    /// Gateway, address or host name with port.
    pub endpoint: String,
    /// Carries IPv4.
    pub ipv4: bool,
    /// Carries IPv6.
    pub ipv6: bool,
    /// Has resolvers of its own.
    pub dns: bool,
    /// What is not as the file may seem to say; told once, by the import.
    #[serde(default)]
    pub remarks: Vec<ProfileRemark>,
}

/// A remark about an imported profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileRemark {
    /// Line, counted from 1; absent for the file as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl fmt::Display for ProfileRemark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyView {
    /// One sentence per rule.
    pub words: Vec<String>,
    /// The rules as the operating system holds them (nft text on Linux), read back.
    pub native: String,
    /// The policy as data.
    pub policy: NetworkPolicy,
    /// Number of the wanted policy.
    pub generation: Generation,
    /// The wanted policy is applied and was read back.
    pub in_force: bool,
    /// Why it is not.
    pub error: Option<String>,
}

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// As it must be.
    Pass,
    /// Not as it must be: something leaks or is not protected.
    Fail,
    /// Does not apply in this state.
    Skipped,
    /// Could not be found out; counts as not protected.
    #[default]
    Unknown,
}

/// One check of the self-test or one step of the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Stable id (`rules`, `probe_v4_eth0`, `resolver`, `exit_address`).
    pub id: String,
    /// What is checked.
    pub title: String,
    /// Result.
    pub result: CheckResult,
    /// Why, in one sentence.
    pub reason: String,
    /// Stable code of the reason (one of `CHECK_CODES`), for programs that speak another language.
    #[serde(default)]
    pub code: String,
    /// What stands in the sentence beside the words: addresses, interfaces, names.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

impl Check {
    /// The check with one more value of its sentence.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }
}

/// Every code of a check's reason, for translations and their tests.
pub const CHECK_CODES: [&str; 34] = [
    "open",
    "in_force",
    "not_in_force",
    "read_back_same",
    "read_back_differs",
    "read_back_slow",
    "links_unknown",
    "no_link",
    "left",
    "stopped",
    "no_route",
    "not_sent",
    "no_tunnel_wanted",
    "dns_refused",
    "no_resolver",
    "resolver_answers",
    "resolver_silent",
    "resolver_unasked",
    "no_tunnel",
    "no_provider",
    "profile",
    "exit_is_server",
    "exit_is_other",
    "provider_error",
    "provider_silent",
    "link_up",
    "link_down",
    "api_answers",
    "handshake_fresh",
    "handshake_old",
    "handshake_none",
    "traffic_flows",
    "traffic_stalled",
    "traffic_none",
];

/// Every code of a warning, for translations and their tests.
pub const WARNING_CODES: [&str; 6] = ["not_saved", "tampered", "network_interferes", "policy", "files", "provider"];

/// Answer of `POST /v1/diagnose`: link, DNS, API, handshake, traffic. The first that fails is where to look.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Ladder {
    /// The steps from the bottom up.
    pub steps: Vec<Check>,
}

/// Answer of `GET /v1/log`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LogView {
    /// The newest lines, oldest first.
    pub lines: Vec<LogLine>,
}

/// One line of the helper's log, without addresses and secrets.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// Wall clock, seconds since 1970.
    pub at_unix_s: i64,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// Which part of the helper speaks.
    pub target: String,
    /// What it says.
    pub message: String,
}

/// Answer of `GET /v1/report`: what a person may send to support. Holds no secrets, addresses or account number.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The whole text, at most 256 KiB.
    pub text: String,
}

/// Most lines of the log that are kept and given.
pub const LOG_LINES: u32 = 2_000;

/// Answer of `POST /v1/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// No check failed or stayed unknown.
    pub ok: bool,
    /// The checks, in the order in which they ran.
    pub checks: Vec<Check>,
}

impl VerifyReport {
    /// A report whose `ok` follows from its checks.
    #[must_use]
    pub fn new(checks: Vec<Check>) -> Self {
        let good = |check: &Check| matches!(check.result, CheckResult::Pass | CheckResult::Skipped);
        Self { ok: checks.iter().all(good), checks }
    }
}

/// Answer of `GET /v1/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionInfo {
    /// Version of the helper.
    pub helper: String,
    /// Version of the local API.
    pub api: u32,
}

/// Output of `hamn version --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionOutput {
    /// Version of the command.
    pub client: String,
    /// The helper's versions, when it answers.
    pub helper: Option<VersionInfo>,
}

/// Output of `hamn restore-network --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreOutput {
    /// The network is open.
    pub restored: bool,
    /// The running helper did it; otherwise the helper's program was run for it.
    pub by_running_helper: bool,
    /// The status afterwards, when a helper runs.
    pub status: Option<Status>,
}

/// True for 1 to 64 of `[A-Za-z0-9_.-]` that do not start with `.` or `-`: ids and names that people type and files carry.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug() {
        let login =
            LoginRequest { account: Secret::new("4242424242".into()), password: None, otp: Some(Secret::new("777".into())) };
        let shown = format!("{login:?}");
        assert!(!shown.contains("4242") && !shown.contains("777"), "{shown}");
    }

    #[test]
    fn names_hold_no_path() {
        for bad in ["", ".", "..", "a/b", "-x", "a b", "a\n", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_name("home-1.wg_2"));
    }
}
