//! From an HTTP request to a `Call` and back: authorise, read, parse, ask the helper, answer.

use super::bounds::Answering;
use super::{Connection, Shared, events};
use crate::call::{Call, Request, Response};
use crate::classes::{self, Operation};
use crate::place;
use crate::problem::{Problem, ProblemCode};
use crate::routes::{Method, ROUTES, Route};
use crate::wire::{self, DestinationText, SettingKey, SettingsPatch};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use hamn_core::location::Destination;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

type HttpRequest = http::Request<Body>;
type HttpResponse = http::Response<Body>;

/// A router made of the table.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for route in &ROUTES {
        let shared = Arc::clone(shared);
        let handler = async move |parameters: Result<RawPathParams, RawPathParamsRejection>,
                                  request: HttpRequest|
                    -> HttpResponse { handle(route, parameters, request, &shared).await };
        router = router.route(route.path, on(filter(route.method), handler));
    }
    router
        .fallback(|| {
            std::future::ready(problem(&Problem::new(ProblemCode::NotFound).action("Compare the path with /v1/openapi.json.")))
        })
        .method_not_allowed_fallback(|| std::future::ready(problem(&Problem::new(ProblemCode::MethodNotAllowed))))
}

const fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

async fn handle(
    route: &Route,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: HttpRequest,
    shared: &Shared,
) -> HttpResponse {
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return problem(&Problem::new(ProblemCode::Internal));
    };
    let user = connection.caller.user();
    let result = perform(route.operation, parameters, request, shared, &connection).await;
    match &result {
        Ok(_) if route.operation.class() > classes::Class::View => {
            tracing::info!(%user, operation = ?route.operation, "local request done")
        }
        Ok(_) => tracing::debug!(%user, operation = ?route.operation, "local request done"),
        Err(refusal) => {
            tracing::debug!(%user, operation = ?route.operation, code = refusal.code.as_str(), "local request refused")
        }
    }
    result.unwrap_or_else(|refusal| problem(&refusal))
}

async fn perform(
    operation: Operation,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: HttpRequest,
    shared: &Shared,
    connection: &Connection,
) -> Result<HttpResponse, Problem> {
    let (caller, class) = (&connection.caller, operation.class());
    let mut access = shared.access(caller, class);
    // Rights come first: a caller without them learns nothing from how its input is judged.
    if classes::question(caller, class, &[], &access).is_none() {
        classes::authorise(caller, class, &access)?;
    }
    let deadline = Instant::now() + shared.config.limits.request;
    let heard = within(deadline, understand(operation, parameters, request, shared, connection)).await?;
    let (wish, answering) = match heard {
        Heard::Answered(response) => return Ok(response),
        Heard::Wish(wish, answering) => (wish, answering),
    };
    let keys = changed_settings(&wish);
    let Some(action) = classes::question(caller, class, &keys, &access) else {
        classes::authorise_settings(caller, &keys, &access)?;
        return within(deadline, answer_wish(wish, answering, shared, connection)).await;
    };
    // Whoever waits for a person holds no place that others may need, and the time does not count.
    drop(answering);
    let asked_at = Instant::now();
    let patience = shared.config.limits.question;
    access.polkit = shared.config.system.ask(action, caller, &connection.subject, patience).await?;
    classes::authorise(caller, class, &access)?;
    classes::authorise_settings(caller, &keys, &access)?;
    tracing::info!(user = %caller.user(), action = action.id(), ?operation, "an administrator allowed a local request");
    within(deadline + asked_at.elapsed(), answer_wish(wish, connection.slot.answer(), shared, connection)).await
}

/// What came of reading a request.
enum Heard {
    /// The answer needs nothing of the helper.
    Answered(HttpResponse),
    /// The helper is to be asked this.
    Wish(Request, Answering),
}

async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::RequestTimeout)))
}

async fn understand(
    operation: Operation,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: HttpRequest,
    shared: &Shared,
    connection: &Connection,
) -> Result<Heard, Problem> {
    let query = request.uri().query().map(str::to_owned);
    let body = read_body(request, shared.config.limits.body).await?;
    if operation == Operation::Events {
        let answering = connection.slot.stream().ok_or_else(|| Problem::new(ProblemCode::TooManyConnections))?;
        return Ok(Heard::Answered(respond(StatusCode::OK, "application/x-ndjson", events::body(shared, answering))));
    }
    let answering = connection.slot.answer();
    if let Some(response) = answer_here(operation, shared) {
        return Ok(Heard::Answered(guarded(response, answering)));
    }
    let parameter = single_parameter(parameters)?;
    let wish = if operation == Operation::Connect {
        connect(&body, connection, shared).await?
    } else {
        parse(operation, parameter, query.as_deref(), &body)?
    };
    Ok(Heard::Wish(wish, answering))
}

async fn answer_wish(
    wish: Request,
    answering: Answering,
    shared: &Shared,
    connection: &Connection,
) -> Result<HttpResponse, Problem> {
    let response = ask(wish, connection, shared).await?;
    Ok(guarded(encode(&response), answering))
}

