//! What macOS knows beyond the socket: who sits at the screen.
#![expect(unsafe_code, reason = "SCDynamicStoreCopyConsoleUser has no safe wrapper")]

use crate::caller::{Caller, GroupId, UserId};
use crate::classes::Action;
use crate::problem::Problem;
use crate::server::bounds::Rank;
use crate::server::socket::Arrival;
use std::future::{Ready, ready};
use std::time::Duration;
use system_configuration::core_foundation::base::TCFType;
use system_configuration::core_foundation::string::CFString;
use system_configuration::sys::dynamic_store_copy_specific::SCDynamicStoreCopyConsoleUser;

/// Who has the screen while nobody is logged in.
const LOGIN_WINDOW: &str = "loginwindow";

/// Looks up the group `hamn`.
#[must_use]
pub fn control_group() -> Option<GroupId> {
    nix::unistd::Group::from_name(crate::CONTROL_GROUP).ok().flatten().map(|group| GroupId::Unix(group.gid.as_raw()))
}

/// Whom the server asks about its callers: the window server of this computer.
#[derive(Clone, Debug, Default)]
pub struct System(());

impl System {
    /// The caller is the user at the screen, and not switched away from.
    pub(in crate::server) fn is_present(&self, caller: &Caller) -> bool {
        console_user().map(UserId::Unix) == Some(caller.user())
    }

    /// An administrator's word comes with `sudo`; the helper asks nobody about a caller.
    pub(in crate::server) fn subject(&self, _: &Arrival, _: &Caller, _: Rank) -> Subject {
        Subject(())
    }

    /// Nobody allows anything beyond what the caller's user may.
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

/// `SCDynamicStoreCopyConsoleUser` (developer.apple.com, SystemConfiguration), with a session of the call's own.
fn console_user() -> Option<u32> {
    let (mut uid, mut gid) = (u32::MAX, u32::MAX);
    // SAFETY: no store is given, and the numbers live through the call.
    let name = unsafe { SCDynamicStoreCopyConsoleUser(std::ptr::null(), &raw mut uid, &raw mut gid) };
    if name.is_null() {
        return None;
    }
    // SAFETY: the name is a string that the call has made for us, and is released once, here.
    let name = unsafe { CFString::wrap_under_create_rule(name) };
    (name != LOGIN_WINDOW && uid != u32::MAX).then_some(uid)
}
