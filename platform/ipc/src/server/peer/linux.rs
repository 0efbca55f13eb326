//! Who is at the other end of a Unix socket, as Linux says.
#![expect(unsafe_code, reason = "SO_PEERGROUPS, SO_PEERPIDFD and pidfd_open have no safe wrapper in the crates we use")]

use crate::caller::Caller;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
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
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    // Not knowing the groups only takes rights away.
    Ok(Caller::unix(credentials.uid(), credentials.gid(), pid, groups(stream).unwrap_or_default()))
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

/// The process at the other end. While it is alive its number belongs to no other.
#[derive(Debug)]
pub struct Process {
    /// Its number, as our namespace knows it.
    pub pid: u32,
    handle: OwnedFd,
}

impl Process {
    /// The peer's process. Linux before 6.5 cannot name it by its socket: a process that ends between its `connect` and our
    /// `accept` could then be taken for another one. Its user is known all the same.
    ///
    /// # Errors
    /// The process has gone, or cannot be seen from here.
    pub fn of(stream: &UnixStream, caller: &Caller) -> io::Result<Self> {
        if caller.pid == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let handle = peer_handle(stream).or_else(|_| open_handle(caller.pid))?;
        Ok(Self { pid: caller.pid, handle })
    }

    /// True until it ends.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        poll(&mut [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
    }

    /// Returns when it has ended.
    pub async fn ended(&self) {
        use tokio::io::Interest;
        use tokio::io::unix::AsyncFd;
        // SAFETY: the handle is ours, open, and outlives its registration, which ends with this function.
        let watched = unsafe { AsyncFd::register_with_interest(self.handle.as_fd(), Interest::READABLE) };
        match watched {
            Ok(handle) => drop(handle.readable().await.map(|_| ())),
            // What cannot be watched is looked at when it matters.
            Err(_) => std::future::pending().await,
        }
    }

    /// When it began, in clock ticks since boot; 0 when that may not be seen (hidden `/proc`).
    #[must_use]
    pub fn start_time(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The name, in parentheses, may hold anything; after it come the fields from the third on (proc(5)).
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// `SO_PEERPIDFD` (Linux 6.5).
fn peer_handle(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut handle: libc::c_int = -1;
    let mut size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: `handle` has room for `size` bytes and lives through the call; `size` is a valid in-out length.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERPIDFD, (&raw mut handle).cast(), &raw mut size)
    };
    if result != 0 || handle < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(handle) })
}

/// `pidfd_open` (Linux 5.3).
fn open_handle(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and touches no memory of ours.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let handle = libc::c_int::try_from(handle).map_err(io::Error::other)?;
    if handle < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(handle) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{Identity, UnixUser, UserId};

    #[tokio::test]
    async fn the_peer_is_this_process() {
        let (one, _two) = UnixStream::pair().unwrap();
        let caller = identify(&one).unwrap();
        assert_eq!(caller.user(), UserId::Unix(nix::unistd::getuid().as_raw()));
        assert_eq!(caller.pid, std::process::id());
        let mut expected: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let Identity::Unix(UnixUser { groups: mut found, .. }) = caller.identity else { panic!("{caller:?}") };
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_process_is_known_by_what_cannot_be_reused() {
        let (one, _two) = UnixStream::pair().unwrap();
        let caller = identify(&one).unwrap();
        for process in
            [Process::of(&one, &caller).unwrap(), Process { pid: caller.pid, handle: open_handle(caller.pid).unwrap() }]
        {
            assert!(process.is_alive() && process.start_time() > 0);
        }
        assert!(Process::of(&one, &Caller { pid: 0, ..caller }).is_err());
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id();
        let process = Process { pid, handle: open_handle(pid).unwrap() };
        assert!(process.is_alive());
        child.kill().unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), process.ended()).await.unwrap();
        assert!(!process.is_alive(), "also while nobody has waited for it");
        child.wait().unwrap();
        assert!(!process.is_alive() && process.start_time() == 0 && open_handle(pid).is_err());
    }
}
