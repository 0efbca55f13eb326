//! `cargo xtask package`: the deb and rpm of the helper and of the window, from one description of their contents; `package windows` and
//! `package macos`: the installers of the other systems.
//! Packing reads nothing from a network; compiling reads nothing either once cargo and npm have fetched what they need.

mod contents;
mod deb;
mod licences;
mod macos;
mod policy;
mod rpm;
mod stage;
pub mod windows;

use crate::build::{build_programs, cargo, root, target_dir};
use crate::commands::finish;
use crate::output::{answer, say};
use crate::system::{Need, find, install_missing};
use crate::{usage, window};
use anyhow::{Context, Result, bail, ensure};
use contents::{HELPER, Package, WINDOW};
use pico_args::Arguments;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What packing needs besides the compiler: Debian's package tools and rpm's, and the judges of two small files.
const NEEDS: &[Need] = &[
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("rpmbuild", "rpm"),
    ("strip", "binutils"),
    ("desktop-file-validate", "desktop-file-utils"),
    ("appstreamcli", "appstream"),
];

/// The two kinds of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For apt and dpkg.
    Deb,
    /// For dnf, zypper and rpm.
    Rpm,
}

/// What all packages of one run have in common.
#[derive(Debug)]
pub struct Release {
    /// As cargo says it, but with `~` before a pre-release, which both formats sort before the release.
    version: String,
    /// Seconds since 1970 that every file and header gets, so that the same input gives the same bytes.
    epoch: u64,
    /// Who answers for the packages: `Name <address>`.
    maintainer: String,
    /// Fast and large instead of slow and small.
    quick: bool,
    /// Where the compiled programs are.
    programs: PathBuf,
    /// Where everything is put together.
    work: PathBuf,
}

/// Counts the packagings of one version.
const REVISION: &str = "1";

impl Release {
    /// With the packaging's revision.
    fn full_version(&self) -> String {
        format!("{}-{REVISION}", self.version)
    }

    /// The packages' date in a format of `date`.
    fn date(&self, format: &str) -> Result<String> {
        let at = format!("@{}", self.epoch);
        let mut command = Command::new("date");
        Ok(output(command.env("LC_ALL", "C").args(["-u", "-d", &at, format]))?.trim().to_owned())
    }
}

/// Builds the programs (unless `--from DIR` has them) and packs them into `--to DIR` (default: `package` in the target directory).
/// `--dev` takes the development build, `--helper-only` leaves the window out, `--package-version` is for tests of upgrades.
pub fn package(mut arguments: Arguments) -> Result<ExitCode> {
    match arguments.subcommand()?.as_deref() {
        Some("windows") => return windows::package(arguments),
        Some("macos") => return macos::package(arguments),
        Some("templates") => return windows::templates(arguments),
        Some(other) => return Err(usage(&format!("unknown system {other}"))),
        None => {}
    }
    let quick = arguments.contains("--dev");
    let helper_only = arguments.contains("--helper-only");
    let from: Option<PathBuf> = arguments.opt_value_from_str("--from")?;
    let to: Option<PathBuf> = arguments.opt_value_from_str("--to")?;
    let version: Option<String> = arguments.opt_value_from_str("--package-version")?;
    finish(arguments)?;
    install_missing(if from.is_some() || helper_only { &[NEEDS] } else { &[NEEDS, window::BUILD] })?;
    let packages: &[&Package] = if helper_only { &[&HELPER] } else { &[&HELPER, &WINDOW] };
    let programs = match from {
        Some(directory) => std::path::absolute(directory)?,
        None => compile(quick, !helper_only)?,
    };
    let to = std::path::absolute(to.map_or_else(|| Ok(target_dir()?.join("package")), Ok::<_, anyhow::Error>)?)?;
    std::fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
    let work = to.join(format!(".work-{}", std::process::id()));
    let version = version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()).replace('-', "~");
    ensure!(is_version(&version), "{version:?} is not a version");
    let maintainer = std::env::var("HAMN_MAINTAINER").unwrap_or_else(|_| "Hamn developers <packages@hamn.invalid>".to_owned());
    ensure!(maintainer.contains(" <") && maintainer.ends_with('>'), "HAMN_MAINTAINER must look like `Name <address>`");
    let release = Release { version, epoch: epoch()?, maintainer, quick, programs, work };
    let made = packages.iter().try_fold(Vec::new(), |mut made, package| {
        made.extend([deb::build(package, &release, &to)?, rpm::build(package, &release, &to)?]);
        Ok::<_, anyhow::Error>(made)
    });
    let _ = std::fs::remove_dir_all(&release.work);
    for path in made? {
        answer(&path.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// What both formats take as a version, and what is safe in a file name.
fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_alphanumeric() || ".~+".contains(c))
}

/// Compiles the programs and returns the directory that has them.
fn compile(quick: bool, window: bool) -> Result<PathBuf> {
    if quick {
        if window {
            window::build("--locked")?;
        }
        build_programs("--locked")?;
        return Ok(target_dir()?.join("debug"));
    }
    if window {
        window::build_page()?;
        build_release(window::SELECTION)?;
    }
    build_release("-p hamn-helper -p hamn-cli --bins")?;
    Ok(target_dir()?.join("release"))
}

/// Compiles for people: the directories of the machine that builds stay out of the programs.
fn build_release(words: &str) -> Result<()> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).context("HOME is not set")?;
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let flags = format!("{given} --remap-path-prefix={}=/cargo --remap-path-prefix={}=/hamn", home.display(), root()?.display());
    let mut command = cargo(&format!("build --locked --release {words}"))?;
    if !command.env("RUSTFLAGS", flags.trim()).status().context("run cargo")?.success() {
        bail!("the build failed");
    }
    Ok(())
}

/// `SOURCE_DATE_EPOCH`, else the time of the last commit, else that of the changelog.
fn epoch() -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}"));
    }
    let root = root()?;
    let mut git = Command::new("git");
    let committed = output(git.args(["log", "-1", "--format=%ct"]).current_dir(&root)).ok();
    if let Some(epoch) = committed.and_then(|text| text.trim().parse().ok()) {
        return Ok(epoch);
    }
    say("There is neither SOURCE_DATE_EPOCH nor a commit: the packages get the changelog's time.");
    let modified = std::fs::metadata(root.join("CHANGELOG.md")).context("read CHANGELOG.md")?.modified()?;
    Ok(modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// What a program prints; it must succeed.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed no text"))
}

/// A file that must be readable, as text.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// A maintainer script: interpreter, what all of them share, then its own part.
fn script(format: Format, name: &str) -> Result<String> {
    let scripts = root()?.join("installers/linux/scripts");
    let folder = match format {
        Format::Deb => "deb",
        Format::Rpm => "rpm",
    };
    let (common, own) = (read(&scripts.join("common.sh"))?, read(&scripts.join(folder).join(name))?);
    Ok(format!("#!/bin/sh\nset -e\n\n{common}\n{own}"))
}

/// Programs found in the administrator's directories too.
fn tool(name: &str) -> Result<Command> {
    Ok(Command::new(find(name).with_context(|| format!("{name} is missing"))?))
}

#[cfg(test)]
mod tests;
