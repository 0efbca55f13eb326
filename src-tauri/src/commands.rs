//! The commands of the page: each checks the size of what it is given and asks the helper, who decides.
//!
//! `with_commands!` names them, the build script makes a permission of each, and `capabilities/main.json` grants it.

use crate::bridge::Bridge;
use crate::files::{Kind, Saved};
use crate::link::Link;
use crate::preferences::{Preferences, PreferencesPatch};
use crate::window;
use crate::words::Words;
use hamn_ipc::wire::{
    AccountInfo, ConnectRequest, DestinationText, DeviceList, ImportProfile, IntentResult, Ladder, LogView, LoginRequest,
    PolicyView, ProfileList, Report, ResetSettings, Secret, ServerListing, SettingKey, SettingsPatch, SettingsView, VerifyReport,
    VersionInfo,
};
use hamn_ipc::{Problem, ProblemCode};
use schemars::JsonSchema;
use serde::Serialize;
use tauri::{AppHandle, State};

/// Longest text of a destination in bytes, as the local API says.
const DESTINATION: usize = 128;
/// Longest account, password or code in bytes.
const CREDENTIAL: usize = 1_024;
/// Longest profile in bytes: what fits into a request to the helper.
const PROFILE: usize = 48 * 1_024;
/// Most lines of the log.
const LINES: u32 = 2_000;

/// Versions of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Versions {
    /// Of the window.
    pub window: String,
    /// Of Tauri.
    pub tauri: String,
    /// Of the system's web view, when it says.
    pub webview: Option<String>,
    /// Of the helper, once it has answered.
    pub helper: Option<VersionInfo>,
}

type Answer<T> = Result<T, Problem>;
type Shared<'a> = State<'a, Bridge>;

fn at_most(what: &str, length: usize, longest: usize) -> Answer<()> {
    if length <= longest {
        return Ok(());
    }
    Err(Problem::with_detail(ProblemCode::InvalidValue, format!("{what} is longer than {longest} bytes")))
}

fn is_name(name: &str) -> Answer<()> {
    if hamn_ipc::wire::is_name(name) {
        return Ok(());
    }
    Err(Problem::with_detail(ProblemCode::InvalidValue, "a name is 1 to 64 letters, digits, `_`, `.` or `-`"))
}

/// The newest link. Listen to the event `link` first.
#[tauri::command(async)]
pub fn link(bridge: Shared<'_>) -> Link {
    bridge.link()
}

/// Brings up a tunnel.
#[tauri::command]
pub async fn connect(bridge: Shared<'_>, request: ConnectRequest) -> Answer<IntentResult> {
    match &request.destination {
        Some(DestinationText::Text(text)) => at_most("the place", text.len(), DESTINATION)?,
        Some(DestinationText::Exact(place)) => {
            place.validate().map_err(|bad| Problem::with_detail(ProblemCode::InvalidValue, bad.0))?;
        }
        None => {}
    }
    bridge.helper().await?.connect(&request).await
}

/// Gives up the tunnel.
#[tauri::command]
pub async fn disconnect(bridge: Shared<'_>) -> Answer<IntentResult> {
    bridge.helper().await?.disconnect().await
}

/// A new attempt to the same place.
#[tauri::command]
pub async fn reconnect(bridge: Shared<'_>) -> Answer<IntentResult> {
    bridge.helper().await?.reconnect().await
}

/// Places.
#[tauri::command]
pub async fn servers(bridge: Shared<'_>) -> Answer<ServerListing> {
    bridge.helper().await?.servers().await
}

/// Signs in.
#[tauri::command]
pub async fn login(bridge: Shared<'_>, request: LoginRequest) -> Answer<AccountInfo> {
    let length = |secret: &Option<Secret>| secret.as_ref().map_or(0, |secret| secret.reveal().len());
    at_most("the account", request.account.reveal().len(), CREDENTIAL)?;
    at_most("the password", length(&request.password), CREDENTIAL)?;
    at_most("the code", length(&request.otp), CREDENTIAL)?;
    bridge.helper().await?.login(&request).await
}

/// Signs out.
#[tauri::command]
pub async fn logout(bridge: Shared<'_>) -> Answer<AccountInfo> {
    bridge.helper().await?.logout().await
}

/// Who is signed in.
#[tauri::command]
pub async fn account(bridge: Shared<'_>) -> Answer<AccountInfo> {
    bridge.helper().await?.account().await
}

/// The account's devices.
#[tauri::command]
pub async fn devices(bridge: Shared<'_>) -> Answer<DeviceList> {
    bridge.helper().await?.devices().await
}

/// Removes a device from the account.
#[tauri::command]
pub async fn remove_device(bridge: Shared<'_>, id: String) -> Answer<DeviceList> {
    is_name(&id)?;
    bridge.helper().await?.remove_device(&id).await
}