async fn read_body(request: HttpRequest, limit: usize) -> Result<Bytes, Problem> {
    if request.body().size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Problem::new(ProblemCode::TooLarge));
    }
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::new(ProblemCode::TooLarge)),
        Err(_) => Err(Problem::with_detail(ProblemCode::BadRequest, "the body ended too early")),
    }
}

/// Answers that need nothing of the helper.
fn answer_here(operation: Operation, shared: &Shared) -> Option<HttpResponse> {
    let status = || Arc::clone(&shared.handles.status.borrow());
    match operation {
        Operation::Public => {
            let status = status();
            Some(json(&wire::PublicStatus { protected: status.protected, state: status.state }))
        }
        Operation::Status => Some(json(status().as_ref())),
        Operation::Version => Some(json(&wire::VersionInfo { helper: shared.config.version.clone(), api: wire::API_VERSION })),
        Operation::OpenApi => Some(respond(StatusCode::OK, "application/json", Body::from(shared.openapi.clone()))),
        Operation::Events
        | Operation::Connect
        | Operation::Disconnect
        | Operation::Reconnect
        | Operation::Servers
        | Operation::Login
        | Operation::Logout
        | Operation::Account
        | Operation::Devices
        | Operation::RemoveDevice
        | Operation::Profiles
        | Operation::ImportProfile
        | Operation::RemoveProfile
        | Operation::Settings
        | Operation::ChangeSettings
        | Operation::ResetSettings
        | Operation::Policy
        | Operation::Verify
        | Operation::Log
        | Operation::Diagnose
        | Operation::Report
        | Operation::RotateKey
        | Operation::RestoreNetwork => None,
    }
}

fn single_parameter(parameters: Result<RawPathParams, RawPathParamsRejection>) -> Result<Option<String>, Problem> {
    let parameters = parameters.map_err(|_| Problem::with_detail(ProblemCode::BadRequest, "the path is not UTF-8"))?;
    Ok(parameters.iter().next().map(|(_, value)| value.to_owned()))
}

fn parse(operation: Operation, parameter: Option<String>, query: Option<&str>, body: &[u8]) -> Result<Request, Problem> {
    let name = || parameter.clone().filter(|name| wire::is_name(name)).ok_or_else(bad_name);
    Ok(match operation {
        Operation::Disconnect => Request::Disconnect,
        Operation::Reconnect => Request::Reconnect,
        Operation::Servers => Request::Servers,
        Operation::Login => Request::Login(login(body)?),
        Operation::Logout => Request::Logout,
        Operation::Account => Request::Account,
        Operation::Devices => Request::Devices,
        Operation::RemoveDevice => Request::RemoveDevice { id: name()? },
        Operation::Profiles => Request::Profiles,
        Operation::ImportProfile => Request::ImportProfile(profile(body)?),
        Operation::RemoveProfile => Request::RemoveProfile { name: name()? },
        Operation::Settings => Request::Settings,
        Operation::ChangeSettings => Request::ChangeSettings(decode(body)?),
        Operation::ResetSettings => Request::ResetSettings { keys: decode_or_default::<wire::ResetSettings>(body)?.keys },
        Operation::Policy => Request::Policy,
        Operation::Verify => Request::Verify,
        Operation::Log => Request::Log { lines: lines(query)? },
        Operation::Diagnose => Request::Diagnose,
        Operation::Report => Request::Report,
        Operation::RotateKey => Request::RotateKey,
        Operation::RestoreNetwork => Request::RestoreNetwork,
        Operation::Public
        | Operation::Version
        | Operation::OpenApi
        | Operation::Status
        | Operation::Events
        | Operation::Connect => {
            return Err(Problem::new(ProblemCode::Internal));
        }
    })
}

/// The number of log lines that a query asks for.
fn lines(query: Option<&str>) -> Result<u32, Problem> {
    let Some(query) = query else { return Ok(wire::LOG_LINES) };
    let asked = query.strip_prefix("lines=").and_then(|text| text.parse().ok());
    asked
        .filter(|lines| (1..=wire::LOG_LINES).contains(lines))
        .ok_or_else(|| Problem::with_detail(ProblemCode::BadRequest, "the query is lines=N with N from 1 to 2000"))
}

fn login(body: &[u8]) -> Result<wire::LoginRequest, Problem> {
    let login: wire::LoginRequest = decode(body)?;
    let secrets = [Some(&login.account), login.password.as_ref(), login.otp.as_ref()];
    for text in secrets.into_iter().flatten().map(wire::Secret::reveal) {
        if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
            return Err(Problem::with_detail(
                ProblemCode::InvalidValue,
                "account, password and code are 1 to 1024 bytes without control characters",
            ));
        }
    }
    Ok(login)
}

fn profile(body: &[u8]) -> Result<wire::ImportProfile, Problem> {
    let profile: wire::ImportProfile = decode(body)?;
    if wire::is_name(&profile.name) { Ok(profile) } else { Err(bad_name()) }
}

