//! `cargo xtask test`: everything that the continuous integration runs.

use crate::build::{SELECTION, cargo, root};
use crate::check_cross;
use crate::commands::finish;
use crate::output::say;
use crate::steps::Steps;
use crate::system::{BASE, TESTS, find, install_missing, is_root, may_install};
use crate::{usage, window};
use anyhow::{Context, Result};
use pico_args::Arguments;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The name of a part of the tests, and nextest's filter for it.
type Part = (&'static str, &'static str);
const UNIT: Part = ("unit and kernel tests", "not (package(hamn-e2e) or package(hamn-model-tests) or package(hamn-gui-tests))");
const MODEL: Part = ("model tests", "package(hamn-model-tests)");
const END_TO_END: Part = ("end-to-end tests in network namespaces", "package(hamn-e2e)");
/// The cases of the catalogue alone: what `--engine` runs again.
const CATALOGUE: &str = "package(hamn-e2e) and binary(catalogue)";
/// The data planes that have a name, and the variable that names one to the helper and to the gateway.
const ENGINES: [&str; 3] = ["hamn", "gotatun", "kernel"];
const ENGINE: &str = "HAMN_TUNNEL_ENGINE";

/// Runs the steps.
pub fn test(mut arguments: Arguments) -> Result<ExitCode> {
    if let Some(engine) = arguments.opt_value_from_str::<_, String>("--engine")? {
        finish(arguments)?;
        return on_engine(&engine);
    }
    let quick = arguments.contains("--quick");
    let cross = !arguments.contains("--no-cross") && !quick;
    finish(arguments)?;
    install_missing(if quick { &[BASE, TESTS] } else { &[BASE, TESTS, window::BUILD, window::LOOK] })?;
    let sudo = sudo()?;
    let nextest = have_nextest()?;
    let mut steps = Steps::default();
    steps.run("format", cargo("fmt --all --check"))?;
    steps.run("lints", cargo(&format!("clippy {SELECTION} --all-targets --quiet -- -D warnings")))?;
    if find("cargo-deny").is_some() {
        steps.run("dependencies", cargo("deny --offline --log-level error check bans licenses sources"))?;
    } else {
        steps.skip("dependencies", "cargo-deny is not installed");
    }
    let built = steps.run("build", cargo(&format!("build {SELECTION} --bins --tests --quiet")))?;
    let parts: &[Part] = if quick { &[UNIT] } else { &[UNIT, MODEL, END_TO_END] };
    if !nextest && built {
        let all = if quick { "--lib --bins" } else { "" };
        let command =
            cargo(&format!("test {SELECTION} --exclude hamn-gui-tests {all} --quiet --no-fail-fast -- --test-threads=1"));
        steps.run("tests, with cargo test", command.map(|command| as_root(command, sudo.as_deref())))?;
        return Ok(steps.summary());
    }
    for (name, filter) in parts {
        if built {
            run_part(&mut steps, name, filter, sudo.as_deref())?;
        } else {
            steps.skip(name, "the build failed");
        }
    }
    if !quick {
        test_window(&mut steps, built, sudo.as_deref())?;
    }
    if cross {
        check_cross::run_if_possible(&mut steps)?;
    }
    Ok(steps.summary())
}

/// Every case of the catalogue with this WireGuard data plane in the helper and in the gateway.
fn on_engine(engine: &str) -> Result<ExitCode> {
    if !ENGINES.contains(&engine) {
        return Err(usage(&format!("no data plane is called {engine}; there are {}", ENGINES.join(", "))));
    }
    install_missing(&[BASE, TESTS])?;
    let sudo = sudo()?;
    let mut steps = Steps::default();
    let name = format!("end-to-end cases on {engine}");
    if !have_nextest()? {
        steps.skip(&name, "needs cargo-nextest");
    } else if steps.run("build", cargo(&format!("build {SELECTION} --bins --tests --quiet")))? {
        run_part_with(&mut steps, &name, CATALOGUE, |mut command| {
            command.env(ENGINE, engine);
            as_root(command, sudo.as_deref())
        })?;
    }
    Ok(steps.summary())
}

/// The page in two engines without a helper; then the real window with the real helper and the real provider.
fn test_window(steps: &mut Steps, built: bool, sudo: Option<&Path>) -> Result<()> {
    const REAL: &str = "window: with the real helper";
    window::install_page_tools()?;
    steps.run("window: types, messages, page", window::npm("run --silent check"))?;
    steps.run("window: unit tests", window::npm("test --silent"))?;
    let page = steps.run("window: page is built", window::npm("run --silent build"))?;
    steps.run("window: layout in Chromium", window::npm("run --silent test:browser"))?;
    if !page {
        steps.skip(REAL, "the page could not be built");
        return Ok(());
    }
    let words = window::SELECTION;
    steps.run("window: lints", cargo(&format!("clippy {words} --all-targets --quiet -- -D warnings")))?;
    let good = steps.run("window: build", cargo(&format!("build {words} --bins --tests --quiet")))?;
    steps.run("window: bridge tests", cargo(&format!("test {words} --quiet")))?;
    if !good || !built {
        steps.skip(REAL, "the build failed");
        return Ok(());
    }
    let driver = window::tauri_driver()?;
    run_part_with(steps, REAL, "package(hamn-gui-tests)", |mut command| {
        if let Some(driver) = &driver {
            command.env("HAMN_TAURI_DRIVER", driver);
        }
        as_root(command, sudo)
    })
}

