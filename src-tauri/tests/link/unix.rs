//! Helpers that stop, hang, lie or speak another version: each is a socket with a hand behind it.

use super::fake::{self, Fake, Script};
use super::{LinkState, Window};
use hamn_ipc::ProblemCode;
use hamn_ipc::wire::{EventKind, EventLine};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

fn socket_directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = directory.path().join("helper.sock");
    (directory, socket)
}

#[tokio::test]
async fn a_window_outlives_its_helper() {
    let (directory, socket) = socket_directory();
    let window = Window::open(&socket, true);
    let (down, count) = window.wait(0, |link| link.state == LinkState::Unreachable).await;
    assert_eq!(down.problem.map(|problem| problem.code), Some(ProblemCode::HelperUnreachable));
    let mut fake = Fake::start_at(Script::default(), directory, &socket);
    let (up, count) = window.wait(count, |link| link.state == LinkState::Up).await;
    assert!(up.since_unix_ms >= down.since_unix_ms);
    // The helper counts on within one life only: after a restart lower numbers are newer.
    fake.status.send_modify(|status| Arc::make_mut(status).sequence = 500);
    window.nudge.notify_one();
    let (_, count) = window.wait(count, |link| link.status.as_ref().is_some_and(|status| status.sequence == 500)).await;
    fake.stop().await;
    let (down, count) = window.wait(count, |link| link.state == LinkState::Unreachable).await;
    assert!(down.status.is_none(), "an old status is not shown as the present one");
    let directory = std::mem::replace(&mut fake.directory, tempfile::tempdir().unwrap());
    let mut fake = Fake::start_at(Script::default(), directory, &socket);
    let (up, _) = window.wait(count, |link| link.state == LinkState::Up).await;
    assert_eq!(up.status.map(|status| status.sequence), Some(1));
    fake.stop().await;
}

#[tokio::test]
async fn attempts_are_bounded_and_never_far_apart() {
    let (_directory, socket) = socket_directory();
    let listener = UnixListener::bind(&socket).unwrap();
    let window = Window::open(&socket, true);
    // Whoever answers nothing sees how often somebody comes: each attempt connects once or more.
    let began = Instant::now();
    let mut arrivals = Vec::new();
    while began.elapsed() < Duration::from_secs(6) {
        if let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_secs(3), listener.accept()).await {
            arrivals.push(began.elapsed());
            drop(stream);
        }
    }
    assert!(arrivals.len() < 60, "{} connections in 6 s", arrivals.len());
    assert!(arrivals.windows(2).all(|pair| pair[1] - pair[0] < Duration::from_millis(2_600)), "{arrivals:?}");
    assert_eq!(window.told().len(), 1, "the same problem is told once: {:?}", window.told());
}

#[tokio::test]
async fn an_impostor_is_named_and_a_helper_in_its_place_is_found() {
    let (directory, socket) = socket_directory();
    std::fs::write(&socket, b"").unwrap();
    let window = Window::open(&socket, true);
    let (link, count) = window.wait(0, |link| link.state == LinkState::Untrusted).await;
    assert_eq!(link.problem.map(|problem| problem.code), Some(ProblemCode::HelperUntrusted));
    std::fs::remove_file(&socket).unwrap();
    let mut fake = Fake::start_at(Script::default(), directory, &socket);
    window.wait(count, |link| link.state == LinkState::Up).await;
    fake.stop().await;
}

/// Serves answers that a helper of today would not give: `answers` maps a path to status line and body.
fn serve_by_hand(socket: &Path, answers: Vec<(&'static str, &'static str, String)>) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let answers = answers.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = Vec::new();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                    if line == "\r\n" {
                        break;
                    }
                    head.push(line);
                }
                let path = head[0].split(' ').nth(1).unwrap().to_owned();
                let missing = ("", "404 Not Found", "{}".to_owned());
                let (_, status, body) = answers.iter().find(|(known, _, _)| *known == path).unwrap_or(&missing);
                let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(text.as_bytes()).await;
            });
        }
    })
}

