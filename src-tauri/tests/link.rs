//! The conversation with a helper over a real socket: snapshots, restarts, refusals, impostors, other versions, a hanging helper.
#![cfg(test)]

#[path = "../../platform/ipc/tests/fake/mod.rs"]
mod fake;

use fake::{Fake, Outcome, Script};
use hamn_core::state::BlockReason;
use hamn_core::status::StateKind;
use hamn_ipc::ProblemCode;
use hamn_ipc::client::Client;
use hamn_ipc::wire::{ConnectRequest, EventKind, EventLine, VersionInfo};
use hamn_window::link::{Board, Conversation, Link, LinkState, Word};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// A window without a window: everything that it was told, in order.
struct Window {
    told: Arc<Mutex<Vec<Link>>>,
    board: Arc<Board>,
    visible: watch::Sender<bool>,
    nudge: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Window {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Window {
    fn open(socket: &Path, visible: bool) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let board = Arc::new(Board::new(move |before, after| {
            assert!(after.seq > before.seq);
            sink.lock().unwrap().push(after.clone());
        }));
        let visible = watch::Sender::new(visible);
        let nudge = Arc::new(Notify::new());
        let talk = Conversation::new(Some(socket.to_owned()), Arc::clone(&board), visible.subscribe(), Arc::clone(&nudge));
        Self { told, board, visible, nudge, task: tokio::spawn(talk.run()) }
    }

    fn told(&self) -> Vec<Link> {
        self.told.lock().unwrap().clone()
    }

    /// The first link from the `after`-th on that is as wanted, and how many were told by then.
    async fn wait(&self, after: usize, wanted: impl Fn(&Link) -> bool) -> (Link, usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let told = self.told();
            if let Some(found) = told.iter().skip(after).position(&wanted) {
                return (told[after + found].clone(), after + found + 1);
            }
            assert!(
                Instant::now() < deadline,
                "not told; told was {:?}",
                told.iter().map(|link| (link.seq, link.state)).collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn state_of(link: &Link) -> Option<StateKind> {
    link.status.as_ref().map(|status| status.state)
}

fn socket_directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = directory.path().join("helper.sock");
    (directory, socket)
}

#[tokio::test]
async fn every_step_of_a_connection_is_told_in_order() {
    let mut fake = Fake::start(Script::default());
    let window = Window::open(&fake.socket, true);
    assert_eq!(window.board.current().state, LinkState::Connecting);
    let (first, count) = window.wait(0, |link| link.state == LinkState::Up).await;
    assert_eq!(first.versions.as_ref().map(|versions| versions.helper.as_str()), Some("9.9.9"));
    Client::open(Some(&fake.socket)).await.unwrap().connect(&ConnectRequest::default()).await.unwrap();
    window.wait(count, |link| state_of(link) == Some(StateKind::Connected)).await;
    let told = window.told();
    assert!(told.windows(2).all(|pair| pair[0].seq < pair[1].seq), "the numbers grow");
    let states: Vec<_> = told.iter().filter_map(state_of).collect();
    let connecting = states.iter().filter(|state| **state == StateKind::Connecting).count();
    assert_eq!((states.first(), connecting, states.last()), (Some(&StateKind::Disconnected), 4, Some(&StateKind::Connected)));
    assert!(told.iter().all(|link| link.problem.is_none() && link.public.is_none()));
    fake.stop().await;
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
async fn counters_are_fresh_while_somebody_looks_and_left_alone_otherwise() {
    let mut fake = Fake::start(Script::default());
    fake.status.send_modify(|status| Arc::make_mut(status).tunnel = Some(fake::tunnel()));
    let window = Window::open(&fake.socket, false);
    let (_, count) = window.wait(0, |link| link.state == LinkState::Up).await;
    let received = |bytes: u64| {
        fake.status.send_modify(|status| {
            if let Some(tunnel) = &mut Arc::make_mut(status).tunnel {
                tunnel.rx_bytes = bytes;
            }
        });
    };
    received(7);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(window.told().len(), count, "nobody looks");
    window.visible.send_replace(true);
    let shows = |bytes: u64| {
        move |link: &Link| link.status.iter().flat_map(|status| &status.tunnel).any(|tunnel| tunnel.rx_bytes == bytes)
    };
    let (_, count) = window.wait(count, shows(7)).await;
    received(8);
    let began = Instant::now();
    let (_, count) = window.wait(count, shows(8)).await;
    received(9);
    window.wait(count, shows(9)).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    fake.stop().await;
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

#[test]
fn older_words_never_replace_newer_ones() {
    let versions = VersionInfo { helper: "9.9.9".into(), api: 1 };
    let word = |session: u64, sequence: u64| {
        let status = Box::new(hamn_core::status::Status { sequence, ..fake::status() });
        Word::Status { session, status, versions: versions.clone() }
    };
    let board = Board::new(|_, _| {});
    let take = |word: Word| {
        board.take(word);
        let link = board.current();
        (link.seq, link.status.map(|status| status.sequence))
    };
    assert_eq!(take(word(1, 5)), (2, Some(5)));
    assert_eq!(take(word(1, 4)), (2, Some(5)), "older in its connection");
    assert_eq!(take(word(1, 5)), (2, Some(5)), "nothing new");
    assert_eq!(take(word(2, 1)), (3, Some(1)), "a new connection counts anew");
    assert_eq!(take(word(1, 9)), (3, Some(1)), "late, from the connection before");
    let problem = hamn_ipc::Problem::new(ProblemCode::HelperUnreachable);
    let down = Word::Down { state: LinkState::Unreachable, problem, public: None, versions: None };
    assert_eq!(take(down.clone()), (4, None));
    assert_eq!(take(down), (4, None));
    assert_eq!(take(word(1, 9)), (4, None), "late, after the end");
    assert_eq!(take(word(3, 1)), (5, Some(1)));
}

#[tokio::test]
async fn a_blocked_tunnel_comes_with_its_reason() {
    let mut fake = Fake::start(Script { outcome: Outcome::Blocks(BlockReason::GatewaySilent), ..Script::default() });
    let window = Window::open(&fake.socket, true);
    let (_, count) = window.wait(0, |link| link.state == LinkState::Up).await;
    Client::open(Some(&fake.socket)).await.unwrap().connect(&ConnectRequest::default()).await.unwrap();
    let (link, _) = window.wait(count, |link| state_of(link) == Some(StateKind::Blocked)).await;
    assert_eq!(link.status.and_then(|status| status.blocked).map(|blocked| blocked.code), Some(BlockReason::GatewaySilent));
    fake.stop().await;
}
