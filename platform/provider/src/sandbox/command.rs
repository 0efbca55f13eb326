//! `hamn-provider sandbox`: the laboratory with a provider in it, for people who want to look around or try another client.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use std::ffi::OsString;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Lab;
use super::address::{API_PORT, API_V4, WEB_V4};

const HELP: &str = "hamn-provider sandbox up
  Builds a client, an ISP, a LAN host, a small internet and a gateway as network namespaces, starts the provider's API and
  gateway in them, says how to use them, and takes everything down at Ctrl-C. Nothing on this machine is changed.
  For the whole story with Hamn in it: cargo xtask demo";

/// Runs the subcommand with the words after `sandbox`.
///
/// # Errors
/// When the laboratory or the provider in it cannot be started, or the words make no sense.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    let words: Vec<String> = arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["up"] => up(),
        ["-h" | "--help"] => {
            say(HELP);
            Ok(())
        }
        _ => bail!("{HELP}"),
    }
}

/// A reader who went away is no reason to stop in the middle.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn up() -> Result<()> {
    // Before any thread exists, so that all of them leave these signals to `wait`.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("block signals")?;
    let lab = Lab::new()?;
    let directory = lab.directory().join("provider");
    let program = std::env::current_exe().context("find this program")?;
    lab.internet.command(&program).arg("init").arg("--dir").arg(&directory).ok()?;
    let api = lab.internet.command(&program).arg("api").arg("--dir").arg(&directory);
    api.log_to(&directory.join("api.log"))?.spawn()?;
    wait_for_api(&lab)?;
    let gateway = lab.gateway.command(&program).arg("gateway").arg("--config").arg(directory.join("gateways/vpn05.json"));
    gateway.arg("--state").arg(directory.join("gateway-state")).log_to(&directory.join("gateway.log"))?.spawn()?;
    let entries = lab.write_entries(&[])?;
    let (entries, directory) = (entries.display(), directory.display());
    say(&format!(
        "The sandbox is up. Run a command on a host with one of these scripts:
  {entries}/client      {entries}/router      {entries}/lan      {entries}/internet      {entries}/gateway
For example:
  {entries}/client curl http://{WEB_V4}/ip
  {entries}/router nft list counters table netdev witness
The provider's files (certificates, keys, accounts, logs) are in {directory}. Ctrl-C ends everything."
    ));
    signals.wait().context("wait for a signal")?;
    drop(lab);
    Ok(())
}

fn wait_for_api(lab: &Lab) -> Result<()> {
    let start = Instant::now();
    while !lab.internet.run(|| TcpStream::connect((API_V4, API_PORT)).is_ok())? {
        if start.elapsed() > Duration::from_secs(10) {
            bail!("the provider's API did not come up");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
