//! The MSI, made by `wixl` from `installers/windows/hamn.wxs`; the tables that `wixl` cannot write are added by `msibuild`.

use super::super::{output, tool};
use super::{Release, digest, tables};
use crate::build::root;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Packs what lies in the work directory.
pub fn build(release: &Release, window: bool, to: &Path) -> Result<PathBuf> {
    let (work, version) = (&release.work, &release.version);
    let path = to.join(format!("hamn-{version}-x64.msi"));
    let _ = fs::remove_file(&path);
    let main = root()?.join("installers/windows/hamn.wxs");
    let identify = |text: &str| identifier(work, text);
    fs::write(work.join("settings.wxs"), tables::settings(window, &identify)?)?;
    fs::copy(&main, work.join("hamn.wxs")).with_context(|| format!("copy {}", main.display()))?;
    // One version is one product: installing it again repairs, and never stands beside itself.
    let product = identify(&format!("product {version}"))?;
    let mut wixl = tool("wixl")?;
    wixl.current_dir(work).env("SOURCE_DATE_EPOCH", release.epoch.to_string()).args(["-a", "x64", "-o"]).arg(&path);
    wixl.args(["-D", &format!("Version={version}"), "-D", &format!("ProductCode={product}")]);
    wixl.args(["hamn.wxs", "settings.wxs"]);
    if window {
        fs::copy(main.with_file_name("window.wxs"), work.join("window.wxs"))?;
        wixl.arg("window.wxs");
    }
    output(&mut wixl)?;
    let mut build = tool("msibuild")?;
    build.arg(&path);
    for statement in tables::statements(window) {
        build.arg("-q").arg(statement);
    }
    let done = build.output().context("run msibuild")?;
    ensure!(done.status.success(), "msibuild cannot finish the tables: {}", String::from_utf8_lossy(&done.stderr).trim());
    let package = identify(&format!("package {version} {}", content(release)?))?;
    output(tool("msibuild")?.arg(&path).args([
        "-s",
        &format!("Hamn {version}"),
        "Hamn developers",
        "x64;1033",
        &format!("{{{package}}}"),
    ]))?;
    if let Some(signer) = &release.signer {
        signer.sign(&path, "Hamn")?;
    }
    Ok(path)
}

/// What distinguishes two packages of one version: the digests of everything in them.
fn content(release: &Release) -> Result<String> {
    let files = super::stage::files_below(&release.work)?;
    files.iter().map(|file| digest(&release.work.join(file))).collect()
}

/// A GUID that always belongs to the same words: version 8 of RFC 9562, from their SHA-256.
fn identifier(work: &Path, words: &str) -> Result<String> {
    let path = work.join(".words");
    fs::write(&path, format!("org.hamn.windows {words}"))?;
    let digest = digest(&path)?;
    fs::remove_file(&path)?;
    let part = |from: usize, to: usize| digest.get(from..to).context("the digest is short");
    let text = format!("{}-{}-8{}-8{}-{}", part(0, 8)?, part(8, 12)?, part(13, 16)?, part(17, 20)?, part(20, 32)?);
    Ok(text.to_uppercase())
}
