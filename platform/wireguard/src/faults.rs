//! Seeded faults: tests switch one on and must then fail, which proves that they look. Compiled into tests only.

use std::cell::Cell;

/// A mistake that splitting or merging could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The third segment of a super-packet has a wrong transport checksum.
    Checksum,
    /// IP lengths are one too small.
    Length,
    /// Flows are told apart by everything but the destination port.
    FlowKey,
}

thread_local! {
    static SEEDED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Runs the work with the fault switched on in this thread.
pub(crate) fn seed<T>(fault: Fault, work: impl FnOnce() -> T) -> T {
    SEEDED.set(Some(fault));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    SEEDED.set(None);
    match result {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

pub(crate) fn checksum(right: u16, index: u16) -> u16 {
    if SEEDED.get() == Some(Fault::Checksum) && index == 2 { right ^ 0x0100 } else { right }
}

pub(crate) fn length(right: u16) -> u16 {
    if SEEDED.get() == Some(Fault::Length) { right - 1 } else { right }
}

pub(crate) fn ports(right: u32) -> u32 {
    if SEEDED.get() == Some(Fault::FlowKey) { right & 0xffff_0000 } else { right }
}
