//! The server list as checked types. Only `parse` makes one.

use crate::key::PublicKey;
use crate::location::Destination;
use crate::net::Endpoint;
use crate::text::{BadText, Country, Host, HttpsOrigin, Id, Label};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A list whose signature the caller has checked and whose every item is usable.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServerList {
    /// Grows with each list; a lower one is a rollback.
    pub serial: u64,
    /// Seconds since 1970.
    pub generated_at_unix_s: i64,
    /// Seconds since 1970. A list past it is still used when no fresher one can be fetched.
    pub expires_at_unix_s: i64,
    /// Data centres by id.
    pub datacenters: BTreeMap<Id, Datacenter>,
    /// Servers in the order of the list, at least one.
    pub servers: Vec<Server>,
    /// Resolvers inside the tunnel.
    pub dns: ListDns,
    /// Where the provider's API answers.
    pub api: ApiAddresses,
}

/// A data centre.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Datacenter {
    /// Id.
    pub id: Id,
    /// Short name in addresses and on the command line.
    pub slug: Id,
    /// City, for people.
    pub city: Label,
    /// Country.
    pub country: Country,
    /// Country or region, for people.
    pub region_name: Label,
    /// Latitude and longitude in degrees.
    pub coordinates: Option<(f64, f64)>,
}

/// A server with at least one usable WireGuard endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Server {
    /// Id.
    pub id: Id,
    /// Name, for people.
    pub name: Label,
    /// Id of its data centre, which is in the list.
    pub datacenter: Id,
    /// State when the list was made.
    pub state: ServerState,
    /// Share of new clients, relative to the other servers.
    pub weight: u32,
    /// Capacity in bits per second.
    pub capacity_bps: Option<u64>,
    /// What else it can do ("port_forward"); unknown words are kept.
    pub features: Vec<String>,
    /// Where traffic can come out. Empty: in the data centre's country.
    pub exits: Vec<Exit>,
    /// WireGuard endpoints of the service "shared", at least one.
    pub endpoints: Vec<WireGuardEndpoint>,
}

/// Whether a server takes clients; ordered from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Takes clients.
    Online,
    /// Keeps its clients, takes no new ones.
    Draining,
    /// Under maintenance.
    Maintenance,
    /// Down.
    Offline,
}

/// A place where a server's traffic comes out (row O17: one server can have several countries).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Exit {
    /// Id, unique on its server.
    pub id: Id,
    /// Country that websites see.
    pub country: Country,
    /// Address that websites see.
    pub ipv4: Option<Ipv4Addr>,
    /// Address that websites see.
    pub ipv6: Option<Ipv6Addr>,
    /// Used when nothing is asked for.
    pub default: bool,
}

/// A WireGuard gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WireGuardEndpoint {
    /// Its addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// Its key.
    pub public_key: PublicKey,
    /// UDP ports that it listens on.
    pub ports: Vec<u16>,
    /// Ranges of UDP ports, first and last; at least one port or range exists.
    pub port_ranges: Vec<(u16, u16)>,
    /// Its address inside the tunnel.
    pub gateway_ipv4: Option<Ipv4Addr>,
    /// Its address inside the tunnel; without one the tunnel carries no IPv6.
    pub gateway_ipv6: Option<Ipv6Addr>,
}

/// Resolvers inside the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ListDns {
    /// Without filtering, at least one.
    pub plain: Vec<IpAddr>,
    /// By the name of the filter.
    pub filtering: BTreeMap<String, Vec<IpAddr>>,
}

/// Where the provider's API answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiAddresses {
    /// In order of preference.
    pub endpoints: Vec<HttpsOrigin>,
    /// Public-key pins, `sha256/` and base64.
    pub pins: Vec<String>,
}

impl ApiAddresses {
    /// The endpoints that need no resolver: only these can be reached in a blocked state (G1).
    #[must_use]
    pub fn reachable_while_blocked(&self) -> Vec<Endpoint> {
        let address = |origin: &HttpsOrigin| match origin.host {
            Host::Address(address) => Some(Endpoint::tcp(SocketAddr::new(address, origin.port))),
            Host::Name(_) => None,
        };
        self.endpoints.iter().filter_map(address).collect()
    }
}

impl ServerList {
    /// True when `now_unix_s` is past the expiry.
    #[must_use]
    pub const fn is_expired(&self, now_unix_s: i64) -> bool {
        now_unix_s > self.expires_at_unix_s
    }

    /// The server with this id.
    #[must_use]
    pub fn server(&self, id: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.id.as_str() == id)
    }

    /// The server's data centre.
    #[must_use]
    pub fn datacenter(&self, server: &Server) -> Option<&Datacenter> {
        self.datacenters.get(&server.datacenter)
    }
}

impl Server {
    /// The exit used when nothing is asked for.
    #[must_use]
    pub fn default_exit(&self) -> Option<&Exit> {
        self.exits.iter().find(|exit| exit.default).or_else(|| self.exits.first())
    }

    /// The exit in this country, the default one if it is there.
    #[must_use]
    pub fn exit_in(&self, country: &str) -> Option<&Exit> {
        let there = |exit: &&Exit| exit.country.as_str() == country;
        self.default_exit().filter(there).or_else(|| self.exits.iter().find(there))
    }
}

/// What a word on the command line means: an explicit text, else a country of the list, a city (slug or id), or a server.
///
/// # Errors
/// The word means nothing in this list.
pub fn resolve_text(list: &ServerList, text: &str) -> Result<Destination, BadText> {
    let text = text.trim();
    if let Ok(destination) = text.parse::<Destination>() {
        return Ok(destination);
    }
    let lower = text.to_lowercase();
    let named = |datacenter: &&Datacenter| {
        datacenter.slug.as_str() == lower || datacenter.id.as_str() == lower || datacenter.city.as_str().to_lowercase() == lower
    };
    if let Some(datacenter) = list.datacenters.values().find(named) {
        return Ok(Destination::City { city: datacenter.slug.to_string() });
    }
    let (id, exit) = lower.split_once('/').map_or((lower.as_str(), None), |(id, exit)| (id, Some(exit)));
    let server = list.server(id).ok_or(BadText("no country, city or server of that name"))?;
    match exit {
        Some(exit) if !server.exits.iter().any(|known| known.id.as_str() == exit) => {
            Err(BadText("that server has no exit of that name"))
        }
        _ => Ok(Destination::Server { server: id.to_owned(), exit: exit.map(str::to_owned) }),
    }
}
