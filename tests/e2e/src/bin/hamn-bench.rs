//! What `cargo xtask bench` runs: prints a table, and writes JSON when told where (`--json FILE`, `-` for standard output).

use anyhow::{Context, Result, ensure};
use hamn_e2e::bench::rival::Rival;
use hamn_e2e::bench::{connect, firewall_swaps, lists, percentiles, process, status_latency, throughput};
use hamn_e2e::wait::s;
use hamn_e2e::{World, binaries, interrupt};
use hamn_provider::sandbox::address as at;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let json = match words.as_slice() {
        [] => None,
        ["--json", file] => Some((*file).to_owned()),
        _ => {
            let _ = writeln!(std::io::stderr(), "hamn-bench [--json FILE]");
            return ExitCode::from(2);
        }
    };
    interrupt::guarded(move || run(json.as_deref())).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "The benchmark failed: {error:#}");
        ExitCode::FAILURE
    })
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Programs that can carry WireGuard for `wg-quick`: Debian's, and the stock gotatun if it was built.
fn engines() -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    let in_path = |name: &str| std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).map(|directory| directory.join(name)).find(|path| path.is_file());
    if let Some(path) = in_path("wireguard-go") {
        found.push(("wireguard-go", path));
    }
    let built = std::env::var_os("HAMN_GOTATUN").map(PathBuf::from).filter(|path| path.is_file());
    if let Some(path) = built.or_else(|| in_path("gotatun")) {
        found.push(("gotatun", path));
    }
    found
}

fn run(json_file: Option<&str>) -> Result<ExitCode> {
    let mut world = World::start().context("build the laboratory")?;
    interrupt::remove_when_interrupted(world.lab.directory());
    world.lab.retire_witness()?;
    let mut report = Map::new();
    say("idle cost of the helper …");
    report.insert("helper_idle".into(), process::cost(world.helper_pid()?, s(10))?);
    say("connect …");
    report.insert("connect".into(), connects(&world)?);
    say("throughput …");
    report.insert("throughput_mbit_s".into(), throughputs(&world)?);
    say("cost while connected …");
    world.connect()?;
    report.insert("helper_connected".into(), process::cost(world.helper_pid()?, s(10))?);
    world.disconnect()?;
    say("firewall swaps …");
    report.insert("firewall_swap".into(), firewall_swaps(&world, 200)?);
    say("status …");
    report.insert("status".into(), status_latency(&world, 50)?);
    say("list of 10,000 servers …");
    report.insert("list_10000".into(), big_list(&world)?);
    let report = Value::Object(report);
    print_table(&report);
    match json_file {
        None => {}
        Some("-") => drop(writeln!(std::io::stdout(), "{report}")),
        Some(file) => std::fs::write(file, format!("{report:#}\n")).with_context(|| format!("write {file}"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn connects(world: &World) -> Result<Value> {
    let mut result = Map::from_iter([("hamn".to_owned(), connect(world, 20)?)]);
    let rival = Rival::register(world)?;
    for (name, engine) in engines() {
        let mut series = Vec::new();
        for _ in 0..10 {
            let start = Instant::now();
            rival.up(world, &engine)?;
            world.wait_for_exit(at::GATEWAY_V4, s(10)).with_context(|| name.to_owned())?;
            series.push(start.elapsed());
            rival.down(world, &engine)?;
        }
        result.insert(format!("wg-quick, {name}"), percentiles(series));
    }
    Ok(result.into())
}

/// Rounds of all contenders in turn, so that a busy moment of the machine hits them alike.
fn throughputs(world: &World) -> Result<Value> {
    throughput::serve(&world.lab)?;
    let rival = Rival::register(world)?;
    let mut names = vec!["none".to_owned(), "hamn".to_owned()];
    names.extend(engines().into_iter().map(|(name, _)| name.to_owned()));
    let mut series: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); names.len()];
    for _ in 0..3 {
        for (name, (up, down)) in names.iter().zip(&mut series) {
            let engine = engines().into_iter().find(|(known, _)| known == name);
            with_tunnel(world, name, engine.as_ref().map(|(_, path)| path.as_path()), &rival, || {
                up.push(throughput::measure(&world.lab.client, true, s(3))?);
                down.push(throughput::measure(&world.lab.client, false, s(3))?);
                Ok(())
            })?;
        }
    }
    let mut result = Map::new();
    let medians: Vec<(f64, f64)> = series.into_iter().map(|(up, down)| (throughput::median(up), throughput::median(down))).collect();
    let hamn = medians.get(1).copied().unwrap_or_default();
    for (name, (up, down)) in names.iter().zip(medians) {
        result.insert(
            name.clone(),
            json!({ "up": up.round(), "down": down.round(), "hamn_is_times_up": round(hamn.0 / up), "hamn_is_times_down": round(hamn.1 / down) }),
        );
    }
    Ok(result.into())
}

fn round(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

fn with_tunnel(world: &World, name: &str, engine: Option<&Path>, rival: &Rival, work: impl FnOnce() -> Result<()>) -> Result<()> {
    match (name, engine) {
        ("none", _) => work(),
        ("hamn", _) => {
            world.connect()?;
            work()?;
            world.disconnect()
        }
        (_, Some(engine)) => {
            rival.up(world, engine)?;
            world.wait_for_exit(at::GATEWAY_V4, s(10)).with_context(|| name.to_owned())?;
            work()?;
            rival.down(world, engine)
        }
        (_, None) => work(),
    }
}

fn big_list(world: &World) -> Result<Value> {
    let directory = world.lab.directory().join("big");
    let made = world.lab.internet.command(binaries::binary("hamn-provider")?).args(["init", "--dir"]).arg(&directory).output()?;
    ensure!(made.status.success(), "init failed");
    lists::measure(&directory)
}

fn print_table(report: &Value) {
    let mut lines = String::new();
    flatten("", report, &mut lines);
    let _ = write!(std::io::stdout(), "{lines}");
}

fn flatten(prefix: &str, value: &Value, lines: &mut String) {
    if let Value::Object(map) = value {
        let leaf = map.values().all(|value| !value.is_object());
        if leaf {
            let cells: Vec<String> = map.iter().map(|(name, value)| format!("{name} {value}")).collect();
            lines.push_str(&format!("{prefix:<44} {}\n", cells.join("   ")));
        } else {
            for (name, value) in map {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}: {name}") };
                flatten(&path, value, lines);
            }
        }
    }
}