/// Replaces the key of this device.
#[tauri::command]
pub async fn rotate_key(bridge: Shared<'_>) -> Answer<DeviceList> {
    bridge.helper().await?.rotate_key().await
}

/// Imported profiles.
#[tauri::command]
pub async fn profiles(bridge: Shared<'_>) -> Answer<ProfileList> {
    bridge.helper().await?.profiles().await
}

/// Imports a profile.
#[tauri::command]
pub async fn import_profile(bridge: Shared<'_>, request: ImportProfile) -> Answer<ProfileList> {
    is_name(&request.name)?;
    at_most("the profile", request.conf.reveal().len(), PROFILE)?;
    bridge.helper().await?.import_profile(&request).await
}

/// Removes a profile.
#[tauri::command]
pub async fn remove_profile(bridge: Shared<'_>, name: String) -> Answer<ProfileList> {
    is_name(&name)?;
    bridge.helper().await?.remove_profile(&name).await
}

/// All settings.
#[tauri::command]
pub async fn settings(bridge: Shared<'_>) -> Answer<SettingsView> {
    bridge.helper().await?.settings().await
}

/// Changes settings, all or none.
#[tauri::command]
pub async fn change_settings(bridge: Shared<'_>, patch: SettingsPatch) -> Answer<SettingsView> {
    bridge.helper().await?.change_settings(&patch).await
}

/// Sets settings back to their defaults.
#[tauri::command]
pub async fn reset_settings(bridge: Shared<'_>, request: ResetSettings) -> Answer<SettingsView> {
    if request.keys.as_ref().is_some_and(|keys| keys.len() > SettingKey::ALL.len()) {
        return Err(Problem::with_detail(ProblemCode::InvalidValue, "a setting is named twice"));
    }
    bridge.helper().await?.reset_settings(&request).await
}

/// The rules in force.
#[tauri::command]
pub async fn policy(bridge: Shared<'_>) -> Answer<PolicyView> {
    bridge.helper().await?.policy().await
}

/// The live self-test.
#[tauri::command]
pub async fn verify(bridge: Shared<'_>) -> Answer<VerifyReport> {
    bridge.helper().await?.verify().await
}

/// How far the way to the provider goes.
#[tauri::command]
pub async fn diagnose(bridge: Shared<'_>) -> Answer<Ladder> {
    bridge.helper().await?.diagnose().await
}

/// The newest lines of the helper's log.
#[tauri::command]
pub async fn log(bridge: Shared<'_>, lines: u32) -> Answer<LogView> {
    bridge.helper().await?.log(lines.clamp(1, LINES)).await
}

/// The redacted report.
#[tauri::command]
pub async fn report(bridge: Shared<'_>) -> Answer<Report> {
    bridge.helper().await?.report().await
}

/// Opens the network, even in lockdown.
#[tauri::command]
pub async fn restore_network(bridge: Shared<'_>) -> Answer<IntentResult> {
    bridge.helper().await?.restore().await
}

/// Versions of everything.
#[tauri::command(async)]
pub fn versions(bridge: Shared<'_>) -> Versions {
    Versions {
        window: env!("CARGO_PKG_VERSION").to_owned(),
        tauri: tauri::VERSION.to_owned(),
        webview: tauri::webview_version().ok(),
        helper: bridge.link().versions,
    }
}

/// The window's own preferences.
#[tauri::command(async)]
pub fn preferences(bridge: Shared<'_>) -> Preferences {
    bridge.preferences()
}

/// Changes the window's own preferences.
#[tauri::command(async)]
pub fn change_preferences(app: AppHandle, bridge: Shared<'_>, patch: PreferencesPatch) -> Answer<Preferences> {
    bridge.change_preferences(&app, patch)
}

/// Saves a report that the user has seen.
#[tauri::command(async)]
pub fn save_report(app: AppHandle, bridge: Shared<'_>, text: String) -> Answer<Saved> {
    bridge.save(&app, Kind::Report, &text)
}

/// Saves settings.
#[tauri::command(async)]
pub fn save_settings(app: AppHandle, bridge: Shared<'_>, text: String) -> Answer<Saved> {
    bridge.save(&app, Kind::Settings, &text)
}

/// Takes the words of the page's language, for the tray and for notifications.
#[tauri::command(async)]
pub fn speak(app: AppHandle, bridge: Shared<'_>, words: Words) -> Answer<()> {
    bridge.speak(&app, words)
}

/// The page listens.
#[tauri::command(async)]
pub fn ready(app: AppHandle) {
    window::ready(&app);
}

/// Shows the window.
#[tauri::command(async)]
pub fn show_window(app: AppHandle) {
    window::show(&app);
}

/// Ends the program. The tunnel and the rules are the helper's and stay.
#[tauri::command(async)]
pub fn quit(app: AppHandle) {
    app.exit(0);
}
