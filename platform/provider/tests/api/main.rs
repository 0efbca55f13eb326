//! API server and client together over loopback TLS, and the client against hostile servers.

mod accounts;
mod harness;
mod hostile;
mod list;
mod wire;
