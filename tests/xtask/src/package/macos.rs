//! `cargo xtask package macos`: a flat package, made on Linux. Apple's linker and frameworks are not here, so the programs come from a Mac, in
//! the directory that `--binaries` names: `hamn`, `hamn-helper` and, when there is a window, `hamn-gui` or a signed `Hamn.app`.

mod bom;
mod cpio;
mod flat;
mod tree;

use super::{epoch, output, tool};
use crate::build::target_dir;
use crate::commands::finish;
use crate::output::{answer, say};
use crate::system::{Need, find, install_missing};
use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What packing needs: libarchive's tar, which writes xar archives.
pub const NEEDS: &[Need] = &[("bsdtar", "libarchive-tools"), ("gzip", "gzip")];

/// The package's name for the system's receipts.
pub const IDENTIFIER: &str = "org.hamn.client";

/// What the package is made of.
#[derive(Debug)]
pub struct Release {
    /// As cargo says it.
    version: String,
    /// Seconds since 1970 that every file gets.
    epoch: u64,
    /// The programs, built on a Mac.
    binaries: PathBuf,
    /// Where everything is put together.
    work: PathBuf,
}

/// Packs what `--binaries DIR` has into `--to DIR`; `--sign-macos CERT` signs the package by `rcodesign`, with key and certificate
/// of one PEM file and the time stamp of `--timestamp-url URL` (`none` leaves it out). `--info` prints the window's `Info.plist`, for the Mac
/// that signs the window before it is packed.
pub fn package(mut arguments: Arguments) -> Result<ExitCode> {
    if arguments.contains("--info") {
        finish(arguments)?;
        answer(tree::information(env!("CARGO_PKG_VERSION"))?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let binaries: PathBuf = arguments.value_from_str("--binaries")?;
    let to: Option<PathBuf> = arguments.opt_value_from_str("--to")?;
    let certificate: Option<PathBuf> = arguments.opt_value_from_str("--sign-macos")?;
    let time_stamps: Option<String> = arguments.opt_value_from_str("--timestamp-url")?;
    let version: Option<String> = arguments.opt_value_from_str("--package-version")?;
    finish(arguments)?;
    install_missing(&[NEEDS])?;
    ensure!(time_stamps.is_none() || certificate.is_some(), "--timestamp-url belongs to --sign-macos");
    ensure!(
        certificate.is_none() || find("rcodesign").is_some(),
        "rcodesign is missing: `cargo install --locked apple-codesign`"
    );
    let to = std::path::absolute(to.map_or_else(|| Ok(target_dir()?.join("package")), Ok::<_, anyhow::Error>)?)?;
    fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
    let version = version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    ensure!(is_version(&version), "{version:?} is not a version: numbers with dots between them");
    let work = to.join(format!(".work-{}", std::process::id()));
    let release = Release { version, epoch: epoch()?, binaries: std::path::absolute(binaries)?, work };
    let signing = certificate.as_deref().map(|certificate| (certificate, time_stamps.as_deref()));
    let made = make(&release, &to, signing);
    let _ = fs::remove_dir_all(&release.work);
    answer(&made?.display().to_string());
    Ok(ExitCode::SUCCESS)
}

/// Packs and signs beside the place where the package belongs: one that could not be signed never gets there.
fn make(release: &Release, to: &Path, signing: Option<(&Path, Option<&str>)>) -> Result<PathBuf> {
    let beside = release.work.join("made");
    fs::create_dir_all(&beside).with_context(|| format!("create {}", beside.display()))?;
    let made = flat::build(release, &beside)?;
    match signing {
        Some((certificate, time_stamps)) => sign(&made, certificate, time_stamps)?,
        None => say("The package is not signed: Gatekeeper refuses it, `sudo installer -pkg` takes it."),
    }
    let path = to.join(made.file_name().context("a package without a name")?);
    fs::rename(&made, &path).with_context(|| format!("put {} into its place", path.display()))?;
    Ok(path)
}

/// What the scripts can compare.
fn is_version(text: &str) -> bool {
    text.split('.').count() <= 4
        && text.split('.').all(|part| !part.is_empty() && part.len() < 9 && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Signs the package in place. The programs inside are signed on the Mac that builds them.
fn sign(package: &Path, certificate: &Path, time_stamps: Option<&str>) -> Result<()> {
    let mut command = tool("rcodesign")?;
    command.arg("sign").arg("--pem-file").arg(certificate);
    if let Some(url) = time_stamps {
        command.args(["--timestamp-url", url]);
    }
    output(command.arg(package)).map(drop)
}

#[cfg(test)]
mod tests;
