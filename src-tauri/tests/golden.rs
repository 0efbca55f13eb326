//! What the page may do is written down once and compared everywhere: capability file, handler, configuration, bindings.
#![cfg(test)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

fn texts(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_capability_file_grants_the_commands_and_hearing_events_and_nothing_else() {
    let mut expected: BTreeSet<String> =
        hamn_window::COMMANDS.iter().map(|name| format!("allow-{}", name.replace('_', "-"))).collect();
    assert_eq!(expected.len(), hamn_window::COMMANDS.len(), "a command is named twice");
    expected.extend(["core:event:allow-listen".to_owned(), "core:event:allow-unlisten".to_owned()]);
    let capability = json("capabilities/main.json");
    assert_eq!(texts(&capability["permissions"]), expected);
    assert_eq!(capability["windows"], serde_json::json!(["main"]));
    let fields: BTreeSet<&str> = capability.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["$schema", "identifier", "description", "local", "windows", "permissions"]));
    let files: Vec<_> = std::fs::read_dir(file("capabilities")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["main.json"]);
}

#[test]
fn every_command_is_a_function_with_the_arguments_that_the_bindings_say() {
    let source = read("src/commands.rs");
    let document = hamn_window::bindings::document();
    let mut found = BTreeSet::new();
    for part in source.split("#[tauri::command").skip(1) {
        let signature = part.split("fn ").nth(1).unwrap().split('{').next().unwrap();
        let (name, rest) = signature.split_once('(').unwrap();
        let (arguments, _) = rest.split_once(") ").unwrap_or((rest.trim_end().trim_end_matches(')'), ""));
        let arguments: BTreeSet<&str> = arguments
            .split(", ")
            .filter_map(|argument| argument.split_once(':'))
            .map(|(name, _)| name.trim())
            .filter(|name| !["app", "bridge"].contains(name))
            .collect();
        let bound: BTreeSet<&str> = document["commands"][name]["args"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(arguments, bound, "{name}");
        found.insert(name.to_owned());
    }
    assert_eq!(found, hamn_window::COMMANDS.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(document["commands"].as_object().unwrap().len(), found.len());
}

#[test]
fn the_configuration_keeps_the_page_in() {
    let config = json("tauri.conf.json");
    let security = &config["app"]["security"];
    let csp = security["csp"].as_object().unwrap();
    let expected = [
        ("default-src", "'self'"),
        ("script-src", "'self'"),
        ("style-src", "'self'"),
        ("font-src", "'self'"),
        ("img-src", "'self' data:"),
        ("connect-src", "ipc: http://ipc.localhost"),
        ("object-src", "'none'"),
        ("base-uri", "'none'"),
        ("form-action", "'none'"),
        ("frame-ancestors", "'none'"),
    ];
    assert_eq!(csp.len(), expected.len());
    for (directive, sources) in expected {
        assert_eq!(csp[directive], sources, "{directive}");
    }
    assert_eq!(security["freezePrototype"], true);
    assert_eq!(security["capabilities"], serde_json::json!(["main"]));
    assert_eq!(security.as_object().unwrap().len(), 3, "{security}");
    assert_eq!(config["app"]["withGlobalTauri"], false);
    assert_eq!(config["build"]["removeUnusedCommands"], true);
    assert!(config["build"].get("devUrl").is_none(), "a program of development shows the embedded page under the same CSP");
    let windows = config["app"]["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 1);
    for (key, value) in
        [("label", Value::from("main")), ("visible", false.into()), ("create", false.into()), ("dragDropEnabled", false.into())]
    {
        assert_eq!(windows[0][key], value, "{key}");
    }
}

#[test]
fn no_file_holds_what_opens_the_page_to_others() {
    for path in ["tauri.conf.json", "capabilities/main.json"] {
        let text = read(path);
        for word in [
            "\"*\"",
            "remote",
            "unsafe-",
            "dangerous",
            "core:default",
            ":default",
            "shell",
            "http:allow",
            "\"csp\": null",
            "assetProtocol",
        ] {
            assert!(!text.contains(word), "{path} holds {word}");
        }
    }
    let manifest = read("Cargo.toml");
    for plugin in ["shell", "fs", "http", "process", "clipboard-manager", "updater", "opener", "dialog"] {
        assert!(!manifest.contains(&format!("tauri-plugin-{plugin}")), "{plugin}");
    }
}

/// `HAMN_UPDATE=1` writes the file; then `npm run bindings` in `ui` makes the TypeScript types of it.
#[test]
fn bindings_are_current() {
    let path = file("../ui/src/bridge/schema.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&hamn_window::bindings::document()).unwrap());
    if std::env::var_os("HAMN_UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    // Comparing whole texts would print two of them.
    assert!(
        stored == text,
        "ui/src/bridge/schema.json is stale: run this test with HAMN_UPDATE=1, then `npm run bindings` in ui"
    );
}

#[test]
fn the_bindings_hold_no_open_types() {
    let document = hamn_window::bindings::document();
    let definitions = document["definitions"].as_object().unwrap();
    for name in
        ["Link", "Status", "Problem", "Preferences", "PreferencesPatch", "Words", "Versions", "Saved", "DeepLink", "Navigate"]
    {
        assert!(definitions.contains_key(name), "{name}");
    }
    // The page may send what it has read: every field of the preferences is there.
    assert_eq!(definitions["Preferences"]["required"].as_array().unwrap().len(), 11, "language is null or absent");
    assert!(definitions["PreferencesPatch"].get("required").is_none());
    assert_eq!(texts(&document["words"]).len(), hamn_window::words::WORDS.len());
}

/// The window has words of its own for what the helper says of a profile; in English they are the helper's, but for quotation marks.
#[test]
fn what_is_said_of_a_profile_is_the_same_in_the_window_and_elsewhere() {
    use hamn_core::profile::{Problem, Remark};
    let said = json("../ui/messages/en/profiles.json");
    let mut expected = std::collections::BTreeMap::new();
    for problem in Problem::ALL {
        expected.insert(format!("profiles_fault_{}", problem.code()), problem.message().replace('`', ""));
        expected.insert(format!("profiles_do_{}", problem.code()), problem.action().replace('`', ""));
    }
    for remark in Remark::ALL {
        expected.insert(format!("profiles_remark_{}", remark.code()), remark.message().replace('`', ""));
    }
    assert_eq!(said, serde_json::to_value(expected).unwrap());
}
