//! A helper that says what a test wants: it begins as a copy of a real helper's answers, so that their shapes are never invented.

use anyhow::{Context, Result};
use hamn_e2e::api::LocalApi;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is asked without arguments.
const READS: [&str; 8] =
    ["/v1/version", "/v1/public", "/v1/status", "/v1/servers", "/v1/account", "/v1/devices", "/v1/profiles", "/v1/settings"];

#[derive(Default)]
struct Shared {
    /// `GET /v1/status` and so on, with what comes back.
    answers: BTreeMap<String, (u16, Value)>,
    /// Lines of the event stream since the start.
    lines: Vec<Value>,
    /// Requests so far, without those that only read.
    asked: Vec<(String, Value)>,
    /// Answer nothing from now on, as a stopped process does.
    silent: bool,
    /// No more requests are taken, and every stream ends.
    over: bool,
}

struct State {
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Its socket goes when it is dropped.
pub struct FakeHelper {
    socket: PathBuf,
    state: Arc<State>,
}

impl FakeHelper {
    /// Listens on this socket with the answers that the real helper gives now.
    ///
    /// # Errors
    /// When the real one does not answer or the socket cannot be made.
    pub fn imitating(real: &LocalApi, socket: &Path) -> Result<Self> {
        let mut answers = BTreeMap::new();
        for path in READS {
            let answer = real.call("GET", path, None)?;
            answers.insert(format!("GET {path}"), (answer.status, answer.body));
        }
        let first = real.events(Duration::from_secs(5))?.next().context("no first event")??;
        // The stream's first line is the newer of the two; what is published next must be newer still.
        answers.insert("GET /v1/status".to_owned(), (200, first["status"].clone()));
        let shared = Shared { answers, lines: vec![first], ..Shared::default() };
        Self::listen(shared, socket)
    }

    fn listen(shared: Shared, socket: &Path) -> Result<Self> {
        if let Some(directory) = socket.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).with_context(|| format!("listen on {}", socket.display()))?;
        let state = Arc::new(State { shared: Mutex::new(shared), changed: Condvar::new() });
        let serving = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.lock().over {
                    return;
                }
                let state = serving.clone();
                std::thread::spawn(move || stream.map_err(anyhow::Error::from).and_then(|stream| serve(stream, &state)));
            }
        });
        Ok(Self { socket: socket.to_owned(), state })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Answers this request ("GET /v1/servers") with this status and body.
    pub fn answer(&self, request: &str, status: u16, body: Value) {
        self.state.lock().answers.insert(request.to_owned(), (status, body));
    }

    /// Changes an answer in place.
    pub fn doctor(&self, request: &str, change: impl FnOnce(&mut Value)) {
        if let Some((_, body)) = self.state.lock().answers.get_mut(request) {
            change(body);
        }
    }

    /// The present status, changed, becomes the status and an event. Returns when the line was handed to the streams.
    pub fn publish(&self, change: impl FnOnce(&mut Value)) {
        let mut shared = self.state.lock();
        let mut status = shared.answers.get("GET /v1/status").map(|(_, body)| body.clone()).unwrap_or_default();
        change(&mut status);
        status["sequence"] = json!(status["sequence"].as_u64().unwrap_or(0) + 1);
        // The stream's first line shows how an event with a status looks.
        let mut line = shared.lines.first().cloned().unwrap_or_default();
        line["status"] = status.clone();
        let public = json!({"protected": status["protected"], "state": status["state"]});
        shared.answers.insert("GET /v1/public".to_owned(), (200, public));
        shared.answers.insert("GET /v1/status".to_owned(), (200, status));
        shared.lines.push(line);
        drop(shared);
        self.state.changed.notify_all();
    }

    /// What was asked besides reading, with the bodies.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, Value)> {
        self.state.lock().asked.clone()
    }

    /// Takes connections and says nothing, as a stopped process does; or ends that.
    pub fn be_silent(&self, silent: bool) {
        self.state.lock().silent = silent;
        self.state.changed.notify_all();
    }
}

impl Drop for FakeHelper {
    fn drop(&mut self) {
        self.state.lock().over = true;
        self.state.changed.notify_all();
        // Wakes the listener.
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(stream: UnixStream, state: &State) -> Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let Some((request, body)) = read_request(&mut reader)? else { return Ok(()) };
        let mut shared = state.lock();
        while shared.silent && !shared.over {
            shared = state.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
        if shared.over {
            return Ok(());
        }
        if request == "GET /v1/events" {
            drop(shared);
            return stream_events(&mut writer, state);
        }
        if !request.starts_with("GET ") {
            shared.asked.push((request.clone(), body));
        }
        let unknown = json!({"type": "urn:hamn:problem:not_found", "title": "No such thing", "status": 404, "code": "not_found"});
        let (status, answer) = shared.answers.get(&request).cloned().unwrap_or((404, unknown));
        drop(shared);
        let text = answer.to_string();
        let kind = if status < 300 { "application/json" } else { "application/problem+json" };
        write!(writer, "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
    }
}

fn read_request(reader: &mut impl BufRead) -> Result<Option<(String, Value)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let request = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((request, serde_json::from_slice(&body).unwrap_or_default())))
}

fn stream_events(writer: &mut UnixStream, state: &State) -> Result<()> {
    write!(writer, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut shared = state.lock();
    // A new reader hears the newest status first, and then what comes.
    let (mut next, mut number) = (shared.lines.len().saturating_sub(1), 0);
    loop {
        while let Some(mut line) = shared.lines.get(next).cloned() {
            next += 1;
            number += 1;
            drop(shared);
            line["sequence"] = json!(number);
            let text = format!("{line}\n");
            write!(writer, "{:x}\r\n{text}\r\n", text.len())?;
            shared = state.lock();
        }
        if shared.over {
            return Ok(());
        }
        shared = state.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
    }
}
