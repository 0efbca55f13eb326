//! One window for each user: a second start hands its arguments to the first and ends.

#[cfg(target_os = "macos")]
#[path = "instance/macos.rs"]
mod one;
#[cfg(not(target_os = "macos"))]
#[path = "instance/elsewhere.rs"]
mod one;
#[cfg(any(target_os = "macos", all(test, unix)))]
mod socket;

pub use one::prepare;
