//! systemd-resolved over D-Bus (org.freedesktop.resolve1(5)).
//!
//! Our link gets the resolvers, the routing domain `~.` and the default-route flag; other links lose that flag. Measured:
//! with resolvers alone resolved asks both links and takes the first answer; with `~.` it asks ours only. NetworkManager
//! gives the flag back to its links now and then, therefore `set` is repeated by a guard.

use super::DnsError;
use super::bus::{Bus, BusError, Object, value};
use super::journal::{Journal, Link, Undo};
use crate::dns::plan::DnsPlan;
use std::net::IpAddr;

/// The name on the bus.
pub const SERVICE: &str = "org.freedesktop.resolve1";
const MANAGER: Object<'static> =
    Object { service: SERVICE, path: "/org/freedesktop/resolve1", interface: "org.freedesktop.resolve1.Manager" };
const LINK: &str = "org.freedesktop.resolve1.Link";
/// Everything below the root, for routing only: resolvectl's `~.`.
const ALL_NAMES: (&str, bool) = (".", true);
/// systemd-networkd or resolved itself owns the link's settings.
const LINK_BUSY: &str = "org.freedesktop.resolve1.LinkBusy";
const NO_SUCH_LINK: &str = "org.freedesktop.resolve1.NoSuchLink";
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";

type Server = (i32, Vec<u8>);

fn server(address: &IpAddr) -> Server {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    }
}

fn number(link: &Link) -> Result<i32, DnsError> {
    i32::try_from(link.index).map_err(|_| DnsError::NoInterface(link.name.clone()))
}

/// Makes our link the one that is asked, and flushes what was cached. Returns false when all was so already.
///
/// # Errors
/// resolved refuses or is silent.
pub async fn set(bus: &mut Bus, journal: &Journal, plan: &DnsPlan, ours: &Link, others: &[Link]) -> Result<bool, DnsError> {
    let taken = default_routes(bus, others).await?;
    let ready = is_set(bus, plan, ours).await?;
    if ready && taken.is_empty() {
        return Ok(false);
    }
    note(journal, ours, &taken)?;
    if !ready {
        set_link(bus, plan, ours).await?;
    }
    for link in &taken {
        let changed = bus.call(MANAGER, "SetLinkDefaultRoute", &(number(link)?, false)).await;
        ignore(changed, &[LINK_BUSY, NO_SUCH_LINK])?;
    }
    bus.call(MANAGER, "FlushCaches", &()).await?;
    if is_set(bus, plan, ours).await? { Ok(true) } else { Err(DnsError::ReadsBackDifferently(ours.name.clone())) }
}

async fn set_link(bus: &mut Bus, plan: &DnsPlan, ours: &Link) -> Result<(), DnsError> {
    let index = number(ours)?;
    let servers: Vec<Server> = plan.resolvers.iter().map(server).collect();
    bus.call(MANAGER, "SetLinkDNS", &(index, servers)).await?;
    bus.call(MANAGER, "SetLinkDomains", &(index, vec![ALL_NAMES])).await?;
    // systemd before 240 has no such flag; "~." does the same there.
    ignore(bus.call(MANAGER, "SetLinkDefaultRoute", &(index, true)).await, &[UNKNOWN_METHOD])?;
    bus.call(MANAGER, "SetLinkLLMNR", &(index, "no")).await?;
    bus.call(MANAGER, "SetLinkMulticastDNS", &(index, "no")).await?;
    Ok(())
}

/// Those of the links that have the default-route flag.
async fn default_routes(bus: &mut Bus, links: &[Link]) -> Result<Vec<Link>, DnsError> {
    let mut having = Vec::new();
    for link in links {
        let path = match bus.path(MANAGER, "GetLink", &number(link)?).await {
            Ok(path) => path,
            Err(error) if error.is_named(NO_SUCH_LINK) => continue,
            Err(error) => return Err(error.into()),
        };
        let object = Object { service: SERVICE, path: path.as_str(), interface: LINK };
        match bus.get(object, "DefaultRoute").await {
            Ok(flag) => {
                if value::<bool>(flag, "DefaultRoute")? {
                    having.push(link.clone());
                }
            }
            Err(error @ (BusError::Unreachable(_) | BusError::Silent { .. })) => return Err(error.into()),
            // The link went away, or systemd is too old for the flag.
            Err(error) => tracing::debug!(%error, link = link.name, "no default-route flag"),
        }
    }
    Ok(having)
}

/// Adds to what is noted: a link whose flag was taken away stays noted until it is given back.
fn note(journal: &Journal, ours: &Link, taken: &[Link]) -> Result<(), DnsError> {
    let mut others = match journal.load()? {
        Some(Undo::Resolved { others, .. }) => others,
        Some(Undo::NetworkManager { .. } | Undo::Resolvconf { .. } | Undo::StaticFile { .. }) | None => Vec::new(),
    };
    others.extend_from_slice(taken);
    others.sort();
    others.dedup();
    journal.save(Undo::Resolved { interface: ours.name.clone(), others })
}

/// True when our link reads back as planned.
///
/// # Errors
/// resolved refuses or is silent.
pub async fn is_set(bus: &mut Bus, plan: &DnsPlan, ours: &Link) -> Result<bool, DnsError> {
    let path = bus.path(MANAGER, "GetLink", &number(ours)?).await?;
    let object = Object { service: SERVICE, path: path.as_str(), interface: LINK };
    let servers: Vec<Server> = value(bus.get(object, "DNS").await?, "DNS")?;
    let domains: Vec<(String, bool)> = value(bus.get(object, "Domains").await?, "Domains")?;
    let wanted: Vec<Server> = plan.resolvers.iter().map(server).collect();
    let routed = domains.iter().any(|(name, routing)| (name == "." || name.is_empty()) && *routing);
    Ok(servers == wanted && routed)
}

/// Undoes our link's settings and gives the flags back. Links that are gone need nothing.
///
/// # Errors
/// resolved refuses or is silent.
pub async fn restore(bus: &mut Bus, ours: Option<&Link>, noted: &[Link], present: &[Link]) -> Result<String, DnsError> {
    if !bus.has(SERVICE).await {
        // Its settings live in its memory and in /run: without it there is nothing to undo.
        return Ok("systemd-resolved is not running; nothing to undo".to_owned());
    }
    if let Some(link) = ours {
        ignore(bus.call(MANAGER, "RevertLink", &number(link)?).await, &[NO_SUCH_LINK])?;
    }
    for link in noted.iter().filter(|link| present.contains(link)) {
        let given = bus.call(MANAGER, "SetLinkDefaultRoute", &(number(link)?, true)).await;
        ignore(given, &[LINK_BUSY, NO_SUCH_LINK])?;
    }
    bus.call(MANAGER, "FlushCaches", &()).await?;
    Ok("systemd-resolved uses its own links again".to_owned())
}

fn ignore<T>(result: Result<T, BusError>, names: &[&str]) -> Result<(), BusError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if names.iter().any(|name| error.is_named(name)) => {
            tracing::debug!(%error, "refused; goes on");
            Ok(())
        }
        // zbus has names of its own for the standard errors.
        Err(BusError::Refused { source: zbus::Error::FDO(error), .. })
            if names.contains(&UNKNOWN_METHOD) && matches!(*error, zbus::fdo::Error::UnknownMethod(_)) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}
