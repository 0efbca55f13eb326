//! The client of the local API: makes sure that the helper is at the other end of every connection, then speaks HTTP over it.

#[cfg(unix)]
#[path = "client/unix.rs"]
mod link;
#[cfg(windows)]
#[path = "client/windows.rs"]
mod link;

use crate::DEFAULT_SOCKET;
use crate::caller::UserId;
use crate::problem::{Problem, ProblemCode};
use crate::wire;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use hamn_core::status::Status;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// Time to reach the socket.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for one request; the server answers or gives up within 30 s.
const REQUEST: Duration = Duration::from_secs(35);
/// Time for a request about which a person may be asked: the server gives them 120 s.
const ADMIN_REQUEST: Duration = Duration::from_secs(155);
/// Largest body in bytes, as the helper's own bound.
const LARGEST_BODY: usize = 64 * 1024;
/// Largest answer that is read, in bytes: ten thousand servers take about 4 MB.
const LARGEST_ANSWER: usize = 32 * 1024 * 1024;
/// Largest line of the event stream in bytes.
const LARGEST_LINE: usize = 1024 * 1024;

/// Makes connections to the helper. Who answers is checked on each connection itself, before a byte is sent over it: nobody
/// who takes the name in between gets to hear anything.
#[derive(Clone, Debug)]
struct Connector {
    socket: Arc<Path>,
    trusted: Arc<[UserId]>,
}

impl Connector {
    async fn connect(self) -> Result<TokioIo<link::Stream>, Problem> {
        link::connect(&self.socket, &self.trusted).await.map(TokioIo::new)
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<link::Stream>;
    type Error = Problem;
    type Future = BoxFuture<'static, Result<Self::Response, Problem>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Problem>> {
        Poll::Ready(Ok(()))
    }

    // The URI holds nothing that matters: the socket decides.
    fn call(&mut self, _: Uri) -> Self::Future {
        self.clone().connect().boxed()
    }
}

/// A client of one helper.
#[derive(Clone, Debug)]
pub struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    socket: PathBuf,
}

