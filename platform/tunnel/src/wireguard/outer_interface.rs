//! The interface that outer sockets are tied to, shared between who watches the network and who opens sockets.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An interface index that may change; systems count from 1, so 0 is none.
#[derive(Clone, Debug)]
pub(crate) struct OuterInterface(Arc<AtomicU32>);

impl OuterInterface {
    pub(crate) fn new(index: Option<u32>) -> Self {
        Self(Arc::new(AtomicU32::new(index.unwrap_or(0))))
    }
    pub(crate) fn set(&self, index: Option<u32>) {
        self.0.store(index.unwrap_or(0), Ordering::Relaxed);
    }
    /// For the socket that is opened next.
    pub(crate) fn get(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.0.load(Ordering::Relaxed))
    }
}
