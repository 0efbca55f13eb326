//! A client of the WebDriver protocol (W3C recommendation of 2018): one request per connection, made inside the laboratory's client,
//! because the driver listens on that host's loopback. No request asks for its connection to be closed: `tauri-driver` would hand that
//! on to WebKit's driver and then use the closed connection again.

use anyhow::{Context, Result, bail};
use hamn_provider::sandbox::Host;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// The name under which the protocol passes a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How long one command may take: a script that waits for the page takes the longest.
const PATIENCE: Duration = Duration::from_secs(60);

struct Request {
    method: &'static str,
    path: String,
    body: Option<Value>,
    answer: SyncSender<Result<Value>>,
}

/// Speaks to one WebDriver.
pub struct Driver {
    requests: SyncSender<Request>,
}

impl Driver {
    /// The driver on this port of the host's loopback.
    ///
    /// # Errors
    /// When the host is gone.
    pub fn new(host: &Host, port: u16) -> Result<Self> {
        let (requests, inbox) = sync_channel(1);
        host.thread("webdriver", move || serve(&inbox, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))?;
        Ok(Self { requests })
    }

    /// One command; returns what the protocol calls its value.
    ///
    /// # Errors
    /// When the driver refuses, with its words.
    pub fn command(&self, method: &'static str, path: impl Into<String>, body: Option<Value>) -> Result<Value> {
        let (answer, result) = sync_channel(1);
        let request = Request { method, path: path.into(), body, answer };
        self.requests.send(request).context("the driver's thread ended")?;
        result.recv().context("the driver's thread ended")?
    }

    /// Starts a program and attaches to its web view.
    ///
    /// # Errors
    /// When the program does not start or has no web view.
    pub fn session(&self, options: Value) -> Result<Session<'_>> {
        let answer = self.command("POST", "/session", Some(json!({"capabilities": {"alwaysMatch": options}})))?;
        let id = answer["sessionId"].as_str().with_context(|| format!("no session: {answer}"))?.to_owned();
        Ok(Session { driver: self, id })
    }
}

/// A session, borrowed for one command.
pub struct Session<'driver> {
    driver: &'driver Driver,
    id: String,
}

impl<'driver> Session<'driver> {
    /// A session that was started earlier.
    #[must_use]
    pub fn known(driver: &'driver Driver, id: &str) -> Self {
        Self { driver, id: id.to_owned() }
    }

    /// Its identifier.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Any command of this session.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.driver.command("POST", format!("/session/{}/{path}", self.id), Some(body))
    }

    /// Reads.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.driver.command("GET", format!("/session/{}/{path}", self.id), None)
    }

    /// Ends the session, and with it the program.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn end(&self) -> Result<()> {
        self.driver.command("DELETE", format!("/session/{}", self.id), None).map(drop)
    }

    /// Runs a function body in the page; `arguments[0]` and so on are its arguments.
    ///
    /// # Errors
    /// When the script throws.
    pub fn run(&self, script: &str, arguments: &[Value]) -> Result<Value> {
        self.post("execute/sync", json!({"script": script, "args": arguments}))
    }

    /// Runs the body of an `async` function in the page and returns what it resolves to.
    ///
    /// # Errors
    /// When it throws or does not end in time.
    pub fn run_async(&self, script: &str, arguments: &[Value]) -> Result<Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1]; const given = Array.prototype.slice.call(arguments, 0, -1);
             (async function () {{ {script} }}).apply(null, given).then(value => done({{ value: value === undefined ? null : value }}),
             error => done({{ error: String(error && error.stack ? error.message + '\\n' + error.stack : JSON.stringify(error)) }}));"
        );
        let answer = self.post("execute/async", json!({"script": script, "args": arguments}))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("the page's script failed: {error}");
        }
        Ok(answer["value"].clone())
    }

    /// The first element that this CSS selector finds.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, css: &str) -> Result<String> {
        let found = self.post("element", json!({"using": "css selector", "value": css}))?;
        found[ELEMENT].as_str().map(str::to_owned).with_context(|| format!("no element: {found}"))
    }

    /// Clicks as a person does: the middle of the element, which must be in view and not covered.
    ///
    /// # Errors
    /// When it cannot be clicked.
    pub fn click(&self, css: &str) -> Result<()> {
        let element = self.find(css)?;
        self.post(&format!("element/{element}/click"), json!({})).map(drop).with_context(|| format!("click {css}"))
    }

    /// Types text into an element.
    ///
    /// # Errors
    /// When it takes none.
    pub fn type_into(&self, css: &str, text: &str) -> Result<()> {
        let element = self.find(css)?;
        self.post(&format!("element/{element}/value"), json!({"text": text}))
            .map(drop)
            .with_context(|| format!("type into {css}"))
    }

    /// Presses keys, each pressed and released before the next; `\u{E004}` is Tab, `\u{E007}` Enter (the protocol's table).
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn keys(&self, keys: &str) -> Result<()> {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        self.actions(&actions)
    }

    /// Holds one key down while another is pressed.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn chord(&self, held: char, key: char) -> Result<()> {
        self.actions(&[
            json!({"type": "keyDown", "value": held}),
            json!({"type": "keyDown", "value": key}),
            json!({"type": "keyUp", "value": key}),
            json!({"type": "keyUp", "value": held}),
        ])
    }

    fn actions(&self, actions: &[Value]) -> Result<()> {
        self.post("actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})).map(drop)
    }

    /// The visible page as a PNG.
    ///
    /// # Errors
    /// When the driver sends something else.
    pub fn screenshot(&self) -> Result<Vec<u8>> {
        use base64::Engine;
        let answer = self.get("screenshot")?;
        let text = answer.as_str().context("no picture")?;
        base64::engine::general_purpose::STANDARD.decode(text).context("decode the picture")
    }
}

fn serve(inbox: &Receiver<Request>, address: SocketAddr) {
    while let Ok(Request { method, path, body, answer }) = inbox.recv() {
        let _ = answer.send(exchange(address, method, &path, body.as_ref()));
    }
}

fn exchange(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("connect to the driver")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    reader.read_line(&mut line).with_context(|| format!("no answer to {method} {path}"))?;
    let good = line.split_whitespace().nth(1) == Some("200");
    loop {
        line.clear();
        reader.read_line(&mut line).context("read a header")?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().context("read the length")?;
        }
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).context("read the answer")?;
    let answer: Value =
        serde_json::from_slice(&bytes).with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&bytes)))?;
    if !good {
        let value = &answer["value"];
        bail!("{method} {path}: {}: {}", value["error"].as_str().unwrap_or("?"), value["message"].as_str().unwrap_or("?"));
    }
    Ok(answer["value"].clone())
}
