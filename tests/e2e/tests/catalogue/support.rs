//! What people look at when something is wrong or to be sure: exit addresses, the ladder, the log, the report (G14, G20).

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{s, until};
use hamn_provider::sandbox::address as at;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Waits until the status shows these exit addresses, which nobody is made to wait for.
fn wait_for_exits(world: &World, wanted: &[std::net::IpAddr]) -> Result<()> {
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let mut seen = Value::Null;
    until("the exit addresses are known", s(15), || {
        seen = world.json("status")?["tunnel"]["exit_addresses"].clone();
        Ok((seen == json!(wanted)).then_some(()))
    })
    .with_context(|| format!("wanted {wanted:?}\n{}", world.helper_log_tail()))
}

fn results(world: &World) -> Result<Vec<(String, String, String)>> {
    let ladder = world.json("diagnose")?;
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let steps = ladder["steps"].as_array().context("steps")?;
    Ok(steps.iter().map(|step| (text(step, "id"), text(step, "result"), text(step, "code"))).collect())
}

fn words(steps: &[(String, String, String)]) -> Vec<(&str, &str)> {
    steps.iter().map(|(id, result, _)| (id.as_str(), result.as_str())).collect()
}

/// The status says what the web says, per exit and family, and says nothing without a tunnel.
#[test]
fn the_exit_addresses_are_those_that_the_web_sees() -> Result<()> {
    let mut world = World::start()?;
    ensure!(world.json("status")?["tunnel"].is_null(), "no tunnel, no exit");
    world.connect()?;
    wait_for_exits(&world, &[at::GATEWAY_V4, at::GATEWAY_V6])?;
    assert_eq!(world.exit_address()?, Some(at::GATEWAY_V4.to_string()));
    assert_eq!(world.exit_address_v6()?, Some(at::GATEWAY_V6.to_string()));
    let latency = |world: &World| -> Result<Option<u64>> {
        let listing = world.json("servers")?;
        let cities = listing["countries"].as_array().into_iter().flatten().flat_map(|country| country["cities"].as_array());
        let servers = cities.flatten().flat_map(|city| city["servers"].as_array()).flatten();
        Ok(servers.filter(|server| server["id"] == "vpn05").find_map(|server| server["latency_ms"].as_u64()))
    };
    let measured = latency(&world)?.context("the round trip to the server of the tunnel")?;
    ensure!((1..10_000).contains(&measured), "{measured} ms");
    world.assert_no_leak("asking for the exit address")?;
    // This exit carries no IPv6.
    world.run("connect us --wait")?;
    wait_for_exits(&world, &[at::GATEWAY_US_V4])?;
    world.disconnect()?;
    ensure!(world.json("status")?["tunnel"].is_null(), "no tunnel, no exit");
    ensure!(latency(&world)?.is_some(), "what was measured stays known");
    Ok(())
}

/// The ladder names the first step that fails.
#[test]
fn the_ladder_tells_where_a_connection_ends() -> Result<()> {
    let mut world = World::start()?;
    let steps = results(&world)?;
    assert_eq!(words(&steps)[..1], [("link", "pass")], "{steps:?}");
    assert_eq!(words(&steps)[2..], [("api", "pass"), ("handshake", "skipped"), ("traffic", "skipped")], "{steps:?}");
    world.connect()?;
    let steps = results(&world)?;
    let all = ["link", "dns", "api", "handshake", "traffic"].map(|id| (id, "pass"));
    assert_eq!(words(&steps), all, "{steps:?}");
    world.provider.as_mut().context("a provider")?.kill_api()?;
    let steps = results(&world)?;
    assert_eq!(steps[2].1, "fail", "{steps:?}");
    assert_eq!((steps[1].1.as_str(), steps[3].1.as_str()), ("pass", "pass"), "the tunnel needs no API: {steps:?}");
    Ok(())
}

/// G14: nothing in log and report tells who, where, or with which key, after everything that could put it there.
#[test]
fn log_and_report_tell_neither_who_nor_where() -> Result<()> {
    let mut world = World::start()?;
    world.connect()?;
    wait_for_exits(&world, &[at::GATEWAY_V4, at::GATEWAY_V6])?;
    world.run("verify")?;
    world.run("diagnose")?;
    // Failures are what quotes addresses.
    world.provider.as_mut().context("a provider")?.kill_api()?;
    for command in ["account", "devices list", "devices rotate-key"] {
        let _ = world.hamn(command)?.output()?;
    }
    let check = |world: &World| -> Result<()> {
        let log = world.json("log --lines 2000")?;
        ensure!(log["lines"].as_array().is_some_and(|lines| lines.len() > 5), "{log}");
        ensure!(world.json("log --lines 2")?["lines"].as_array().map(Vec::len) == Some(2));
        let report = world.run("report")?;
        ensure!(report.contains("state") && report.contains("Settings") && report.lines().count() > 30, "{report}");
        let status = world.status()?;
        let mut secrets: Vec<String> =
            ["198.51.100.", "192.0.2.", "10.0.1.", "2001:db8", "10.64.0.", "api.sandbox", ".test"].map(str::to_owned).into();
        secrets.push(hamn_e2e::provider::ACCOUNT.to_owned());
        secrets
            .extend(status["tunnel"]["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        secrets.push(nix::unistd::gethostname()?.to_string_lossy().into_owned());
        for file in ["session.json", "device.json"] {
            let text = std::fs::read_to_string(world.state_dir().join(file))?;
            secrets.extend(long_words(&text));
        }
        for (what, text) in [("log", log.to_string()), ("report", report)] {
            for secret in secrets.iter().filter(|secret| secret.len() > 4) {
                let line = text.lines().find(|line| line.contains(secret.as_str()));
                ensure!(line.is_none(), "{what} holds {secret:?}: {line:?}");
            }
        }
        Ok(())
    };
    check(&world)?;
    world.stop_helper(Signal::SIGTERM)?;
    world.start_helper()?;
    world.wait_for_state("connected", s(15))?;
    check(&world)
}

/// Keys and tokens in a file of ours.
fn long_words(text: &str) -> Vec<String> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c));
    text.split(part).filter(|word| word.len() >= 20).map(str::to_owned).collect()
}

/// The tunnel takes the new key while it carries traffic.
#[test]
fn a_key_that_is_replaced_by_hand_interrupts_nothing() -> Result<()> {
    let mut world = World::start()?;
    world.connect()?;
    let before = std::fs::read_to_string(world.state_dir().join("device.json"))?;
    let attempt = world.status()?["attempt"]["number"].clone();
    let devices = world.json("devices rotate-key")?;
    ensure!(devices["devices"].as_array().map(Vec::len) == Some(1), "{devices}");
    let after = std::fs::read_to_string(world.state_dir().join("device.json"))?;
    ensure!(before != after, "the key is another one");
    until("traffic flows with the new key", s(10), || {
        Ok((world.exit_address()? == Some(at::GATEWAY_V4.to_string())).then_some(()))
    })?;
    assert_eq!(world.status()?["attempt"]["number"], attempt, "without a new attempt");
    world.assert_no_leak("a change of the key")
}
