//! Words to the person at the terminal.

use std::io::Write;

/// Prints a line to standard error: standard output belongs to the programs that xtask runs. A closed terminal is no error.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints what was asked for to standard output.
pub fn answer(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
