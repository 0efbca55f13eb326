//! Who is at the other end of a Unix socket, as the kernel says.
#![expect(unsafe_code, reason = "SO_PEERGROUPS has no safe wrapper in the crates we use")]

use crate::call::Caller;
use std::io;
use std::os::fd::AsRawFd;
use tokio::net::UnixStream;

/// More supplementary groups than any real user has; `NGROUPS_MAX` is 65536, which one connection must not cost us.
const MOST_GROUPS: usize = 1024;

/// The peer's user alone, which costs one call of the kernel: enough to refuse a flood.
///
/// # Errors
/// When the kernel does not tell.
pub fn user(stream: &UnixStream) -> io::Result<u32> {
    stream.peer_cred().map(|credentials| credentials.uid())
}

/// The peer's user, group, process and supplementary groups at the time of its `connect`.
///
/// # Errors
/// When the kernel does not tell: the connection is then refused.
pub fn identify(stream: &UnixStream) -> io::Result<Caller> {
    let credentials = stream.peer_cred()?;
    Ok(Caller {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid: credentials.pid().unwrap_or(0),
        // Not knowing the groups only takes rights away.
        groups: groups(stream).unwrap_or_default(),
    })
}

/// `SO_PEERGROUPS` (socket(7), Linux 4.13): unlike /proc it cannot be fooled by a process that dies and whose number is reused.
fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; MOST_GROUPS];
    let mut size = libc::socklen_t::try_from(MOST_GROUPS * size_of::<u32>()).map_err(io::Error::other)?;
    // SAFETY: `groups` has room for `size` bytes and lives through the call; `size` is a valid in-out length.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut size)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(usize::try_from(size).map_err(io::Error::other)? / size_of::<u32>());
    Ok(groups)
}

/// True when `uid` has an active session at a seat of this computer.
///
/// logind keeps one file per user in `/run/systemd/users`, which sd-login(3) (`sd_uid_get_seats`) reads in the same way.
/// Absent logind, absent file or anything unexpected means no.
#[must_use]
pub fn at_local_seat(uid: u32) -> bool {
    use std::io::Read;
    let mut text = String::new();
    let Ok(file) = std::fs::File::open(format!("/run/systemd/users/{uid}")) else { return false };
    if file.take(16 * 1024).read_to_string(&mut text).is_err() {
        return false;
    }
    text.lines().any(|line| line.strip_prefix("ACTIVE_SEATS=").is_some_and(|seats| !seats.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_peer_is_this_process() {
        let (one, _two) = UnixStream::pair().unwrap();
        let caller = identify(&one).unwrap();
        assert_eq!(caller.uid, nix::unistd::getuid().as_raw());
        assert_eq!(caller.pid, nix::unistd::getpid().as_raw());
        let mut expected: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut found = caller.groups;
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_user_without_a_session_is_not_at_a_seat() {
        assert!(!at_local_seat(4_000_000_000));
    }
}
