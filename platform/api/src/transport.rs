//! One HTTP/1.1 exchange over pinned TLS 1.3: addresses are raced, everything is bounded, no redirect, proxy or compression.

use crate::config::{Limits, Origin};
use crate::error::{ApiError, Problem};
use crate::session::Token;
use crate::throttle::Memory;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, Error as RustlsError};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Called with every socket before it connects; the helper sets its mark here. An error means the socket is not used.
pub type PrepareSocket = Arc<dyn Fn(&socket2::Socket) -> io::Result<()> + Send + Sync>;

/// Head start of one address over the next (RFC 8305 section 5 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// Status line and headers together, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Number of headers.
const MAX_HEADERS: usize = 64;

/// One way to reach the provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Candidate {
    pub origin: Arc<Origin>,
    pub address: SocketAddr,
}

/// One request.
pub(crate) struct Call {
    pub method: Method,
    pub path: String,
    pub body: Option<Bytes>,
    pub bearer: Option<Token>,
    pub idempotency_key: Option<String>,
    pub if_none_match: Option<String>,
    /// Most bytes of body.
    pub limit: usize,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>, limit: usize) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: None,
            bearer: None,
            idempotency_key: None,
            if_none_match: None,
            limit,
        }
    }

    /// Sending it twice does no harm.
    fn repeatable(&self) -> bool {
        self.method != Method::POST || self.idempotency_key.is_some()
    }
}

/// One answer; its status is 2xx or 304.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub etag: Option<String>,
    pub body: Bytes,
}

pub(crate) struct Transport {
    tls: TlsConnector,
    prepare: PrepareSocket,
    limits: Limits,
    memory: Mutex<Memory>,
}

impl Transport {
    pub(crate) fn new(tls: Arc<rustls::ClientConfig>, prepare: PrepareSocket, limits: Limits) -> Self {
        Self { tls: TlsConnector::from(tls), prepare, limits, memory: Mutex::default() }
    }

    pub(crate) fn memory<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        with(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends over the best address, and over the next ones where that does no harm, within `limits.total` altogether.
    pub(crate) async fn send(&self, mut candidates: Vec<Candidate>, call: &Call) -> Result<Answer, ApiError> {
        let now = Instant::now();
        let deadline = now + self.limits.total;
        self.memory(|memory| candidates.sort_by_key(|candidate| memory.rank(candidate.address, now)));
        let mut tried = HashSet::new();
        let mut last = ApiError::Unreachable("no address is known".to_owned());
        loop {
            let queue: VecDeque<_> = candidates.iter().filter(|c| !tried.contains(*c)).cloned().collect();
            if queue.is_empty() {
                return Err(last);
            }
            let others_left = queue.len() > 1;
            let connected = timeout_at(deadline, self.connect_any(queue, &mut tried)).await;
            let (candidate, stream) = match connected {
                Err(_) => return Err(prefer(last, ApiError::Unreachable("timed out".to_owned()))),
                Ok(Err(error)) => return Err(prefer(last, error)),
                Ok(Ok(connected)) => connected,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let share = if others_left && call.repeatable() { left / 2 } else { left };
            let result = timeout(share, exchange(stream, &candidate.origin, call)).await.unwrap_or(Err(ApiError::Timeout));
            let address = candidate.address;
            tried.insert(candidate);
            match result {
                Err(error) if error.other_address_may_help() => {
                    self.memory(|memory| memory.bad(address, Instant::now()));
                    if !call.repeatable() {
                        return Err(error);
                    }
                    last = error;
                }
                done => {
                    self.memory(|memory| memory.good(address));
                    return done;
                }
            }
        }
    }

    /// Connects to the candidates one after the other without waiting for the slow ones; the first good one wins.
    async fn connect_any(
        &self,
        mut queue: VecDeque<Candidate>,
        tried: &mut HashSet<Candidate>,
    ) -> Result<(Candidate, TlsStream<TcpStream>), ApiError> {
        let mut running = JoinSet::new();
        let mut failure = ApiError::Unreachable("no address is known".to_owned());
        loop {
            if let Some(candidate) = queue.pop_front() {
                running.spawn(connect(self.tls.clone(), Arc::clone(&self.prepare), candidate, self.limits.connect));
            } else if running.is_empty() {
                return Err(failure);
            }
            let joined = tokio::select! {
                joined = running.join_next() => joined,
                () = sleep(STAGGER), if !queue.is_empty() => None,
            };
            match joined {
                Some(Ok((candidate, Ok(stream)))) => return Ok((candidate, stream)),
                Some(Ok((candidate, Err(error)))) => {
                    tracing::debug!(address = %candidate.address, %error, "address of the provider does not answer");
                    self.memory(|memory| memory.bad(candidate.address, Instant::now()));
                    tried.insert(candidate);
                    failure = prefer(failure, error);
                }
                Some(Err(_)) | None => {}
            }
        }
    }
}

/// Of two failures the one that tells more: a refused certificate says more than a silent address.
fn prefer(old: ApiError, new: ApiError) -> ApiError {
    let weight = |error: &ApiError| match error {
        ApiError::Unreachable(_) => 0,
        ApiError::Timeout | ApiError::Broken => 1,
        ApiError::Tls { clock: false, .. } => 2,
        ApiError::Config(_)
        | ApiError::Tls { clock: true, .. }
        | ApiError::TooBig
        | ApiError::Redirect(_)
        | ApiError::Compressed
        | ApiError::NotJson
        | ApiError::BadSignature
        | ApiError::BadList(_)
        | ApiError::Rollback { .. }
        | ApiError::Problem(_)
        | ApiError::Status(_)
        | ApiError::Throttled { .. }
        | ApiError::NotLoggedIn
        | ApiError::Storage(_) => 3,
    };
    if weight(&old) > weight(&new) { old } else { new }
}

async fn connect(
    tls: TlsConnector,
    prepare: PrepareSocket,
    candidate: Candidate,
    limit: Duration,
) -> (Candidate, Result<TlsStream<TcpStream>, ApiError>) {
    let handshake = async {
        let stream =
            connect_tcp(&prepare, candidate.address).await.map_err(|error| ApiError::Unreachable(error.kind().to_string()))?;
        tls.connect(candidate.origin.name.clone(), stream).await.map_err(|error| tls_error(&error))
    };
    let result = timeout(limit, handshake).await.unwrap_or_else(|_| Err(ApiError::Unreachable("timed out".to_owned())));
    (candidate, result)
}

async fn connect_tcp(prepare: &PrepareSocket, address: SocketAddr) -> io::Result<TcpStream> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    prepare(&socket)?;
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}

fn tls_error(error: &io::Error) -> ApiError {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) else {
        return ApiError::Unreachable(error.kind().to_string());
    };
    let clock = matches!(
        inner,
        RustlsError::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    );
    ApiError::Tls { clock, reason: inner.to_string() }
}

