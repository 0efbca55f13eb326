//! Windows: from compiled filters to the objects that the filter engine stores, and the steps of one transaction. Pure.
//!
//! A compiled filter names interfaces and "our process"; the engine knows a LUID, an application id and a security
//! descriptor. Those are looked up when a policy is applied and bound here, so that everything which is stored can be
//! written down, compared with what is read back, and tested on every system.

use super::wfp::{Condition, Filter, Layer, Lifetime, Sublayer, Verdict};
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

/// The right that the engine asks a filter's security descriptor for (`FWP_ACTRL_MATCH_FILTER`).
const MATCH_FILTER: u32 = 1;
/// The last part of the SID of the service `HamnHelper`: `sc showsid HamnHelper` prints it. Windows makes it from a hash of
/// the name, so it is the same on every computer.
pub const SERVICE_SID: [u32; 6] = [80, 2_827_098_595, 18_991_499, 1_189_303_600, 4_154_791_623, 2_354_550_438];
/// LocalSystem.
const SYSTEM_SID: [u32; 1] = [18];

/// A field of a layer (`FWPM_CONDITION_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `IP_LOCAL_INTERFACE`
    LocalInterface,
    /// `FLAGS`
    Flags,
    /// `IP_LOCAL_ADDRESS`
    LocalAddress,
    /// `IP_REMOTE_ADDRESS`
    RemoteAddress,
    /// `IP_PROTOCOL`
    Protocol,
    /// `IP_LOCAL_PORT`, which is also `ICMP_TYPE`.
    LocalPort,
    /// `IP_REMOTE_PORT`
    RemotePort,
    /// `ALE_APP_ID`
    Application,
    /// `ALE_USER_ID`
    User,
    /// `EMBEDDED_PROTOCOL`
    EmbeddedProtocol,
    /// `EMBEDDED_REMOTE_ADDRESS`
    EmbeddedRemoteAddress,
    /// `EMBEDDED_REMOTE_PORT`
    EmbeddedRemotePort,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::LocalInterface,
        Self::Flags,
        Self::LocalAddress,
        Self::RemoteAddress,
        Self::Protocol,
        Self::LocalPort,
        Self::RemotePort,
        Self::Application,
        Self::User,
        Self::EmbeddedProtocol,
        Self::EmbeddedRemoteAddress,
        Self::EmbeddedRemotePort,
    ];

    /// True when the layer has the field (Microsoft, "Filtering conditions available at each filtering layer"); the engine
    /// refuses a filter with a condition that its layer lacks.
    #[must_use]
    pub const fn is_at(self, layer: Layer) -> bool {
        match layer {
            Layer::ConnectV4 | Layer::ConnectV6 | Layer::AcceptV4 | Layer::AcceptV6 => {
                !matches!(self, Self::EmbeddedProtocol | Self::EmbeddedRemoteAddress | Self::EmbeddedRemotePort)
            }
            Layer::ArriveV4 | Layer::ArriveV6 => matches!(
                self,
                Self::LocalInterface
                    | Self::Flags
                    | Self::LocalAddress
                    | Self::RemoteAddress
                    | Self::Protocol
                    | Self::LocalPort
                    | Self::RemotePort
            ),
            // It has the type of the error, but not its protocol: that is the layer itself.
            Layer::ErrorV4 | Layer::ErrorV6 => {
                !matches!(self, Self::Protocol | Self::RemotePort | Self::Application | Self::User)
            }
            Layer::ForwardV4 | Layer::ForwardV6 => matches!(self, Self::LocalInterface | Self::Flags),
        }
    }
}

/// How a field is compared (`FWP_MATCH_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Test {
    /// `EQUAL`; of a prefix: lies in it.
    Equal,
    /// `NOT_EQUAL`
    NotEqual,
    /// `FLAGS_ALL_SET`
    AllSet,
    /// `FLAGS_NONE_SET`
    NoneSet,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// `FWP_UINT8`
    U8(u8),
    /// `FWP_UINT16`
    U16(u16),
    /// `FWP_UINT32`
    U32(u32),
    /// `FWP_UINT64`
    U64(u64),
    /// `FWP_V4_ADDR_MASK`: address and mask in host order.
    V4(u32, u32),
    /// `FWP_V6_ADDR_MASK`: address and prefix length.
    V6([u8; 16], u8),
    /// `FWP_BYTE_BLOB_TYPE`
    Blob(Vec<u8>),
    /// `FWP_SECURITY_DESCRIPTOR_TYPE`, self-relative.
    SecurityDescriptor(Vec<u8>),
}