const PUBLIC: &str = r#"{"protected":true,"state":"connected"}"#;

#[tokio::test]
async fn another_version_of_the_api_is_said_and_the_public_part_is_still_shown() {
    let (_directory, socket) = socket_directory();
    let version = r#"{"helper":"0.0.1\u001b[31m","api":0}"#.to_owned();
    let serving = serve_by_hand(&socket, vec![("/v1/version", "200 OK", version), ("/v1/public", "200 OK", PUBLIC.into())]);
    let window = Window::open(&socket, true);
    let (link, _) = window.wait(0, |link| link.state == LinkState::Incompatible).await;
    assert!(link.public.is_some_and(|public| public.protected));
    assert_eq!((link.versions.unwrap().api, link.status), (0, None));
    let problem = link.problem.unwrap();
    assert!(problem.detail.as_ref().unwrap().starts_with("helper 0.0.1[31m speaks version 0"), "{problem:?}");
    serving.abort();
}

#[tokio::test]
async fn a_user_who_may_not_ask_sees_the_public_part() {
    let (_directory, socket) = socket_directory();
    let refused = serde_json::to_string(&hamn_ipc::Problem::new(ProblemCode::NotAllowed)).unwrap();
    let version = r#"{"helper":"9.9.9","api":1}"#.to_owned();
    let answers = vec![
        ("/v1/version", "200 OK", version),
        ("/v1/public", "200 OK", PUBLIC.into()),
        ("/v1/events", "403 Forbidden", refused),
    ];
    let serving = serve_by_hand(&socket, answers);
    let window = Window::open(&socket, true);
    let (link, _) = window.wait(0, |link| link.state == LinkState::NotAllowed).await;
    assert_eq!(link.problem.map(|problem| problem.code), Some(ProblemCode::NotAllowed));
    assert!(link.public.is_some() && link.status.is_none());
    serving.abort();
}

#[tokio::test]
async fn events_that_are_not_understood_are_not_guessed_at() {
    let (_directory, socket) = socket_directory();
    let answers = vec![
        ("/v1/version", "200 OK", r#"{"helper":"9.9.9","api":1}"#.to_owned()),
        ("/v1/events", "200 OK", "{\"kind\":\"status\",\"status\":7}\n".to_owned()),
    ];
    let serving = serve_by_hand(&socket, answers);
    let window = Window::open(&socket, true);
    let (link, _) = window.wait(0, |link| link.state != LinkState::Connecting).await;
    assert_eq!((link.state, link.status.is_none()), (LinkState::Incompatible, true));
    serving.abort();
}

#[tokio::test]
async fn a_helper_that_hangs_is_noticed() {
    let (_directory, socket) = socket_directory();
    let status = fake::status();
    let line = EventLine { sequence: 1, at_unix_s: 0, kind: EventKind::Status, code: None, message: None, status: Some(status) };
    let line = serde_json::to_string(&line).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    // It tells its status once and then neither says nor closes anything.
    let serving = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let mut stream = BufReader::new(stream);
            let mut first = String::new();
            if stream.read_line(&mut first).await.unwrap_or(0) == 0 {
                continue;
            }
            let body = if first.contains("/v1/version") {
                r#"{"helper":"9.9.9","api":1}"#.to_owned()
            } else if first.contains("/v1/events") {
                format!("{line}\n")
            } else {
                held.push(stream);
                continue;
            };
            let length = if first.contains("/v1/events") { body.len() + 1 } else { body.len() };
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = stream.write_all(text.as_bytes()).await;
            held.push(stream);
        }
    });
    let window = Window::open(&socket, true);
    let (_, count) = window.wait(0, |link| link.state == LinkState::Up).await;
    let (down, _) = window.wait(count, |link| link.state == LinkState::Unreachable).await;
    assert!(down.status.is_none());
    serving.abort();
}