impl Client {
    /// Checks who owns and who answers `socket`, then prepares to talk to it. `None` means the default socket, which only an
    /// administrator may serve (root; on Windows the system or the administrators); another one (`HAMN_SOCKET`) may also be
    /// served by the user who runs this process. On Windows it is the name of a pipe.
    ///
    /// # Errors
    /// `helper_unreachable` when nothing answers, `helper_untrusted` when it is not the helper (IPC-06), `invalid_value` when
    /// the name cannot be that of a helper.
    pub async fn open(socket: Option<&Path>) -> Result<Self, Problem> {
        let trusted = link::trusted(socket.is_some())
            .map_err(|error| Problem::with_detail(ProblemCode::Internal, format!("who am I: {error}")))?;
        let socket = socket.unwrap_or(Path::new(DEFAULT_SOCKET));
        let connector = Connector { socket: socket.into(), trusted: trusted.into() };
        drop(connector.clone().connect().await?);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(4))
            .build(connector);
        Ok(Self { http, socket: socket.to_owned() })
    }

    /// The socket it talks to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Protected or not.
    ///
    /// # Errors
    /// The helper's problem, or `helper_unreachable`; the same holds for all methods below.
    pub async fn public(&self) -> Result<wire::PublicStatus, Problem> {
        self.get("/v1/public").await
    }
    /// The whole status.
    pub async fn status(&self) -> Result<Status, Problem> {
        self.get("/v1/status").await
    }
    /// Versions of helper and API.
    pub async fn version(&self) -> Result<wire::VersionInfo, Problem> {
        self.get("/v1/version").await
    }
    /// Bring up a tunnel.
    pub async fn connect(&self, request: &wire::ConnectRequest) -> Result<wire::IntentResult, Problem> {
        self.send(Method::POST, "/v1/connect", Some(request)).await
    }
    /// Give up the tunnel.
    pub async fn disconnect(&self) -> Result<wire::IntentResult, Problem> {
        self.post("/v1/disconnect").await
    }
    /// A new attempt.
    pub async fn reconnect(&self) -> Result<wire::IntentResult, Problem> {
        self.post("/v1/reconnect").await
    }
    /// Open the network even in lockdown.
    pub async fn restore(&self) -> Result<wire::IntentResult, Problem> {
        self.send::<(), _>(Method::POST, "/v1/restore", None).await
    }
    /// Places.
    pub async fn servers(&self) -> Result<wire::ServerListing, Problem> {
        self.get("/v1/servers").await
    }
    /// Log in.
    pub async fn login(&self, request: &wire::LoginRequest) -> Result<wire::AccountInfo, Problem> {
        self.send(Method::POST, "/v1/login", Some(request)).await
    }
    /// Log out.
    pub async fn logout(&self) -> Result<wire::AccountInfo, Problem> {
        self.post("/v1/logout").await
    }
    /// Who is logged in.
    pub async fn account(&self) -> Result<wire::AccountInfo, Problem> {
        self.get("/v1/account").await
    }
    /// The account's devices.
    pub async fn devices(&self) -> Result<wire::DeviceList, Problem> {
        self.get("/v1/devices").await
    }
    /// Remove a device. `id` is checked before it becomes part of a path.
    pub async fn remove_device(&self, id: &str) -> Result<wire::DeviceList, Problem> {
        self.send::<(), _>(Method::DELETE, &format!("/v1/devices/{}", name(id)?), None).await
    }
    /// Imported profiles.
    pub async fn profiles(&self) -> Result<wire::ProfileList, Problem> {
        self.get("/v1/profiles").await
    }
    /// Import a profile.
    pub async fn import_profile(&self, profile: &wire::ImportProfile) -> Result<wire::ProfileList, Problem> {
        self.send(Method::POST, "/v1/profiles", Some(profile)).await
    }
    /// Remove a profile.
    pub async fn remove_profile(&self, profile: &str) -> Result<wire::ProfileList, Problem> {
        self.send::<(), _>(Method::DELETE, &format!("/v1/profiles/{}", name(profile)?), None).await
    }
    /// All settings.
    pub async fn settings(&self) -> Result<wire::SettingsView, Problem> {
        self.get("/v1/settings").await
    }
    /// Change settings.
    pub async fn change_settings(&self, patch: &wire::SettingsPatch) -> Result<wire::SettingsView, Problem> {
        self.send(Method::PATCH, "/v1/settings", Some(patch)).await
    }
    /// Set settings back.
    pub async fn reset_settings(&self, reset: &wire::ResetSettings) -> Result<wire::SettingsView, Problem> {
        self.send(Method::POST, "/v1/settings/reset", Some(reset)).await
    }
    /// The rules in force.
    pub async fn policy(&self) -> Result<wire::PolicyView, Problem> {
        self.get("/v1/policy").await
    }
    /// The live self-test.
    pub async fn verify(&self) -> Result<wire::VerifyReport, Problem> {
        self.post("/v1/verify").await
    }
    /// How far a connection comes.
    pub async fn diagnose(&self) -> Result<wire::Ladder, Problem> {
        self.post("/v1/diagnose").await
    }
    /// The newest lines of the helper's log.
    pub async fn log(&self, lines: u32) -> Result<wire::LogView, Problem> {
        self.get(&format!("/v1/log?lines={}", lines.clamp(1, wire::LOG_LINES))).await
    }
    /// A report for support.
    pub async fn report(&self) -> Result<wire::Report, Problem> {
        self.get("/v1/report").await
    }
    /// Replace this computer's key now.
    pub async fn rotate_key(&self) -> Result<wire::DeviceList, Problem> {
        self.post("/v1/device/rotate-key").await
    }

    /// The event stream. It ends when the helper ends it; a broken line or connection is an error and the last item.
    pub async fn events(&self) -> Result<impl Stream<Item = Result<wire::EventLine, Problem>> + Send + use<>, Problem> {
        let request = self.request(Method::GET, "/v1/events", None);
        let response = timeout(REQUEST, request).await.map_err(|_| unreachable_after(REQUEST))??;
        if !response.status().is_success() {
            return Err(read_problem(response).await);
        }
        let lines = Lines { bytes: response.into_body().into_data_stream().boxed(), buffer: Vec::new(), ended: false };
        Ok(stream::unfold(lines, |mut lines| async move { lines.next().await.map(|line| (line, lines)) }))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.send::<(), T>(Method::GET, path, None).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.send::<(), T>(Method::POST, path, None).await
    }

    async fn send<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Problem> {
        let limit = patience(&method, path);
        let body = body.map(encode).transpose()?;
        let work = async {
            let response = self.request(method, path, body).await?;
            if response.status().is_success() { read_bounded(response).await } else { Err(read_problem(response).await) }
        };
        let bytes = timeout(limit, work).await.map_err(|_| unreachable_after(limit))??;
        serde_json::from_slice(&bytes).map_err(|error| {
            Problem::with_detail(ProblemCode::Internal, format!("the helper's answer is not understood: {error}"))
                .action("Use the same version of `hamn` and its helper.")
        })
    }

    async fn request(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Response<Incoming>, Problem> {
        let mut request = Request::builder().method(method).uri(format!("http://hamn{path}"));
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default()));
        let request = request.map_err(|error| Problem::with_detail(ProblemCode::Internal, error.to_string()))?;
        self.http.request(request).await.map_err(|error| lost(&error))
    }
}

