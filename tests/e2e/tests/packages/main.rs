//! The packages in a fresh Debian: installed, upgraded, removed and purged by the real package tools, with no network.
//!
//! The root file system is that of `debian_root` with a layer on a tmpfs; nothing runs in it but package tools. What the window
//! needs from the mirror is fetched once and kept beside the root. `HAMN_SKIP_SYSTEMD=1` skips, saying so.

use anyhow::{Context, Result, ensure};
use hamn_e2e::binaries::binary;
use hamn_e2e::debian_root::{DebianRoot, ResolverPackage};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// True when the environment says that these tests are not wanted; says so.
fn skipped() -> bool {
    let skip = std::env::var_os("HAMN_SKIP_SYSTEMD").is_some_and(|value| value == "1");
    if skip {
        eprintln!("skipped: HAMN_SKIP_SYSTEMD=1 (these tests need debootstrap and a Debian mirror)");
    }
    skip
}

/// Two versions of all packages, made from the programs under test. Where the window was not built, another program stands in
/// for it: whether it runs is not this test's question.
fn packages(directory: &Path) -> Result<[PathBuf; 2]> {
    let programs = directory.join("programs");
    fs::create_dir(&programs)?;
    for name in ["hamn", "hamn-helper"] {
        symlink(binary(name)?, programs.join(name))?;
    }
    symlink(binary("hamn-gui").or_else(|_| binary("hamn"))?, programs.join("hamn-gui"))?;
    let made = ["1.0.0", "99.0.0"].map(|version| {
        let to = directory.join(version);
        let mut xtask = Command::new(binary("hamn-xtask")?);
        xtask.args(["package", "--dev", "--package-version", version, "--from"]).arg(&programs).arg("--to").arg(&to);
        let output = xtask.output().context("run hamn-xtask")?;
        ensure!(output.status.success(), "hamn-xtask package: {}", String::from_utf8_lossy(&output.stderr));
        Ok(to)
    });
    let [first, second] = made;
    Ok([first?, second?])
}

/// Runs one of the scripts in a mount and process namespace of its own, with the packages at hand.
fn run(script: &str, with_network: bool, layers: &str, arguments: &[&Path]) -> Result<String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]);
    if !with_network {
        command.arg("--net");
    }
    command.args(["sh", "-eu"]).arg(scripts.join(script)).arg(layers).args(arguments);
    let output = command.output().context("run unshare")?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{script} failed: {said}");
    Ok(said)
}

fn layers() -> Result<String> {
    let root = DebianRoot::ready().context("the Debian root cannot be made (HAMN_SKIP_SYSTEMD=1 skips these tests)")?;
    let layers = root.layers(ResolverPackage::None);
    Ok(layers.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join(":"))
}

/// The mirror's packages that the window needs, and apt's lists: kept in the target directory.
fn archives(layers: &str, made: &Path) -> Result<PathBuf> {
    let root = layers.split(':').next_back().map(Path::new).and_then(Path::parent).context("the root has no place")?;
    let name = root.file_name().context("the root has no name")?.to_string_lossy();
    let archives = root.with_file_name(format!("{name}-archives"));
    fs::create_dir_all(archives.join("lists")).and_then(|()| fs::create_dir_all(archives.join("debs/partial")))?;
    let lock = fs::File::create(archives.join("lock"))?;
    lock.lock().context("lock the archives")?;
    let stamp = archives.join("stamp");
    let show = Command::new("dpkg-deb").args(["--show", "--showformat", "${Depends}"]).arg(deb(made, "hamn-gui")?).output()?;
    let wanted = String::from_utf8_lossy(&show.stdout).replace("1.0.0-1", "");
    ensure!(show.status.success() && wanted.contains("libwebkit2gtk"), "the window's needs: {wanted}");
    if !fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        run("fetch.sh", true, layers, &[&archives, made])?;
        fs::write(&stamp, wanted)?;
    }
    Ok(archives)
}

fn deb(directory: &Path, package: &str) -> Result<PathBuf> {
    let start = format!("{package}_");
    let mut entries = fs::read_dir(directory)?.filter_map(Result::ok);
    let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(&start));
    Ok(found.with_context(|| format!("there is no {package} in {}", directory.display()))?.path())
}

#[test]
fn debs_install_upgrade_and_leave_nothing_in_a_fresh_debian() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let [first, second] = packages(directory.path())?;
    let layers = layers()?;
    let archives = archives(&layers, &first)?;
    let said = run("debian.sh", false, &layers, &[&archives, &first, &second])?;
    ensure!(said.ends_with("everything holds\n"), "{said}");
    Ok(())
}

#[test]
fn rpms_install_upgrade_and_go() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let [first, second] = packages(directory.path())?;
    let said = run("rpm.sh", false, &layers()?, &[&first, &second])?;
    ensure!(said.ends_with("everything holds\n"), "{said}");
    Ok(())
}
