//! `cargo xtask package windows`: the MSI, and the setup program around it. Both are made on Linux, by `wixl`, `msibuild` and `makensis`.

mod msi;
mod setup;
pub mod sign;
mod tables;
mod wintun;

use super::{epoch, licences, output, policy, read, stage, tool};
use crate::build::{root, target_dir};
use crate::commands::finish;
use crate::output::{answer, say};
use crate::system::{Need, install_missing};
use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use sign::Signer;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What packing for Windows needs.
pub const NEEDS: &[Need] = &[
    ("wixl", "wixl"),
    ("msibuild", "msitools"),
    ("makensis", "nsis"),
    ("x86_64-w64-mingw32-strip", "binutils-mingw-w64-x86-64"),
    ("sha256sum", "coreutils"),
];

/// The window, the library that finds WebView2 for it, and that library's licence.
const WINDOW: [&str; 3] = ["hamn-gui.exe", "WebView2Loader.dll", "WebView2Loader-LICENSE.txt"];

/// The target whose programs are packed.
pub const TARGET: &str = "x86_64-pc-windows-gnu";

/// What both installers of one run have in common.
#[derive(Debug)]
pub struct Release {
    /// Three numbers: the MSI's whole version.
    version: String,
    /// Seconds since 1970 that every file gets.
    epoch: u64,
    /// Where the compiled programs are.
    programs: PathBuf,
    /// The driver's DLL and its licence.
    driver: wintun::Driver,
    /// The libraries' licences, as text.
    licences: String,
    /// Where everything is put together.
    work: PathBuf,
    /// Signs programs and installers.
    signer: Option<Signer>,
}

/// Packs what `--from DIR` has (default: the cross build's programs) into `--to DIR`, signed when `--sign-windows CERT` says with what.
pub fn package(mut arguments: Arguments) -> Result<ExitCode> {
    let quick = arguments.contains("--dev");
    let from: Option<PathBuf> = arguments.opt_value_from_str("--from")?;
    let to: Option<PathBuf> = arguments.opt_value_from_str("--to")?;
    let certificate: Option<PathBuf> = arguments.opt_value_from_str("--sign-windows")?;
    let version: Option<String> = arguments.opt_value_from_str("--package-version")?;
    finish(arguments)?;
    install_missing(&[NEEDS])?;
    if certificate.is_some() {
        install_missing(&[sign::NEEDS])?;
    }
    let programs = match from {
        Some(directory) => std::path::absolute(directory)?,
        None => target_dir()?.join("cross/target").join(TARGET).join(if quick { "debug" } else { "release" }),
    };
    let to = std::path::absolute(to.map_or_else(|| Ok(target_dir()?.join("package")), Ok::<_, anyhow::Error>)?)?;
    fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
    let (mut packages, window) = (vec!["hamn-cli", "hamn-helper"], programs.join(WINDOW[0]).is_file());
    if window {
        packages.push("hamn-gui");
    }
    let release = Release {
        version: msi_version(&version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()))?,
        epoch: epoch()?,
        programs,
        driver: wintun::find_driver()?,
        licences: licences::texts_for(&packages, window, Some(TARGET))?,
        work: to.join(format!(".work-{}", std::process::id())),
        signer: certificate.map(Signer::new).transpose()?,
    };
    let made = build(&release, &to);
    let _ = fs::remove_dir_all(&release.work);
    for path in made? {
        answer(&path.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes both installers.
fn build(release: &Release, to: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(&release.work).with_context(|| format!("create {}", release.work.display()))?;
    let window = lay_out(release)?;
    let msi = msi::build(release, window, to)?;
    let setup = setup::build(release, &msi, to)?;
    Ok(vec![msi, setup])
}

/// Puts every file that the MSI has into the work directory, under its installed name. True when the window is among them.
fn lay_out(release: &Release) -> Result<bool> {
    let (work, root) = (&release.work, root()?);
    let window = release.programs.join(WINDOW[0]).is_file();
    let mut programs = vec!["hamn.exe", "hamn-helper.exe"];
    if window {
        programs.push(WINDOW[0]);
    } else {
        say("There is no hamn-gui.exe: these installers have no window.");
    }
    for name in programs {
        let (from, to) = (release.programs.join(name), work.join(name));
        ensure!(
            from.is_file(),
            "{} does not exist: it has not been built (`cargo xtask check-cross` builds for --dev)",
            from.display()
        );
        // With -p the program keeps the time that its linker gave it.
        output(tool("x86_64-w64-mingw32-strip")?.args(["-p", "--strip-debug", "-o"]).arg(&to).arg(&from))?;
        if let Some(signer) = &release.signer {
            signer.sign(&to, "Hamn")?;
        }
    }
    if window {
        copy(&release.programs.join(WINDOW[1]), &work.join(WINDOW[1]))?;
        fs::write(work.join(WINDOW[2]), with_carriage_returns(&read(&root.join("installers/windows").join(WINDOW[2]))?))?;
    }
    copy(&release.driver.library, &work.join("wintun.dll"))?;
    copy(&release.driver.licence, &work.join("wintun-LICENSE.txt"))?;
    copy(&root.join("src-tauri/icons/icon.ico"), &work.join("hamn.ico"))?;
    for (from, name) in [("installers/windows/README.md", "README.md"), ("LICENSE", "LICENSE.txt")] {
        fs::write(work.join(name), with_carriage_returns(&read(&root.join(from))?))?;
    }
    fs::write(work.join("LICENSES-LIBRARIES.txt"), with_carriage_returns(&release.licences))?;
    fs::write(work.join("hamn.admx"), policy::admx())?;
    fs::write(work.join("hamn.adml"), policy::adml())?;
    for path in stage::files_below(work)? {
        stage::set_time(&work.join(path), release.epoch)?;
    }
    Ok(window)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {}", from.display())).map(drop)
}

/// Older editors of Windows show nothing else as lines.
fn with_carriage_returns(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// The Windows Installer knows three numbers, and compares nothing else.
fn msi_version(text: &str) -> Result<String> {
    let numbers: Vec<Option<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    let good =
        matches!(numbers.as_slice(), [Some(major), Some(minor), Some(build)] if *major < 256 && *minor < 256 && *build < 65_536);
    ensure!(good, "{text:?} is no version of an MSI: three numbers, up to 255.255.65535, and no word for a pre-release");
    Ok(text.to_owned())
}

/// SHA-256 of a file, in hexadecimal.
fn digest(path: &Path) -> Result<String> {
    let text = output(Command::new("sha256sum").arg("--").arg(path))?;
    Ok(text.split_whitespace().next().context("sha256sum says nothing")?.trim_start_matches('\\').to_owned())
}

/// Writes the templates of group policy into the repository, or with `--check` compares them.
pub fn templates(arguments: Arguments) -> Result<ExitCode> {
    finish(arguments)?;
    for (path, text) in templates_of_repository()? {
        fs::create_dir_all(path.parent().context("a template has no directory")?)?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        answer(&path.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the templates are, and what they must be.
fn templates_of_repository() -> Result<[(PathBuf, String); 2]> {
    let folder = root()?.join("installers/windows/PolicyDefinitions");
    Ok([(folder.join("hamn.admx"), policy::admx()), (folder.join("en-US/hamn.adml"), policy::adml())])
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wine;
