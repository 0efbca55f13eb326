//! `cargo xtask check-cross --seeded`: does the check turn red? In a copy of the sources each file that one system alone compiles gets one
//! wrong line, one file at a time, and the check of that file's crate must fail because of that line and no other.

use super::toolchain::{Target, Toolchain};
use crate::build::root;
use crate::output::say;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// A number that is a text. The name is not used anywhere, so that only its type is wrong.
const WRONG_LINE: &str = "\n/// A seeded mistake.\npub const SEEDED_MISTAKE: u8 = \"no number\";\n";

/// The one crate that does not lie in `platform`.
const WINDOW: &str = "src-tauri";

/// A file that one system alone compiles.
#[derive(Debug, PartialEq, Eq)]
struct Seed {
    file: PathBuf,
    package: String,
    target: &'static str,
}

/// A directory that goes with this value.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The system that a file belongs to, by its name or the directory that it lies in.
fn system_of(file: &Path) -> Option<&'static str> {
    let words: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    let platform = words.first().is_some_and(|folder| ["platform", WINDOW].contains(folder)) && words.contains(&"src");
    let inside = |system: &str| words.iter().any(|word| word.strip_suffix(".rs").unwrap_or(word) == system);
    match (platform, inside("windows"), inside("macos")) {
        (true, true, false) => Some("windows"),
        (true, false, true) => Some("macos"),
        _ => None,
    }
}

fn seed_of(file: &str) -> Option<Seed> {
    let path = PathBuf::from(file);
    let target = system_of(&path)?;
    let mut folders = path.iter().filter_map(|part| part.to_str());
    let package = if folders.next()? == WINDOW { "hamn-gui".to_owned() } else { format!("hamn-{}", folders.next()?) };
    (path.extension()? == "rs").then_some(Seed { file: path, package, target })
}

fn sources(root: &Path) -> Result<Vec<String>> {
    let mut list = Command::new("git");
    list.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = list.output().context("run git")?;
    ensure!(output.status.success(), "git ls-files failed: the seeded check works in a clone");
    let text = String::from_utf8(output.stdout).context("a file name that is no UTF-8")?;
    let exists = |name: &&str| !name.is_empty() && root.join(name).is_file();
    Ok(text.split('\0').filter(exists).map(str::to_owned).collect())
}

fn copy(root: &Path, files: &[String], to: &Path) -> Result<()> {
    for file in files {
        let target = to.join(file);
        std::fs::create_dir_all(target.parent().context("a file without a directory")?)?;
        std::fs::copy(root.join(file), &target).with_context(|| format!("copy {file}"))?;
    }
    Ok(())
}

/// What the check says about one crate of the copy.
fn check(toolchain: &Toolchain, copy: &Path, seed: &Seed) -> Result<(bool, String)> {
    let target = if seed.target == "windows" { Target::Windows } else { Target::MacArm };
    let words = format!("--quiet --offline -p {}", seed.package);
    let output = toolchain.cargo_in(copy, target, "check", &words)?.output().context("run cargo")?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The file's own line in the compiler's words: `--> platform/x.rs:7:31`.
fn blames(said: &str, file: &Path) -> bool {
    let named = format!("--> {}:", file.display());
    said.contains("E0308") && said.lines().any(|line| line.trim_start().starts_with(&named))
}

/// Runs it for each file whose path contains `only`.
pub fn run(toolchain: &Toolchain, only: &str) -> Result<ExitCode> {
    let root = root()?;
    let files = sources(&root)?;
    let seeds: Vec<Seed> = files.iter().filter(|file| file.contains(only)).filter_map(|file| seed_of(file)).collect();
    ensure!(!seeds.is_empty(), "no file of Windows or macOS alone has {only:?} in its path");
    let directory = Copy(std::env::temp_dir().join(format!("hamn-seeded-{}", std::process::id())));
    copy(&root, &files, &directory.0)?;
    let (mut caught, mut whole): (usize, Vec<(String, &str)>) = (0, Vec::new());
    for seed in &seeds {
        let control = (seed.package.clone(), seed.target);
        if !whole.contains(&control) {
            let (good, said) = check(toolchain, &directory.0, seed)?;
            ensure!(good, "{} does not compile for {} without any mistake:\n{said}", seed.package, seed.target);
            whole.push(control);
        }
        caught += usize::from(is_caught(toolchain, &directory.0, seed)?);
    }
    say(&format!("{caught} of {} seeded mistakes are caught", seeds.len()));
    if caught != seeds.len() {
        bail!("a mistake in a file of Windows or macOS is not noticed");
    }
    Ok(ExitCode::SUCCESS)
}

fn is_caught(toolchain: &Toolchain, copy: &Path, seed: &Seed) -> Result<bool> {
    let start = Instant::now();
    let path = copy.join(&seed.file);
    let before = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{before}{WRONG_LINE}"))?;
    let (good, said) = check(toolchain, copy, seed)?;
    std::fs::write(&path, before)?;
    let caught = !good && blames(&said, &seed.file);
    let word = if caught { "caught" } else { "MISSED" };
    say(&format!("{word}  {:<56} {:<8} {:>5.1} s", seed.file.display(), seed.target, start.elapsed().as_secs_f64()));
    if !caught {
        say(&said);
    }
    Ok(caught)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_system_are_found_by_their_names() {
        let seed = |file| seed_of(file).map(|seed| (seed.package, seed.target));
        let network = |system| Some(("hamn-network".to_owned(), system));
        assert_eq!(seed("platform/network/src/firewall/apply/windows.rs"), network("windows"));
        assert_eq!(seed("platform/network/src/firewall/apply/windows/calls.rs"), network("windows"));
        assert_eq!(seed("platform/network/src/network/macos.rs"), network("macos"));
        assert_eq!(seed("src-tauri/src/system/macos.rs"), Some(("hamn-gui".to_owned(), "macos")));
        for neutral in [
            "src-tauri/src/system.rs",
            "platform/network/src/lib.rs",
            "platform/network/src/firewall/compile/wfp.rs",
            "tests/model/src/windows.rs",
        ] {
            assert_eq!(seed(neutral), None, "{neutral}");
        }
        assert_eq!(seed("platform/network/tests/windows.rs"), None);
    }

    #[test]
    fn another_error_than_the_seeded_one_is_not_taken_for_it() {
        let file = Path::new("platform/x/src/windows.rs");
        assert!(blames("error[E0308]: mismatched types\n  --> platform/x/src/windows.rs:9:5\n", file));
        assert!(!blames("error[E0308]: mismatched types\n  --> platform/x/src/lib.rs:9:5\n", file));
        assert!(!blames("error[E0425]: not found\n  --> platform/x/src/windows.rs:9:5\n", file));
        assert!(!blames("", file));
    }
}
