//! Userspace WireGuards side by side in network namespaces: speed, latency, processor time and memory (`bench`), the same bytes
//! whoever talks to whom over bad links (`differential`), and hours at full rate (`soak`).

pub mod bench;
pub mod conf;
pub mod differential;
pub mod lab;
pub mod peers;
pub mod ping;
pub mod process;
pub mod programs;
pub mod relay;
pub mod report;
pub mod soak;
pub mod stats;
pub mod traffic;
pub mod transfer;
