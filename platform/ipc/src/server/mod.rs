//! The HTTP server on the Unix socket or the named pipe: accepts, identifies, bounds, and hands authorised requests to the helper.

pub mod bounds;
mod dispatch;
mod events;
#[cfg(target_os = "linux")]
#[path = "peer/linux.rs"]
pub(crate) mod peer;
#[cfg(target_os = "macos")]
#[path = "peer/macos.rs"]
pub(crate) mod peer;
#[cfg(target_os = "linux")]
pub mod polkit;
#[cfg(unix)]
#[path = "socket/unix.rs"]
mod socket;
#[cfg(windows)]
#[path = "socket/windows.rs"]
mod socket;
mod stream;
#[cfg(target_os = "linux")]
#[path = "system/linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "system/macos.rs"]
mod system;
#[cfg(windows)]
#[path = "system/windows.rs"]
mod system;

pub use bounds::Limits;
pub use socket::BoundSocket;
pub use system::{System, control_group};

use crate::call::ServerHandles;
use crate::caller::{Caller, GroupId};
use crate::classes::{self, Access, Class};
use crate::problem::{Problem, ProblemCode};
use axum::body::Body;
use bounds::{Connections, Rank, Rate, Slot};
use futures_util::FutureExt;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket::Arrival;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::ProgressStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

/// Largest head of a request in bytes.
const HEAD: usize = 16 * 1024;
/// Time that open requests get to end when the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// What the server must know beside the helper's handles.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Version of the helper, for `GET /v1/version`.
    pub version: String,
    /// The group `hamn`; `None` when it does not exist. See `control_group`.
    pub control_group: Option<GroupId>,
    /// Bounds.
    pub limits: Limits,
    /// Whom the server asks about its callers.
    pub system: System,
}

impl ServerConfig {
    /// What ships: this computer's group and system.
    #[must_use]
    pub fn new(version: &str) -> Self {
        Self { version: version.to_owned(), control_group: control_group(), limits: Limits::default(), system: System::default() }
    }
}

/// What all connections share.
struct Shared {
    handles: ServerHandles,
    config: ServerConfig,
    calls: Rate,
    arrivals: Rate,
    stopping: watch::Receiver<bool>,
    openapi: bytes::Bytes,
    /// What a connection gets that is refused.
    refusal: Vec<u8>,
}

/// One connection: who is at the other end, and its place in the table.
struct Connection {
    caller: Caller,
    /// Whom the system would ask about.
    subject: system::Subject,
    slot: Slot,
}

impl Shared {
    /// The facts for a decision about `caller`, fresh for each call.
    fn access(&self, caller: &Caller, class: Class) -> Access {
        let by_group = Access { control_group: self.config.control_group.clone(), ..Access::default() };
        let settled = classes::authorise(caller, Class::View, &by_group).is_ok();
        // For what polkit can grant it matters, too, whether a member of the group sits here.
        let matters = !settled || (class >= Class::Configure && !caller.is_administrator());
        Access { at_local_seat: matters && self.config.system.is_present(caller), ..by_group }
    }

    fn rank(&self, caller: &Caller) -> Rank {
        if caller.is_administrator() {
            Rank::Root
        } else if classes::authorise(caller, Class::View, &self.access(caller, Class::View)).is_ok() {
            Rank::User
        } else {
            Rank::Stranger
        }
    }
}

/// Serves until `stop` completes, then ends open requests within a second. Event streams get a last line.
pub async fn serve(mut socket: BoundSocket, handles: ServerHandles, config: ServerConfig, stop: impl Future<Output = ()> + Send) {
    let (stop_sender, stopping) = watch::channel(false);
    let connections = Connections::new(config.limits);
    let (calls, arrivals) = (Rate::new(config.limits.calls_per_second), Rate::new(config.limits.connections_per_second));
    let openapi = serde_json::to_vec_pretty(&crate::openapi::document()).unwrap_or_default().into();
    let refusal = dispatch::raw_problem(&Problem::new(ProblemCode::TooManyConnections));
    let shared = Arc::new(Shared { handles, config, calls, arrivals, stopping, openapi, refusal });
    let router = dispatch::router(&shared);
    let mut tasks = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            accepted = socket.accept() => match accepted {
                Ok(arrival) => admit(arrival, &shared, &connections, &router, &mut tasks),
                Err(error) => {
                    tracing::warn!(%error, "accept local connection");
                    // Out of descriptors or memory: give others time to return some.
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    let _ = stop_sender.send(true);
    let all_done = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(GRACE, all_done).await;
}

fn admit(
    mut arrival: Arrival,
    shared: &Arc<Shared>,
    connections: &Arc<Connections>,
    router: &axum::Router,
    tasks: &mut JoinSet<()>,
) {
    let caller = match arrival.identify(|share| shared.arrivals.take(share, Instant::now())) {
        Ok(caller) => caller,
        Err(error) => {
            tracing::warn!(%error, "local caller cannot be identified; refused");
            return;
        }
    };
    let place = caller.and_then(|caller| {
        let rank = shared.rank(&caller);
        Some((connections.admit(caller.share(), rank)?, caller, rank))
    });
    let Some((slot, caller, rank)) = place else {
        arrival.refuse(&shared.refusal);
        return;
    };
    let subject = shared.config.system.subject(&arrival, &caller, rank);
    let connection = Connection { caller, subject, slot };
    tasks.spawn(converse(arrival.into_stream(), connection, Arc::clone(shared), router.clone()));
}

/// Answers the requests of one connection. A panic stays in here.
async fn converse(stream: socket::Stream, connection: Connection, shared: Arc<Shared>, router: axum::Router) {
    let limits = shared.config.limits;
    let connection = Arc::new(connection);
    let service = {
        let (connection, shared) = (Arc::clone(&connection), Arc::clone(&shared));
        service_fn(move |request: Request<Incoming>| {
            answer(request, Arc::clone(&connection), Arc::clone(&shared), router.clone())
        })
    };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(HEAD).max_headers(64).half_close(false);
    let io = TokioIo::new(ProgressStream::new(stream, limits.write));
    let mut serving = std::pin::pin!(builder.serve_connection(io, service));
    let mut stopping = shared.stopping.clone();
    tokio::select! {
        result = serving.as_mut() => {
            if let Err(error) = result {
                tracing::trace!(%error, user = %connection.caller.user(), "local connection ended");
            }
        }
        () = connection.slot.evicted() => {}
        () = told_to_stop(&mut stopping) => {
            serving.as_mut().graceful_shutdown();
            let _ = timeout(GRACE, serving).await;
        }
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server itself has gone, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// The bounds around every request: rate, origin, panics.
async fn answer(
    request: Request<Incoming>,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    router: axum::Router,
) -> Result<http::Response<Body>, Infallible> {
    let limits = &shared.config.limits;
    // No browser page may ever talk to the helper, through whatever proxy it got here (Tailscale CVE-2022-41924 class).
    if request.headers().contains_key(http::header::ORIGIN) {
        return Ok(dispatch::problem(&Problem::with_detail(ProblemCode::NotAllowed, "requests of web pages are refused")));
    }
    if !shared.calls.take(&connection.caller.share(), Instant::now()) {
        sleep(limits.penalty).await;
        return Ok(dispatch::problem(&Problem::new(ProblemCode::TooManyRequests)));
    }
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Arc::clone(&connection));
    let handled = AssertUnwindSafe(router.oneshot(request)).catch_unwind();
    Ok(match handled.await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_panic) => {
            tracing::error!(user = %connection.caller.user(), "a local request failed unexpectedly");
            dispatch::problem(&Problem::new(ProblemCode::Internal))
        }
    })
}
