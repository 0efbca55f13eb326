//! What `cargo xtask bench gui` runs: the window's start and memory, beside a Chromium with the same page.

use anyhow::{Context, Result};
use hamn_e2e::bench::clients;
use hamn_e2e::interrupt;
use hamn_e2e::window::bench;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "hamn-bench-window [--quick] [--json FILE]
  --quick      one start of each program: shows that everything runs
  --json FILE  where the JSON goes; bench-window.json in the target directory when not given";

fn main() -> ExitCode {
    let (mut quick, mut json) = (false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--json" => match arguments.next() {
                Some(file) => json = Some(PathBuf::from(file)),
                None => return complain("--json needs a file", 2),
            },
            "--help" | "-h" => return complain(HELP, 0),
            other => return complain(&format!("unknown argument {other}\n{HELP}"), 2),
        }
    }
    match interrupt::guarded(move || measure(quick, json)) {
        Ok(code) => code,
        Err(error) => complain(&format!("The benchmark failed: {error:#}"), 1),
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}

fn measure(quick: bool, json: Option<PathBuf>) -> Result<ExitCode> {
    let plan = if quick { bench::QUICK } else { bench::PLAN };
    let report = bench::run(&plan, &|what| drop(writeln!(std::io::stderr(), "… {what}")))?;
    let file = json
        .or_else(|| Some(clients::target_dir()?.join("bench-window.json")))
        .context("no place for the JSON; name one with --json")?;
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?).with_context(|| format!("write {}", file.display()))?;
    write!(std::io::stdout(), "{}\nJSON: {}\n", report.markdown(), file.display())?;
    Ok(ExitCode::SUCCESS)
}