/// One condition as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comparison {
    /// Which field.
    pub field: Field,
    /// How.
    pub test: Test,
    /// With what.
    pub value: Value,
}

/// One filter as it is stored (`FWPM_FILTER0`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Key: from all that follows but the name.
    pub key: u128,
    /// Layer.
    pub layer: Layer,
    /// Sublayer.
    pub sublayer: Sublayer,
    /// Weight within sublayer and layer.
    pub weight: u64,
    /// Permit or block.
    pub verdict: Verdict,
    /// Persistent or boot-time.
    pub lifetime: Lifetime,
    /// Sorted; the engine joins those of one field by "or", fields by "and".
    pub conditions: Vec<Comparison>,
    /// Display name.
    pub name: String,
}

/// What only this computer knows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bindings {
    /// LUIDs of the interfaces that exist.
    pub interfaces: BTreeMap<InterfaceName, u64>,
    /// The application id of the helper's program (`FwpmGetAppIdFromFileName0`).
    pub application: Vec<u8>,
}

/// The interfaces that the filters name.
#[must_use]
pub fn interfaces_of(filters: &[Filter]) -> BTreeSet<InterfaceName> {
    let conditions = filters.iter().flat_map(|filter| &filter.conditions);
    conditions.filter_map(|one| if let Condition::LocalInterface(name, _) = one { Some(name.clone()) } else { None }).collect()
}

/// Binds every filter. An interface that does not exist cannot carry anything: a filter that asks for it is left out, and
/// one that asks for any other loses that condition. So a policy may name a tunnel that appears later, and until then it
/// permits less, never more.
#[must_use]
pub fn bind(filters: &[Filter], bindings: &Bindings) -> Vec<Object> {
    filters.iter().filter_map(|filter| bind_one(filter, bindings)).collect()
}

fn bind_one(filter: &Filter, bindings: &Bindings) -> Option<Object> {
    let mut conditions = BTreeSet::new();
    for condition in &filter.conditions {
        match compare(condition, filter.layer, bindings) {
            Compared::With(comparisons) => conditions.extend(comparisons),
            Compared::Always => {}
            Compared::Never => return None,
        }
    }
    // "Any interface but one that does not exist" is a condition of a block, never the only one of a permit.
    if conditions.is_empty() && !filter.conditions.is_empty() && filter.verdict == Verdict::Permit {
        return None;
    }
    let Filter { layer, sublayer, weight, verdict, lifetime, .. } = *filter;
    let conditions: Vec<Comparison> = conditions.into_iter().collect();
    let name = format!("Hamn: {}", filter.purpose.words());
    let mut object = Object { key: 0, layer, sublayer, weight, verdict, lifetime, conditions, name };
    object.key = object.content_key();
    Some(object)
}

enum Compared {
    With(Vec<Comparison>),
    Always,
    Never,
}

fn compare(condition: &Condition, layer: Layer, bindings: &Bindings) -> Compared {
    let one = |field, test, value| Compared::With(vec![Comparison { field, test, value }]);
    let equal = |field, value| Comparison { field, test: Test::Equal, value };
    match condition {
        Condition::LocalInterface(name, wanted) => match (bindings.interfaces.get(name), wanted) {
            (Some(luid), true) => one(Field::LocalInterface, Test::Equal, Value::U64(*luid)),
            (Some(luid), false) => one(Field::LocalInterface, Test::NotEqual, Value::U64(*luid)),
            (None, true) => Compared::Never,
            (None, false) => Compared::Always,
        },
        Condition::Loopback(set) => {
            let test = if *set { Test::AllSet } else { Test::NoneSet };
            one(Field::Flags, test, Value::U32(IS_LOOPBACK))
        }
        // Every layer is of one family, so this is every packet.
        Condition::LocalAddress(net) | Condition::RemoteAddress(net) if net.prefix_len() == 0 => Compared::Always,
        Condition::LocalAddress(net) => one(Field::LocalAddress, Test::Equal, prefix(*net)),
        Condition::RemoteAddress(net) => one(Field::RemoteAddress, Test::Equal, prefix(*net)),
        // The layers of ICMP errors show one protocol each and have no such field.
        Condition::Protocol(_) if !Field::Protocol.is_at(layer) => Compared::Always,
        Condition::Protocol(number) => one(Field::Protocol, Test::Equal, Value::U8(*number)),
        Condition::LocalPort(port) => one(Field::LocalPort, Test::Equal, Value::U16(*port)),
        Condition::RemotePort(port) => one(Field::RemotePort, Test::Equal, Value::U16(*port)),
        Condition::IcmpType(kind) => one(Field::LocalPort, Test::Equal, Value::U16(u16::from(*kind))),
        Condition::OwnProcess => Compared::With(vec![
            equal(Field::Application, Value::Blob(bindings.application.clone())),
            equal(Field::User, Value::SecurityDescriptor(admits(&SERVICE_SID))),
        ]),
        Condition::ErrorAbout(net, protocol, port) => Compared::With(vec![
            equal(Field::EmbeddedProtocol, Value::U8(*protocol)),
            equal(Field::EmbeddedRemoteAddress, prefix(*net)),
            equal(Field::EmbeddedRemotePort, Value::U16(*port)),
        ]),
    }
}

