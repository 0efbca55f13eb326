//! The `.conf` of `wg-quick(8)`, strictly: what is not known to be harmless is refused with its line.

use super::problem::{Problem, ProfileError, Remark};
use super::{Profile, ProfileName};
use crate::address::{AddressClass, classify, contains_nothing_routable};
use crate::key::{PublicKey, SecretKey};
use crate::text::{Hostname, decimal};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// A larger file is refused.
pub const MAX_PROFILE_BYTES: usize = 64 * 1024;
/// A longer line is refused.
pub const MAX_LINE_BYTES: usize = 512;
/// More networks are refused.
pub const MAX_ALLOWED_IPS: usize = 1_024;

/// A profile and what the user should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The profile.
    pub profile: Profile,
    /// Notes, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// Something that is not as the file may seem to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Line, counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// What.
    pub remark: Remark,
}

/// Reads a `.conf`. One UTF-8 byte order mark at the start is accepted, as Windows editors write it.
///
/// # Errors
/// The first problem, with its line.
pub fn parse(name: ProfileName, bytes: &[u8]) -> Result<Parsed, ProfileError> {
    let whole = |problem| ProfileError { line: 1, problem };
    if bytes.len() > MAX_PROFILE_BYTES {
        return Err(whole(Problem::TooBig));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| whole(Problem::NotText))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut draft, mut number) = (Draft::default(), 0_u32);
    for line in text.split('\n') {
        number = number.saturating_add(1);
        draft.line(number, line).map_err(|problem| ProfileError { line: number, problem })?;
    }
    draft.finish(name).map_err(|(line, problem)| ProfileError { line: line.unwrap_or(number), problem })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Interface,
    Peer,
}

/// What has been read so far.
#[derive(Default)]
struct Draft {
    section: Option<Section>,
    has_interface: bool,
    has_peer: bool,
    addresses: Vec<IpNet>,
    private_key: Option<SecretKey>,
    preshared_key: Option<SecretKey>,
    dns: Vec<IpAddr>,
    search: Vec<Hostname>,
    mtu: Option<(u32, u16)>,
    peer: Option<PublicKey>,
    endpoint: Option<(u32, SocketAddr)>,
    allowed_ips: Vec<IpNet>,
    keepalive: Option<Option<u16>>,
    warnings: Vec<Warning>,
}

impl Draft {
    fn line(&mut self, number: u32, line: &str) -> Result<(), Problem> {
        if line.len() > MAX_LINE_BYTES {
            return Err(Problem::LineTooLong);
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.chars().any(|c| (c.is_control() && c != '\t') || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}')) {
            return Err(Problem::ControlCharacter);
        }
        let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
        if line.is_empty() {
            return Ok(());
        }
        if line.starts_with('[') {
            return self.open(line);
        }
        let (key, value) = line.split_once('=').ok_or(Problem::NotASetting)?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match self.section {
            None => Err(Problem::OutsideSection),
            Some(section) if value.is_empty() => Err(known(section, &key).err().unwrap_or(Problem::EmptyValue)),
            Some(Section::Interface) => self.interface(number, &key, value),
            Some(Section::Peer) => self.peer(number, &key, value),
        }
    }

    fn open(&mut self, line: &str) -> Result<(), Problem> {
        if line.eq_ignore_ascii_case("[interface]") {
            self.section = Some(Section::Interface);
            if std::mem::replace(&mut self.has_interface, true) { Err(Problem::SeveralInterfaces) } else { Ok(()) }
        } else if line.eq_ignore_ascii_case("[peer]") {
            self.section = Some(Section::Peer);
            if std::mem::replace(&mut self.has_peer, true) { Err(Problem::SeveralPeers) } else { Ok(()) }
        } else {
            Err(Problem::UnknownSection)
        }
    }

