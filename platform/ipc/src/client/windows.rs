//! Opens the helper's pipe and makes sure who owns it, on the very handle over which it then speaks.
//!
//! The owner of a pipe is fixed by whoever made its first instance, and only those with the right to make instances (the owner
//! and the system, see `pipe::descriptor`) can answer at it: so the owner says who listens.
#![expect(unsafe_code, reason = "a handle becomes a pipe of the runtime")]

use super::{CONNECT, unreachable_after};
use crate::caller::{Sid, UserId};
use crate::pipe;
use crate::problem::{Problem, ProblemCode};
use crate::windows::security::owner;
use crate::windows::token::Token;
use std::fs::OpenOptions;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, IntoRawHandle};
use std::path::Path;
use std::time::Duration;
use tokio::net::windows::named_pipe::NamedPipeClient;
use tokio::time::{Instant, sleep};
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;
use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_OVERLAPPED, SECURITY_IDENTIFICATION};

/// What a connection speaks through.
pub(super) type Stream = NamedPipeClient;

/// Time between attempts while every instance is taken.
const PAUSE: Duration = Duration::from_millis(10);

/// Who may serve: the system, administrators, and with `own` the user of this process.
pub(super) fn trusted(own: bool) -> io::Result<Vec<UserId>> {
    let known = [Sid::LOCAL_SYSTEM, Sid::ADMINISTRATORS].into_iter().filter_map(Sid::parse);
    let own = if own { Some(Token::own()?.user()?) } else { None };
    Ok(known.chain(own).map(UserId::Windows).collect())
}

/// Opens a pipe that a trusted user owns. Nothing is sent before that is known, and whoever is at the other end may learn who we
/// are but never act in our name (`SECURITY_IDENTIFICATION`, with the identity of this moment).
pub(super) async fn connect(socket: &Path, trusted: &[UserId]) -> Result<Stream, Problem> {
    let name = pipe::name(socket).map_err(|why| Problem::with_detail(ProblemCode::InvalidValue, why))?;
    let unreachable = |why: &io::Error| Problem::with_detail(ProblemCode::HelperUnreachable, format!("{name}: {}", kind(why)));
    let started = Instant::now();
    let opened = loop {
        match options().open(name) {
            Err(error) if is_busy(&error) && started.elapsed() < CONNECT => sleep(PAUSE).await,
            Err(error) if is_busy(&error) => return Err(unreachable_after(CONNECT)),
            result => break result.map_err(|error| unreachable(&error))?,
        }
    };
    match owner(opened.as_handle()).map(UserId::Windows) {
        Ok(user) if trusted.contains(&user) => {}
        Ok(user) => return Err(Problem::with_detail(ProblemCode::HelperUntrusted, format!("{name} belongs to user {user}"))),
        Err(_) => return Err(Problem::with_detail(ProblemCode::HelperUntrusted, format!("nobody knows to whom {name} belongs"))),
    }
    // SAFETY: the handle is that of a client's end of a pipe, opened for overlapped calls, and ownership passes on with it.
    unsafe { NamedPipeClient::from_raw_handle(opened.into_raw_handle()) }.map_err(|error| unreachable(&error))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.access_mode(pipe::CLIENT_RIGHTS).share_mode(0).custom_flags(FILE_FLAG_OVERLAPPED);
    options.security_qos_flags(SECURITY_IDENTIFICATION);
    options
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error().and_then(|code| u32::try_from(code).ok()) == Some(ERROR_PIPE_BUSY)
}

fn kind(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound { "there is no such pipe".to_owned() } else { error.kind().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::security::create_pipe;
    use std::os::windows::io::OwnedHandle;
    use std::path::PathBuf;

    /// A pipe of this owner at which nobody answers.
    fn pipe_of(owner: &str, name: &str) -> (PathBuf, OwnedHandle) {
        let path = PathBuf::from(format!(r"\\.\pipe\hamn-owner-{}-{name}", std::process::id()));
        let everybody = format!("O:{owner}G:{owner}D:P(A;;GA;;;S-1-1-0)");
        let handle = create_pipe(path.to_str().unwrap(), &everybody, pipe::instance(true)).unwrap();
        (path, handle)
    }

    // IPC-06: before a byte is sent, the owner is known on the handle itself.
    #[tokio::test]
    async fn a_pipe_of_another_owner_is_refused() {
        let own = Token::own().unwrap().user().unwrap();
        let everybody_else = [UserId::Windows(Sid::parse("S-1-5-21-9-9-9-1000").unwrap())];
        let (path, listening) = pipe_of(own.as_str(), "own");
        assert!(connect(&path, &trusted(true).unwrap()).await.is_ok(), "the negative control");
        drop(listening);
        let (path, listening) = pipe_of(own.as_str(), "not-trusted");
        let refused = connect(&path, &everybody_else).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::HelperUntrusted, "{refused}");
        assert!(refused.detail.unwrap().contains(own.as_str()));
        drop(listening);
        // Without HAMN_SOCKET not even the own user is trusted.
        if own.is(Sid::LOCAL_SYSTEM) {
            println!("skipped: this process runs as the system, which every client trusts");
        } else {
            let (path, _listening) = pipe_of(own.as_str(), "usual");
            assert_eq!(connect(&path, &trusted(false).unwrap()).await.unwrap_err().code, ProblemCode::HelperUntrusted);
        }
    }

    #[tokio::test]
    async fn the_system_and_administrators_are_trusted() {
        for (number, owner) in [Sid::LOCAL_SYSTEM, Sid::ADMINISTRATORS].into_iter().enumerate() {
            let path = format!("trusted-{number}");
            let made = std::panic::catch_unwind(|| pipe_of(owner, &path));
            match made {
                Ok((path, _listening)) => assert!(connect(&path, &trusted(false).unwrap()).await.is_ok(), "{owner}"),
                Err(_) => println!("skipped: this process may not give a pipe to {owner}"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_pipe_and_what_does_not_exist_are_told_apart() {
        let code = async |text: &str| connect(Path::new(text), &[]).await.unwrap_err().code;
        assert_eq!(code(r"C:\windows\win.ini").await, ProblemCode::InvalidValue);
        assert_eq!(code(r"\\server\pipe\hamn").await, ProblemCode::InvalidValue);
        assert_eq!(code(r"\\.\pipe\hamn-no-such-pipe").await, ProblemCode::HelperUnreachable);
    }

    #[tokio::test]
    async fn a_pipe_whose_instances_are_all_taken_is_waited_for() {
        let own = Token::own().unwrap().user().unwrap();
        let (path, listening) = pipe_of(own.as_str(), "busy");
        let trusted = trusted(true).unwrap();
        let _taken = connect(&path, &trusted).await.unwrap();
        let text = path.to_str().unwrap().to_owned();
        let everybody = format!("O:{own}G:{own}D:P(A;;GA;;;S-1-1-0)");
        let second = tokio::spawn(async move { connect(&path, &trusted).await.map(drop) });
        tokio::task::yield_now().await;
        let _more = create_pipe(&text, &everybody, pipe::instance(false)).unwrap();
        assert_eq!(second.await.unwrap(), Ok(()));
        drop(listening);
    }
}
