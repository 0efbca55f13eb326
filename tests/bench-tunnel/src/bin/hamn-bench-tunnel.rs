//! What `cargo xtask bench tunnel` runs; see the help.

use anyhow::{Context, Result, bail};
use hamn_bench_tunnel::bench::{self, Plan, Programs};
use hamn_bench_tunnel::{differential, soak};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pico_args::Arguments;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const HELP: &str = "hamn-bench-tunnel [--quick] [--json FILE] [--wireguard-go PATH]
    measures; the tables are Markdown, the JSON goes to FILE (bench-tunnel.json in the target directory)
      --only A,B     only programs with one of these in their names (hamn engine, stock gotatun, wireguard-go, …)
      --tests A,B    only tests with one of these in their names (tcp_1_up, tcp_4_down, tcp_ipv6, udp_100, echo_idle, echo_busy, …)
      --rounds N     rounds of each test
      --window-ms N  counted time of each
      --peers N      peers of the gateway with many; 0 leaves it out
hamn-bench-tunnel differential [--wireguard-go PATH]
    the same bytes whoever talks to whom, over clean and bad links; about half a minute
hamn-bench-tunnel soak [--minutes N]
    full rate with new keys every few seconds, 20 minutes when not said otherwise
--wireguard-go PATH: the one that ratios are taken to. Without it the newest of bench-tools/wireguard-go-*/usr/bin in the target
directory (fetch-wireguard-go.sh puts it there), else the installed one; `differential` takes the installed one.";

/// Set in the process that is in its own namespaces.
const INNER: &str = "HAMN_BENCH_INNER";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_env();
    if arguments.contains(["-h", "--help"]) {
        say(HELP);
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INNER).is_none() {
        // Only reached when there is no `unshare`; then programs of a killed benchmark would outlive it.
        let error = in_a_process_namespace();
        say(&format!("without a process namespace: {error}"));
    }
    match work(arguments) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Everything that is started ends with us, however we end.
fn in_a_process_namespace() -> std::io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let options = ["--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--"];
    Command::new("unshare").args(options).arg(program).args(std::env::args_os().skip(1)).env(INNER, "1").exec()
}

/// The sockets of wireguard-go and others are ours alone, so that nothing of the machine is met or left behind.
fn private_run() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace; this needs root")?;
    mount(None::<&Path>, "/", None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&Path>)?;
    // /var/run is /run.
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&Path>)?;
    std::fs::create_dir_all("/run/wireguard")?;
    Ok(())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().and_then(Path::parent).context("no target directory")?.to_owned())
}

fn list(text: &str) -> Result<Vec<String>> {
    Ok(text.split(',').map(str::to_owned).collect())
}

fn work(mut arguments: Arguments) -> Result<ExitCode> {
    let command = arguments.subcommand()?;
    let wireguard_go: Option<PathBuf> = arguments.opt_value_from_str("--wireguard-go")?;
    let tools = target_dir()?.join("bench-tools");
    let programs = || Programs::find(wireguard_go.as_deref(), &tools);
    match command.as_deref() {
        Some("differential") => {
            finish(arguments)?;
            let installed = Programs::find(wireguard_go.as_deref(), Path::new("/nonexistent"))?;
            private_run()?;
            verdict(&differential::run(&installed, &say)?)
        }
        Some("soak") => {
            let minutes: f64 = arguments.opt_value_from_str("--minutes")?.unwrap_or(20.0);
            finish(arguments)?;
            let programs = programs()?;
            private_run()?;
            verdict(&soak::run(&programs, Duration::from_secs_f64(minutes * 60.0), &say)?)
        }
        Some(other) => bail!("unknown command {other}\n{HELP}"),
        None => {
            let mut plan = if arguments.contains("--quick") { Plan::quick() } else { Plan::full() };
            let file: Option<PathBuf> = arguments.opt_value_from_str("--json")?;
            plan.only = arguments.opt_value_from_fn("--only", list)?.unwrap_or_default();
            plan.tests = arguments.opt_value_from_fn("--tests", list)?.unwrap_or_default();
            if let Some(rounds) = arguments.opt_value_from_str("--rounds")? {
                plan.rounds = rounds;
                plan.segmented_rounds = plan.segmented_rounds.min(rounds);
            }
            if let Some(ms) = arguments.opt_value_from_str("--window-ms")? {
                plan.window = Duration::from_millis(ms);
            }
            plan.peers = arguments.opt_value_from_str("--peers")?.unwrap_or(plan.peers);
            finish(arguments)?;
            let programs = programs()?;
            private_run()?;
            let report = bench::run(&plan, &programs, &|what| say(&format!("… {what}")))?;
            let file = file.map_or_else(|| Ok::<_, anyhow::Error>(target_dir()?.join("bench-tunnel.json")), Ok)?;
            std::fs::write(&file, serde_json::to_vec_pretty(&report)?).with_context(|| format!("write {}", file.display()))?;
            write!(std::io::stdout(), "{}\nJSON: {}\n", report.markdown(), file.display())?;
            Ok(if report.not_measured.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn verdict(failures: &[String]) -> Result<ExitCode> {
    for failure in failures {
        say(&format!("FAILED: {failure}"));
    }
    say(if failures.is_empty() { "all as it should be" } else { "not as it should be" });
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn finish(arguments: Arguments) -> Result<()> {
    let rest = arguments.finish();
    if !rest.is_empty() {
        bail!("unknown arguments {rest:?}\n{HELP}");
    }
    Ok(())
}
