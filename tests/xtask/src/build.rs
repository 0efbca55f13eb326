//! Cargo, called with one target directory, one selection of packages and one profile for everything.

use crate::say;
use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a command waits for those of another clone.
const OTHERS_END_S: u64 = 7_200;

/// Everything but the window. A subset of these packages would have other features in shared dependencies, and cargo would build those a
/// second time; so they are always built together, and subsets of the tests are chosen by nextest's filters. The window needs WebKit's
/// headers and is built on its own; its tests drive a finished program and belong to the rest.
pub const SELECTION: &str = "--workspace --exclude hamn-gui";

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

/// Makes the target directory this clone's, until the file that it returns is dropped. Cargo keeps a workspace's own crates apart by
/// their place *within* the workspace, so a second clone at an older commit would run programs that look for their files in the first:
/// those are built anew, once no command of the first runs any more. What they depend on stays.
///
/// # Errors
/// The directory cannot be written, cargo cannot clean it, or another clone's command does not end.
pub fn take_target_dir() -> Result<File> {
    let (place, here) = (target_dir()?, root()?);
    std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let note = place.join("built-from");
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&note);
    let file = open().with_context(|| format!("open {}", note.display()))?;
    let is_ours = || std::fs::read_to_string(&note).is_ok_and(|before| Path::new(&before) == here);
    // Commands of one clone run beside each other, as a test that packs does; the kernel frees the lock of one that is killed.
    file.lock_shared()?;
    if is_ours() {
        return Ok(file);
    }
    file.unlock()?;
    lock_alone(&file, &place)?;
    if !is_ours() {
        for profile in ["dev", "release"] {
            let cleaned =
                cargo(&format!("clean --quiet --workspace --profile {profile}"))?.status().context("run cargo clean")?;
            if !cleaned.success() {
                bail!("{} holds another clone's programs, which cannot be removed", place.display());
            }
        }
        std::fs::write(&note, here.to_string_lossy().as_bytes()).with_context(|| format!("write {}", note.display()))?;
    }
    // Somebody else may take it in between, which the note then shows.
    file.unlock()?;
    file.lock_shared()?;
    if is_ours() { Ok(file) } else { bail!("another clone took {} at the same moment: try again", place.display()) }
}

fn lock_alone(file: &File, place: &Path) -> Result<()> {
    for second in 0..OTHERS_END_S {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if second == 0 => {
                say(&format!("A command of another clone uses {}: waiting for its end.", place.display()));
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", place.display())),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    bail!("another clone's command still uses {}: end it, or set HAMN_TARGET_DIR to another directory", place.display())
}

/// Where the programs of a development build are.
pub fn programs() -> Result<PathBuf> {
    Ok(target_dir()?.join("debug"))
}

/// What `cargo run` told us about xtask's own package. Build scripts that watch these would run again after every plain `cargo build`.
fn about_xtask(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Takes what `cargo run` told about xtask out of a command's environment.
pub fn forget_xtask(command: &mut Command) {
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| about_xtask(name)) {
        command.env_remove(name);
    }
}

/// A cargo command in the workspace.
pub fn cargo(words: &str) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_xtask(&mut command);
    command.current_dir(root()?).env("CARGO_TARGET_DIR", target_dir()?).env("HAMN_BIN_DIR", programs()?);
    // Backtraces of expected errors would drown a test's message.
    command
        .env("RUST_BACKTRACE", std::env::var_os("RUST_BACKTRACE").unwrap_or_else(|| "0".into()))
        .args(words.split_whitespace());
    Ok(command)
}

/// Builds every program but the window; `options` are more words for cargo.
pub fn build_programs(options: &str) -> Result<()> {
    if !cargo(&format!("build --quiet {SELECTION} --bins {options}"))?.status().context("run cargo")?.success() {
        bail!("the build failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn features(edges: &str) -> BTreeSet<String> {
        let words = format!("tree {SELECTION} --offline --prefix none --edges {edges} --format");
        let output = cargo(&words).unwrap().arg("{p} {f}").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| line.replace(" (proc-macro)", "").replace(" (*)", "").trim_end().to_owned())
            .collect()
    }

    #[test]
    fn tests_switch_on_no_feature_that_the_programs_lack() {
        let (programs, tests) = (features("normal,build"), features("normal,build,dev"));
        let twice: Vec<&String> = programs.difference(&tests).collect();
        assert!(twice.is_empty(), "built twice; name the tests' features in tests/e2e/Cargo.toml: {twice:#?}");
        assert!(programs.len() > 100 && tests.len() > programs.len(), "the negative control");
    }
}
