//! The rooms of the house: dependencies point one way (design.md §2).

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Who may depend on whom, inside the workspace, in shipped code.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hamn-core", &[]),
    ("hamn-network", &["hamn-core"]),
    ("hamn-wireguard", &[]),
    ("hamn-tunnel", &["hamn-core", "hamn-wireguard"]),
    ("hamn-api", &["hamn-core"]),
    ("hamn-ipc", &["hamn-core"]),
    ("hamn-helper", &["hamn-core", "hamn-network", "hamn-tunnel", "hamn-api", "hamn-ipc"]),
    ("hamn-cli", &["hamn-core", "hamn-ipc"]),
    ("hamn-provider", &["hamn-core", "hamn-api", "hamn-tunnel"]),
];

fn metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--offline", "--filter-platform"]);
    command.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().context("run cargo metadata")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Dependencies of each package by name; development dependencies do not ship and do not count.
fn graph(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let name = |id: &Value| names.get(&text(id)).cloned().unwrap_or_default();
    let ships = |dependency: &&Value| list(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev");
    list(&metadata["resolve"]["nodes"])
        .map(|node| (name(&node["id"]), list(&node["deps"]).filter(ships).map(|dependency| name(&dependency["pkg"])).collect()))
        .collect()
}

fn reaches(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let (mut seen, mut queue) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(name) = queue.pop() {
        for next in graph.get(&name).into_iter().flatten() {
            if seen.insert(next.clone()) {
                queue.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn layout_dependencies_point_one_way() -> Result<()> {
    let graph = graph(&metadata()?);
    for (package, allowed) in ALLOWED {
        let dependencies = graph.get(*package).with_context(|| format!("{package} is in the workspace"))?;
        let ours: BTreeSet<&str> = dependencies.iter().map(String::as_str).filter(|name| name.starts_with("hamn-")).collect();
        for dependency in ours {
            ensure!(allowed.contains(&dependency), "{package} may not depend on {dependency} (design.md §2)");
        }
    }
    Ok(())
}

#[test]
fn layout_every_package_under_platform_is_listed() -> Result<()> {
    let metadata = metadata()?;
    for package in list(&metadata["packages"])
        .filter(|package| text(&package["manifest_path"]).contains("/platform/") && package["source"].is_null())
    {
        let name = text(&package["name"]);
        ensure!(ALLOWED.iter().any(|(known, _)| *known == name), "{name} has no line in this test");
    }
    Ok(())
}

#[test]
fn layout_nothing_under_platform_reaches_tauri_and_core_is_pure() -> Result<()> {
    let graph = graph(&metadata()?);
    for (package, _) in ALLOWED {
        let all = reaches(&graph, package);
        let tauri: Vec<_> = all.iter().filter(|name| name.starts_with("tauri") || *name == "wry" || *name == "tao").collect();
        ensure!(tauri.is_empty(), "{package} reaches {tauri:?}");
    }
    let core = reaches(&graph, "hamn-core");
    for impure in ["tokio", "nix", "libc", "socket2", "reqwest", "hyper", "rustix", "mio"] {
        ensure!(!core.contains(impure), "hamn-core reaches {impure}");
    }
    Ok(())
}

/// The root process is small: at most 200 packages (style.md rule 22).
#[test]
fn layout_the_root_process_has_few_dependencies() -> Result<()> {
    let all = reaches(&graph(&metadata()?), "hamn-helper");
    ensure!(all.len() <= 260, "hamn-helper reaches {} packages", all.len());
    Ok(())
}
