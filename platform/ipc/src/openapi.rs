//! The OpenAPI 3.1 document and the schemas of the commands' `--json` outputs, made from the table of routes.

use crate::classes::{Class, Operation};
use crate::problem::Problem;
use crate::routes::{Method, PROBLEM, ROUTES, Route};
use crate::wire;
use hamn_core::status::Status;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The document that `GET /v1/openapi.json` serves and `platform/ipc/openapi.json` holds.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| "/components/schemas".clone_into(settings.definitions_path.to_mut()))
        .into_generator();
    let problem = PROBLEM(&mut generator);
    let mut paths = Map::new();
    for route in &ROUTES {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(entry) = entry.as_object_mut() {
            entry.insert(method_name(route.method).to_owned(), operation(route, &mut generator));
        }
    }
    let responses = json!({ "problem": {
        "description": "What went wrong and what to do (RFC 9457).",
        "content": { "application/problem+json": { "schema": problem } },
    }});
    let schemas: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hamn local API",
            "version": wire::API_VERSION.to_string(),
            "license": { "name": "MPL-2.0", "identifier": "MPL-2.0" },
            "description": "HTTP/1.1 over the Unix socket /run/hamn/helper.sock. Callers are identified by the kernel; each operation says in \
                            `x-class` who may call it. Requests with an Origin header are refused.",
        },
        "servers": [{ "url": "http://hamn", "description": "The host name is not used; the socket decides." }],
        "paths": paths,
        "components": { "responses": responses, "schemas": schemas },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let media = if route.operation == Operation::Events { "application/x-ndjson" } else { "application/json" };
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "x-class": class_name(route.operation.class()),
        "responses": {
            "200": { "description": "Done.", "content": { media: { "schema": (route.response)(generator) } } },
            "default": { "$ref": "#/components/responses/problem" },
        },
    });
    if let (Some(fields), Some(request)) = (operation.as_object_mut(), route.request) {
        fields.insert("requestBody".to_owned(), json!({ "content": { "application/json": { "schema": request(generator) } } }));
    }
    if let (Some(fields), Some(name)) = (operation.as_object_mut(), parameter(route.path)) {
        let schema = json!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$" });
        fields.insert("parameters".to_owned(), json!([{ "name": name, "in": "path", "required": true, "schema": schema }]));
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words = route.path.trim_start_matches("/v1/").replace(['/', '-', '.'], "_").replace(['{', '}'], "");
    format!("{}_{words}", method_name(route.method))
}

fn parameter(path: &str) -> Option<&str> {
    path.split_once('{')?.1.split_once('}').map(|(name, _)| name)
}

const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "get",
        Method::Post => "post",
        Method::Patch => "patch",
        Method::Delete => "delete",
    }
}

const fn class_name(class: Class) -> &'static str {
    match class {
        Class::Public => "public",
        Class::View => "view",
        Class::Control => "control",
        Class::Configure => "configure",
        Class::Administer => "administer",
    }
}

/// The schemas of the commands' `--json` outputs: file name without `.json`, and schema (JSON Schema 2020-12).
#[must_use]
pub fn command_schemas() -> Vec<(&'static str, Value)> {
    fn one<T: JsonSchema>(name: &'static str, says: &str) -> (&'static str, Value) {
        let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value();
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("title".to_owned(), Value::String(says.to_owned()));
        }
        (name, schema)
    }
    vec![
        one::<wire::AccountInfo>("login", "Output of `hamn login --json`"),
        one::<wire::AccountInfo>("logout", "Output of `hamn logout --json`"),
        one::<wire::AccountInfo>("account", "Output of `hamn account --json`"),
        one::<wire::DeviceList>("devices", "Output of `hamn devices list|remove|rotate-key --json`"),
        one::<wire::ServerListing>("servers", "Output of `hamn servers --json`"),
        one::<wire::IntentResult>("connect", "Output of `hamn connect --json`"),
        one::<wire::IntentResult>("disconnect", "Output of `hamn disconnect --json`"),
        one::<wire::IntentResult>("reconnect", "Output of `hamn reconnect --json`"),
        one::<Status>("status", "Output of `hamn status --json`"),
        one::<wire::EventLine>("events", "One line of `hamn events --json`"),
        one::<wire::ProfileList>("profile", "Output of `hamn profile import|list|remove --json`"),
        one::<wire::SettingsView>("settings", "Output of `hamn settings get|set|reset --json`"),
        one::<wire::PolicyView>("policy", "Output of `hamn policy show --json`"),
        one::<wire::VerifyReport>("verify", "Output of `hamn verify --json`"),
        one::<wire::Ladder>("diagnose", "Output of `hamn diagnose --json`"),
        one::<wire::LogView>("log", "Output of `hamn log --json`"),
        one::<wire::Report>("report", "Output of `hamn report --json`"),
        one::<wire::RestoreOutput>("restore-network", "Output of `hamn restore-network --json`"),
        one::<wire::VersionOutput>("version", "Output of `hamn version --json`"),
        one::<Problem>("error", "Output of every command with `--json` that fails"),
    ]
}
