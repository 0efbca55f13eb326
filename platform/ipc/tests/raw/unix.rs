//! Bytes over a Unix socket, as this user or as another one.

use super::Answer;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

pub fn open(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes and reads until the server closes.
pub fn exchange(socket: &Path, bytes: &[u8]) -> Answer {
    let mut stream = open(socket);
    let _ = stream.write_all(bytes);
    rest(&mut stream)
}

pub fn rest(stream: &mut UnixStream) -> Answer {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Answer::parse(&String::from_utf8_lossy(&answer))
}

/// The same as another user, through a child process.
pub fn exchange_as(uid: u32, gid: u32, socket: &Path, bytes: &[u8]) -> Answer {
    let mut child = Command::new("/usr/bin/socat")
        .args(["-t", "0.2", "-"])
        .arg(format!("UNIX-CONNECT:{}", socket.display()))
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Open until the answer is there: the server takes an end of input for the end of the caller.
    let mut input = child.stdin.take().unwrap();
    input.write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    Answer::parse(&String::from_utf8_lossy(&output.stdout))
}
