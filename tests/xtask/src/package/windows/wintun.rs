//! The driver library of the tunnel: Wintun's prebuilt and signed DLL, as it lies in the sources of the crate that loads it. Nothing is
//! fetched here, and a DLL with another digest is refused.

use super::super::licences::places;
use super::digest;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// SHA-256 of `bin/amd64/wintun.dll`, version 0.14.1, as published at wintun.net.
pub const SHA256: &str = "e5da8447dc2c320edc0fc52fa01885c103de8c118481f683643cacc3220dafce";

/// Beginnings of the crates' names that carry it.
const CARRIERS: [&str; 2] = ["wintun-bindings-0.", "wintun-0."];

/// The files to ship.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// `wintun.dll`.
    pub library: PathBuf,
    /// The terms under which it is passed on: unchanged, beside a program that uses its published interface only.
    pub licence: PathBuf,
}

/// Looks into the sources that cargo has fetched.
pub fn find_driver() -> Result<Driver> {
    let mut found: Vec<Driver> = Vec::new();
    for place in places()? {
        for entry in std::fs::read_dir(&place).with_context(|| format!("read {}", place.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let wintun = entry.path().join("wintun");
            let driver = Driver { library: wintun.join("bin/amd64/wintun.dll"), licence: wintun.join("LICENSE.txt") };
            if CARRIERS.iter().any(|start| name.starts_with(start)) && driver.library.is_file() && driver.licence.is_file() {
                found.push(driver);
            }
        }
    }
    found.sort_by(|one, other| one.library.cmp(&other.library));
    let driver = found.into_iter().next().context(
        "no fetched crate carries wintun.dll: run `cargo fetch --locked --target x86_64-pc-windows-gnu`, which fetches them",
    )?;
    check(&driver.library)?;
    Ok(driver)
}

/// Refuses a library that is not the one that was reviewed.
pub fn check(library: &Path) -> Result<()> {
    let found = digest(library)?;
    ensure!(found == SHA256, "{} has the SHA-256 {found}, not {SHA256}: it is not the reviewed driver", library.display());
    Ok(())
}