fn bad_name() -> Problem {
    Problem::with_detail(
        ProblemCode::InvalidValue,
        "a name is 1 to 64 letters, digits, `_`, `.` or `-`, not starting with `.` or `-`",
    )
}

async fn connect(body: &[u8], connection: &Connection, shared: &Shared) -> Result<Request, Problem> {
    let wire::ConnectRequest { destination, if_needed } = decode_or_default(body)?;
    let destination = match destination {
        None => None,
        Some(DestinationText::Exact(exact)) => Some(check_destination(exact)?),
        Some(DestinationText::Text(text)) => {
            let listing = match ask(Request::Servers, connection, shared).await {
                Ok(Response::Servers(listing)) => Some(listing),
                Ok(_) | Err(_) => None,
            };
            Some(place::resolve(&text, listing.as_ref())?)
        }
    };
    Ok(Request::Connect { destination, if_needed })
}

fn check_destination(destination: Destination) -> Result<Destination, Problem> {
    let good = match &destination {
        Destination::Best => true,
        Destination::Country { country } => wire::is_name(country),
        Destination::City { city } => wire::is_name(city),
        Destination::Server { server, exit } => wire::is_name(server) && exit.as_deref().is_none_or(wire::is_name),
        Destination::Profile { name } => wire::is_name(name),
    };
    if good { Ok(destination) } else { Err(bad_name()) }
}

/// The settings that a request touches.
fn changed_settings(request: &Request) -> Vec<SettingKey> {
    match request {
        Request::ChangeSettings(patch) => SettingsPatch::keys(patch),
        Request::ResetSettings { keys: Some(keys) } => keys.clone(),
        Request::ResetSettings { keys: None } => SettingKey::ALL.to_vec(),
        Request::Connect { .. }
        | Request::Disconnect
        | Request::Reconnect
        | Request::Servers
        | Request::Login(_)
        | Request::Logout
        | Request::Account
        | Request::Devices
        | Request::RemoveDevice { .. }
        | Request::Profiles
        | Request::ImportProfile(_)
        | Request::RemoveProfile { .. }
        | Request::Settings
        | Request::Policy
        | Request::Verify
        | Request::Log { .. }
        | Request::Diagnose
        | Request::Report
        | Request::RotateKey
        | Request::RestoreNetwork => Vec::new(),
    }
}

async fn ask(request: Request, connection: &Connection, shared: &Shared) -> Result<Response, Problem> {
    let (reply, answer) = oneshot::channel();
    let call = Call { caller: connection.caller.clone(), request, reply };
    shared.handles.calls.try_send(call).map_err(|error| match error {
        TrySendError::Full(_) => Problem::new(ProblemCode::Busy),
        TrySendError::Closed(_) => Problem::with_detail(ProblemCode::Busy, "the helper ends"),
    })?;
    answer.await.unwrap_or_else(|_dropped| Err(Problem::new(ProblemCode::Internal)))
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde's message may quote a value; a wrong body of `login` would then repeat a secret, so only the place is told.
    serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_data() { "a field is unknown, missing or of the wrong type" } else { "this is not JSON" };
        Problem::with_detail(ProblemCode::BadRequest, format!("{what} (line {}, column {})", error.line(), error.column()))
    })
}

fn decode_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { decode(body) }
}

fn encode(response: &Response) -> HttpResponse {
    match response {
        Response::Intent(result) => json(result),
        Response::Servers(listing) => json(listing),
        Response::Account(account) => json(account),
        Response::Devices(devices) => json(devices),
        Response::Profiles(profiles) => json(profiles),
        Response::Settings(settings) => json(settings),
        Response::Policy(policy) => json(policy),
        Response::Verify(report) => json(report),
        Response::Log(log) => json(log),
        Response::Ladder(ladder) => json(ladder),
        Response::Report(report) => json(report),
    }
}

fn json<T: Serialize>(value: &T) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(bytes) => respond(StatusCode::OK, "application/json", Body::from(bytes)),
        Err(_) => problem(&Problem::new(ProblemCode::Internal)),
    }
}

/// A problem as an HTTP response.
pub(super) fn problem(problem: &Problem) -> HttpResponse {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    respond(status, "application/problem+json", Body::from(body))
}

/// A problem as raw HTTP, for a connection that is refused before it is served.
pub(super) fn raw_problem(problem: &Problem) -> Vec<u8> {
    let body = serde_json::to_string(problem).unwrap_or_default();
    let head = format!("HTTP/1.1 {} Refused\r\ncontent-type: application/problem+json\r\nconnection: close\r\n", problem.status);
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn respond(status: StatusCode, media: &'static str, body: Body) -> HttpResponse {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Keeps the connection marked as answering until the body has been handed over.
fn guarded(response: HttpResponse, answering: Answering) -> HttpResponse {
    response.map(|body| Body::new(Guarded { body, _answering: answering }))
}

struct Guarded {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
