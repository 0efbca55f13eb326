//! SEC and WEB: secrets stay where they belong, and nothing listens (G12, G14).

use anyhow::{Result, ensure};
use hamn_e2e::World;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Every file below a directory.
fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Pieces of a text that look like keys or tokens: long runs of the base64 alphabets.
fn tokens(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c)))
        .filter(|word| word.len() >= 24)
        .map(str::to_owned)
        .collect()
}

/// SEC-01: what is secret on disk is nowhere else: not in logs, arguments, environment or answers.
#[test]
fn sec_01_secrets_are_nowhere_but_in_their_files() -> Result<()> {
    let world = World::start()?;
    world.connect()?;
    let mut canaries = vec![hamn_e2e::provider::ACCOUNT.to_owned()];
    let mut private = 0;
    for path in files(&world.state_dir())? {
        let name = path.to_string_lossy().into_owned();
        let metadata = std::fs::metadata(&path)?;
        ensure!(metadata.mode() & 0o077 == 0, "{name} can be read by others: {:o}", metadata.mode());
        if name.ends_with("session.json") || name.ends_with("device.json") {
            private += 1;
            canaries.extend(tokens(&String::from_utf8_lossy(&std::fs::read(&path)?)));
        }
    }
    ensure!(private > 0 && canaries.len() > 2, "there are secrets to look for: {private} files");
    world.run("connect us --wait")?;
    world.run("reconnect --wait")?;
    let mut places = vec![("helper.log", std::fs::read_to_string(world.helper_log())?)];
    let process = format!("/proc/{}", world.helper_pid()?);
    for file in ["cmdline", "environ"] {
        places.push((file, String::from_utf8_lossy(&std::fs::read(format!("{process}/{file}"))?).into_owned()));
    }
    for command in ["status", "settings get", "account", "devices list", "profile list", "policy show", "servers"] {
        let output = world.hamn(&format!("{command} --json"))?.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        places.push((command, text));
    }
    for (place, text) in &places {
        for canary in &canaries {
            ensure!(!text.contains(canary.as_str()), "{place} holds a secret that begins with {:?}", canary.get(..6));
        }
    }
    let log = &places[0].1;
    ensure!(log.len() > 1000, "the log was written in full detail");
    world.run("logout")?;
    for path in files(&world.state_dir())? {
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        for canary in &canaries {
            ensure!(!text.contains(canary.as_str()), "KEY-04: {} keeps a secret after logout", path.display());
        }
    }
    Ok(())
}

/// SEC-02: no core dumps, no tracing of a root process's memory by its own crash.
#[test]
fn sec_02_the_helper_leaves_no_core() -> Result<()> {
    let world = World::start()?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.helper_pid()?))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    ensure!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    Ok(())
}

/// WEB-01: no TCP or UDP listener of ours in any state but the tunnel's own socket.
#[test]
fn web_01_nothing_listens() -> Result<()> {
    let world = World::start()?;
    let listening = |what: &str| world.lab.client.command("ss").args(["-H", "-l", "-n", "-p", what]).ok();
    for connected in [false, true] {
        if connected {
            world.connect()?;
        }
        ensure!(listening("-t")?.trim().is_empty(), "TCP: {}", listening("-t")?);
        let udp = listening("-u")?;
        ensure!(udp.lines().count() <= 2 * usize::from(connected), "UDP: {udp}");
    }
    world.disconnect()?;
    ensure!(listening("-u")?.trim().is_empty(), "UDP after disconnect: {}", listening("-u")?);
    // A web page that gets a browser to speak HTTP cannot reach a Unix socket; a caller with a foreign Host is refused.
    let socket = world.socket();
    let curl =
        world.lab.client.command("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(&socket);
    let code = curl.args(["-H", "Origin: https://evil.test", "-X", "POST", "http://hamn/v1/disconnect"]).output()?;
    let code = String::from_utf8_lossy(&code.stdout).into_owned();
    ensure!(code.starts_with('4'), "a request with an Origin header is refused: {code}");
    Ok(())
}

/// The local API as scripts use it: status, events and connect with nothing but curl.
#[test]
fn ipc_curl_is_enough() -> Result<()> {
    let world = World::start()?;
    let socket = world.socket();
    let curl = |extra: &[&str]| {
        world.lab.client.command("curl").args(["-s", "--max-time", "3", "--unix-socket"]).arg(&socket).args(extra).output()
    };
    let status = curl(&["http://hamn/v1/status"])?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    assert_eq!(status["state"], "disconnected");
    let mut events = world.lab.client.command("curl").args(["-s", "-N", "--max-time", "5", "--unix-socket"]).arg(&socket);
    events = events.arg("http://hamn/v1/events").log_to(&world.directory().join("events.log"))?;
    let mut events = events.spawn()?;
    let connect =
        curl(&["-X", "POST", "-H", "Content-Type: application/json", "-d", r#"{"destination":"se"}"#, "http://hamn/v1/connect"])?;
    ensure!(connect.status.success(), "connect");
    world.wait_for_state("connected", hamn_e2e::wait::s(10))?;
    hamn_e2e::wait::until("the event stream says so", hamn_e2e::wait::s(3), || {
        let text = std::fs::read_to_string(world.directory().join("events.log"))?;
        Ok(text.lines().any(|line| line.contains("\"connected\"")).then_some(()))
    })?;
    events.kill()?;
    events.wait()?;
    Ok(())
}