    fn interface(&mut self, line: u32, key: &str, value: &str) -> Result<(), Problem> {
        known(Section::Interface, key)?;
        match key {
            "privatekey" => once(&mut self.private_key, SecretKey::parse(value).map_err(|_| Problem::BadPrivateKey)?),
            "address" => items(value).try_for_each(|item| self.address(item)),
            "dns" => items(value).try_for_each(|item| self.dns(item)),
            "mtu" => {
                let mtu = decimal(value).filter(|mtu| (576..=9_000).contains(mtu)).ok_or(Problem::BadMtu)?;
                once(&mut self.mtu, (line, mtu))
            }
            // `known` leaves ListenPort and FwMark.
            _ => {
                self.warnings.push(Warning { line, remark: Remark::IgnoredKey });
                Ok(())
            }
        }
    }

    fn peer(&mut self, line: u32, key: &str, value: &str) -> Result<(), Problem> {
        known(Section::Peer, key)?;
        match key {
            "publickey" => once(&mut self.peer, value.parse().map_err(|_| Problem::BadPublicKey)?),
            "presharedkey" => once(&mut self.preshared_key, SecretKey::parse(value).map_err(|_| Problem::BadPresharedKey)?),
            "endpoint" => once(&mut self.endpoint, (line, endpoint(value)?)),
            "allowedips" => items(value).try_for_each(|item| self.allowed(item)),
            _ => once(&mut self.keepalive, keepalive(value)?),
        }
    }

    fn address(&mut self, text: &str) -> Result<(), Problem> {
        let net = network(text).ok_or(Problem::BadAddress)?;
        match classify(net.addr()) {
            AddressClass::Global | AddressClass::Private | AddressClass::Reserved => {}
            AddressClass::Unspecified
            | AddressClass::Loopback
            | AddressClass::Multicast
            | AddressClass::Broadcast
            | AddressClass::LinkLocal
            | AddressClass::EmbeddedV4 => return Err(Problem::BadAddress),
        }
        push(&mut self.addresses, net, 16, Problem::TooManyAddresses)
    }

    fn dns(&mut self, text: &str) -> Result<(), Problem> {
        let Ok(address) = text.parse::<IpAddr>() else {
            return push(&mut self.search, text.parse().map_err(|_| Problem::BadDns)?, 6, Problem::TooManyDns);
        };
        match classify(address) {
            AddressClass::Global | AddressClass::Private => push(&mut self.dns, address, 10, Problem::TooManyDns),
            AddressClass::Loopback => Err(Problem::DnsLoopback),
            AddressClass::Unspecified
            | AddressClass::Multicast
            | AddressClass::Broadcast
            | AddressClass::LinkLocal
            | AddressClass::Reserved
            | AddressClass::EmbeddedV4 => Err(Problem::BadDns),
        }
    }

    fn allowed(&mut self, text: &str) -> Result<(), Problem> {
        let net = network(text).ok_or(Problem::BadAllowedIps)?.trunc();
        if contains_nothing_routable(&net) {
            return Err(Problem::AllowedIpsUnroutable);
        }
        push(&mut self.allowed_ips, net, MAX_ALLOWED_IPS, Problem::TooManyAllowedIps)
    }

    fn finish(self, name: ProfileName) -> Result<Parsed, (Option<u32>, Problem)> {
        let missing = |problem| (None, problem);
        if !self.has_interface {
            return Err(missing(Problem::NoInterface));
        }
        if !self.has_peer {
            return Err(missing(Problem::NoPeer));
        }
        let private_key = self.private_key.ok_or(missing(Problem::NoPrivateKey))?;
        let peer = self.peer.ok_or(missing(Problem::NoPublicKey))?;
        let (line, endpoint) = self.endpoint.ok_or(missing(Problem::NoEndpoint))?;
        if self.addresses.is_empty() {
            return Err(missing(Problem::NoAddress));
        }
        if self.allowed_ips.is_empty() {
            return Err(missing(Problem::NoAllowedIps));
        }
        if self.addresses.iter().any(|net| net.addr() == endpoint.ip()) {
            return Err((Some(line), Problem::EndpointUnroutable));
        }
        let has_ipv6 = self.addresses.iter().any(|net| net.addr().is_ipv6());
        if let Some((line, _)) = self.mtu.filter(|(_, mtu)| has_ipv6 && *mtu < 1_280) {
            return Err((Some(line), Problem::BadMtu));
        }
        let profile = Profile {
            name,
            addresses: self.addresses,
            private_key,
            preshared_key: self.preshared_key,
            dns: self.dns,
            search: self.search,
            mtu: self.mtu.map(|(_, mtu)| mtu),
            peer,
            endpoint,
            allowed_ips: self.allowed_ips,
            keepalive_s: self.keepalive.flatten(),
        };
        let mut warnings = self.warnings;
        warnings.extend(notes(&profile));
        Ok(Parsed { profile, warnings })
    }
}

