//! Which crate may depend on which: `core` <- {network, tunnel, api, ipc} <- helper; `wireguard` <- tunnel; `cli` -> ipc; `provider` -> api, tunnel.
//! Nothing under `platform/` depends on tauri, and nothing under `src-tauri/` on a crate that touches the system's network.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate and the crates of ours that it may name in `[dependencies]`. A crate that is not listed fails the test.
const ALLOWED: [(&str, &[&str]); 15] = [
    ("hamn-core", &[]),
    ("hamn-network", &["hamn-core"]),
    ("hamn-wireguard", &[]),
    ("hamn-tunnel", &["hamn-core", "hamn-wireguard"]),
    ("hamn-api", &["hamn-core"]),
    ("hamn-ipc", &["hamn-core"]),
    ("hamn-helper", &["hamn-core", "hamn-network", "hamn-tunnel", "hamn-api", "hamn-ipc"]),
    ("hamn-cli", &["hamn-core", "hamn-ipc"]),
    ("hamn-provider", &["hamn-core", "hamn-api", "hamn-tunnel"]),
    ("hamn-gui", &["hamn-core", "hamn-ipc"]),
    // Not shipped: tests may look at everything.
    ("hamn-model-tests", &["hamn-core", "hamn-network"]),
    ("hamn-e2e", EVERYTHING),
    ("hamn-gui-tests", EVERYTHING),
    ("hamn-bench-tunnel", EVERYTHING),
    ("hamn-xtask", EVERYTHING),
];
const EVERYTHING: &[&str] = &[
    "hamn-core",
    "hamn-network",
    "hamn-wireguard",
    "hamn-tunnel",
    "hamn-api",
    "hamn-ipc",
    "hamn-helper",
    "hamn-cli",
    "hamn-provider",
    "hamn-e2e",
];

fn metadata(arguments: &[&str]) -> Value {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(arguments)
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn broken_edges(metadata: &Value) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut broken = Vec::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        let Some(may) = allowed.get(name) else {
            broken.push(format!("{name} is not in the table of allowed edges"));
            continue;
        };
        let platform = text(&package["manifest_path"]).contains("/platform/");
        for dependency in list(&package["dependencies"]) {
            let to = text(&dependency["name"]);
            // A crate may use another one in its own tests only where it may use it at all.
            if to.starts_with("hamn-") && !may.contains(&to) {
                broken.push(format!("{name} -> {to}"));
            }
            if platform && to.starts_with("tauri") {
                broken.push(format!("{name} -> {to}: nothing under platform/ depends on tauri"));
            }
        }
    }
    broken
}

#[test]
fn crates_depend_only_on_what_the_design_allows() {
    let metadata = metadata(&["--no-deps"]);
    assert!(list(&metadata["packages"]).len() >= 10, "the workspace is not read as a whole");
    assert_eq!(broken_edges(&metadata), Vec::<String>::new());
}

#[test]
fn a_forbidden_edge_is_noticed() {
    let mut metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array_mut().expect("packages");
    let ipc = packages.iter_mut().find(|package| package["name"] == "hamn-ipc").expect("hamn-ipc");
    let dependencies = ipc["dependencies"].as_array_mut().expect("dependencies");
    dependencies.push(serde_json::json!({ "name": "hamn-network" }));
    dependencies.push(serde_json::json!({ "name": "tauri" }));
    assert_eq!(broken_edges(&metadata).len(), 2);
}

/// Crate names and what they depend on, from the lock file: it holds all systems and features, and needs no download.
fn locked() -> BTreeMap<String, Vec<String>> {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).expect("a lock file");
    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.lines().find_map(|line| line.strip_prefix("name = \"")).expect("a name").trim_end_matches('"');
        // Entries of the list read ` "name",` or ` "name version",`.
        let entries = package.lines().filter_map(|line| line.strip_prefix(" \""));
        let names = entries.map(|entry| entry.split([' ', '"']).next().unwrap_or_default().to_owned());
        edges.entry(name.to_owned()).or_default().extend(names);
    }
    edges
}

/// Everything that `from` reaches.
fn reach<'a>(edges: &'a BTreeMap<String, Vec<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(package) = open.pop() {
        if seen.insert(package) {
            open.extend(edges.get(package).into_iter().flatten().map(String::as_str));
        }
    }
    seen
}

#[test]
fn tauri_and_the_system_network_never_meet_even_indirectly() {
    let edges = locked();
    assert!(reach(&edges, "hamn-network").contains("ipnet"), "the lock file is read");
    for package in list(&metadata(&["--no-deps"])["packages"]) {
        let manifest = text(&package["manifest_path"]);
        let reached = reach(&edges, text(&package["name"]));
        let forbidden: &[&str] = if manifest.contains("/platform/") {
            &["tauri", "wry", "tao"]
        } else if manifest.contains("/src-tauri/") {
            &["hamn-network", "hamn-tunnel", "hamn-wireguard", "hamn-helper", "rtnetlink", "gotatun", "tun-rs"]
        } else {
            &[]
        };
        let met: Vec<_> = forbidden.iter().filter(|name| reached.contains(**name)).collect();
        assert!(met.is_empty(), "{} reaches {met:?}", package["name"]);
    }
}
