//! Wine: a Windows of its own below the build directory, with the one library that Rust's programs miss in it.

use super::toolchain::{Toolchain, mingw, scripts};
use crate::output::say;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Wine's files, and its server, which ends with this value: Wine would otherwise keep it for a while, with the test's files open.
pub struct Wine<'a> {
    toolchain: &'a Toolchain,
}

impl<'a> Wine<'a> {
    /// Makes the files on the first run.
    pub fn start(toolchain: &'a Toolchain) -> Result<Self> {
        let wine = Self { toolchain };
        let library = wine.library();
        if library.is_file() {
            return Ok(wine);
        }
        say("Making Wine's files (once; half a minute).");
        let boot = wine.command("wine").args(["wineboot", "-i"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(boot.context("run wine")?.success(), "wineboot failed");
        let source = scripts()?.join("bcryptprimitives.c");
        let mut compile = Command::new(mingw());
        compile.args(["-shared", "-O2", "-o"]).arg(&library).arg(source).arg("-ladvapi32");
        ensure!(compile.status().context("run mingw's compiler")?.success(), "bcryptprimitives.c could not be compiled");
        Ok(wine)
    }

    /// The library that programs of Rust's miss in this Wine.
    pub fn library(&self) -> PathBuf {
        self.toolchain.wine_prefix().join("drive_c/windows/system32/bcryptprimitives.dll")
    }

    /// A program of the Linux side (`wine`, `wineserver`) with the environment for these files.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.toolchain.wine_environment(&mut command);
        command
    }
}

impl Drop for Wine<'_> {
    fn drop(&mut self) {
        // Only the server of this directory, and with it every process in it.
        let _ = self.command("wineserver").arg("-k").stderr(Stdio::null()).status();
    }
}
