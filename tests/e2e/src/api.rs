//! The smallest possible client of the helper's local API: one request per connection, written by hand, so that the tests
//! do not depend on the code that they test.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The helper's socket.
#[derive(Clone, Debug)]
pub struct LocalApi {
    socket: PathBuf,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, if it was JSON; else a string.
    pub body: Value,
}

impl LocalApi {
    /// The API behind this socket.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn open(&self, timeout: Duration) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket).with_context(|| format!("connect to {}", self.socket.display()))?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(stream)
    }

    /// One request with a JSON body.
    ///
    /// # Errors
    /// When the helper does not answer in HTTP within ten seconds.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut stream = self.open(Duration::from_secs(10))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: hamn\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut reader = BufReader::new(stream);
        let (status, length, chunked) = read_head(&mut reader)?;
        let mut bytes = Vec::new();
        if chunked {
            while let Some(chunk) = read_chunk(&mut reader)? {
                bytes.extend(chunk);
            }
        } else if let Some(length) = length {
            reader.take(length).read_to_end(&mut bytes)?;
        } else {
            reader.read_to_end(&mut bytes)?;
        }
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Answer { status, body })
    }

    /// `GET`.
    ///
    /// # Errors
    /// As `call`, and for any status but 200.
    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = self.call("GET", path, None)?;
        if answer.status != 200 {
            bail!("GET {path}: {} {}", answer.status, answer.body);
        }
        Ok(answer.body)
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// As `get`.
    pub fn status(&self) -> Result<Value> {
        self.get("/v1/status")
    }

    /// Follows `/v1/events`; each item is one event. Ends with an error when nothing comes for `timeout`.
    ///
    /// # Errors
    /// When the stream cannot be opened.
    pub fn events(&self, timeout: Duration) -> Result<impl Iterator<Item = Result<Value>>> {
        let mut stream = self.open(timeout)?;
        write!(stream, "GET /v1/events HTTP/1.1\r\nHost: hamn\r\n\r\n")?;
        let mut reader = BufReader::new(stream);
        let (status, _, chunked) = read_head(&mut reader)?;
        if status != 200 || !chunked {
            bail!("events: status {status}, chunked {chunked}");
        }
        let mut pending = Vec::new();
        Ok(std::iter::from_fn(move || next_line(&mut reader, &mut pending).transpose()))
    }
}

fn next_line(reader: &mut impl BufRead, pending: &mut Vec<u8>) -> Result<Option<Value>> {
    loop {
        if let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if line.len() > 1 {
                return Ok(Some(serde_json::from_slice(&line).context("parse an event")?));
            }
            continue;
        }
        match read_chunk(reader)? {
            Some(chunk) => pending.extend(chunk),
            None => return Ok(None),
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> Result<(u16, Option<u64>, bool)> {
    let mut line = String::new();
    reader.read_line(&mut line).context("read the status line")?;
    let status =
        line.split_whitespace().nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("not HTTP: {line:?}"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        line.clear();
        reader.read_line(&mut line).context("read a header")?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            return Ok((status, length, chunked));
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
        chunked |= header.starts_with("transfer-encoding:") && header.ends_with("chunked");
    }
}

fn read_chunk(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = String::new();
    reader.read_line(&mut line).context("read a chunk's size")?;
    let size = usize::from_str_radix(line.trim(), 16).with_context(|| format!("chunk size {line:?}"))?;
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).context("read a chunk")?;
    chunk.truncate(size);
    Ok((size > 0).then_some(chunk))
}
