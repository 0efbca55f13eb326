//! The commands of xtask.

use crate::build::{cargo, programs, programs_up_to_date, root, target_dir};
use crate::output::say;
use crate::system::{BASE, BENCH, TESTS, find, install_missing, may_install, with_namespaces};
use anyhow::{Context, Result, bail};
use pico_args::Arguments;
use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Builds everything and runs `hamn-demo`, which tells the story.
pub fn demo(arguments: Arguments) -> Result<ExitCode> {
    install_missing(&[BASE])?;
    run_program("hamn-demo", arguments.finish())
}

/// Builds everything for release, gets gotatun's own program to compare with, and runs `hamn-bench`.
pub fn bench(arguments: Arguments) -> Result<ExitCode> {
    install_missing(&[BASE, BENCH])?;
    stock_gotatun()?;
    say("Building for release; the first time this takes some minutes.");
    let packages = "-p hamn-helper -p hamn-cli -p hamn-provider -p hamn-e2e";
    if !cargo(&format!("build --release --quiet {packages} --bins"))?.status().context("run cargo")?.success() {
        bail!("the build failed");
    }
    let programs = target_dir()?.join("release");
    let mut command = with_namespaces(&programs.join("hamn-bench"))?;
    let status = command.args(arguments.finish()).env("HAMN_BIN_DIR", &programs).status().context("run hamn-bench")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Installs the command-line program of the WireGuard engine that Hamn builds on, of the same version, beside the build.
/// Without it the benchmark says what it could not measure.
fn stock_gotatun() -> Result<()> {
    const VERSION: &str = "0.10.2";
    let place = target_dir()?.join("bench-tools");
    if place.join("bin/gotatun").is_file() || !may_install() {
        return Ok(());
    }
    say("Installing gotatun-cli to compare with (once; some minutes).");
    let mut install = cargo(&format!("install gotatun-cli --version {VERSION} --locked --quiet --root"))?;
    let installed = install.arg(&place).env_remove("CARGO_TARGET_DIR").status().is_ok_and(|status| status.success());
    if !installed {
        say("gotatun-cli could not be installed; its row will be missing.");
    }
    Ok(())
}

fn run_program(name: &str, arguments: Vec<OsString>) -> Result<ExitCode> {
    let fresh = !programs()?.join(name).is_file();
    if fresh {
        say("Building; the first time this takes some minutes.");
    }
    programs_up_to_date()?;
    let mut command = with_namespaces(&programs()?.join(name))?;
    let status = command.args(arguments).env("HAMN_BIN_DIR", programs()?).status().with_context(|| format!("run {name}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// One line of the summary.
struct Step {
    name: &'static str,
    good: bool,
    took: Duration,
}

/// Runs steps, all of them even when one fails, and sums up.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn run(&mut self, name: &'static str, command: Result<Command>) -> Result<()> {
        say(&format!("\n=== {name}"));
        let start = Instant::now();
        let good = command?.status().with_context(|| format!("run step {name}"))?.success();
        self.0.push(Step { name, good, took: start.elapsed() });
        Ok(())
    }

    fn summary(&self) -> ExitCode {
        say("\n=== summary");
        for step in &self.0 {
            say(&format!("{:>4}  {:<44} {:>7.1} s", if step.good { "ok" } else { "FAIL" }, step.name, step.took.as_secs_f64()));
        }
        if self.0.iter().all(|step| step.good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Everything that the continuous integration runs.
pub fn test(mut arguments: Arguments) -> Result<ExitCode> {
    let quick = arguments.contains("--quick");
    let rest = arguments.finish();
    if !rest.is_empty() {
        bail!("test takes only --quick, not {rest:?}");
    }
    install_missing(&[BASE, TESTS])?;
    let nextest = have_nextest()?;
    let mut steps = Steps::default();
    steps.run("format", cargo("fmt --all --check"))?;
    steps.run("lints", cargo("clippy --workspace --all-targets --quiet -- -D warnings"))?;
    if find("cargo-deny").is_some() && root()?.join("deny.toml").is_file() {
        steps.run("dependencies (cargo-deny)", cargo("deny --offline check bans licenses sources"))?;
    }
    steps.run("build", cargo("build --workspace --bins --quiet"))?;
    steps.run("unit tests", tests(nextest, "--workspace --exclude hamn-e2e --exclude hamn-model-tests"))?;
    if !quick {
        steps.run("model tests", tests(nextest, "--package hamn-model-tests"))?;
        steps.run("end-to-end tests in network namespaces", tests(nextest, "--package hamn-e2e"))?;
    }
    Ok(steps.summary())
}

/// Namespaces need root; the tests' programs are run through sudo when we are not.
fn tests(nextest: bool, packages: &str) -> Result<Command> {
    let words = if nextest {
        format!(
            "nextest run --config-file tests/nextest.toml --no-fail-fast --status-level fail --final-status-level slow {packages}"
        )
    } else {
        format!("test --quiet --no-fail-fast {packages}")
    };
    let mut command = cargo(&words)?;
    if !crate::system::is_root() {
        let sudo = find("sudo").context("the tests need root, and there is no sudo")?;
        let mut runner = sudo.into_os_string();
        runner.push(" -E");
        command.env(format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", std::env::consts::ARCH.to_uppercase()), runner);
    }
    Ok(command)
}

fn have_nextest() -> Result<bool> {
    if find("cargo-nextest").is_some() || cargo("nextest --version")?.output().is_ok_and(|output| output.status.success()) {
        return Ok(true);
    }
    say("Installing cargo-nextest (once; some minutes). Without it the tests run with cargo test.");
    let installed = cargo("install cargo-nextest --locked --quiet")?.status().is_ok_and(|status| status.success());
    if !installed {
        say("cargo-nextest could not be installed; using cargo test.");
    }
    Ok(installed)
}

/// Release programs and the files of `installers/linux`, in one archive.
pub fn package(arguments: Arguments) -> Result<ExitCode> {
    finish(arguments)?;
    let target = target_dir()?;
    if !cargo("build --release -p hamn-helper -p hamn-cli -p hamn-provider --bins")?.status()?.success() {
        bail!("the build failed");
    }
    let name = format!("hamn-{}-linux-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let stage = target.join("package").join(&name);
    let _ = std::fs::remove_dir_all(&stage);
    std::fs::create_dir_all(&stage).with_context(|| format!("create {}", stage.display()))?;
    for program in ["hamn", "hamn-helper", "hamn-provider"] {
        std::fs::copy(target.join("release").join(program), stage.join(program)).with_context(|| format!("copy {program}"))?;
    }
    let copied =
        Command::new("cp").arg("-r").arg(root()?.join("installers/linux")).arg(root()?.join("LICENSE")).arg(&stage).status()?;
    let archive = target.join("package").join(format!("{name}.tar.gz"));
    let packed = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(target.join("package")).arg(&name).status()?;
    if !copied.success() || !packed.success() {
        bail!("the archive could not be written");
    }
    say(&format!("{}", archive.display()));
    Ok(ExitCode::SUCCESS)
}

/// The crates that have no file of one system only: they must type-check everywhere.
const PORTABLE: &str = "-p hamn-core";

/// Type-checks the portable crates for other systems.
pub fn check_cross(mut arguments: Arguments) -> Result<ExitCode> {
    let one: Option<String> = arguments.opt_value_from_str("--target")?;
    finish(arguments)?;
    let all = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"].map(str::to_owned).to_vec();
    let mut steps = Steps::default();
    for target in one.map_or(all, |target| vec![target]) {
        let added = Command::new("rustup").args(["target", "add", &target]).status().is_ok_and(|status| status.success());
        if !added {
            say(&format!("rustup cannot add {target}; trying with what is installed."));
        }
        let name: &'static str = String::leak(target.clone());
        steps.run(name, cargo(&format!("check --quiet {PORTABLE} --target {target}")))?;
    }
    Ok(steps.summary())
}

fn finish(arguments: Arguments) -> Result<()> {
    let rest = arguments.finish();
    if !rest.is_empty() {
        bail!("unknown arguments {rest:?}");
    }
    Ok(())
}
