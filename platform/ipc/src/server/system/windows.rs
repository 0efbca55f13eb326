//! What Windows knows beyond the pipe: whose session is active.
#![expect(unsafe_code, reason = "the Windows API")]

use crate::caller::{Caller, GroupId, Identity};
use crate::classes::Action;
use crate::problem::Problem;
use crate::server::bounds::Rank;
use crate::server::socket::Arrival;
use crate::windows::security::local_group;
use std::future::{Ready, ready};
use std::time::Duration;
use windows_sys::Win32::System::RemoteDesktop::{
    WTS_CURRENT_SERVER_HANDLE, WTSActive, WTSConnectState, WTSFreeMemory, WTSQuerySessionInformationW,
};

/// Looks up the local group `hamn`.
#[must_use]
pub fn control_group() -> Option<GroupId> {
    local_group(crate::CONTROL_GROUP)
}

/// Whom the server asks about its callers: the sessions of this computer.
#[derive(Clone, Debug, Default)]
pub struct System(());

impl System {
    /// The caller's session is the one at a screen, of this computer or of a remote desktop, and not switched away from
    /// (`WTSQuerySessionInformationW`, learn.microsoft.com, wtsapi32.h). Not knowing means no.
    pub(in crate::server) fn is_present(&self, caller: &Caller) -> bool {
        match &caller.identity {
            Identity::Windows(token) => connect_state(token.session) == Some(WTSActive),
            Identity::Unix(_) => false,
        }
    }

    /// Windows asks for an administrator's consent when a program starts (UAC); the token says what came of it.
    pub(in crate::server) fn subject(&self, _: &Arrival, _: &Caller, _: Rank) -> Subject {
        Subject(())
    }

    /// Nobody allows anything beyond the token.
    pub(in crate::server) fn ask(
        &self,
        _: Action,
        _: &Caller,
        _: &Subject,
        _: Duration,
    ) -> Ready<Result<Option<Action>, Problem>> {
        ready(Ok(None))
    }
}

/// See `System::subject`.
#[derive(Debug)]
pub(in crate::server) struct Subject(());

fn connect_state(session: u32) -> Option<i32> {
    let (mut answer, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the pointers take one pointer and one number.
    let done = unsafe {
        WTSQuerySessionInformationW(WTS_CURRENT_SERVER_HANDLE, session, WTSConnectState, &raw mut answer, &raw mut size)
    };
    if done == 0 || answer.is_null() {
        return None;
    }
    let state = (usize::try_from(size) == Ok(size_of::<i32>())).then(|| {
        // SAFETY: the answer has room for a number, wherever it lies.
        unsafe { answer.cast::<i32>().read_unaligned() }
    });
    // SAFETY: the memory is that of the answer, and nobody uses it any more.
    unsafe { WTSFreeMemory(answer.cast()) };
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_does_not_exist_is_nobodys() {
        assert_ne!(connect_state(4_000_000), Some(WTSActive));
        let own = crate::windows::token::Token::own().unwrap().facts().unwrap().session;
        println!("this process's session {own} has the state {:?} (active is {WTSActive})", connect_state(own));
    }
}