/// `FWP_CONDITION_FLAG_IS_LOOPBACK`
const IS_LOOPBACK: u32 = 1;

fn prefix(net: IpNet) -> Value {
    match net {
        IpNet::V4(v4) => Value::V4(v4.network().to_bits(), v4.netmask().to_bits()),
        IpNet::V6(v6) => Value::V6(v6.network().octets(), v6.prefix_len()),
    }
}

/// A self-relative security descriptor of LocalSystem that grants the match to one SID and to nobody else (`[MS-DTYP]`
/// 2.4.6). The engine compares it with the token of the process that opens the connection.
#[must_use]
pub fn admits(sid: &[u32]) -> Vec<u8> {
    const HEADER: usize = 20;
    const ACL_HEADER: usize = 8;
    const ACE_HEADER: usize = 8;
    let (granted, system) = (sid_bytes(sid), sid_bytes(&SYSTEM_SID));
    let ace = ACE_HEADER + granted.len();
    let acl = ACL_HEADER + ace;
    let (owner, group) = (HEADER + acl, HEADER + acl + system.len());
    let mut bytes = vec![1, 0];
    // A list of rights is present, and all parts are in this one block.
    bytes.extend(0x8004_u16.to_le_bytes());
    for offset in [owner, group, 0, HEADER] {
        bytes.extend(u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes());
    }
    bytes.extend([2, 0]);
    bytes.extend(short(acl));
    bytes.extend([1, 0, 0, 0]);
    // One entry of the type "allowed", without flags.
    bytes.extend([0, 0]);
    bytes.extend(short(ace));
    bytes.extend(MATCH_FILTER.to_le_bytes());
    bytes.extend(granted);
    bytes.extend(&system);
    bytes.extend(&system);
    bytes
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

/// A SID of the NT authority (`[MS-DTYP]` 2.4.2).
fn sid_bytes(parts: &[u32]) -> Vec<u8> {
    let mut bytes = vec![1, u8::try_from(parts.len()).unwrap_or(u8::MAX), 0, 0, 0, 0, 0, 5];
    bytes.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
    bytes
}

impl Object {
    /// The first 128 bits of a hash of everything but key and name: two objects with one key are the same filter.
    #[must_use]
    pub fn content_key(&self) -> u128 {
        let Self { layer, sublayer, weight, verdict, lifetime, conditions, .. } = self;
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(text, "{layer:?} {sublayer:?} {weight} {verdict:?} {lifetime:?} {conditions:?}");
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(16).fold(0, |key, byte| (key << 8) | u128::from(*byte))
    }
}

/// What the engine holds under our provider.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Found {
    /// The provider is there.
    pub provider: bool,
    /// Our sublayers and their weights.
    pub sublayers: BTreeMap<Sublayer, u16>,
    /// Filters by key; `None` when one cannot be expressed as ours would be (somebody put it there, or the engine changed
    /// it): it is deleted whenever anything is.
    pub filters: BTreeMap<u128, Option<Object>>,
}

