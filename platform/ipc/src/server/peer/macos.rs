//! Who is at the other end of a Unix socket, as macOS says.
#![expect(unsafe_code, reason = "LOCAL_PEERCRED with its count of groups, getgrouplist and libbsm have no safe wrapper")]

use crate::caller::Caller;
use nix::sys::socket::audit_token_t;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, User};
use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use tokio::net::UnixStream;

/// More groups than any real user has.
const MOST_GROUPS: usize = 1024;

#[link(name = "bsm")]
unsafe extern "C" {
    /// `audit_token_to_euid` (bsm/libbsm.h): the effective user at the moment of the `connect`.
    fn audit_token_to_euid(token: audit_token_t) -> libc::uid_t;
}

/// The peer's user alone (`getpeereid`), which costs one call of the kernel: enough to refuse a flood.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn user(stream: &UnixStream) -> io::Result<u32> {
    stream.peer_cred().map(|credentials| credentials.uid())
}

/// The peer's user, groups and process at the time of its `connect`. `LOCAL_PEERTOKEN` names the process in a way that cannot be
/// reused; a socket whose two accounts of its user differ belongs to nobody.
///
/// # Errors
/// When the kernel does not tell, or contradicts itself: the connection is then refused.
pub(crate) fn identify(stream: &UnixStream) -> io::Result<Caller> {
    let credentials = stream.peer_cred()?;
    let token = getsockopt(stream, sockopt::LocalPeerToken)?;
    // SAFETY: the call takes a value and touches no memory of ours.
    let user = unsafe { audit_token_to_euid(token) };
    if user != credentials.uid() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the caller's user is not certain"));
    }
    let pid = getsockopt(stream, sockopt::LocalPeerPid).ok().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    // Not knowing the groups only takes rights away.
    let mut groups = process_groups(stream).unwrap_or_default();
    groups.extend(user_groups(user, credentials.gid()).unwrap_or_default());
    groups.sort_unstable();
    groups.dedup();
    Ok(Caller::unix(user, credentials.gid(), pid, groups))
}

/// `LOCAL_PEERCRED` (unix(4)): at most 16 groups, those of the process.
fn process_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut found = libc::xucred { cr_version: 0, cr_uid: 0, cr_ngroups: 0, cr_groups: [0; 16] };
    let mut size = libc::socklen_t::try_from(size_of::<libc::xucred>()).map_err(io::Error::other)?;
    // SAFETY: `found` has room for `size` bytes and lives through the call; `size` is a valid in-out length.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_LOCAL, libc::LOCAL_PEERCRED, (&raw mut found).cast(), &raw mut size)
    };
    if result != 0 || found.cr_version != libc::XUCRED_VERSION {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(found.cr_ngroups).unwrap_or(0);
    Ok(found.cr_groups.iter().take(count).copied().collect())
}

/// `getgrouplist(3)`: the directory's word on the user, which has no bound of 16.
fn user_groups(uid: u32, gid: u32) -> io::Result<Vec<u32>> {
    let user = User::from_uid(Uid::from_raw(uid))?.ok_or(io::ErrorKind::NotFound)?;
    let name = CString::new(user.name)?;
    let base = libc::c_int::try_from(gid).map_err(io::Error::other)?;
    let mut groups = vec![0; MOST_GROUPS];
    let mut count = libc::c_int::try_from(MOST_GROUPS).map_err(io::Error::other)?;
    // SAFETY: `name` ends with 0, and `groups` has room for `count` numbers.
    let result = unsafe { libc::getgrouplist(name.as_ptr(), base, groups.as_mut_ptr(), &raw mut count) };
    if result < 0 {
        return Err(io::Error::other("more groups than are looked at"));
    }
    groups.truncate(usize::try_from(count).unwrap_or(0));
    Ok(groups.into_iter().filter_map(|group| u32::try_from(group).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::UserId;

    #[tokio::test]
    async fn the_peer_is_this_process() {
        let (one, _two) = UnixStream::pair().unwrap();
        let caller = identify(&one).unwrap();
        assert_eq!(caller.user(), UserId::Unix(nix::unistd::geteuid().as_raw()));
        assert_eq!(caller.pid, std::process::id());
        let own = nix::unistd::getegid().as_raw();
        assert!(process_groups(&one).unwrap().contains(&own));
    }
}
