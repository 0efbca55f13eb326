//! The commands of xtask.

use crate::build::{build_programs, cargo, programs, root, target_dir};
use crate::output::say;
use crate::steps::Steps;
use crate::system::{BASE, BENCH, install_missing, may_install, with_namespaces};
use crate::usage;
use anyhow::{Context, Result, bail};
use pico_args::Arguments;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

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
    build_programs("--release")?;
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
    build_programs("")?;
    let mut command = with_namespaces(&programs()?.join(name))?;
    let status = command.args(arguments).env("HAMN_BIN_DIR", programs()?).status().with_context(|| format!("run {name}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
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
    say(&format!("{}\nPackages for apt and dnf do not exist yet, nor any for Windows and macOS.", archive.display()));
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
        steps.run(&target, cargo(&format!("check --quiet {PORTABLE} --target {target}")))?;
    }
    say("hamn-core is all that is portable today; the other crates are for Linux.");
    Ok(steps.summary())
}

/// Everything is read: what is left is a mistake.
pub fn finish(arguments: Arguments) -> Result<()> {
    let rest = arguments.finish();
    if !rest.is_empty() {
        return Err(usage(&format!("unknown arguments {rest:?}")));
    }
    Ok(())
}
