//! Windows: the console of whoever started the program, the name under which it is known, WebView2's switches.
#![expect(unsafe_code, reason = "the Windows API")]

use std::fs::OpenOptions;
use std::io::{self, Write};
use tauri::{AppHandle, Builder, Wry};
use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close};
use windows_sys::Win32::System::Console::{ATTACH_PARENT_PROCESS, AttachConsole, GetStdHandle, STD_OUTPUT_HANDLE};
use windows_sys::Win32::UI::Shell::SetCurrentProcessExplicitAppUserModelID;
use windows_sys::core::w;

/// Writes to standard output, or, where a program with windows has none, to the console that it was started from
/// (`AttachConsole`, learn.microsoft.com, "Console Functions"). Where there is no console either, nobody reads.
pub fn print(text: &str) {
    // SAFETY: the call takes a number; its answer is not ours to close.
    let output = unsafe { GetStdHandle(STD_OUTPUT_HANDLE) };
    if !output.is_null() {
        let _ = io::stdout().write_all(text.as_bytes());
        return;
    }
    // SAFETY: the call takes a number and gives this process its parent's console.
    if unsafe { AttachConsole(ATTACH_PARENT_PROCESS) } != 0
        && let Ok(mut console) = OpenOptions::new().write(true).open("CONOUT$")
    {
        let _ = console.write_all(text.as_bytes());
    }
}

/// WebView2 finds out by itself.
#[must_use]
pub const fn has_gpu() -> bool {
    true
}

/// Draws without the graphics card: some drivers show an empty window otherwise. WebView2 reads this variable when its first
/// view is made (learn.microsoft.com: WebView2, "Globals", `WEBVIEW2_ADDITIONAL_BROWSER_ARGUMENTS`).
///
/// # Errors
/// None: WebView2 takes what it finds.
pub fn without_gpu() -> io::Result<()> {
    // SAFETY: on Windows the environment may be changed at any time, and this is the first thing that the process does.
    unsafe { std::env::set_var("WEBVIEW2_ADDITIONAL_BROWSER_ARGUMENTS", "--disable-gpu") };
    Ok(())
}

/// Ends cleanly with the console of a development build. The end of the session comes as a message to the window.
pub fn end_on_signals(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let (Ok(mut interrupt), Ok(mut stop), Ok(mut close)) = (ctrl_c(), ctrl_break(), ctrl_close()) else { return };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = stop.recv() => {}
            _ = close.recv() => {}
        }
        app.exit(0);
    });
}

/// Says who the process is, as the shortcut in the Start menu says it: notifications and the task bar join both by this name
/// (`SetCurrentProcessExplicitAppUserModelID`, learn.microsoft.com, shobjidl_core.h). Links arrive as arguments here.
#[must_use]
pub fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    // SAFETY: the name ends with 0 and lives as long as the program.
    let code = unsafe { SetCurrentProcessExplicitAppUserModelID(w!("org.hamn.client")) };
    if code < 0 {
        tracing::warn!(code, "Windows does not take the program's name");
    }
    builder
}
