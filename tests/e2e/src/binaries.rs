//! Where the programs under test are.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

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

/// A copy of one of the workspace's programs that every user may start: the build directory may lie in a closed home.
///
/// # Errors
/// When it has not been built, or the directory takes no copy.
pub fn for_everyone(name: &str, directory: &Path) -> Result<PathBuf> {
    let copy = directory.join(name);
    if !copy.exists() {
        // Renamed when whole, so that two threads that copy at once both start a whole program.
        let part = tempfile::NamedTempFile::new_in(directory).context("copy a program")?;
        std::fs::copy(binary(name)?, part.path()).with_context(|| format!("copy {name}"))?;
        std::fs::set_permissions(part.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        part.into_temp_path().persist(&copy).with_context(|| format!("name the copy of {name}"))?;
    }
    Ok(copy)
}
