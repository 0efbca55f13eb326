//! A compiler for other systems: Debian's, whose sources of the standard library are a package too, with what the targets need besides.

use crate::build::{forget_xtask, root, target_dir};
use crate::system::Need;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiler, its sources, the linker for Windows, Wine and what installers are made with.
pub const NEEDS: &[Need] = &[
    ("/usr/bin/rustc", "rustc-web"),
    (CARGO, "cargo-web"),
    (CLIPPY, "rust-web-clippy"),
    ("/usr/lib/rustlib/src/rust/library/std/src/lib.rs", "rust-web-src"),
    (MINGW, "gcc-mingw-w64-x86-64-posix"),
    ("x86_64-w64-mingw32-g++-posix", "g++-mingw-w64-x86-64-posix"),
    ("wine", "wine"),
    ("/usr/lib/wine/wine64", "wine64"),
    ("makensis", "nsis"),
    ("wixl", "wixl"),
    ("msiinfo", "msitools"),
    ("bsdtar", "libarchive-tools"),
    ("osslsigncode", "osslsigncode"),
    ("openssl", "openssl"),
];
const CARGO: &str = "/usr/bin/cargo";
const CLIPPY: &str = "/usr/bin/cargo-clippy";
const MINGW: &str = "x86_64-w64-mingw32-gcc-posix";
/// The oldest compiler that the workspace allows (`rust-version`): an old `rustc` of the distribution is no `rustc-web`.
const OLDEST: (u32, u32) = (1, 95);

/// Another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Checked, linked and run.
    Windows,
    /// Checked: linking needs Apple's SDK.
    MacArm,
    /// The same for the older machines.
    MacIntel,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Windows, Self::MacArm, Self::MacIntel];

    /// Rust's name of it.
    pub const fn triple(self) -> &'static str {
        match self {
            Self::Windows => "x86_64-pc-windows-gnu",
            Self::MacArm => "aarch64-apple-darwin",
            Self::MacIntel => "x86_64-apple-darwin",
        }
    }

    /// The name in the summary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Windows => "Windows",
            Self::MacArm => "macOS arm64",
            Self::MacIntel => "macOS x86-64",
        }
    }
}

/// The compiler, and the directory that holds all that is kept between runs.
pub struct Toolchain {
    directory: PathBuf,
    sysroot: PathBuf,
    /// As in "1.96.0-ac68faa20".
    pub version: String,
}

/// "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)" as "1.96.0-ac68faa20", and its first two numbers.
fn parse_version(text: &str) -> Option<(String, (u32, u32))> {
    let mut words = text.split_whitespace().skip(1);
    let (number, hash) = (words.next()?, words.next().unwrap_or_default().trim_matches(['(', ')']));
    let mut parts = number.split('.').map_while(|part| part.parse().ok());
    Some((format!("{number}-{hash}").trim_end_matches('-').to_owned(), (parts.next()?, parts.next()?)))
}

impl Toolchain {
    /// Looks at what is installed; everything that is built lies below the build directory, and the standard library in a directory named
    /// after the compiler's version.
    pub fn find() -> Result<Self> {
        let output = Command::new("/usr/bin/rustc").arg("--version").output().context("run /usr/bin/rustc")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (version, numbers) = parse_version(&text).with_context(|| format!("/usr/bin/rustc says {text:?}"))?;
        ensure!(numbers >= OLDEST, "/usr/bin/rustc is {version}, too old: install rustc-web in its place");
        let directory = target_dir()?.join("cross");
        std::fs::create_dir_all(directory.join("sdk"))?;
        let directory = directory.canonicalize()?;
        Ok(Self { sysroot: directory.join(format!("sysroot-{version}")), directory, version })
    }

    /// Where Wine's files are.
    pub fn wine_prefix(&self) -> PathBuf {
        self.directory.join("wine-tests")
    }

    /// The build directory.
    pub fn target_dir(&self) -> PathBuf {
        self.directory.join("target")
    }

    /// Where the linked programs for Windows are.
    pub fn windows_programs(&self) -> PathBuf {
        self.target_dir().join(Target::Windows.triple()).join("debug")
    }

    /// True when the standard library for `target` was built in an earlier run.
    pub fn has_std(&self, target: Target) -> bool {
        self.sysroot.join("lib/rustlib").join(target.triple()).join("lib/complete").is_file()
    }