/// What follows from the fields together.
fn notes(profile: &Profile) -> Vec<Warning> {
    let joined = IpNet::aggregate(&profile.allowed_ips);
    let carries = |address: &IpAddr| joined.iter().any(|net| net.contains(address));
    let all = |ipv4: bool| joined.iter().any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == ipv4);
    let has = |ipv4: bool| profile.addresses.iter().any(|net| net.addr().is_ipv4() == ipv4);
    let mut notes = Vec::new();
    let mut note = |remark| notes.push(Warning { line: 0, remark });
    if !all(true) || (has(false) && !all(false)) {
        note(Remark::NotEverything);
    }
    if profile.dns.is_empty() {
        note(Remark::NoDns);
    } else if !profile.dns.iter().any(carries) {
        note(Remark::DnsOutside);
    }
    if !profile.search.is_empty() {
        note(Remark::SearchIgnored);
    }
    notes
}

/// Whether a key (lower case) may stand in a section.
fn known(section: Section, key: &str) -> Result<(), Problem> {
    match (section, key) {
        (Section::Interface, "privatekey" | "address" | "dns" | "mtu" | "listenport" | "fwmark")
        | (Section::Peer, "publickey" | "presharedkey" | "endpoint" | "allowedips" | "persistentkeepalive") => Ok(()),
        (_, "preup" | "postup" | "predown" | "postdown") => Err(Problem::RunsPrograms),
        (_, "table") => Err(Problem::ChangesRouting),
        (_, "saveconfig") => Err(Problem::WritesFile),
        _ => Err(Problem::UnknownKey),
    }
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), Problem> {
    if field.replace(value).is_some() { Err(Problem::DuplicateKey) } else { Ok(()) }
}

/// Adds a value that is not there yet.
fn push<T: PartialEq>(list: &mut Vec<T>, value: T, max: usize, too_many: Problem) -> Result<(), Problem> {
    if list.contains(&value) {
        return Ok(());
    }
    if list.len() >= max {
        return Err(too_many);
    }
    list.push(value);
    Ok(())
}

/// A network, or an address as the network of itself.
fn network(text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        None => text.parse::<IpAddr>().ok().map(IpNet::from),
        Some((address, length)) => IpNet::new(address.parse().ok()?, decimal(length)?).ok(),
    }
}

fn endpoint(text: &str) -> Result<SocketAddr, Problem> {
    let (host, port) = text.rsplit_once(':').ok_or(Problem::BadEndpoint)?;
    let address: IpAddr = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => IpAddr::V6(host.parse().map_err(|_| Problem::BadEndpoint)?),
        None => match host.parse::<std::net::Ipv4Addr>() {
            Ok(address) => address.into(),
            Err(_) if host.parse::<Hostname>().is_ok() => return Err(Problem::EndpointIsName),
            Err(_) => return Err(Problem::BadEndpoint),
        },
    };
    let port = decimal::<u16>(port).filter(|port| *port != 0).ok_or(Problem::BadEndpoint)?;
    if classify(address).is_host() { Ok(SocketAddr::new(address, port)) } else { Err(Problem::EndpointUnroutable) }
}

/// `None` for off.
fn keepalive(text: &str) -> Result<Option<u16>, Problem> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    decimal(text).map(|seconds| Some(seconds).filter(|seconds| *seconds != 0)).ok_or(Problem::BadKeepalive)
}
