//! What `cargo xtask demo` runs: the whole of Hamn against the whole of a provider, with the ISP as witness, in plain words.

use anyhow::{Context, Result, ensure};
use hamn_e2e::wait::{ms, s};
use hamn_e2e::window::gallery;
use hamn_e2e::window::screen::window_program;
use hamn_e2e::{World, interrupt};
use hamn_provider::sandbox::address as at;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "hamn-demo [--keep] [--json] [--gui [--screenshot DIR]]
  --keep            leave everything running afterwards, and say how to drive it by hand; Ctrl-C ends it
  --json            end with one JSON object on one line; the words go to standard error
  --gui             show the window of a sandbox instead; closing it ends everything
  --screenshot DIR  with --gui: drive the window through its states on a screen that nobody sees, and write pictures";

#[derive(Clone, Default)]
struct Flags {
    keep: bool,
    json: bool,
    gui: bool,
    pictures: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut flags = Flags::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--keep" => flags.keep = true,
            "--json" => flags.json = true,
            "--gui" => flags.gui = true,
            "--screenshot" => match arguments.next() {
                Some(directory) => flags.pictures = Some(directory.into()),
                None => return complain("--screenshot needs a directory", 2),
            },
            "--help" | "-h" => return complain(HELP, 0),
            other => return complain(&format!("unknown argument {other}\n{HELP}"), 2),
        }
    }
    if flags.pictures.is_some() && !flags.gui {
        return complain("--screenshot goes with --gui", 2);
    }
    match interrupt::guarded(move || if flags.gui { show(&flags) } else { run(&flags) }) {
        Ok(code) => code,
        Err(error) => complain(&format!("The demo failed: {error:#}"), 1),
    }
}

/// The window, where there is a screen for it; else pictures of it.
fn show(flags: &Flags) -> Result<ExitCode> {
    let voice = Voice { json: flags.json, failed: false };
    let mut world = World::start().context("build the laboratory")?;
    interrupt::remove_when_interrupted(world.lab.directory());
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|text| !text.is_empty()));
    let directory = match &flags.pictures {
        Some(directory) => directory.clone(),
        None if screen => return show_on_screen(&voice, &world),
        None => {
            let programs = hamn_e2e::binaries::binary("hamn")?;
            programs.parent().and_then(Path::parent).context("no directory")?.join("window-pictures")
        }
    };
    let directory = std::path::absolute(directory)?;
    voice.say("The window of a client with a real helper and a real provider, on a screen that nobody sees:");
    let (pictures, complaints) = gallery::photograph(&mut world, &directory, &mut |text| voice.say(&format!("  ok   {text}")))?;
    for line in &complaints {
        voice.say(&format!("  FAIL does not fit: {line}"));
    }
    voice.say(&format!("{} pictures in {}", pictures.len(), directory.display()));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the window in the caller's own session: it needs nothing but the helper's socket.
