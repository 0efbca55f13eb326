//! Starting with the session on Windows: a value of this user's own `Run` key (learn.microsoft.com: "Run and RunOnce Registry
//! Keys"), the program's path in quotation marks. Task manager and settings switch such a value off by another one of the same
//! name in `StartupApproved`, whose first byte is odd then.

use super::{NAME, WORD};
use tauri::{AppHandle, Builder, Wry};
use windows_registry::{CURRENT_USER, Key, Type};

const RUN: &str = r"Software\Microsoft\Windows\CurrentVersion\Run";
const APPROVED: &str = r"Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run";
/// `HRESULT_FROM_WIN32(ERROR_FILE_NOT_FOUND)`.
const NOT_FOUND: u32 = 0x8007_0002;

/// The registry needs no preparation.
#[must_use]
pub const fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    builder
}

/// True when the program starts with the session.
///
/// # Errors
/// The registry cannot be read.
pub fn is_on(_app: &AppHandle) -> Result<bool, String> {
    is_listed(CURRENT_USER, NAME).map_err(|error| error.to_string())
}

/// Puts the program into the list, or takes it out.
///
/// # Errors
/// The registry cannot be changed.
pub fn set(_app: &AppHandle, wanted: bool) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let line = command_line(&program.display().to_string());
    let done = if wanted { enlist(CURRENT_USER, NAME, &line) } else { strike(CURRENT_USER, RUN, NAME) };
    done.map_err(|error| error.to_string())
}

fn command_line(program: &str) -> String {
    format!("\"{program}\" {WORD}")
}

fn enlist(user: &Key, name: &str, line: &str) -> windows_registry::Result<()> {
    user.create(RUN)?.set_string(name, line)?;
    // Who switched it off before wants it on now.
    strike(user, APPROVED, name)
}

/// Takes a value away; none is no error.
fn strike(user: &Key, path: &str, name: &str) -> windows_registry::Result<()> {
    let taken = user.options().read().write().open(path).and_then(|key| key.remove_value(name));
    found(taken).map(|_| ())
}

fn is_listed(user: &Key, name: &str) -> windows_registry::Result<bool> {
    if found(user.open(RUN).and_then(|key| key.get_string(name)))?.is_none() {
        return Ok(false);
    }
    let approved = found(user.open(APPROVED).and_then(|key| key.get_value(name)))?;
    Ok(!approved.is_some_and(|value| value.ty() == Type::Bytes && value.first().is_some_and(|first| first & 1 == 1)))
}

fn found<T>(answer: windows_registry::Result<T>) -> windows_registry::Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code().0.cast_unsigned() == NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_listed_switched_off_and_on_and_struck() {
        let name = format!("hamn-test-{}", std::process::id());
        let listed = || is_listed(CURRENT_USER, &name).unwrap();
        assert!(!listed());
        let line = command_line(r"C:\Program Files\Hamn\hamn-gui.exe");
        assert_eq!(line, r#""C:\Program Files\Hamn\hamn-gui.exe" --autostarted"#);
        enlist(CURRENT_USER, &name, &line).unwrap();
        assert!(listed());
        assert_eq!(CURRENT_USER.open(RUN).unwrap().get_string(&name).unwrap(), line);
        // As the task manager does.
        let off = [3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        CURRENT_USER.create(APPROVED).unwrap().set_bytes(&name, Type::Bytes, &off).unwrap();
        assert!(!listed());
        enlist(CURRENT_USER, &name, &line).unwrap();
        assert!(listed());
        strike(CURRENT_USER, RUN, &name).unwrap();
        strike(CURRENT_USER, RUN, &name).unwrap();
        assert!(!listed());
    }
}
