//! The one table of routes: the server, the OpenAPI document and the command schemas are made from it.

use crate::classes::Operation;
use crate::problem::Problem;
use crate::wire;
use hamn_core::status::Status;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Makes the schema of a document.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// HTTP methods that occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path, with at most one `{parameter}`.
    pub path: &'static str,
    /// What it asks; its class says who may.
    pub operation: Operation,
    /// One sentence for the document.
    pub summary: &'static str,
    /// Body, when there is one.
    pub request: Option<SchemaOf>,
    /// Answer.
    pub response: SchemaOf,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn get(path: &'static str, operation: Operation, summary: &'static str, response: SchemaOf) -> Route {
    Route { method: Method::Get, path, operation, summary, request: None, response }
}

const fn post(
    path: &'static str,
    operation: Operation,
    summary: &'static str,
    request: Option<SchemaOf>,
    response: SchemaOf,
) -> Route {
    Route { method: Method::Post, path, operation, summary, request, response }
}

const fn delete(path: &'static str, operation: Operation, summary: &'static str, response: SchemaOf) -> Route {
    Route { method: Method::Delete, path, operation, summary, request: None, response }
}

/// All routes.
pub const ROUTES: [Route; 27] = [
    get(
        "/v1/public",
        Operation::Public,
        "Protected or not: the only thing that every local user may ask.",
        of::<wire::PublicStatus>,
    ),
    get("/v1/version", Operation::Version, "Versions of the helper and of this API.", of::<wire::VersionInfo>),
    get("/v1/openapi.json", Operation::OpenApi, "This document.", of::<serde_json::Map<String, serde_json::Value>>),
    get("/v1/status", Operation::Status, "The whole status.", of::<Status>),
    get(
        "/v1/events",
        Operation::Events,
        "Events, one JSON object a line; the first line is the present status.",
        of::<wire::EventLine>,
    ),
    post(
        "/v1/connect",
        Operation::Connect,
        "Bring up a tunnel. The answer comes at once; `status` and `events` tell how it goes on.",
        Some(of::<wire::ConnectRequest>),
        of::<wire::IntentResult>,
    ),
    post("/v1/disconnect", Operation::Disconnect, "Give up the tunnel.", None, of::<wire::IntentResult>),
    post("/v1/reconnect", Operation::Reconnect, "A new attempt to the same destination.", None, of::<wire::IntentResult>),
    post("/v1/restore", Operation::RestoreNetwork, "Open the network, even in lockdown.", None, of::<wire::IntentResult>),
    get("/v1/servers", Operation::Servers, "Countries, cities and servers.", of::<wire::ServerListing>),
    post("/v1/login", Operation::Login, "Log in with the provider.", Some(of::<wire::LoginRequest>), of::<wire::AccountInfo>),
    post("/v1/logout", Operation::Logout, "Log out and forget session and device key.", None, of::<wire::AccountInfo>),
    get("/v1/account", Operation::Account, "Who is logged in.", of::<wire::AccountInfo>),
    get("/v1/devices", Operation::Devices, "The account's devices.", of::<wire::DeviceList>),
    delete("/v1/devices/{id}", Operation::RemoveDevice, "Remove a device from the account.", of::<wire::DeviceList>),
    get("/v1/profiles", Operation::Profiles, "Imported WireGuard profiles.", of::<wire::ProfileList>),
    post(
        "/v1/profiles",
        Operation::ImportProfile,
        "Import a WireGuard profile.",
        Some(of::<wire::ImportProfile>),
        of::<wire::ProfileList>,
    ),
    delete("/v1/profiles/{name}", Operation::RemoveProfile, "Remove an imported profile.", of::<wire::ProfileList>),
    get("/v1/settings", Operation::Settings, "All settings, with defaults and locks.", of::<wire::SettingsView>),
    Route {
        method: Method::Patch,
        path: "/v1/settings",
        operation: Operation::ChangeSettings,
        summary: "Change the named settings, all or none.",
        request: Some(of::<wire::SettingsPatch>),
        response: of::<wire::SettingsView>,
    },
    post(
        "/v1/settings/reset",
        Operation::ResetSettings,
        "Set settings back to their defaults.",
        Some(of::<wire::ResetSettings>),
        of::<wire::SettingsView>,
    ),
    get(
        "/v1/policy",
        Operation::Policy,
        "The rules in force, in words and as the operating system holds them.",
        of::<wire::PolicyView>,
    ),
    post("/v1/verify", Operation::Verify, "Run the live self-test.", None, of::<wire::VerifyReport>),
    post(
        "/v1/diagnose",
        Operation::Diagnose,
        "Find out how far a connection comes: link, DNS, API, handshake, traffic.",
        None,
        of::<wire::Ladder>,
    ),
    get("/v1/log", Operation::Log, "The newest lines of the helper's log (query `lines`, 1 to 2000).", of::<wire::LogView>),
    get("/v1/report", Operation::Report, "A report for support, without secrets and addresses.", of::<wire::Report>),
    post("/v1/device/rotate-key", Operation::RotateKey, "Replace this computer's key now.", None, of::<wire::DeviceList>),
];

/// The schema of every error.
pub const PROBLEM: SchemaOf = of::<Problem>;
