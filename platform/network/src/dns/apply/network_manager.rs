//! NetworkManager over D-Bus, where it writes `resolv.conf` itself.
//!
//! The global DNS configuration replaces the resolvers of all connections for all names. The alternative, DNS on our
//! device (`Reapply`), needs the device managed, and a managed device loses its addresses when NetworkManager sees fit.
//! NetworkManager stores the global configuration, so it survives its restart, and a crash of ours: the note undoes it.

use super::DnsError;
use super::bus::{Bus, BusError, Dictionary, Object, value};
use super::journal::{GlobalDns, GlobalDomain, Journal, Undo};
use crate::dns::plan::DnsPlan;
use std::collections::{BTreeMap, HashMap};
use zbus::{OwnedVariant, Variant};

/// The name on the bus.
pub const SERVICE: &str = "org.freedesktop.NetworkManager";
const MANAGER: Object<'static> =
    Object { service: SERVICE, path: "/org/freedesktop/NetworkManager", interface: "org.freedesktop.NetworkManager" };
const DEVICE: &str = "org.freedesktop.NetworkManager.Device";
const GLOBAL: &str = "GlobalDnsConfiguration";

/// Sets the global configuration. Returns false when it was so already.
///
/// # Errors
/// NetworkManager refuses (its own configuration file has a global section) or is silent.
pub async fn set(bus: &mut Bus, journal: &Journal, plan: &DnsPlan) -> Result<bool, DnsError> {
    let current = read(bus).await?;
    let wanted = wanted(plan);
    if current == wanted {
        return Ok(false);
    }
    // What is there is ours, from another tunnel, when a note exists.
    if journal.load()?.is_none() {
        journal.save(Undo::NetworkManager { previous: current })?;
    }
    write(bus, &wanted).await?;
    if read(bus).await? == wanted { Ok(true) } else { Err(DnsError::ReadsBackDifferently(GLOBAL.to_owned())) }
}

/// True when the global configuration is ours.
///
/// # Errors
/// NetworkManager refuses or is silent.
pub async fn is_set(bus: &mut Bus, plan: &DnsPlan) -> Result<bool, DnsError> {
    Ok(read(bus).await? == wanted(plan))
}

/// Puts back what was noted.
///
/// # Errors
/// NetworkManager refuses, is silent or is not running; its stored configuration can then not be undone yet.
pub async fn restore(bus: &mut Bus, previous: &GlobalDns) -> Result<String, DnsError> {
    write(bus, previous).await?;
    Ok("NetworkManager's DNS configuration restored".to_owned())
}

/// Tells NetworkManager to leave the tunnel interface alone. True when it had to be told.
///
/// # Errors
/// NetworkManager refuses or is silent.
pub async fn leave_alone(bus: &mut Bus, interface: &str) -> Result<bool, DnsError> {
    let device = bus.path(MANAGER, "GetDeviceByIpIface", &interface).await?;
    let object = Object { service: SERVICE, path: device.as_str(), interface: DEVICE };
    let managed: bool = value(bus.get(object, "Managed").await?, "Managed")?;
    if managed {
        bus.set(object, "Managed", Variant::from(false)).await?;
    }
    Ok(managed)
}

fn wanted(plan: &DnsPlan) -> GlobalDns {
    let servers = plan.resolvers.iter().map(ToString::to_string).collect();
    let domains = BTreeMap::from([("*".to_owned(), GlobalDomain { servers, options: Vec::new() })]);
    GlobalDns { searches: Vec::new(), options: Vec::new(), domains }
}

async fn read(bus: &mut Bus) -> Result<GlobalDns, DnsError> {
    let mut found: Dictionary = value(bus.get(MANAGER, GLOBAL).await?, GLOBAL)?;
    let domains = match found.remove("domains") {
        Some(domains) => value::<Dictionary>(domains, "domains")?,
        None => Dictionary::new(),
    };
    let mut all = BTreeMap::new();
    for (name, domain) in domains {
        let mut domain: Dictionary = value(domain, "domain")?;
        let servers = strings(domain.remove("servers"))?;
        all.insert(name, GlobalDomain { servers, options: strings(domain.remove("options"))? });
    }
    let (searches, options) = (strings(found.remove("searches"))?, strings(found.remove("options"))?);
    Ok(GlobalDns { searches, options, domains: all })
}

fn strings(list: Option<OwnedVariant>) -> Result<Vec<String>, BusError> {
    list.map_or_else(|| Ok(Vec::new()), |list| value(list, "a list of strings"))
}

async fn write(bus: &mut Bus, config: &GlobalDns) -> Result<(), DnsError> {
    let mut dictionary: HashMap<&str, Variant<'_>> = HashMap::new();
    let GlobalDns { searches, options, domains } = config;
    insert(&mut dictionary, "searches", searches);
    insert(&mut dictionary, "options", options);
    if !domains.is_empty() {
        let domains: HashMap<&str, Variant<'_>> = domains
            .iter()
            .map(|(name, domain)| {
                let mut inner: HashMap<&str, Variant<'_>> = HashMap::new();
                insert(&mut inner, "servers", &domain.servers);
                insert(&mut inner, "options", &domain.options);
                (name.as_str(), Variant::from(inner))
            })
            .collect();
        dictionary.insert("domains", Variant::from(domains));
    }
    // An empty dictionary removes the configuration.
    bus.set(MANAGER, GLOBAL, Variant::from(dictionary)).await.map_err(DnsError::from)
}

fn insert<'a>(dictionary: &mut HashMap<&'static str, Variant<'a>>, key: &'static str, list: &'a [String]) {
    if !list.is_empty() {
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        dictionary.insert(key, Variant::from(list));
    }
}
