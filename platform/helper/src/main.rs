//! `hamn-helper`: the privileged service of Hamn.

use clap::Parser;
use hamn_helper::arguments::Arguments;
use hamn_helper::entry;
use std::process::ExitCode;

fn main() -> ExitCode {
    entry::main(Arguments::parse())
}