fn run_part(steps: &mut Steps, name: &str, filter: &str, sudo: Option<&Path>) -> Result<()> {
    run_part_with(steps, name, filter, |command| as_root(command, sudo))
}

fn run_part_with(steps: &mut Steps, name: &str, filter: &str, change: impl FnOnce(Command) -> Command) -> Result<()> {
    // nextest keeps its reports here, wherever the build is.
    let report = root()?.join("target/nextest/default/junit.xml");
    let _ = std::fs::remove_file(&report);
    let words = "--config-file tests/nextest.toml --status-level fail --final-status-level slow";
    let mut command = cargo(&format!("nextest run {SELECTION} {words}"))?;
    command.args(["-E", filter]);
    let note = || Ok(std::fs::read_to_string(&report).map_or_else(|_| "no report".to_owned(), |text| counts(&text)));
    steps.run_with(name, Ok(change(command)), note)?;
    Ok(())
}

/// How many tests nextest's report has, how many failed or passed only when tried again, and which took the longest.
pub fn counts(report: &str) -> String {
    let cases: Vec<&str> = report.split("<testcase ").skip(1).collect();
    let with = |tags: &[&str]| cases.iter().filter(|case| tags.iter().any(|tag| case.contains(tag))).count();
    let (failed, again) = (with(&["<failure", "<error"]), with(&["<flakyFailure", "<flakyError"]));
    let mut text = format!("{} passed", cases.len() - failed);
    for (count, word) in [(failed, "failed"), (again, "only when tried again")] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    let attribute = |case: &str, name: &str| {
        let (_, after) = case.split_once(&format!("{name}=\""))?;
        Some(after.split_once('"')?.0.to_owned())
    };
    let seconds = |case: &&str| attribute(case, " time").and_then(|time| time.parse::<f64>().ok()).unwrap_or_default();
    if let Some(longest) = cases.iter().copied().max_by(|one, other| seconds(one).total_cmp(&seconds(other))) {
        let name = attribute(longest, "name").unwrap_or_default();
        text.push_str(&format!("; longest {name} {:.0} s", seconds(&longest)));
    }
    text
}

/// Namespaces and the kernel's firewall need root. None when we are root, else sudo, which asks for the password now and not in
/// the middle of a run.
fn sudo() -> Result<Option<PathBuf>> {
    if is_root() {
        return Ok(None);
    }
    let sudo = find("sudo").context("the tests make network namespaces and need root: run this as root, or install sudo")?;
    say("The tests make network namespaces and need root: they are run through sudo (the build is not).");
    let allowed = Command::new(&sudo).arg("-v").status().context("run sudo")?.success();
    allowed.then_some(Some(sudo)).context("sudo is not allowed: run this as root")
}

/// The same command, with each test program run through sudo.
fn as_root(mut command: Command, sudo: Option<&Path>) -> Command {
    if let Some(sudo) = sudo {
        let mut runner = sudo.as_os_str().to_owned();
        runner.push(" -E");
        command.env(format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", std::env::consts::ARCH.to_uppercase()), runner);
    }
    command
}

fn have_nextest() -> Result<bool> {
    if find("cargo-nextest").is_some() || cargo("nextest --version")?.output().is_ok_and(|output| output.status.success()) {
        return Ok(true);
    }
    if !may_install() {
        say("cargo-nextest is missing: the tests run one after the other with cargo test.");
        return Ok(false);
    }
    say("Installing cargo-nextest with cargo (once; some minutes).");
    let mut install = cargo("install cargo-nextest --locked --quiet")?;
    let installed = install.current_dir(root()?).env_remove("CARGO_TARGET_DIR").status().is_ok_and(|status| status.success());
    if !installed {
        say("cargo-nextest could not be installed: the tests run one after the other with cargo test.");
    }
    Ok(installed)
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn a_report_is_counted() {
        let case = |name: &str, time: &str, inside: &str| {
            format!("<testcase name=\"{name}\" classname=\"c\" timestamp=\"now\" time=\"{time}\">{inside}</testcase>")
        };
        let report =
            [case("a", "0.5", ""), case("b", "12.3", "<flakyFailure/>"), case("c", "2", "<failure type=\"test failure\"/>")];
        assert_eq!(counts(&report.concat()), "2 passed, 1 failed, 1 only when tried again; longest b 12 s");
        assert_eq!(counts(&report[0]), "1 passed; longest a 0 s");
        assert_eq!(counts(""), "0 passed");
    }
}
