//! API server and client together over loopback TLS, and the client against hostile servers.

#[cfg(test)]
mod accounts;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod list;
#[cfg(test)]
#[cfg(unix)]
mod modes;
#[cfg(test)]
mod wire;