    /// Builds the standard library for `targets`.
    pub fn build_std(&self, targets: &[Target]) -> Result<Command> {
        let mut command = Command::new(scripts()?.join("build-std.sh"));
        command.arg(&self.sysroot).arg(self.directory.join("mkstd")).args(targets.iter().map(|target| target.triple()));
        forget_xtask(&mut command);
        Ok(command)
    }

    /// A cargo command for `target`: `check`, `clippy`, `build`, `test` or `nextest`, in the workspace whose root is `root`.
    pub fn cargo_in(&self, root: &Path, target: Target, verb: &str, words: &str) -> Result<Command> {
        let program = match verb {
            "clippy" => PathBuf::from(CLIPPY),
            "nextest" => crate::system::find("cargo-nextest").context("cargo-nextest is not installed")?,
            _ => PathBuf::from(CARGO),
        };
        let mut command = Command::new(program);
        command.current_dir(root).arg(verb);
        let mut words = words.split_whitespace();
        if verb == "nextest" {
            command.args(words.next());
        }
        command.args(["--target", target.triple()]).args(words);
        self.environment(&mut command)?;
        Ok(command)
    }

    /// A cargo command for `target` in this workspace.
    pub fn cargo(&self, target: Target, verb: &str, words: &str) -> Result<Command> {
        self.cargo_in(&root()?, target, verb, words)
    }

    fn environment(&self, command: &mut Command) -> Result<()> {
        forget_xtask(command);
        let others = ["RUSTUP_TOOLCHAIN", "RUSTC_BOOTSTRAP", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "LD_LIBRARY_PATH"];
        for name in others.into_iter().chain(["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"]) {
            command.env_remove(name);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("CARGO", CARGO).env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc");
        command.env("PATH", format!("/usr/bin:{path}")).env("CARGO_TARGET_DIR", self.target_dir());
        command.env("RUST_BACKTRACE", "0").env("SDKROOT", self.directory.join("sdk"));
        let (scripts, flags) = (scripts()?, format!("--sysroot={}", self.sysroot.display()));
        for target in Target::ALL {
            let triple = target.triple().replace('-', "_");
            let (cc, cxx, ar) = match target {
                Target::Windows => (MINGW.into(), "x86_64-w64-mingw32-g++-posix".into(), "x86_64-w64-mingw32-ar".into()),
                Target::MacArm | Target::MacIntel => {
                    (scripts.join("fake-cc.sh"), scripts.join("fake-cc.sh"), scripts.join("fake-ar.sh"))
                }
            };
            command.env(format!("CC_{triple}"), cc).env(format!("CXX_{triple}"), cxx).env(format!("AR_{triple}"), ar);
            command.env(format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase()), &flags);
        }
        command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", MINGW).env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", "wine");
        self.wine_environment(command);
        // A program for Windows does not find the workspace by its own path, and must not write what it finds different.
        command.env("INSTA_WORKSPACE_ROOT", root()?).env("INSTA_UPDATE", "no");
        Ok(())
    }

    /// What Wine needs to know: its own files, no chatter, no screen.
    pub fn wine_environment(&self, command: &mut Command) {
        command.env("WINEPREFIX", self.wine_prefix()).env("WINEARCH", "win64").env("WINEDEBUG", "-all").env("DISPLAY", "");
    }
}

/// Where the scripts and the library for Wine are.
pub fn scripts() -> Result<PathBuf> {
    Ok(root()?.join("tests/xtask/cross"))
}

/// The C compiler for Windows.
pub const fn mingw() -> &'static str {
    MINGW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_version_names_the_cache() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n";
        assert_eq!(parse_version(text), Some(("1.96.0-ac68faa20".to_owned(), (1, 96))));
        assert_eq!(parse_version("rustc 1.63.0\n"), Some(("1.63.0".to_owned(), (1, 63))));
        assert_eq!(parse_version("zsh: command not found"), None);
    }

    #[test]
    fn the_stand_ins_for_a_c_compiler_make_the_files_that_are_asked_for() {
        let directory = std::env::temp_dir().join(format!("hamn-fake-cc-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let run = |script: &str, words: &[&str]| {
            let status = Command::new(scripts().unwrap().join(script)).args(words).current_dir(&directory).status().unwrap();
            assert!(status.success(), "{script} {words:?}");
        };
        run("fake-cc.sh", &["-c", "in.c", "-o", "out.o"]);
        run("fake-ar.sh", &["cq", "lib.a", "out.o"]);
        assert_eq!(std::fs::read(directory.join("out.o")).unwrap(), b"");
        assert_eq!(std::fs::read(directory.join("lib.a")).unwrap(), b"!<arch>\n");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
