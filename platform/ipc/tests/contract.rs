//! The published documents: the checked-in OpenAPI document and schemas are what the code says, and real answers fit them.
//! `UPDATE=1` rewrites the files.
#![cfg(test)]
#![cfg(unix)]

mod fake;
mod raw;

use fake::{Fake, Script};
use hamn_ipc::openapi::{command_schemas, document};
use hamn_ipc::routes::{Method, ROUTES};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn compare(path: &Path, value: &Value) {
    let wanted = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{} is out of date: run the tests with UPDATE=1 and look at the difference", path.display());
}

#[test]
fn the_openapi_document_is_checked_in() {
    compare(&here("openapi.json"), &document());
}

#[test]
fn the_schemas_of_the_commands_are_checked_in() {
    let schemas = command_schemas();
    for (name, schema) in &schemas {
        compare(&here(&format!("schemas/{name}.json")), schema);
        assert!(jsonschema::meta::is_valid(schema), "{name}");
    }
    let files: BTreeSet<String> = std::fs::read_dir(here("schemas"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, schemas.iter().map(|(name, _)| format!("{name}.json")).collect(), "a file without a command");
}

#[test]
fn the_openapi_document_is_whole() {
    let document = document();
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    let mut operations = 0;
    for path in document["paths"].as_object().unwrap().values() {
        for operation in path.as_object().unwrap().values() {
            operations += 1;
            ids.insert(operation["operationId"].as_str().unwrap().to_owned());
            assert!(operation["responses"]["200"]["content"].is_object());
        }
    }
    assert_eq!((operations, ids.len()), (ROUTES.len(), ROUTES.len()));
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.push(reference.clone());
            }
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A validator for a schema inside the document.
fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    jsonschema::draft202012::new(&whole).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_requests_and_answers_fit_the_document() {
    let fake = Fake::start(Script::default());
    let socket = fake.socket.clone();
    tokio::task::spawn_blocking(move || {
        let document = document();
        for route in ROUTES.iter().filter(|route| route.path != "/v1/events") {
            let method = match route.method {
                Method::Get => "get",
                Method::Post => "post",
                Method::Patch => "patch",
                Method::Delete => "delete",
            };
            let body = match (method, route.path) {
                ("post", "/v1/connect") => json!({ "destination": "vpn05/us", "if_needed": true }),
                ("post", "/v1/login") => json!({ "account": "4242", "otp": "1" }),
                ("post", "/v1/profiles") => json!({ "name": "home", "conf": "[Interface]" }),
                ("patch", _) => json!({ "mtu": 1300, "dns": { "use": "custom", "addresses": ["10.0.0.1"] } }),
                ("post", "/v1/settings/reset") => json!({ "keys": ["mtu"] }),
                _ => Value::Null,
            };
            let operation = &document["paths"][route.path][method];
            if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
                assert!(validator(&document, schema).is_valid(&body), "{} {body}", route.path);
            }
            let path = route.path.replace("{id}", "dev_2").replace("{name}", "home");
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let answer = raw::exchange(&socket, raw::text(&method.to_uppercase(), &path, &body).as_bytes());
            assert_eq!(answer.status, 200, "{path} {answer:?}");
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            let validator = validator(&document, schema);
            let errors: Vec<String> = validator.iter_errors(&answer.json()).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{path}: {errors:?}");
            assert!(!validator.is_valid(&json!([])), "{path}: the schema accepts anything");
        }
        let problem = raw::exchange(&socket, raw::text("GET", "/nothing", "").as_bytes()).json();
        let schema = &document["components"]["responses"]["problem"]["content"]["application/problem+json"]["schema"];
        assert!(validator(&document, schema).is_valid(&problem));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_the_status_follows_events_and_connects() {
    let fake = Fake::start(Script::default());
    let socket = fake.socket.display().to_string();
    tokio::task::spawn_blocking(move || {
        let curl = |arguments: &[&str]| {
            let mut command = std::process::Command::new("/usr/bin/curl");
            command.args(["-sN", "--max-time", "20", "--unix-socket", &socket]).args(arguments);
            command
        };
        let mut following = curl(&["http://hamn/v1/events"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(next()["status"]["state"], "disconnected");
        let connected = curl(&["-d", r#"{"destination":"se"}"#, "http://hamn/v1/connect"]).output().unwrap();
        let connected: Value = serde_json::from_slice(&connected.stdout).unwrap();
        assert_eq!((&connected["changed"], &connected["status"]["destination"]["country"]), (&json!(true), &json!("se")));
        let document = document();
        let schema = &document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["application/x-ndjson"]["schema"];
        let validator = validator(&document, schema);
        let mut states = Vec::new();
        while states.last() != Some(&json!("connected")) {
            let line = next();
            assert!(validator.is_valid(&line), "{line}");
            states.push(line["status"]["state"].clone());
        }
        following.kill().unwrap();
        following.wait().unwrap();
        let status: Value = serde_json::from_slice(&curl(&["http://hamn/v1/status"]).output().unwrap().stdout).unwrap();
        assert_eq!(status["state"], "connected");
        let _ = std::io::stdout().flush();
    })
    .await
    .unwrap();
}
