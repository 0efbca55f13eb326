//! The sandbox: a small internet in network namespaces, with an ISP that counts every packet.
//!
//! ```text
//!  client 10.0.1.2, 2001:db8:1::2 ──┐
//!  (wlan0 10.0.2.2, 2001:db8:4::2)  ├─ router and ISP ─────────── internet ──────────────── gateway 198.51.100.1 (SE)
//!  printer 10.0.1.50, resolver ─────┘  NAT to 203.0.113.10        web 192.0.2.80            198.51.100.129 (US)
//!                                      witness on the client's    resolver 192.0.2.53       2001:db8:5::1
//!                                      links                      observer 192.0.2.66
//!                                                                 API 192.0.2.10, 192.0.2.11
//! ```
//!
//! Nothing on the real machine changes, nothing has a global name, and nothing outlives the process, however it ends.

pub mod address;
pub mod command;
pub mod directory;
pub mod lab;
pub mod namespace;
pub mod packet;
pub mod service;
pub mod witness;

pub use command::run;
pub use lab::{Lab, Options};
pub use namespace::{Host, HostCommand};
