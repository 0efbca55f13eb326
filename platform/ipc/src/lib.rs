//! The local API of the helper: wire types, who may do what, the HTTP server on a Unix socket, and its client.
//!
//! Design: intents come in, one `Status` snapshot goes out. No request carries a path, program, argument, rule text or
//! interface name. Callers are identified by the kernel (`SO_PEERCRED`), never by what they send.

pub mod call;
pub mod classes;
pub mod client;

pub mod openapi;
pub mod place;
pub mod problem;
pub mod routes;
pub mod server;
pub mod wire;

pub use call::{Call, Caller, Request, Response, ServerHandles};
pub use problem::{Problem, ProblemCode};

/// The socket that `HAMN_SOCKET` replaces.
pub const DEFAULT_SOCKET: &str = "/run/hamn/helper.sock";

/// Members of this group get the classes *view* and *control*.
pub const CONTROL_GROUP: &str = "hamn";
