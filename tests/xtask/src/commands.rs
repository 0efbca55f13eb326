//! The commands of xtask.

use crate::build::{build_programs, cargo, programs, root, target_dir};
use crate::output::say;
use crate::system::{BASE, BENCH, install_missing, may_install, with_namespaces};
use crate::{usage, window};
use anyhow::{Context, Result, bail};
use pico_args::Arguments;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Builds everything and runs `hamn-demo`, which tells the story, or shows it in the window.
pub fn demo(arguments: Arguments) -> Result<ExitCode> {
    let words = arguments.finish();
    if words.iter().any(|word| word == "--gui") {
        let screen =
            ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|text| !text.is_empty()));
        let driven = !screen || words.iter().any(|word| word == "--screenshot");
        install_missing(if driven { &[BASE, window::BUILD, window::LOOK] } else { &[BASE, window::BUILD] })?;
        say("Building the window; the first time this takes some minutes.");
        window::build("")?;
    } else {
        install_missing(&[BASE])?;
    }
    run_program("hamn-demo", words)
}

/// Builds everything for release, gets gotatun's own program to compare with, and runs `hamn-bench`; `bench gui` measures the window,
/// `bench tunnel` the WireGuard engine.
pub fn bench(mut arguments: Arguments) -> Result<ExitCode> {
    match arguments.subcommand()?.as_deref() {
        Some("gui") => return bench_window(arguments),
        Some("tunnel") => return bench_tunnel(arguments),
        Some(other) => return Err(usage(&format!("unknown benchmark {other}"))),
        None => {}
    }
    install_missing(&[BASE, BENCH])?;
    stock_gotatun()?;
    say("Building for release; the first time this takes some minutes.");
    build_programs("--release")?;
    let programs = target_dir()?.join("release");
    let mut command = with_namespaces(&programs.join("hamn-bench"))?;
    let status = command.args(arguments.finish()).env("HAMN_BIN_DIR", &programs).status().context("run hamn-bench")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds the window and the programs for release and runs `hamn-bench-window`.
fn bench_window(arguments: Arguments) -> Result<ExitCode> {
    install_missing(&[BASE, window::BUILD, window::LOOK])?;
    say("Building for release; the first time this takes many minutes.");
    window::build("--release")?;
    build_programs("--release")?;
    let programs = target_dir()?.join("release");
    let mut command = with_namespaces(&programs.join("hamn-bench-window"))?;
    let status = command.args(arguments.finish()).env("HAMN_BIN_DIR", &programs).status().context("run hamn-bench-window")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds the WireGuard programs for release, gets others to compare with, and runs `hamn-bench-tunnel` with all further words.
fn bench_tunnel(arguments: Arguments) -> Result<ExitCode> {
    install_missing(&[BASE, BENCH, &[("ping", "iputils-ping"), ("ethtool", "ethtool")]])?;
    stock_gotatun()?;
    let script = root()?.join("tests/bench-tunnel/fetch-wireguard-go.sh");
    let fetched = || Command::new(script).arg(target_dir()?.join("bench-tools")).status().context("fetch wireguard-go");
    if may_install() && !fetched().is_ok_and(|status| status.success()) {
        say("A newer wireguard-go could not be fetched; ratios are to the installed one, unless --wireguard-go names another.");
    }
    say("Building for release; the first time this takes some minutes.");
    if !cargo("build --quiet --release -p hamn-bench-tunnel --bins")?.status().context("run cargo")?.success() {
        bail!("the build failed");
    }
    let programs = target_dir()?.join("release");
    let mut command = with_namespaces(&programs.join("hamn-bench-tunnel"))?;
    let status = command.args(arguments.finish()).env("HAMN_BIN_DIR", &programs).status().context("run hamn-bench-tunnel")?;
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
    build_programs("")?;
    let mut command = with_namespaces(&programs()?.join(name))?;
    let status = command.args(arguments).env("HAMN_BIN_DIR", programs()?).status().with_context(|| format!("run {name}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Everything is read: what is left is a mistake.
pub fn finish(arguments: Arguments) -> Result<()> {
    let rest = arguments.finish();
    if !rest.is_empty() {
        return Err(usage(&format!("unknown arguments {rest:?}")));
    }
    Ok(())
}
