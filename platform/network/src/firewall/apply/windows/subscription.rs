//! Hears when filters of ours are deleted (`FwpmFilterSubscribeChanges0`).

use super::WfpError;
use super::memory::{number, status};
use crate::monitor::bell::Bell;
use std::collections::HashSet;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::NetworkManagement::WindowsFilteringPlatform as fwp;

/// What the callback is given.
struct Context {
    ours: Mutex<HashSet<u128>>,
    bell: Arc<Bell>,
}

/// A subscription; ended when dropped, which must come before its engine is closed.
pub struct Subscription {
    engine: HANDLE,
    change: HANDLE,
    context: Arc<Context>,
}

// SAFETY: both handles stand for RPC bindings, which the documentation ties to no thread.
unsafe impl Send for Subscription {}

impl Subscription {
    /// Hears of every filter that is deleted; the bell is rung for those that `watch` names.
    pub fn start(engine: HANDLE, bell: Arc<Bell>) -> Result<Self, WfpError> {
        let context = Arc::new(Context { ours: Mutex::default(), bell });
        let wanted = fwp::FWPM_FILTER_SUBSCRIPTION0 { flags: fwp::FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_DELETE, ..Default::default() };
        let mut change: HANDLE = null_mut();
        let pointer = Arc::as_ptr(&context).cast::<c_void>();
        // SAFETY: the context outlives the subscription, which ends before the `Arc` of this value is dropped.
        let code =
            unsafe { fwp::FwpmFilterSubscribeChanges0(engine, &raw const wanted, Some(changed), pointer, &raw mut change) };
        status(code, "FwpmFilterSubscribeChanges0")?;
        Ok(Self { engine, change, context })
    }

    /// From now on these keys are ours.
    pub fn watch(&self, keys: HashSet<u128>) {
        *self.context.ours.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // SAFETY: both handles are those of the subscription. The call returns only when no callback runs any more.
        let _ = unsafe { fwp::FwpmFilterUnsubscribeChanges0(self.engine, self.change) };
    }
}

/// Runs on a thread of the engine's client library.
unsafe extern "system" fn changed(context: *mut c_void, change: *const fwp::FWPM_FILTER_CHANGE0) {
    // SAFETY: this is the pointer given to the subscription, whose value is only ever shared.
    let Some(context) = (unsafe { context.cast::<Context>().as_ref() }) else { return };
    // SAFETY: the library passes one change that lives through the callback.
    let Some(change) = (unsafe { change.as_ref() }) else { return };
    let ours = context.ours.lock().unwrap_or_else(PoisonError::into_inner).contains(&number(&change.filterKey));
    if ours {
        context.bell.ring();
    }
}
