//! The console of Windows. <https://learn.microsoft.com/windows/console/setconsolemode>
#![expect(unsafe_code, reason = "the modes of a console have no safe interface")]

use std::io::{stdin, stdout};
use std::os::windows::io::{AsRawHandle, RawHandle};
use std::sync::atomic::{AtomicU32, Ordering};
use windows_sys::Win32::Foundation::{FALSE, TRUE};
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, ENABLE_ECHO_INPUT, ENABLE_VIRTUAL_TERMINAL_PROCESSING, GetConsoleMode, SetConsoleCtrlHandler, SetConsoleMode,
};
use windows_sys::core::BOOL;

/// No mode: none has all bits set.
const NOTHING: u32 = u32::MAX;
/// What the console's input goes back to, also when Ctrl-C ends this program in the middle of a question: a console keeps its mode.
static BEFORE: AtomicU32 = AtomicU32::new(NOTHING);

fn mode(console: RawHandle) -> Option<CONSOLE_MODE> {
    let mut mode = 0;
    // SAFETY: the handle belongs to this process, and `mode` lives until the call returns.
    let read = unsafe { GetConsoleMode(console, &raw mut mode) };
    (read != FALSE).then_some(mode)
}

fn set_mode(console: RawHandle, mode: CONSOLE_MODE) -> bool {
    // SAFETY: the handle belongs to this process; the call takes no pointer.
    unsafe { SetConsoleMode(console, mode) != FALSE }
}

/// Switches the interpretation of colour sequences on. False when the console has none (before Windows 10).
pub fn shows_colours() -> bool {
    let console = stdout().as_raw_handle();
    mode(console).is_some_and(|now| {
        now & ENABLE_VIRTUAL_TERMINAL_PROCESSING != 0 || set_mode(console, now | ENABLE_VIRTUAL_TERMINAL_PROCESSING)
    })
}

/// The console does not echo while this lives.
pub struct Silent(());

impl Silent {
    /// Switches the echo off.
    pub fn start() -> Self {
        let console = stdin().as_raw_handle();
        if let Some(before) = mode(console) {
            BEFORE.store(before, Ordering::SeqCst);
            control_handler(TRUE);
            set_mode(console, before & !ENABLE_ECHO_INPUT);
        }
        Self(())
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        restore();
        control_handler(FALSE);
    }
}

fn restore() {
    let before = BEFORE.swap(NOTHING, Ordering::SeqCst);
    if before != NOTHING {
        set_mode(stdin().as_raw_handle(), before);
    }
}

/// Runs in a thread of its own. The answer "not handled" lets Windows end the process as always.
/// <https://learn.microsoft.com/windows/console/handlerroutine>
extern "system" fn interrupted(_kind: u32) -> BOOL {
    restore();
    FALSE
}

fn control_handler(add: BOOL) {
    // SAFETY: the handler is a function of this program and touches an atomic number and the console only.
    let _ = unsafe { SetConsoleCtrlHandler(Some(interrupted), add) };
}
