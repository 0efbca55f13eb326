//! The terminal on Linux and macOS.

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::stdin;

/// Every terminal shows colours, unless TERM says otherwise.
pub const fn shows_colours() -> bool {
    true
}

/// The terminal does not echo while this lives.
pub struct Silent(Option<Termios>);

impl Silent {
    /// Switches the echo off.
    pub fn start() -> Self {
        let Ok(before) = tcgetattr(stdin()) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        let set = tcsetattr(stdin(), SetArg::TCSAFLUSH, &silent);
        Self(set.is_ok().then_some(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
        }
    }
}
