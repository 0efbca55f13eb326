//! A package's files, laid out in a directory as they will be installed.

use super::contents::{Entry, Package, Source};
use super::{Format, Release, licences, output, read, tool};
use crate::build::root;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

/// Lays the files out in a new directory and returns it.
pub fn lay_out(package: &Package, format: Format, release: &Release) -> Result<PathBuf> {
    let stage = release.work.join(format!("{}-{format:?}", package.name));
    fs::create_dir_all(&stage).with_context(|| format!("create {}", stage.display()))?;
    for entry in package.entries(format) {
        put(entry, package, &stage, release).with_context(|| format!("make {}", entry.to))?;
    }
    let desktop = stage.join("usr/share/applications");
    if desktop.is_dir() {
        output(tool("desktop-file-validate")?.args(paths_in(&desktop)?))?;
        output(tool("appstreamcli")?.args(["validate", "--no-net"]).args(paths_in(&stage.join("usr/share/metainfo"))?))?;
    }
    Ok(stage)
}

fn put(entry: &Entry, package: &Package, stage: &Path, release: &Release) -> Result<()> {
    let path = place(stage, entry.to);
    let parent = path.parent().context("an entry has no directory")?;
    fs::create_dir_all(parent)?;
    let source = |relative: &str| -> Result<PathBuf> { Ok(root()?.join(relative)) };
    match entry.from {
        Source::Directory => fs::create_dir_all(&path)?,
        Source::Program(name) => strip(&release.programs.join(name), &path)?,
        Source::File(from) => drop(fs::copy(source(from)?, &path).with_context(|| format!("copy {from}"))?),
        Source::Template(from) => {
            let text = read(&source(from)?)?;
            fs::write(&path, text.replace("@VERSION@", &release.version).replace("@DATE@", &release.date("+%F")?))?;
        }
        Source::Compressed(from) => compress(&read(&source(from)?)?, &path)?,
        Source::Completions(shell) => {
            let mut hamn = Command::new(release.programs.join("hamn"));
            fs::write(&path, output(hamn.args(["completions", shell]))?)?;
        }
        Source::DebianChangelog => compress(&debian_changelog(package, release)?, &path)?,
        Source::Licences(of) => compress(&licences::texts(of, false)?, &path)?,
        Source::LicencesWithPage(of) => compress(&licences::texts(of, true)?, &path)?,
    }
    fs::set_permissions(&path, Permissions::from_mode(entry.mode))?;
    Ok(())
}

/// An installed path, in the stage.
fn place(stage: &Path, installed: &str) -> PathBuf {
    stage.join(installed.trim_start_matches('/'))
}

/// Copies a program without what only a debugger reads.
fn strip(from: &Path, to: &Path) -> Result<()> {
    ensure!(from.is_file(), "{} does not exist: it has not been built", from.display());
    output(tool("strip")?.args(["--strip-unneeded", "--remove-section=.comment", "-o"]).arg(to).arg(from)).map(drop)
}

/// gzip without name and time.
pub fn compress(text: &str, to: &Path) -> Result<()> {
    let mut gzip = Command::new("gzip").args(["-9n"]).stdin(Stdio::piped()).stdout(File::create(to)?).spawn()?;
    gzip.stdin.take().context("gzip has no input")?.write_all(text.as_bytes())?;
    ensure!(gzip.wait()?.success(), "gzip failed");
    Ok(())
}

fn debian_changelog(package: &Package, release: &Release) -> Result<String> {
    let (name, version, maintainer) = (package.name, release.full_version(), &release.maintainer);
    let date = release.date("+%a, %d %b %Y %H:%M:%S %z")?;
    Ok(format!(
        "{name} ({version}) unstable; urgency=medium\n\n  * Version {version}; see changelog.gz.\n\n -- {maintainer}  {date}\n"
    ))
}

/// The files of a directory, in order.
fn paths_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Every regular file below a directory, relative to it, in order.
pub fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for path in paths_in(&next)? {
            if path.is_dir() {
                waiting.push(path);
            } else {
                files.push(path.strip_prefix(directory)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Gives directories their mode and everything the release's time: neither depends on who builds, and when.
pub fn settle(directory: &Path, release: &Release) -> Result<()> {
    if directory.is_dir() {
        for path in paths_in(directory)? {
            settle(&path, release)?;
        }
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    set_time(directory, release.epoch)
}

/// Gives one file or directory its time, in seconds since 1970.
pub fn set_time(path: &Path, epoch: u64) -> Result<()> {
    let time = UNIX_EPOCH + Duration::from_secs(epoch);
    let times = FileTimes::new().set_accessed(time).set_modified(time);
    File::open(path)?.set_times(times).with_context(|| format!("set the time of {}", path.display()))
}
