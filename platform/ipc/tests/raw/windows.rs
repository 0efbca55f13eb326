//! Bytes over a pipe as any program could send them.
#![allow(unsafe_code, reason = "a handle becomes a pipe of the runtime")]

use std::fs::OpenOptions;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::IntoRawHandle;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::windows::named_pipe::NamedPipeClient;

const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;
const SECURITY_IDENTIFICATION: u32 = 0x0001_0000;

pub async fn open(pipe: &Path) -> NamedPipeClient {
    let started = Instant::now();
    let mut options = OpenOptions::new();
    options.access_mode(hamn_ipc::pipe::CLIENT_RIGHTS).custom_flags(FILE_FLAG_OVERLAPPED);
    options.security_qos_flags(SECURITY_IDENTIFICATION);
    let file = loop {
        match options.open(pipe) {
            Err(_) if started.elapsed() < Duration::from_secs(10) => tokio::time::sleep(Duration::from_millis(5)).await,
            result => break result.unwrap(),
        }
    };
    // SAFETY: the handle is that of a client's end of a pipe, opened for overlapped calls, and ownership passes on with it.
    unsafe { NamedPipeClient::from_raw_handle(file.into_raw_handle()) }.unwrap()
}

/// Sends bytes and reads until the server closes.
pub async fn exchange(pipe: &Path, bytes: &[u8]) -> super::Answer {
    let mut stream = open(pipe).await;
    // A server that has heard enough closes while the rest is on its way.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.write_all(bytes)).await;
    rest(&mut stream).await
}

pub async fn rest(stream: &mut NamedPipeClient) -> super::Answer {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        while let Ok(count) = stream.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the server did not close");
    super::Answer::parse(&String::from_utf8_lossy(&answer))
}
