//! What `cargo xtask bench` runs: measures Hamn beside wireguard-go and stock gotatun in one laboratory.

use anyhow::{Context, Result};
use hamn_e2e::bench::{self, Plan, clients, gateway};
use hamn_e2e::interrupt;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const HELP: &str = "hamn-bench [--quick] [--json FILE]
  --quick      few rounds, half a minute: shows that everything runs
  --json FILE  where the JSON goes; bench.json in the target directory when not given
The tables are printed as Markdown. What could not be measured is listed with its reason; the exit code is then 1.";

/// Set in the process that is in its own process namespace.
const INNER: &str = "HAMN_BENCH_INNER";

fn main() -> ExitCode {
    let (mut quick, mut json) = (false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "gateway" => return finish(gateway::serve().map(|()| ExitCode::SUCCESS)),
            "--quick" => quick = true,
            "--json" => match arguments.next() {
                Some(file) => json = Some(PathBuf::from(file)),
                None => return complain("--json needs a file", 2),
            },
            "--help" | "-h" => return complain(HELP, 0),
            other => return complain(&format!("unknown argument {other}\n{HELP}"), 2),
        }
    }
    if std::env::var_os(INNER).is_none() {
        // Only reached when there is no `unshare`; then daemons of a killed benchmark would outlive it.
        let error = in_a_process_namespace();
        say(&format!("without a process namespace: {error}"));
    }
    finish(interrupt::guarded(move || measure(quick, json)))
}

/// wireguard-go goes into the background; in a process namespace it ends with us, however we end.
fn in_a_process_namespace() -> std::io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let options = ["--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    Command::new("unshare").args(options).arg(program).args(std::env::args_os().skip(1)).env(INNER, "1").exec()
}

fn finish(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| complain(&format!("The benchmark failed: {error:#}"), 1))
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn complain(text: &str, code: u8) -> ExitCode {
    say(text);
    ExitCode::from(code)
}

fn measure(quick: bool, json: Option<PathBuf>) -> Result<ExitCode> {
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let report = bench::run(&plan, quick, &|what| say(&format!("… {what}")));
    let file = json
        .or_else(|| Some(clients::target_dir()?.join("bench.json")))
        .context("no place for the JSON; name one with --json")?;
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?).with_context(|| format!("write {}", file.display()))?;
    write!(std::io::stdout(), "{}\nJSON: {}\n", report.markdown(), file.display())?;
    Ok(if report.not_measured.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
