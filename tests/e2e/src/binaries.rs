//! Where the programs under test are.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// The path of one of the workspace's programs: in `HAMN_BIN_DIR`, else beside the running test.
///
/// # Errors
/// When it has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let directory = if let Some(directory) = std::env::var_os("HAMN_BIN_DIR") {
        PathBuf::from(directory)
    } else {
        let this = std::env::current_exe().context("find the running program")?;
        let mut directory = this.parent().context("the running program has no directory")?.to_owned();
        if directory.ends_with("deps") {
            directory.pop();
        }
        directory
    };
    let path = directory.join(name);
    if !path.is_file() {
        bail!("{} does not exist: build it with `cargo build --workspace --bins`, or run `cargo xtask test`", path.display());
    }
    Ok(path)
}
