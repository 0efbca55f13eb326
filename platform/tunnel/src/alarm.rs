//! An alarm on the clock of [`crate::clock`]: what fell due while the machine slept is noticed when it wakes.

#[cfg(target_os = "linux")]
#[path = "alarm/timerfd.rs"]
mod source;
#[cfg(not(target_os = "linux"))]
#[path = "alarm/ticking.rs"]
mod source;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod ticking;

pub(crate) use source::Alarm;
