//! The local API of the helper: wire types, who may do what, the HTTP server on a Unix socket or a named pipe, and its client.
//!
//! Design: intents come in, one `Status` snapshot goes out. No request carries a path, program, argument, rule text or
//! interface name. Callers are identified by the operating system (`SO_PEERCRED`, `getpeereid`, the token behind a named pipe),
//! never by what they send.

pub mod call;
pub mod caller;
pub mod classes;
pub mod client;
#[cfg(target_os = "linux")]
#[path = "names/linux.rs"]
mod names;
#[cfg(target_os = "macos")]
#[path = "names/macos.rs"]
mod names;
#[cfg(windows)]
#[path = "names/windows.rs"]
mod names;
pub mod openapi;
pub mod pipe;
pub mod place;
pub mod problem;
pub mod routes;
pub mod server;
#[cfg(windows)]
mod windows;
pub mod wire;

pub use call::{Call, Request, Response, ServerHandles};
pub use caller::Caller;
pub use names::DEFAULT_SOCKET;
pub use problem::{Problem, ProblemCode};

/// Members of this group get the classes *view* and *control*; on Windows and macOS it is a local group.
pub const CONTROL_GROUP: &str = "hamn";
