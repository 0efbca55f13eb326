//! Reads secrets from the terminal without echo, or from standard input; never from the command line.

use crate::arguments::Login;
use crate::terminal::Silent;
use hamn_ipc::wire::{LoginRequest, Secret};
use hamn_ipc::{Problem, ProblemCode};
use std::io::{BufRead, IsTerminal, Read, Stdin, Write, stderr, stdin};

/// Longest secret line that is read, in bytes.
const LONGEST: u64 = 1026;

/// Collects what a login needs.
///
/// # Errors
/// `invalid_value` when a secret stands on the command line or an input is empty.
pub fn login(login: &Login) -> Result<LoginRequest, Problem> {
    let has_password = login.password || login.password_stdin;
    let account = match login.account.as_deref() {
        None | Some("-") => read("Account", false)?,
        Some(name) if has_password => Secret::new(name.to_owned()),
        Some(_) => {
            return Err(Problem::with_detail(
                ProblemCode::InvalidValue,
                "an account number on the command line can be seen by every user",
            )
            .action("Leave it out to be asked, or use `hamn login -` and write it to standard input."));
        }
    };
    let password = has_password.then(|| read("Password", login.password)).transpose()?;
    let otp = login.otp.then(|| read("One-time code", true)).transpose()?;
    Ok(LoginRequest { account, password, otp })
}

/// One line: asked without echo when standard input is a terminal, otherwise just read.
fn read(what: &str, ask: bool) -> Result<Secret, Problem> {
    let input = stdin();
    if !input.is_terminal() {
        return if ask && input.lock().fill_buf().is_ok_and(<[u8]>::is_empty) { Err(empty(what)) } else { line(&input, what) };
    }
    let _ = write!(stderr(), "{what}: ");
    let silent = Silent::start();
    let result = line(&input, what);
    drop(silent);
    let _ = writeln!(stderr());
    result
}

fn line(input: &Stdin, what: &str) -> Result<Secret, Problem> {
    let mut text = String::new();
    let read = input.lock().take(LONGEST).read_line(&mut text);
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    match read {
        Ok(_) if !text.is_empty() => Ok(Secret::new(text)),
        Ok(_) | Err(_) => Err(empty(what)),
    }
}

fn empty(what: &str) -> Problem {
    Problem::with_detail(ProblemCode::InvalidValue, format!("{what}: nothing was entered"))
}
