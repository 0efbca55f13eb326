//! Wintun, the driver of WireGuard LLC that gives Windows a TUN device: its library, which is checked before it is loaded,
//! and its adapter.

#[cfg(windows)]
mod adapter;
#[cfg(windows)]
mod interface;
#[cfg(windows)]
mod library;
mod pin;

#[cfg(windows)]
pub(crate) use adapter::{Adapter, Session, is_gone};
