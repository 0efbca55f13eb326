//! The signed list's JSON, format 1, to checked types. A bad item is left out with its reason; a document that as a
//! whole is not a usable list is refused, so that the last good one stays (API-06).

use super::list::{ApiAddresses, Datacenter, Exit, ListDns, Server, ServerList, ServerState, WireGuardEndpoint};
use super::read::Object;
use crate::address::{AddressClass, classify};
use crate::json::{self, JsonError, Limits};
use crate::key::PublicKey;
use crate::text::{Country, Host, HttpsOrigin, Id, Label};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A larger list is refused.
pub const MAX_LIST_BYTES: usize = 8 * 1024 * 1024;
/// A deeper list is refused.
pub const MAX_LIST_DEPTH: usize = 32;
/// A longer list is refused.
pub const MAX_SERVERS: usize = 20_000;
/// How many reasons are kept; all are counted.
pub const MAX_REJECTED_KEPT: usize = 100;

const LIMITS: Limits = Limits { bytes: MAX_LIST_BYTES, depth: MAX_LIST_DEPTH, values: 3_000_000 };
const MAX_ITEMS: usize = 64;

/// What a provider's list may contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListRules {
    /// Gateways and API addresses may be private: for laboratories, set by the administrator.
    pub allow_private_gateways: bool,
}

/// A list and what was left out of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedList {
    /// The usable part.
    pub list: ServerList,
    /// The first reasons, at most [`MAX_REJECTED_KEPT`].
    pub rejected: Vec<Rejected>,
    /// How many items were left out.
    pub rejected_count: u64,
}

/// An item that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where in the document ("servers[3].endpoints[0]").
    pub path: String,
    /// The item's id, when it has a well-formed one.
    pub id: Option<Id>,
    /// Why.
    pub reason: Refusal,
}