fn encode<B: Serialize>(body: &B) -> Result<Bytes, Problem> {
    // The helper refuses a larger one and closes, which a client that still writes sees as a broken connection only.
    let bytes = serde_json::to_vec(body).map_err(|error| Problem::with_detail(ProblemCode::Internal, error.to_string()))?;
    if bytes.len() > LARGEST_BODY { Err(Problem::new(ProblemCode::TooLarge)) } else { Ok(bytes.into()) }
}

/// How long the answer to a request may take.
fn patience(method: &Method, path: &str) -> Duration {
    let admin =
        *method != Method::GET && (path == "/v1/restore" || path.starts_with("/v1/settings") || path.starts_with("/v1/profiles"));
    if admin { ADMIN_REQUEST } else { REQUEST }
}

fn name(text: &str) -> Result<&str, Problem> {
    if wire::is_name(text) {
        Ok(text)
    } else {
        Err(Problem::with_detail(ProblemCode::InvalidValue, "a name is 1 to 64 letters, digits, `_`, `.` or `-`"))
    }
}

fn unreachable_after(time: Duration) -> Problem {
    Problem::with_detail(ProblemCode::HelperUnreachable, format!("no answer within {} s", time.as_secs()))
}

/// What became of a request that got no answer. What the connector found out is told as it is.
fn lost(error: &(dyn Error + 'static)) -> Problem {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(problem) = cause.downcast_ref::<Problem>() {
            return problem.clone();
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    Problem::with_detail(ProblemCode::HelperUnreachable, if text.is_empty() { "the connection failed".to_owned() } else { text })
}

async fn read_bounded(response: Response<Incoming>) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    let mut chunks = response.into_body().into_data_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| lost(&error))?);
        if body.len() > LARGEST_ANSWER {
            return Err(Problem::with_detail(ProblemCode::Internal, "the helper's answer is too large"));
        }
    }
    Ok(body)
}

async fn read_problem(response: Response<Incoming>) -> Problem {
    let status = response.status();
    let body = read_bounded(response).await.unwrap_or_default();
    serde_json::from_slice(&body)
        .unwrap_or_else(|_| Problem::with_detail(ProblemCode::Internal, format!("the helper answered {status}")))
}

struct Lines {
    bytes: stream::BoxStream<'static, hyper::Result<Bytes>>,
    buffer: Vec<u8>,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<wire::EventLine, Problem>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let event = serde_json::from_slice(&line);
                self.ended = event.is_err();
                return Some(event.map_err(|_| Problem::with_detail(ProblemCode::Internal, "an event line is not understood")));
            }
            match self.bytes.next().await {
                Some(Ok(bytes)) if self.buffer.len() + bytes.len() <= LARGEST_LINE => self.buffer.extend_from_slice(&bytes),
                Some(Ok(_)) => {
                    self.ended = true;
                    return Some(Err(Problem::with_detail(ProblemCode::Internal, "an event line is too long")));
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(lost(&error)));
                }
                None => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classes::Class;
    use crate::routes::{self, ROUTES};

    #[test]
    fn a_client_clones_for_any_task() {
        fn usable<T: Clone + Send + Sync + 'static>() {}
        usable::<Client>();
    }

    // Who gives up while a person types a password would say "unreachable" of a change that then happens.
    #[test]
    fn requests_that_polkit_may_be_asked_about_are_waited_for() {
        for route in &ROUTES {
            let method = match route.method {
                routes::Method::Get => Method::GET,
                routes::Method::Post => Method::POST,
                routes::Method::Patch => Method::PATCH,
                routes::Method::Delete => Method::DELETE,
            };
            let limits = crate::server::Limits::default();
            let needed =
                if route.operation.class() >= Class::Configure { limits.request + limits.question } else { limits.request };
            let patience = patience(&method, route.path);
            assert!(patience > needed && patience <= needed + Duration::from_secs(5), "{}", route.path);
        }
    }
}
