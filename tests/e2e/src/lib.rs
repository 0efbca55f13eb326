//! The end-to-end harness: a laboratory with a real provider, a real helper, the real command line, and an ISP that counts.
//!
//! Every [`World`] is independent of every other and of the machine, so tests run side by side.

pub mod api;
pub mod bench;
pub mod binaries;
pub mod debian_root;
pub mod interrupt;
pub mod probe;
pub mod provider;
pub mod wait;
pub mod window;
pub mod world;

pub use world::World;