/// Why an item is left out. The names are fields of the format, never text of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not an object.
    #[error("not an object")]
    NotAnObject,
    /// A required field is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field has another type.
    #[error("`{0}` is of the wrong type")]
    WrongType(&'static str),
    /// A text is malformed, too long, or holds control or deceptive characters.
    #[error("`{0}` is malformed")]
    BadText(&'static str),
    /// A number is out of range.
    #[error("`{0}` is out of range")]
    OutOfRange(&'static str),
    /// An array is too long.
    #[error("`{0}` has too many items")]
    TooMany(&'static str),
    /// A second item has the same id.
    #[error("another item has the same id")]
    Duplicate,
    /// The data centre is not in the list.
    #[error("its data centre is not in the list")]
    UnknownDatacenter,
    /// Not a public key, or a degenerate one.
    #[error("`public_key` is not a usable key")]
    BadKey,
    /// An address that no gateway can have.
    #[error("`{0}` is {class}", class = .1.words())]
    BadAddress(&'static str, AddressClass),
    /// A gateway on the address of a resolver, of the API, or of itself inside the tunnel.
    #[error("a gateway has the address of {0}")]
    AddressTaken(&'static str),
    /// No port to connect to.
    #[error("it has no port")]
    NoPort,
    /// No WireGuard endpoint is left.
    #[error("it has no usable WireGuard endpoint")]
    NoEndpoint,
}

/// Why the document as a whole is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Over [`MAX_LIST_BYTES`].
    #[error("the list is larger than 8 MiB")]
    TooBig,
    /// Not UTF-8.
    #[error("the list is not UTF-8")]
    NotUtf8,
    /// Not JSON.
    #[error("the list is not JSON")]
    NotJson,
    /// Nested too deep or with too many values.
    #[error("the list is nested too deep or has too many values")]
    TooComplex,
    /// Another format.
    #[error("the list is not of format 1")]
    Format,
    /// Over [`MAX_SERVERS`].
    #[error("the list has more than 20000 servers")]
    TooManyServers,
    /// No server is left.
    #[error("the list has no usable server ({rejected} items refused)")]
    Empty {
        /// How many items were refused.
        rejected: u64,
    },
    /// A field of the list itself.
    #[error("the list is unusable: {0}")]
    Field(Refusal),
}

impl From<Refusal> for ListError {
    fn from(refusal: Refusal) -> Self {
        Self::Field(refusal)
    }
}

/// Reads a list. The caller has checked the signature over exactly these bytes.
///
/// # Errors
/// [`ListError`]: the whole list is refused.
pub fn parse(bytes: &[u8], rules: &ListRules) -> Result<ParsedList, ListError> {
    let value = json::parse(bytes, &LIMITS).map_err(|error| match error {
        JsonError::TooBig => ListError::TooBig,
        JsonError::NotUtf8 => ListError::NotUtf8,
        JsonError::TooDeep | JsonError::TooManyValues => ListError::TooComplex,
        JsonError::Syntax => ListError::NotJson,
    })?;
    let root = Object::new(&value)?;
    if root.get("format").and_then(Value::as_u64) != Some(1) {
        return Err(ListError::Format);
    }
    if root.get("servers").and_then(Value::as_array).is_some_and(|servers| servers.len() > MAX_SERVERS) {
        return Err(ListError::TooManyServers);
    }
    let mut rejects = Rejects::default();
    let serial = root.whole("serial", 0, u64::MAX)?.ok_or(Refusal::Missing("serial"))?;
    let (generated_at_unix_s, expires_at_unix_s) = (moment(root, "generated_at")?, moment(root, "expires_at")?);
    let dns = dns(root, &mut rejects)?;
    let api = api(root, *rules, &mut rejects)?;
    let datacenters = datacenters(root, &mut rejects)?;
    let context = Context { rules: *rules, datacenters: &datacenters, taken: taken(&dns, &api) };
    let servers = context.servers(root, &mut rejects)?;
    if servers.is_empty() {
        return Err(ListError::Empty { rejected: rejects.count });
    }
    let list = ServerList { serial, generated_at_unix_s, expires_at_unix_s, datacenters, servers, dns, api };
    Ok(ParsedList { list, rejected: rejects.kept, rejected_count: rejects.count })
}

/// Collects reasons, bounded.
#[derive(Default)]
struct Rejects {
    kept: Vec<Rejected>,
    count: u64,
}

impl Rejects {
    fn push(&mut self, path: impl FnOnce() -> String, item: &Value, reason: Refusal) {
        self.count = self.count.saturating_add(1);
        if self.kept.len() < MAX_REJECTED_KEPT {
            let id = item.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
            self.kept.push(Rejected { path: path(), id, reason });
        }
    }
}

fn moment(root: Object<'_>, field: &'static str) -> Result<i64, Refusal> {
    use ::time::{OffsetDateTime, format_description::well_known::Rfc3339};
    let text = root.text(field)?;
    if text.len() > 40 {
        return Err(Refusal::BadText(field));
    }
    OffsetDateTime::parse(text, &Rfc3339).map(OffsetDateTime::unix_timestamp).map_err(|_| Refusal::BadText(field))
}

fn dns(root: Object<'_>, rejects: &mut Rejects) -> Result<ListDns, Refusal> {
    let object = Object::new(root.get("dns").ok_or(Refusal::Missing("dns"))?)?;
    let mut resolvers = |items: &[Value], path: &str| {
        let mut good = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match item.as_str().ok_or(Refusal::WrongType("dns")).and_then(|text| inside_address(text, "dns")) {
                Ok(address) => good.push(address),
                Err(reason) => rejects.push(|| format!("dns.{path}[{i}]"), item, reason),
            }
        }
        good
    };
    let plain = resolvers(object.array("plain", MAX_ITEMS)?, "plain");
    if plain.is_empty() {
        return Err(Refusal::Missing("dns.plain"));
    }
    let mut filtering = BTreeMap::new();
    if let Some(Value::Object(filters)) = object.get("filtering") {
        for (name, items) in filters.iter().take(MAX_ITEMS).filter(|(name, _)| is_word(name)) {
            filtering.insert(
                name.clone(),
                resolvers(items.as_array().map_or(&[], |items| items.get(..MAX_ITEMS).unwrap_or(items)), "filtering"),
            );
        }
    }
    Ok(ListDns { plain, filtering })
}

/// An address inside the tunnel: any that one host can have.
fn inside_address<A: Into<IpAddr> + std::str::FromStr + Copy>(text: &str, field: &'static str) -> Result<A, Refusal> {
    let address: A = text.parse().map_err(|_| Refusal::BadText(field))?;
    let class = classify(address.into());
    if class.is_host() { Ok(address) } else { Err(Refusal::BadAddress(field, class)) }
}

/// An address outside the tunnel, which marked sockets may reach: a gateway or the API (attacks.md A3).
fn outside_address(address: IpAddr, field: &'static str, rules: ListRules) -> Result<IpAddr, Refusal> {
    let class = classify(address);
    let allowed = class == AddressClass::Global || (class == AddressClass::Private && rules.allow_private_gateways);
    if allowed { Ok(address) } else { Err(Refusal::BadAddress(field, class)) }
}

fn is_word(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

fn api(root: Object<'_>, rules: ListRules, rejects: &mut Rejects) -> Result<ApiAddresses, Refusal> {
    let (mut endpoints, mut pins) = (Vec::new(), Vec::new());
    let Some(value) = root.get("api") else { return Ok(ApiAddresses { endpoints, pins }) };
    let object = Object::new(value)?;
    for (i, item) in object.array("endpoints", MAX_ITEMS)?.iter().enumerate() {
        let origin = item.as_str().ok_or(Refusal::WrongType("api")).and_then(|text| {
            let origin: HttpsOrigin = text.parse().map_err(|_| Refusal::BadText("api"))?;
            if let Host::Address(address) = origin.host {
                outside_address(address, "api", rules)?;
            }
            Ok(origin)
        });
        match origin {
            Ok(origin) => endpoints.push(origin),
            Err(reason) => rejects.push(|| format!("api.endpoints[{i}]"), item, reason),
        }
    }
    for (i, item) in object.array("pins", MAX_ITEMS)?.iter().enumerate() {
        let base64 = |text: &str| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        match item.as_str().filter(|pin| pin.strip_prefix("sha256/").is_some_and(base64)) {
            Some(pin) => pins.push(pin.to_owned()),
            None => rejects.push(|| format!("api.pins[{i}]"), item, Refusal::BadText("api")),
        }
    }
    Ok(ApiAddresses { endpoints, pins })
}

/// The addresses that no gateway may have, and what has them.
fn taken(dns: &ListDns, api: &ApiAddresses) -> BTreeMap<IpAddr, &'static str> {
    let resolvers = dns.plain.iter().chain(dns.filtering.values().flatten()).map(|address| (*address, "a resolver"));
    let api = api.reachable_while_blocked().into_iter().map(|endpoint| (endpoint.address.ip(), "the API"));
    resolvers.chain(api).collect()
}

fn datacenters(root: Object<'_>, rejects: &mut Rejects) -> Result<BTreeMap<Id, Datacenter>, Refusal> {
    let mut all = BTreeMap::new();
    for (i, item) in root.array("regions", 1_000)?.iter().enumerate() {
        let region = Object::new(item).and_then(|region| {
            Ok((region.parsed::<Country>("country")?, region.parsed::<Label>("name")?, region.array("datacenters", 1_000)?))
        });
        let (country, name, items) = match region {
            Ok(region) => region,
            Err(reason) => {
                rejects.push(|| format!("regions[{i}]"), item, reason);
                continue;
            }
        };
        for (j, item) in items.iter().enumerate() {
            match datacenter(item, &country, &name) {
                Ok(good) if !all.contains_key(&good.id) => drop(all.insert(good.id.clone(), good)),
                Ok(_) => rejects.push(|| format!("regions[{i}].datacenters[{j}]"), item, Refusal::Duplicate),
                Err(reason) => rejects.push(|| format!("regions[{i}].datacenters[{j}]"), item, reason),
            }
        }
    }
    Ok(all)
}

fn datacenter(item: &Value, country: &Country, region_name: &Label) -> Result<Datacenter, Refusal> {
    let object = Object::new(item)?;
    let coordinates = object.real("latitude", -90.0, 90.0)?.zip(object.real("longitude", -180.0, 180.0)?);
    let (id, slug, city) = (object.parsed("id")?, object.parsed("slug")?, object.parsed("city")?);
    Ok(Datacenter { id, slug, city, country: country.clone(), region_name: region_name.clone(), coordinates })
}

/// What a server is checked against.
struct Context<'a> {
    rules: ListRules,
    datacenters: &'a BTreeMap<Id, Datacenter>,
    taken: BTreeMap<IpAddr, &'static str>,
}

impl Context<'_> {
    fn servers(&self, root: Object<'_>, rejects: &mut Rejects) -> Result<Vec<Server>, Refusal> {
        let mut seen = BTreeSet::new();
        let mut servers = Vec::new();
        for (i, item) in root.array("servers", MAX_SERVERS)?.iter().enumerate() {
            match self.server(i, item, rejects) {
                Ok(server) if seen.insert(server.id.clone()) => servers.push(server),
                Ok(_) => rejects.push(|| format!("servers[{i}]"), item, Refusal::Duplicate),
                Err(reason) => rejects.push(|| format!("servers[{i}]"), item, reason),
            }
        }
        Ok(servers)
    }

    fn server(&self, i: usize, item: &Value, rejects: &mut Rejects) -> Result<Server, Refusal> {
        let object = Object::new(item)?;
        let (id, name) = (object.parsed("id")?, object.parsed("name")?);
        let datacenter: Id = object.parsed("datacenter")?;
        if !self.datacenters.contains_key(&datacenter) {
            return Err(Refusal::UnknownDatacenter);
        }
        let state = match object.get("state") {
            None => ServerState::Online,
            Some(state) => server_state(state).ok_or(Refusal::BadText("state"))?,
        };
        let weight = object.whole("weight", 0, 10_000)?.unwrap_or(100);
        let features = object.array("features", MAX_ITEMS)?.iter().filter_map(Value::as_str).filter(|word| is_word(word));
        let exits = exits(i, object, rejects)?;
        let mut endpoints = Vec::new();
        for (j, item) in object.array("endpoints", MAX_ITEMS)?.iter().enumerate() {
            match self.endpoint(item) {
                Ok(endpoint) => endpoints.extend(endpoint),
                Err(reason) => rejects.push(|| format!("servers[{i}].endpoints[{j}]"), item, reason),
            }
        }
        if endpoints.is_empty() {
            return Err(Refusal::NoEndpoint);
        }
        Ok(Server {
            id,
            name,
            datacenter,
            state,
            weight: u32::try_from(weight).unwrap_or(0),
            capacity_bps: object.whole("capacity_bps", 0, u64::MAX)?,
            features: features.map(str::to_owned).collect(),
            exits,
            endpoints,
        })
    }

    /// `None` for another protocol or service, which is no fault of the list.
    fn endpoint(&self, item: &Value) -> Result<Option<WireGuardEndpoint>, Refusal> {
        let object = Object::new(item)?;
        if object.text("protocol")? != "wireguard" || object.text("service")? != "shared" {
            return Ok(None);
        }
        let public_key: PublicKey = object.text("public_key")?.parse().map_err(|_| Refusal::BadKey)?;
        let gateway_ipv4 = inside::<Ipv4Addr>(object, "gateway_ipv4")?;
        let gateway_ipv6 = inside::<Ipv6Addr>(object, "gateway_ipv6")?;
        let mut addresses = Vec::new();
        for address in object.array("addresses", 8)? {
            let text = address.as_str().ok_or(Refusal::WrongType("addresses"))?;
            let address = outside_address(text.parse().map_err(|_| Refusal::BadText("addresses"))?, "addresses", self.rules)?;
            if let Some(what) = self.taken.get(&address) {
                return Err(Refusal::AddressTaken(what));
            }
            if gateway_ipv4.is_some_and(|inside| address == inside) || gateway_ipv6.is_some_and(|inside| address == inside) {
                return Err(Refusal::AddressTaken("itself inside the tunnel"));
            }
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(Refusal::Missing("addresses"));
        }
        let ports = object.array("ports", MAX_ITEMS)?.iter().map(|value| port(value, "ports")).collect::<Result<Vec<_>, _>>()?;
        let port_ranges = object.array("port_ranges", 16)?.iter().map(port_range).collect::<Result<Vec<_>, _>>()?;
        if ports.is_empty() && port_ranges.is_empty() {
            return Err(Refusal::NoPort);
        }
        Ok(Some(WireGuardEndpoint { addresses, public_key, ports, port_ranges, gateway_ipv4, gateway_ipv6 }))
    }
}

fn inside<A: Into<IpAddr> + std::str::FromStr + Copy>(object: Object<'_>, field: &'static str) -> Result<Option<A>, Refusal> {
    if object.get(field).is_none() { Ok(None) } else { inside_address(object.text(field)?, field).map(Some) }
}

fn port(value: &Value, field: &'static str) -> Result<u16, Refusal> {
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
    port.filter(|port| *port != 0).ok_or(Refusal::OutOfRange(field))
}

fn port_range(value: &Value) -> Result<(u16, u16), Refusal> {
    const FIELD: &str = "port_ranges";
    let Some([first, last]) = value.as_array().map(Vec::as_slice) else { return Err(Refusal::WrongType(FIELD)) };
    let (first, last) = (port(first, FIELD)?, port(last, FIELD)?);
    if first <= last { Ok((first, last)) } else { Err(Refusal::OutOfRange(FIELD)) }
}

/// The state that a word means.
pub(super) fn server_state(value: &Value) -> Option<ServerState> {
    match value.as_str()? {
        "online" => Some(ServerState::Online),
        "draining" => Some(ServerState::Draining),
        "maintenance" => Some(ServerState::Maintenance),
        "offline" => Some(ServerState::Offline),
        _ => None,
    }
}

fn exits(i: usize, server: Object<'_>, rejects: &mut Rejects) -> Result<Vec<Exit>, Refusal> {
    let mut exits: Vec<Exit> = Vec::new();
    for (j, item) in server.array("exits", MAX_ITEMS)?.iter().enumerate() {
        match exit(item) {
            Ok(exit) if !exits.iter().any(|other| other.id == exit.id) => exits.push(exit),
            Ok(_) => rejects.push(|| format!("servers[{i}].exits[{j}]"), item, Refusal::Duplicate),
            Err(reason) => rejects.push(|| format!("servers[{i}].exits[{j}]"), item, reason),
        }
    }
    Ok(exits)
}

fn exit(item: &Value) -> Result<Exit, Refusal> {
    let object = Object::new(item)?;
    let (ipv4, ipv6) = (object.maybe_parsed("ipv4")?, object.maybe_parsed("ipv6")?);
    Ok(Exit { id: object.parsed("id")?, country: object.parsed("country")?, ipv4, ipv6, default: object.switch("default")? })
}