fn show_on_screen(voice: &Voice, world: &World) -> Result<ExitCode> {
    voice.say(&format!(
        "The window of a client in a sandbox of its own; nothing on this machine is changed. Its account is signed in. Close the window,\n\
         quit it in the tray, or press Ctrl-C to end everything. The helper's process id is {}: kill it, and see what the window says.",
        world.helper_pid()?
    ));
    let config = world.directory().join("window");
    std::fs::create_dir(&config)?;
    std::fs::write(config.join("window.json"), r#"{"version": 1, "first_run_done": true, "close_to_tray": false}"#)?;
    let status = std::process::Command::new(window_program()?)
        .env("HAMN_SOCKET", world.socket())
        .env("HAMN_GUI_CONFIG_DIR", &config)
        .env("HAMN_GUI_FRESH_INSTANCE", "1")
        .status()
        .context("run the window")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn complain(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}

/// Tells the story. A reader who closed the pipe stops no step and no cleaning up.
struct Voice {
    json: bool,
    failed: bool,
}

impl Voice {
    fn say(&self, text: &str) {
        let _ = if self.json { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") };
    }

    /// One line of the story with a check mark or a cross.
    fn check(&mut self, good: bool, text: &str) {
        self.failed |= !good;
        self.say(&format!("  {} {text}", if good { "ok  " } else { "FAIL" }));
    }
}

/// The numbers for `--json`.
#[derive(Default)]
struct Outcome {
    exit_before: Option<String>,
    exit_after: Option<String>,
    outside_while_blocked: Option<u64>,
    after_release: Option<u64>,
    connect_ms: Option<u128>,
}

fn run(flags: &Flags) -> Result<ExitCode> {
    let mut voice = Voice { json: flags.json, failed: false };
    let mut outcome = Outcome::default();
    let start = Instant::now();
    let story = World::start().context("build the laboratory").and_then(|mut world| {
        interrupt::remove_when_interrupted(world.lab.directory());
        voice.say(&format!(
            "A laboratory in private network namespaces ({} ms): a client, its ISP, a printer, a small internet, and a\n\
             provider with an API and a gateway with two exits. Nothing on this machine is changed.\n",
            start.elapsed().as_millis()
        ));
        tell(&mut voice, &mut outcome, &mut world)?;
        Ok(world)
    });
    if let Err(error) = &story {
        voice.check(false, &format!("{error:#}"));
    }
    voice.say(&format!(
        "\n{} in {:.1} s.",
        if voice.failed { "Something is wrong" } else { "All as promised" },
        start.elapsed().as_secs_f64()
    ));
    if flags.json {
        let line = json!({
            "ok": !voice.failed,
            "exit_before": outcome.exit_before,
            "exit_after": outcome.exit_after,
            "packets_outside_while_blocked": outcome.outside_while_blocked,
            "packets_after_release": outcome.after_release,
            "connect_ms": outcome.connect_ms,
        });
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    if let (true, Ok(world)) = (flags.keep, &story) {
        keep(&voice, world)?;
    }
    Ok(if voice.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn tell(voice: &mut Voice, outcome: &mut Outcome, world: &mut World) -> Result<()> {
    connect(voice, outcome, world)?;
    other_exit(voice, world)?;
    kill_the_helper(voice, outcome, world)?;
    release(voice, outcome, world)
}

fn connect(voice: &mut Voice, outcome: &mut Outcome, world: &mut World) -> Result<()> {
    outcome.exit_before = world.exit_address()?;
    let before = outcome.exit_before.clone().unwrap_or_else(|| "nothing".to_owned());
    voice.check(before == at::ISP_NAT_V4.to_string(), &format!("before: the web sees {before}, the ISP's address"));
    let start = Instant::now();
    world.connect().context("hamn connect")?;
    outcome.connect_ms = Some(start.elapsed().as_millis());
    // From the moment of "connected", nothing may be outside, until the user says "disconnect".
    world.lab.reset_witness()?;
    outcome.exit_after = world.exit_address()?;
    let after = outcome.exit_after.clone().unwrap_or_else(|| "nothing".to_owned());
    let text =
        format!("`hamn connect`: a tunnel after {} ms; the web sees {after}, the Swedish exit", start.elapsed().as_millis());
    voice.check(after == at::GATEWAY_V4.to_string(), &text);
    let v6 = world.exit_address_v6()?.unwrap_or_else(|| "nothing".to_owned());
    voice.check(v6 == at::GATEWAY_V6.to_string(), &format!("over IPv6 the web sees {v6}"));
    world.lab.client.command("getent").args(["ahostsv4", "example.test"]).ok().context("look up a name")?;
    let asked_outside = world.lab.lan_dns.entries().iter().any(|query| query.name.starts_with("example"));
    voice.check(!asked_outside, "a name was looked up inside the tunnel; the network's own resolver heard nothing");
    Ok(())
}

fn other_exit(voice: &mut Voice, world: &World) -> Result<()> {
    world.run("connect us --wait").context("hamn connect us")?;
    let seen = world.exit_address()?.unwrap_or_else(|| "nothing".to_owned());
    voice.check(
        seen == at::GATEWAY_US_V4.to_string(),
        &format!("`hamn connect us`: same server, the web sees {seen}, its exit in the US"),
    );
    world.run("connect se --wait").context("hamn connect se")?;
    Ok(())
}

fn kill_the_helper(voice: &mut Voice, outcome: &mut Outcome, world: &mut World) -> Result<()> {
    world.kill_helper()?;
    let v4 = world.lab.exit_address(false, ms(300))?;
    let v6 = world.lab.exit_address(true, ms(300))?;
    let blocked = v4.is_none() && v6.is_none();
    voice.check(blocked, "the helper is killed (SIGKILL): the web is out of reach, over IPv4 and IPv6");
    let fired = world.fire()?;
    let seen = world.lab.seen()?;
    outcome.outside_while_blocked = Some(seen.outside);
    let who = if hamn_e2e::world::nobody_exists() { "as root and as nobody" } else { "with all rights" };
    let text = format!("{} packets of every kind were tried, {who}", fired.tried);
    voice.check(fired.tried > 500, &text);
    let text =
        format!("the ISP's counter: {} packets outside the tunnel since connect ({} inside it)", seen.outside, seen.tunnel);
    voice.check(seen.outside == 0, &text);
    for sample in world.lab.witness.samples() {
        voice.say(&format!("       escaped: {sample}"));
    }
    world.start_helper().context("start the helper again")?;
    let took = world.wait_for_exit(at::GATEWAY_V4, s(10))?;
    voice.check(
        true,
        &format!("the helper is started again: it reconnects by itself, traffic flows after {} ms", took.as_millis()),
    );
    let seen = world.lab.seen()?;
    outcome.outside_while_blocked = Some(seen.outside);
    voice.check(seen.outside == 0, &format!("the ISP's counter is still {}", seen.outside));
    Ok(())
}

fn release(voice: &mut Voice, outcome: &mut Outcome, world: &mut World) -> Result<()> {
    world.disconnect().context("hamn disconnect")?;
    let seen = world.exit_address()?.unwrap_or_else(|| "nothing".to_owned());
    voice.check(seen == at::ISP_NAT_V4.to_string(), &format!("`hamn disconnect`: the web sees {seen} again"));
    let after = world.lab.seen()?.outside;
    outcome.after_release = Some(after);
    voice.check(after > 0, &format!("and the ISP's counter moves: {after} packets, so it can see"));
    ensure!(outcome.outside_while_blocked.is_some(), "the witness was never asked");
    Ok(())
}

fn keep(voice: &Voice, world: &World) -> Result<()> {
    let socket = world.socket();
    let socket = socket.to_str().context("the socket's path is not text")?;
    let programs = hamn_e2e::binaries::binary("hamn")?;
    let programs = programs.parent().context("no directory")?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let directory = world.lab.write_entries(&[("HAMN_SOCKET", socket), ("PATH", &path)])?;
    let directory = directory.display();
    voice.say(&format!(
        "
It stays up until you press Ctrl-C. In another terminal (as the same user, with the same rights):
  {directory}/client hamn status
  {directory}/client hamn connect --wait
  {directory}/client curl http://{web}/ip
  {directory}/client curl --unix-socket {socket} http://hamn/v1/status
  {directory}/router nft list counters table netdev witness
  {directory}/gateway ip address
The helper's log is {log}, its process id {pid}: kill it, and see what the counters say.",
        web = at::WEB_V4,
        log = world.helper_log().display(),
        pid = world.helper_pid()?,
    ));
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
