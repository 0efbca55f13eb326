//! Cargo, called with one target directory for everything.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root.
pub fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().and_then(Path::parent).context("the workspace has no root")?.to_owned())
}

/// Where everything is built: outside the repository unless somebody wants otherwise.
pub fn target_dir() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("HAMN_TARGET_DIR").or_else(|| std::env::var_os("CARGO_TARGET_DIR")) {
        return Ok(std::path::absolute(directory)?);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|text| !text.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache.context("neither HAMN_TARGET_DIR nor HOME is set")?.join("hamn/target"))
}

/// Where the programs of a development build are.
pub fn programs() -> Result<PathBuf> {
    Ok(target_dir()?.join("debug"))
}

/// A cargo command in the workspace.
pub fn cargo(words: &str) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?).env("CARGO_TARGET_DIR", target_dir()?).env("HAMN_BIN_DIR", programs()?);
    // Backtraces of expected errors would drown a test's message.
    command.env("RUST_BACKTRACE", std::env::var_os("RUST_BACKTRACE").unwrap_or_else(|| "0".into())).args(words.split_whitespace());
    Ok(command)
}

/// Builds every program of the workspace.
pub fn programs_up_to_date() -> Result<()> {
    let packages = "-p hamn-helper -p hamn-cli -p hamn-provider -p hamn-e2e";
    if !cargo(&format!("build --quiet {packages} --bins"))?.status().context("run cargo")?.success() {
        bail!("the build failed");
    }
    Ok(())
}