impl Found {
    /// True when nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.provider && self.sublayers.is_empty() && self.filters.is_empty()
    }

    /// How this differs from what is wanted, in words; `None` when it does not.
    #[must_use]
    pub fn difference(&self, wanted: &[Object]) -> Option<String> {
        if wanted.is_empty() {
            return (!self.is_empty()).then(|| "filters of ours are still there".to_owned());
        }
        let missing = wanted.iter().filter(|object| !self.holds(object)).count();
        let foreign = self.filters.len().saturating_sub(wanted.len().saturating_sub(missing));
        let mut parts = Vec::new();
        if !self.provider {
            parts.push("the provider is gone".to_owned());
        }
        if !Sublayer::ALL.iter().all(|sublayer| self.sublayers.get(sublayer) == Some(&sublayer.weight())) {
            parts.push("a sublayer is gone or has another weight".to_owned());
        }
        if missing > 0 {
            parts.push(format!("{missing} of {} filters are gone or changed", wanted.len()));
        }
        if foreign > 0 {
            parts.push(format!("{foreign} filters are not those of the policy"));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn holds(&self, object: &Object) -> bool {
        matches!(self.filters.get(&object.key), Some(Some(found)) if found.content_key() == object.key)
    }
}

/// One call inside the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// `FwpmFilterDeleteByKey0`
    DeleteFilter(u128),
    /// `FwpmSubLayerDeleteByKey0`
    DeleteSublayer(Sublayer),
    /// `FwpmProviderDeleteByKey0`
    DeleteProvider,
    /// `FwpmProviderAdd0`
    AddProvider,
    /// `FwpmSubLayerAdd0`
    AddSublayer(Sublayer),
    /// `FwpmFilterAdd0`
    AddFilter(&'a Object),
}

/// The transaction from what is there to what is wanted; no wanted filter means that nothing of ours stays. What is right
/// already is not touched, so that connections are not authorised anew for nothing.
#[must_use]
pub fn steps<'a>(found: &Found, wanted: &'a [Object]) -> Vec<Step<'a>> {
    if wanted.is_empty() {
        let filters = found.filters.keys().map(|key| Step::DeleteFilter(*key));
        let sublayers = found.sublayers.keys().map(|sublayer| Step::DeleteSublayer(*sublayer));
        return filters.chain(sublayers).chain(found.provider.then_some(Step::DeleteProvider)).collect();
    }
    let misplaced: Vec<Sublayer> = found
        .sublayers
        .iter()
        .filter(|(sublayer, weight)| **weight != sublayer.weight())
        .map(|(sublayer, _)| *sublayer)
        .collect();
    // A sublayer can be deleted only once nothing refers to it.
    let anew = !misplaced.is_empty() || !found.provider;
    let keep = |key: &u128| !anew && wanted.iter().any(|object| object.key == *key && found.holds(object));
    let mut steps: Vec<Step<'a>> = found.filters.keys().filter(|key| !keep(key)).map(|key| Step::DeleteFilter(*key)).collect();
    steps.extend(misplaced.iter().map(|sublayer| Step::DeleteSublayer(*sublayer)));
    if !found.provider {
        steps.push(Step::AddProvider);
    }
    let absent = Sublayer::ALL.into_iter().filter(|one| misplaced.contains(one) || !found.sublayers.contains_key(one));
    steps.extend(absent.map(Step::AddSublayer));
    steps.extend(wanted.iter().filter(|object| !keep(&object.key)).map(Step::AddFilter));
    steps
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, sublayer, weight, verdict, lifetime, conditions, name, .. } = self;
        write!(f, "{lifetime:?} {layer:?} {sublayer:?} -{}: {verdict:?}", u64::from(u32::MAX).saturating_sub(*weight))?;
        for condition in conditions {
            write!(f, " {condition}")?;
        }
        write!(f, "  # {name}")
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.test {
            Test::Equal => "=",
            Test::NotEqual => "!=",
            Test::AllSet => "has",
            Test::NoneSet => "lacks",
        };
        write!(f, "{:?} {sign} ", self.field)?;
        match &self.value {
            Value::U8(number) => number.fmt(f),
            Value::U16(number) => number.fmt(f),
            Value::U32(number) => number.fmt(f),
            Value::U64(number) => write!(f, "{number:#x}"),
            Value::V4(address, mask) => write!(f, "{}/{}", std::net::Ipv4Addr::from_bits(*address), mask.count_ones()),
            Value::V6(address, length) => write!(f, "{}/{length}", std::net::Ipv6Addr::from(*address)),
            Value::Blob(bytes) => write!(f, "blob of {} bytes", bytes.len()),
            Value::SecurityDescriptor(bytes) => write!(f, "descriptor of {} bytes", bytes.len()),
        }
    }
}
