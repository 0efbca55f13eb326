//! Routes over macOS's routing socket (`route(4)`) and the lists of `sysctl(3)`: what is missing is added, what is ours and
//! not wanted is removed.
//!
//! In the table, for a connected IPv4-only tunnel (`netstat -rn`): `0/1` and `128.0/1` (and both for IPv6) to `127.0.0.1`
//! with flag `R` (reject), `0/2`, `64/2`, `128/2` and `192/2` to `utun6861`, the gateway's address to the default router.
//! The flags `1` and `2` (`RTF_PROTO1`, `RTF_PROTO2`) together are on all of them.

#![expect(unsafe_code, reason = "sysctl is a foreign function")]

use crate::monitor::facts::HostView;
use crate::monitor::facts_macos::host_view;
use crate::routes::plan_macos::{MacRoutePlan, RouteDifference};
use crate::routes::route_message::{
    ADDRESS_HEADER, KernelRoute, LINK_HEADER, Malformed, Message, ROUTE_HEADER, TableRoute, add, delete, read_list,
};
use hamn_core::net::{InterfaceName, TUNNEL_INTERFACE};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socket};
use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Larger lists are not read. Far above what a desktop has.
const LIST_LIMIT: usize = 32 << 20;
/// A list that grows while it is read is read anew so often.
const ATTEMPTS: usize = 5;

const _: () = assert!(
    size_of::<libc::rt_msghdr>() == ROUTE_HEADER
        && size_of::<libc::if_msghdr>() == LINK_HEADER
        && size_of::<libc::ifa_msghdr>() == ADDRESS_HEADER,
    "the layouts are those of the system's headers"
);

/// Why routes could not be made as planned.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No routing socket.
    #[error("cannot open a routing socket: {0}")]
    Socket(#[source] io::Error),
    /// The kernel refused.
    #[error("cannot {action}: {source}")]
    Refused {
        /// What was tried, for people.
        action: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// A list that cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What was read of the host in one moment.
#[derive(Clone, Debug)]
pub struct HostTable {
    /// Links, addresses and the routes of others.
    pub view: HostView,
    /// All routes.
    pub routes: Vec<TableRoute>,
}

impl HostTable {
    /// How the table differs from the plan.
    #[must_use]
    pub fn difference(&self, plan: &MacRoutePlan) -> RouteDifference {
        let tunnel = plan.tunnel.as_ref().map_or(TUNNEL_INTERFACE, InterfaceName::as_str);
        RouteDifference::between(&plan.routes(&self.view, tunnel), &self.routes)
    }
}

/// A connection to the kernel's routing.
#[derive(Debug)]
pub struct Routing {
    socket: OwnedFd,
    sequence: AtomicU32,
}

impl Routing {
    /// Opens a socket for requests. It hears nothing.
    ///
    /// # Errors
    /// No socket.
    pub fn open() -> Result<Self, RouteError> {
        let socket = routing_socket().map_err(RouteError::Socket)?;
        shutdown(socket.as_raw_fd(), Shutdown::Read).map_err(|error| RouteError::Socket(error.into()))?;
        Ok(Self { socket, sequence: AtomicU32::new(1) })
    }

    /// Changes what differs, the fence before anything else. A destination can be in the table once, so what stands in the
    /// place of one of ours goes first.
    ///
    /// # Errors
    /// A refusal. What could be added stays.
    pub fn close(&self, difference: &RouteDifference) -> Result<(), RouteError> {
        for route in &difference.in_the_way {
            tracing::warn!(route = %route.destination, "a route of another program was in the place of one of ours");
        }
        let wanted: BTreeSet<_> = difference.missing.iter().map(|route| route.destination).collect();
        let replaced = |route: &&KernelRoute| wanted.contains(&route.destination);
        for route in difference.in_the_way.iter().chain(&difference.unwanted).filter(replaced) {
            self.remove(route)?;
        }
        for route in &difference.missing {
            let request = add(route, self.next());
            self.send(&request, Errno::EEXIST, || format!("add the route {}", route.destination))?;
        }
        difference.unwanted.iter().filter(|route| !replaced(route)).try_for_each(|route| self.remove(route))
    }

    fn remove(&self, route: &KernelRoute) -> Result<(), RouteError> {
        let request = delete(&route.destination, self.next());
        self.send(&request, Errno::ESRCH, || format!("remove the route {}", route.destination))
    }

    fn next(&self) -> u32 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// The kernel answers a request by the result of the write. One answer means that there is nothing left to do.
    fn send(&self, request: &[u8], done: Errno, action: impl FnOnce() -> String) -> Result<(), RouteError> {
        match nix::unistd::write(&self.socket, request) {
            Ok(_) => Ok(()),
            Err(error) if error == done => Ok(()),
            Err(source) => Err(RouteError::Refused { action: action(), source }),
        }
    }
}

/// A routing socket that no child process inherits and that never waits.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn routing_socket() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Route, SockType::Raw, SockFlag::empty(), None)?;
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(socket)
}

/// Reads links, addresses and routes.
///
/// # Errors
/// The kernel refuses to be read.
pub fn read() -> Result<HostTable, RouteError> {
    let interfaces = read_list(&list(libc::NET_RT_IFLIST, "list the interfaces")?)?;
    let routes = read_list(&list(libc::NET_RT_DUMP, "list the routes")?)?;
    let routes: Vec<TableRoute> = routes
        .into_iter()
        .filter_map(|message| match message {
            Message::Route(route) => Some(route),
            Message::Link { .. } | Message::Address { .. } => None,
        })
        .collect();
    Ok(HostTable { view: host_view(&interfaces, &routes), routes })
}

/// A list of `sysctl(3)`, `CTL_NET`, `PF_ROUTE`. It may grow between asking for its size and reading it.
fn list(kind: c_int, action: &str) -> Result<Vec<u8>, RouteError> {
    let refused = |source| RouteError::Refused { action: action.to_owned(), source };
    for _ in 0..ATTEMPTS {
        let mut name = [libc::CTL_NET, libc::PF_ROUTE, 0, 0, kind, 0];
        let length = u32::try_from(name.len()).unwrap_or(0);
        let mut size = 0_usize;
        // SAFETY: the name has the length that is said; without a buffer the kernel only says the size.
        let asked =
            unsafe { libc::sysctl(name.as_mut_ptr(), length, std::ptr::null_mut(), &raw mut size, std::ptr::null_mut(), 0) };
        Errno::result(asked).map_err(refused)?;
        if size > LIST_LIMIT {
            return Err(refused(Errno::EFBIG));
        }
        let mut buffer = vec![0_u8; size + size / 4 + 4096];
        size = buffer.len();
        let start: *mut c_void = buffer.as_mut_ptr().cast();
        // SAFETY: the name and the buffer have the lengths that are said, and are ours while the call runs.
        let read = unsafe { libc::sysctl(name.as_mut_ptr(), length, start, &raw mut size, std::ptr::null_mut(), 0) };
        match Errno::result(read) {
            Ok(_) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            Err(Errno::ENOMEM) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    Err(refused(Errno::ENOMEM))
}