async fn exchange(stream: TlsStream<TcpStream>, origin: &Origin, call: &Call) -> Result<Answer, ApiError> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| http_error(&error))?;
    // The set ends the connection's task when this function returns or is dropped.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request(origin, call)?).await.map_err(|error| http_error(&error))?;
    read_answer(response, call.limit).await
}

fn request(origin: &Origin, call: &Call) -> Result<Request<Full<Bytes>>, ApiError> {
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&call.path)
        .header(header::HOST, &origin.authority)
        .header(header::ACCEPT, "application/json, application/problem+json, text/plain")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, concat!("hamn/", env!("CARGO_PKG_VERSION")));
    if call.body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(key) = &call.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    if let Some(etag) = &call.if_none_match {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    if let Some(token) = &call.bearer {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(|_| ApiError::NotLoggedIn)?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let body = Full::new(call.body.clone().unwrap_or_default());
    request.body(body).map_err(|_| ApiError::Config("a request could not be built".to_owned()))
}

async fn read_answer(response: Response<Incoming>, limit: usize) -> Result<Answer, ApiError> {
    let (head, mut body) = response.into_parts();
    if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
        return Err(ApiError::Redirect(head.status.as_u16()));
    }
    if text(&head.headers, &header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(ApiError::Compressed);
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| http_error(&error))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len().saturating_add(data.len()) > limit {
                return Err(ApiError::TooBig);
            }
            bytes.extend_from_slice(&data);
        }
    }
    if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED {
        let etag = text(&head.headers, &header::ETAG).filter(|etag| etag.len() <= 256).map(str::to_owned);
        return Ok(Answer { status: head.status, etag, body: bytes.freeze() });
    }
    Err(problem(head.status, &head.headers, &bytes))
}

fn problem(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ApiError {
    let described = text(headers, &header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/problem+json"));
    let Some(mut problem) = described.then(|| serde_json::from_slice::<Problem>(body).ok()).flatten() else {
        return ApiError::Status(status.as_u16());
    };
    problem.status = status.as_u16();
    problem.retry_after_s = text(headers, &header::RETRY_AFTER).and_then(|value| value.parse().ok());
    // Both are shown and logged: keep them short and free of control characters.
    problem.code = printable(&problem.code, 64);
    problem.title = printable(&problem.title, 200);
    ApiError::Problem(problem)
}

fn printable(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn http_error(error: &hyper::Error) -> ApiError {
    if error.is_parse_too_large() {
        ApiError::TooBig
    } else if error.is_timeout() {
        ApiError::Timeout
    } else {
        ApiError::Broken
    }
}
