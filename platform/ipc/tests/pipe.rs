//! The server and the client over a named pipe, and bad, slow and many callers of it (IPC-05, IPC-06, IPC-07, IPC-09).
#![cfg(test)]
#![cfg(windows)]

mod fake;
mod raw;

use fake::{Fake, Script};
use futures_util::StreamExt;
use hamn_ipc::client::Client;
use hamn_ipc::server::Limits;
use hamn_ipc::wire::{self, ConnectRequest, DestinationText, EventKind, EventLine, ImportProfile, LoginRequest, Secret};
use hamn_ipc::{ProblemCode, Request};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

async fn alive(pipe: &Path) {
    assert_eq!(raw::exchange(pipe, raw::text("GET", "/v1/status", "").as_bytes()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_connects_follows_events_and_sees_the_end() {
    let mut fake = Fake::start(Script::default());
    let client = Client::open(Some(&fake.socket)).await.unwrap();
    assert_eq!(client.status().await.unwrap(), fake::status());
    assert_eq!(client.public().await.unwrap().state, fake::status().state);
    let mut events = Box::pin(client.events().await.unwrap());
    assert_eq!(events.next().await.unwrap().unwrap().status.unwrap(), fake::status());
    let request = ConnectRequest { destination: Some(DestinationText::Text("se".into())), if_needed: false };
    assert!(client.connect(&request).await.unwrap().changed);
    let mut states = Vec::new();
    while states.last() != Some(&hamn_core::status::StateKind::Connected) {
        states.push(events.next().await.unwrap().unwrap().status.unwrap().state);
    }
    let login = LoginRequest { account: Secret::new("4242".into()), password: None, otp: None };
    assert!(client.login(&login).await.unwrap().logged_in);
    let profile = ImportProfile { name: "home".into(), conf: Secret::new("[Interface]".into()), replace: false };
    assert_eq!(client.import_profile(&profile).await.unwrap().profiles.len(), 1);
    assert_eq!(client.remove_profile("home").await.unwrap().profiles.len(), 0);
    assert!(fake.asked().contains(&Request::RemoveProfile { name: "home".into() }));
    fake.stop().await;
    let last = events.next().await.unwrap().unwrap();
    assert_eq!((last.kind, last.code.as_deref()), (EventKind::End, Some("shutdown")));
    assert!(events.next().await.is_none());
    let gone = Client::open(Some(&fake.socket)).await.map(drop).unwrap_err();
    assert_eq!(gone.code, ProblemCode::HelperUnreachable, "{gone}");
    let gone = client.status().await.unwrap_err();
    assert_eq!(gone.code, ProblemCode::HelperUnreachable, "{gone}");
}

#[tokio::test]
async fn only_a_pipes_name_is_taken() {
    for bad in ["/run/hamn/helper.sock", r"C:\hamn.sock", r"\\server\pipe\hamn", "hamn"] {
        let problem = Client::open(Some(Path::new(bad))).await.map(drop).unwrap_err();
        assert_eq!(problem.code, ProblemCode::InvalidValue, "{bad}: {problem}");
    }
    // Nothing is installed where tests run.
    let problem = Client::open(None).await.map(drop).unwrap_err();
    assert_eq!(problem.code, ProblemCode::HelperUnreachable, "{problem}");
}

// IPC-05
#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_lie_are_refused_and_harm_nobody() {
    let limits = Limits { request: Duration::from_secs(2), header: Duration::from_secs(1), ..Limits::default() };
    let fake = Fake::start(Script { limits, ..Script::default() });
    let pipe = &fake.socket;
    let head = |length: &str| format!("POST /v1/connect HTTP/1.1\r\nhost: hamn\r\ncontent-length: {length}\r\n\r\n");
    let huge = raw::exchange(pipe, head("4294967296").as_bytes()).await;
    assert_eq!((huge.status, huge.code().as_str()), (413, "too_large"));
    for length in ["-1", "18446744073709551616", "0x10", "1 1", ""] {
        assert_eq!(raw::exchange(pipe, head(length).as_bytes()).await.status, 400, "{length:?}");
    }
    let full = raw::exchange(pipe, raw::text("POST", "/v1/connect", &"x".repeat(65536)).as_bytes()).await;
    assert_eq!((full.status, full.code().as_str()), (400, "bad_request"));
    let more = raw::exchange(pipe, raw::text("POST", "/v1/connect", &"x".repeat(65537)).as_bytes()).await;
    assert_eq!(more.code(), "too_large");
    let truncated = raw::exchange(pipe, format!("{}abc", head("100")).as_bytes()).await;
    assert_eq!((truncated.status, truncated.code().as_str()), (408, "request_timeout"));
    let large = raw::exchange(pipe, format!("GET /v1/status HTTP/1.1\r\nhost: {}\r\n\r\n", "h".repeat(100_000)).as_bytes()).await;
    assert!(matches!(large.status, 400 | 431), "{large:?}");
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\0\0\0\0\0\0\0\0\0\0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        assert!(matches!(raw::exchange(pipe, garbage).await.status, 0 | 400));
    }
    alive(pipe).await;
    assert_eq!(fake.asked(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_answered_with_problem_documents() {
    let fake = Fake::start(Script::default());
    let origin = "GET /v1/status HTTP/1.1\r\nhost: hamn\r\norigin: http://evil\r\nconnection: close\r\n\r\n".to_owned();
    for (text, status, code) in [
        (raw::text("GET", "/nothing", ""), 404, "not_found"),
        (raw::text("PUT", "/v1/status", ""), 405, "method_not_allowed"),
        (raw::text("POST", "/v1/login", "{"), 400, "bad_request"),
        (raw::text("POST", "/v1/profiles", r#"{"name":"../x","conf":""}"#), 422, "invalid_value"),
        (origin, 403, "not_allowed"),
    ] {
        let answer = raw::exchange(&fake.socket, text.as_bytes()).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{text}\n{answer:?}");
    }
    let client = Client::open(Some(&fake.socket)).await.unwrap();
    let profile = ImportProfile { name: "home".into(), conf: Secret::new("x".repeat(70_000)), replace: false };
    assert_eq!(client.import_profile(&profile).await.unwrap_err().code, ProblemCode::TooLarge);
    assert_eq!(client.remove_device("dev_9").await.unwrap_err().code, ProblemCode::NotFound);
}

// IPC-05
#[tokio::test(flavor = "multi_thread")]
async fn slow_and_idle_callers_are_cut_off_in_time() {
    let limits = Limits { header: Duration::from_millis(300), ..Limits::default() };
    let fake = Fake::start(Script { limits, ..Script::default() });
    for start in [&b""[..], b"GET /v1/sta", b"GET /v1/status HTTP/1.1\r\nhost: hamn\r\n\r\n"] {
        let mut stream = raw::open(&fake.socket).await;
        stream.write_all(start).await.unwrap();
        let started = Instant::now();
        raw::rest(&mut stream).await;
        let elapsed = started.elapsed();
        assert!((Duration::from_millis(200)..Duration::from_secs(10)).contains(&elapsed), "{elapsed:?} {start:?}");
    }
    alive(&fake.socket).await;
}

// IPC-07
#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_may_be_are_refused_and_idle_ones_make_room() {
    let limits = Limits { connections: 4, reserved_for_root: 1, per_user: 3, event_streams_per_user: 3, ..Limits::default() };
    let fake = Fake::start(Script { limits, ..Script::default() });
    // Callers that begin and never go on do not keep others out.
    let mut half = Vec::new();
    for _ in 0..12 {
        let mut stream = raw::open(&fake.socket).await;
        stream.write_all(b"GET /v1/sta").await.unwrap();
        half.push(stream);
    }
    alive(&fake.socket).await;
    drop(half);
    // Streams are busy for good: what comes then is told why it is not served.
    let mut streams = Vec::new();
    let refused = loop {
        let mut stream = raw::open(&fake.socket).await;
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: hamn\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.unwrap();
        if &first != b"HTTP/1.1 200" {
            break raw::rest(&mut stream).await;
        }
        streams.push(stream);
        assert!(streams.len() <= limits.connections, "more than there may be");
    };
    assert!(refused.body.contains("too_many_connections"), "{refused:?}");
    assert!(streams.len() >= 3, "{} streams", streams.len());
    drop(streams);
    let started = Instant::now();
    while raw::exchange(&fake.socket, raw::text("GET", "/v1/status", "").as_bytes()).await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(10), "the places are not given back");
    }
}

fn publish(fake: &Fake, sequence: u64) {
    let mut status = fake::status();
    status.sequence = sequence;
    let line = EventLine { sequence: 0, at_unix_s: 0, kind: EventKind::Status, code: None, message: None, status: Some(status) };
    let _ = fake.events.send(Arc::new(line));
}

// IPC-09
#[tokio::test(flavor = "multi_thread")]
async fn an_event_reader_that_takes_nothing_is_cut_off_and_others_are_served() {
    let limits = Limits { write: Duration::from_millis(300), ..Limits::default() };
    let fake = Fake::start(Script { limits, ..Script::default() });
    let mut deaf = raw::open(&fake.socket).await;
    deaf.write_all(b"GET /v1/events HTTP/1.1\r\nhost: hamn\r\n\r\n").await.unwrap();
    let started = Instant::now();
    while fake.events.receiver_count() == 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "the stream begins");
        tokio::task::yield_now().await;
    }
    let mut number = 2;
    while fake.events.receiver_count() > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "not cut off after {number} events");
        // Never so much that the reader lags: it is the pipe that must fill up.
        if fake.events.len() < 100 {
            publish(&fake, number);
            number += 1;
        }
        tokio::task::yield_now().await;
    }
    alive(&fake.socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_may_all_and_what_this_user_may_is_what_its_token_says() {
    let fake = Fake::start(Script::default());
    let client = Client::open(Some(&fake.socket)).await.unwrap();
    let status = client.status().await.map(drop).map_err(|problem| problem.code);
    let restore = client.restore().await.map(drop).map_err(|problem| problem.code);
    println!("status: {status:?}, restore: {restore:?}");
    if restore.is_ok() {
        assert_eq!(status, Ok(()));
        println!("skipped: this process is an administrator's, so that a refusal over a real pipe cannot be seen; see `classes`");
    } else {
        assert_eq!(restore, Err(ProblemCode::NotAllowed));
        let grave: wire::SettingsPatch = serde_json::from_str(r#"{"auto_connect":false}"#).unwrap();
        assert_eq!(client.change_settings(&grave).await.unwrap_err().code, ProblemCode::NotAllowed);
        assert_eq!(fake.asked(), []);
    }
    assert!(client.public().await.is_ok());
}
