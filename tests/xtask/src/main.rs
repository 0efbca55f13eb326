//! `cargo xtask`: the one front door for development. Needs nothing but the Rust toolchain; installs what else is missing.

mod build;
mod commands;
mod output;
mod system;

use output::say;
use std::process::ExitCode;

const HELP: &str = "cargo xtask COMMAND

  demo [--keep] [--json] [--gui]   see Hamn work, in network namespaces of its own, with an ISP that counts packets
  test [--quick]                   everything that the continuous integration runs; --quick leaves out the slow half
  bench [--quick] [--json FILE]    measure, beside wireguard-go in the same topology; builds for release
  package                          build the release programs and pack them for Linux
  check-cross [--target TRIPLE]    type-check the portable parts for another system

Everything is built in HAMN_TARGET_DIR, else CARGO_TARGET_DIR, else ~/.cache/hamn/target.
Missing system packages are installed with apt-get; --no-install forbids that.";

fn main() -> ExitCode {
    let mut arguments = pico_args::Arguments::from_env();
    let command = arguments.subcommand().ok().flatten();
    if arguments.contains(["-h", "--help"]) {
        say(HELP);
        return ExitCode::SUCCESS;
    }
    if arguments.contains("--no-install") {
        system::forbid_installing();
    }
    let result = match command.as_deref() {
        Some("demo") => commands::demo(arguments),
        Some("test") => commands::test(arguments),
        Some("bench") => commands::bench(arguments),
        Some("package") => commands::package(arguments),
        Some("check-cross") => commands::check_cross(arguments),
        Some(other) => {
            say(&format!("unknown command {other}\n\n{HELP}"));
            return ExitCode::from(2);
        }
        None => {
            say(HELP);
            return ExitCode::from(2);
        }
    };
    result.unwrap_or_else(|error| {
        say(&format!("xtask: {error:#}"));
        ExitCode::FAILURE
    })
}
