//! The setup program: the MSI in an NSIS program, for people who click and for tools that want an `.exe`. There is one product, one entry in
//! the list of programs and one way to upgrade, whichever of the two somebody uses.

use super::super::policy::SETTINGS;
use super::super::{output, tool};
use super::{Release, tables};
use crate::build::root;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Packs the MSI.
pub fn build(release: &Release, msi: &Path, to: &Path) -> Result<PathBuf> {
    let path = to.join(format!("hamn-{}-x64-setup.exe", release.version));
    let _ = fs::remove_file(&path);
    let mut options = String::new();
    let others = tables::OTHERS.into_iter();
    for property in others.chain(SETTINGS.iter().map(|setting| setting.property)) {
        options.push_str(&format!("!insertmacro Option {property}\n"));
    }
    fs::write(release.work.join("options.nsh"), options)?;
    let mut make = tool("makensis")?;
    make.current_dir(&release.work).env("SOURCE_DATE_EPOCH", release.epoch.to_string()).args([
        "-V2",
        "-NOCD",
        "-INPUTCHARSET",
        "UTF8",
    ]);
    make.args([
        &format!("-DVERSION={}", release.version),
        &format!("-DMSI={}", msi.display()),
        &format!("-DOUT={}", path.display()),
    ]);
    output(make.arg(root()?.join("installers/windows/hamn.nsi")))?;
    if let Some(signer) = &release.signer {
        signer.sign(&path, "Hamn")?;
    }
    Ok(path)
}
