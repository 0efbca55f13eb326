//! The interface of the kernel's WireGuard. Unlike a TUN device it outlives the process that made it, so it carries a sign.

use super::netlink::{Requests, message};
use crate::error::TunnelError;
use hamn_core::net::InterfaceName;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::packet_route::RouteNetlinkMessage as Route;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkWireguard};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The interface's alias, by which one that a killed process left behind is known as ours.
const SIGN: &str = "Hamn VPN tunnel";

/// An interface that lives as long as this value, or as the machine if the process is killed.
pub(super) struct Link {
    requests: Mutex<Requests>,
    pub(super) index: u32,
    removed: AtomicBool,
}

impl Link {
    /// Makes the interface, down and without an address; `None` where the kernel does not know the kind.
    ///
    /// # Errors
    /// [`TunnelError::InterfaceExists`] if there is an interface of that name, whoever made it (TAMPER-04).
    pub(super) fn create(name: &InterfaceName) -> Result<Option<Self>, TunnelError> {
        let failed = |source| TunnelError::Device { name: name.clone(), source };
        let mut requests = Requests::open(NETLINK_ROUTE).map_err(failed)?;
        let new = Route::NewLink(LinkWireguard::new(name.as_str()).build());
        match requests.ask(&mut message(new), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => return Err(TunnelError::InterfaceExists(name.clone())),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let made = find(&mut requests, name).map_err(failed)?;
        let index = made.map(|link| link.header.index).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let link = Self { requests: Mutex::new(requests), index, removed: AtomicBool::new(false) };
        let sign = LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::IfAlias(SIGN.to_owned())).build();
        link.ask(Route::SetLink(sign)).map_err(failed)?;
        Ok(Some(link))
    }

    /// Whether the interface is still there. An error that says nothing about that counts as yes.
    pub(super) fn exists(&self) -> bool {
        let asked = self.ask(Route::GetLink(LinkUnspec::new_with_index(self.index).build()));
        !asked.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
    }

    fn ask(&self, request: Route) -> io::Result<Vec<Route>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).ask(&mut message(request), NLM_F_ACK)
    }

    /// Removes the interface, once: its number may be another's later. Nothing happens if it is gone.
    pub(super) fn remove(&self) {
        if self.removed.swap(true, Ordering::SeqCst) {
            return;
        }
        let gone = self.ask(Route::DelLink(LinkUnspec::new_with_index(self.index).build()));
        if let Err(error) = gone
            && error.raw_os_error() != Some(libc::ENODEV)
        {
            tracing::warn!(%error, "the tunnel interface stays");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes an interface of this name that a process of ours made in the kernel and left behind. One without our sign, or of
/// another kind, is never touched (TAMPER-04).
pub(in crate::wireguard) fn remove_leftover(name: &InterfaceName) -> io::Result<()> {
    let mut requests = Requests::open(NETLINK_ROUTE)?;
    let Some(link) = find(&mut requests, name)?.filter(is_leftover) else { return Ok(()) };
    tracing::info!(interface = %name, "removing the tunnel interface that an earlier run left");
    requests.ask(&mut message(Route::DelLink(LinkUnspec::new_with_index(link.header.index).build())), NLM_F_ACK).map(drop)
}

fn is_leftover(link: &LinkMessage) -> bool {
    let signed = link.attributes.iter().any(|attribute| *attribute == LinkAttribute::IfAlias(SIGN.to_owned()));
    let kind = LinkInfo::Kind(InfoKind::Wireguard);
    signed
        && link.attributes.iter().any(
            |attribute| {
                if let LinkAttribute::LinkInfo(infos) = attribute { infos.contains(&kind) } else { false }
            },
        )
}

fn find(requests: &mut Requests, name: &InterfaceName) -> io::Result<Option<LinkMessage>> {
    let question = LinkMessageBuilder::<LinkUnspec>::default().name(name.to_string()).build();
    match requests.ask(&mut message(Route::GetLink(question)), NLM_F_ACK) {
        Ok(answers) => {
            Ok(answers.into_iter().find_map(|answer| if let Route::NewLink(link) = answer { Some(link) } else { None }))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::process::Command;

    fn ip(words: &str) -> bool {
        Command::new("ip").args(words.split_whitespace()).output().unwrap().status.success()
    }

    #[test]
    fn an_interface_without_our_sign_or_of_another_kind_is_never_removed() {
        let work = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let name = InterfaceName::tunnel();
            assert!(remove_leftover(&name).is_ok(), "there is none");
            assert!(ip("link add hamn0 type veth peer name x0"));
            Command::new("ip").args(["link", "set", "hamn0", "alias", SIGN]).status().unwrap();
            remove_leftover(&name).unwrap();
            let mut requests = Requests::open(NETLINK_ROUTE).unwrap();
            let link = find(&mut requests, &name).unwrap().expect("a signed interface of another kind stays");
            assert!(!is_leftover(&link));
            // The kernel here may know no WireGuard, so its answer is made up: the same interface, of that kind.
            let mut ours = link.clone();
            ours.attributes.retain(|attribute| !matches!(attribute, LinkAttribute::LinkInfo(_)));
            ours.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
            assert!(is_leftover(&ours));
            ours.attributes.retain(|attribute| !matches!(attribute, LinkAttribute::IfAlias(_)));
            assert!(!is_leftover(&ours), "somebody's own");
            // Neither is one taken over; a kernel without WireGuard says so only for a name that is free.
            let taken = Link::create(&name);
            assert!(matches!(&taken, Err(TunnelError::InterfaceExists(_)) | Ok(None)), "{:?}", taken.err());
            assert!(ip("link show hamn0"));
            assert!(ip("link del hamn0"));
            let Ok(made) = Link::create(&name) else { panic!("a free name") };
            let known = made.is_some();
            println!("this kernel makes WireGuard interfaces: {known}");
            assert!(made.as_ref().is_none_or(Link::exists));
            drop(made);
            assert!(!ip("link show hamn0"), "it is gone");
        };
        std::thread::spawn(work).join().unwrap();
    }
}
