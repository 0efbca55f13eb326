//! `cargo xtask`: the one front door for development. Needs nothing but the Rust toolchain; installs what else is missing.

mod build;
mod check_cross;
mod checks;
mod commands;
mod output;
mod package;
mod steps;
mod system;
mod window;

use output::{answer, say};
use std::process::ExitCode;

const HELP: &str = "cargo xtask COMMAND

  demo [--keep] [--json]           see Hamn work, in network namespaces of its own, with an ISP that counts packets
  demo --gui [--screenshot DIR]    the same in the window; with DIR, pictures of every state, which needs no screen
  test [--quick] [--no-cross]      everything that the continuous integration runs; --quick leaves out the slow half,
                                   --no-cross the other systems
  test --engine NAME               the end-to-end cases with that WireGuard data plane at both ends: hamn, gotatun, kernel
  bench [--quick] [--json FILE]    measure, beside wireguard-go in the same topology; builds for release
  bench gui [--json FILE]          the window: start, memory, beside a Chromium with the same page; builds for release
  bench tunnel [--quick] [--json FILE] [--wireguard-go PATH]
                                   the WireGuard engine beside others; also `bench tunnel differential`, `bench tunnel soak --minutes N`
  package [--dev] [--helper-only] [--from DIR] [--to DIR]
                                   build the release programs (--dev: the development build; --from: take what DIR has) and pack
                                   them: deb and rpm of the helper, and of the window
  package windows [--dev] [--from DIR] [--to DIR] [--sign-windows CERT]
                                   MSI and setup program from the cross build's programs, or from what DIR has
  package macos --binaries DIR [--to DIR] [--sign-macos CERT [--timestamp-url URL|none]]
                                   the flat package for macOS from programs that were built on a Mac; --info alone prints the
                                   window's Info.plist, for the Mac that signs the window first
  package templates                write the templates of group policy into installers/windows again
  check-cross                      Windows and macOS from here: types and lints, programs linked for Windows, tests under Wine
  check-cross --seeded [--only P]  does that turn red? one mistake in each file of Windows or macOS alone (whose path has P)

Everything is built in HAMN_TARGET_DIR, else CARGO_TARGET_DIR, else ~/.cache/hamn/target.
Missing system packages are installed with apt-get; --no-install forbids that.";

/// Words that xtask does not know: the exit code is 2, not 1.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn usage(text: &str) -> anyhow::Error {
    anyhow::Error::new(Usage(text.to_owned()))
}

fn main() -> ExitCode {
    let mut arguments = pico_args::Arguments::from_env();
    if arguments.contains("--no-install") {
        system::forbid_installing();
    }
    let command = arguments.subcommand().ok().flatten();
    if arguments.contains(["-h", "--help"]) {
        answer(HELP);
        return ExitCode::SUCCESS;
    }
    // Held to the end.
    let _target_dir = match command.as_deref().map(|_| build::take_target_dir()).transpose() {
        Ok(taken) => taken,
        Err(error) => {
            say(&format!("xtask: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let result = match command.as_deref() {
        Some("demo") => commands::demo(arguments),
        Some("test") => checks::test(arguments),
        Some("bench") => commands::bench(arguments),
        Some("package") => package::package(arguments),
        Some("check-cross") => check_cross::check_cross(arguments),
        Some(other) => Err(usage(&format!("unknown command {other}\n\n{HELP}"))),
        None => commands::finish(arguments).map(|()| {
            answer(HELP);
            ExitCode::SUCCESS
        }),
    };
    result.unwrap_or_else(|error| {
        say(&format!("xtask: {error:#}"));
        if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}
