//! macOS: which of pf's states may outlive a change of the rules, and the requests that end the others (G5). Pure.
//!
//! A state passes packets without asking a rule. After each change all are ended but TCP connections that rules of ours let
//! pass and that the new rules let pass as well: ended, they could not go on, because pf would not know how their windows
//! are scaled. UDP loses nothing: the next packet makes a new state, if a rule lets it pass.

use super::pf::{PfAction, PfRule, Protocol};
use super::pf_wire::{AF_INET, AF_INET6, protocol_number, put, put_address};
use hamn_core::net::Transport;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `sizeof(struct pfsync_state)`.
pub const RECORD: usize = 297;
/// `sizeof(struct pfioc_state_kill)`.
pub const KILL: usize = 216;

// struct pfsync_state
const INTERFACE: usize = 8;
const INTERFACE_SIZE: usize = 16;
const LOCAL: usize = 24;
const REMOTE: usize = 72;
const PORT: usize = 16;
const ANCHOR: usize = 220;
const FAMILY: usize = 282;
const PROTOCOL: usize = 284;
const DIRECTION: usize = 285;

const TCP: Protocol = Protocol::Transport(Transport::Tcp);
const PF_OUT: u8 = 2;
const PF_OP_EQ: u8 = 2;

// struct pfioc_state_kill
const KILL_SOURCE: usize = 8;
const KILL_DESTINATION: usize = 72;
const KILL_MASK: usize = 16;
const KILL_PORT: usize = 52;
const KILL_PORT_OPERATION: usize = 56;
const KILL_INTERFACE: usize = 136;

/// A flow that pf passes without asking a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The link it is bound to, or `all`.
    pub link: Vec<u8>,
    /// Protocol number.
    pub protocol: u8,
    /// Opened from here.
    pub outward: bool,
    /// Address and port here; a port of zero where the protocol has none.
    pub local: (IpAddr, u16),
    /// Address and port there.
    pub remote: (IpAddr, u16),
    /// The number of the main ruleset's rule that led into the anchor whose rule made it.
    pub anchor: u32,
}

/// Reads what `DIOCGETSTATES` fills in. A record of another family or cut off is left out; `end_all` ends it.
#[must_use]
pub fn read(bytes: &[u8]) -> Vec<State> {
    bytes.chunks_exact(RECORD).filter_map(state).collect()
}

fn state(record: &[u8]) -> Option<State> {
    let family = *record.get(FAMILY)?;
    let link = record.get(INTERFACE..INTERFACE + INTERFACE_SIZE)?.split(|byte| *byte == 0).next()?;
    let anchor = record.get(ANCHOR..ANCHOR + 4)?.try_into().ok()?;
    Some(State {
        link: link.to_vec(),
        protocol: *record.get(PROTOCOL)?,
        outward: *record.get(DIRECTION)? == PF_OUT,
        local: host(record, LOCAL, family)?,
        remote: host(record, REMOTE, family)?,
        anchor: u32::from_ne_bytes(anchor),
    })
}

fn host(record: &[u8], at: usize, family: u8) -> Option<(IpAddr, u16)> {
    let octets: [u8; 16] = record.get(at..at + 16)?.try_into().ok()?;
    let address = match family {
        AF_INET => {
            let [a, b, c, d, ..] = octets;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return None,
    };
    let port = record.get(at + PORT..at + PORT + 2)?.try_into().ok()?;
    Some((address, u16::from_be_bytes(port)))
}

impl State {
    /// True when it is a TCP connection that a rule of ours let pass, and the new rules would let it pass again: `reference`
    /// is the number of the main ruleset's rule that leads to us. Its socket is not asked for anew: a state is bound to its
    /// link, and there our earlier rules let only the same sockets have it.
    #[must_use]
    pub fn may_stay(&self, rules: &[PfRule], reference: u32) -> bool {
        let decides = rules.iter().find(|rule| self.is_opened_under(rule));
        self.outward
            && self.protocol == protocol_number(TCP)
            && self.anchor == reference
            && decides.is_some_and(|rule| rule.action == PfAction::Pass && rule.keep_state)
    }

    /// The first packet of the flow matches the rule, apart from its socket.
    fn is_opened_under(&self, rule: &PfRule) -> bool {
        !rule.inward
            && rule.interface.as_ref().is_none_or(|(name, on)| (name.as_bytes() == self.link) == *on)
            && rule.family.is_none_or(|v4| v4 == self.remote.0.is_ipv4())
            && rule.protocol.is_none_or(|protocol| protocol == TCP)
            && rule.from.is_none_or(|net| net.contains(&self.local.0))
            && rule.from_port.is_none_or(|port| port == self.local.1)
            && rule.to.is_none_or(|net| net.contains(&self.remote.0))
            && rule.to_port.is_none_or(|port| port == self.remote.1)
    }

    /// The `struct pfioc_state_kill` that ends it.
    #[must_use]
    pub fn end(&self) -> [u8; KILL] {
        let mut bytes = [0; KILL];
        let (source, destination) = if self.outward { (self.local, self.remote) } else { (self.remote, self.local) };
        put(&mut bytes, 0, &[if self.local.0.is_ipv4() { AF_INET } else { AF_INET6 }, self.protocol]);
        let has_ports = matches!(self.protocol, 6 | 17);
        for (at, (address, port)) in [(KILL_SOURCE, source), (KILL_DESTINATION, destination)] {
            put_address(&mut bytes, at, address);
            put(&mut bytes, at + KILL_MASK, if address.is_ipv4() { &[0xff; 4] } else { &[0xff; 16] });
            if has_ports {
                put(&mut bytes, at + KILL_PORT, &port.to_be_bytes());
                put(&mut bytes, at + KILL_PORT_OPERATION, &[PF_OP_EQ]);
            }
        }
        put(&mut bytes, KILL_INTERFACE, self.link.get(..INTERFACE_SIZE - 1).unwrap_or(&self.link));
        bytes
    }
}

/// The `struct pfioc_state_kill` that ends all with `DIOCCLRSTATES`.
#[must_use]
pub const fn end_all() -> [u8; KILL] {
    [0; KILL]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::Ruleset;
    use crate::firewall::compile::pf;
    use hamn_core::net::Endpoint;
    use hamn_core::policy::{Enforced, TunnelAccess, TunnelTraffic};

    fn record(protocol: u8, direction: u8, local: &str, remote: &str, anchor: u32) -> Vec<u8> {
        let mut bytes = vec![0; RECORD];
        put(&mut bytes, INTERFACE, b"en0\0junk");
        for (at, address) in [(LOCAL, local), (REMOTE, remote)] {
            let address: std::net::SocketAddr = address.parse().unwrap();
            put_address(&mut bytes, at, address.ip());
            put(&mut bytes, at + PORT, &address.port().to_be_bytes());
            put(&mut bytes, FAMILY, &[if address.is_ipv4() { AF_INET } else { AF_INET6 }]);
        }
        put(&mut bytes, ANCHOR, &anchor.to_ne_bytes());
        put(&mut bytes, PROTOCOL, &[protocol, direction]);
        bytes
    }

    fn rules(carries: bool) -> Vec<PfRule> {
        let endpoints = vec![
            Endpoint::tcp("192.0.2.1:443".parse().unwrap()),
            Endpoint::tcp("[2001:db8::1]:443".parse().unwrap()),
            Endpoint::udp("192.0.2.1:51820".parse().unwrap()),
        ];
        let tunnel = TunnelAccess {
            interface: "en0".to_owned().try_into().unwrap(),
            addresses: vec!["10.64.0.2/32".parse().unwrap()],
            traffic: TunnelTraffic::Everything { carries: vec!["0.0.0.0/0".parse().unwrap()] },
            resolvers: vec!["10.64.0.1".parse().unwrap()],
            lan_resolvers: Vec::new(),
        };
        let tunnel = Some(tunnel).filter(|_| carries);
        pf::compile(&Ruleset::enforce(&Enforced { endpoints, tunnel, ..Enforced::default() }))
    }

    #[test]
    fn only_a_tcp_connection_of_our_rules_that_the_new_ones_allow_stays() {
        let stays = |record: Vec<u8>| read(&record).first().unwrap().may_stay(&rules(false), 0);
        let local = "192.168.1.5:50000";
        assert!(stays(record(6, 2, local, "192.0.2.1:443", 0)));
        assert!(stays(record(6, 2, "[fd00::5]:50000", "[2001:db8::1]:443", 0)));
        assert!(!stays(record(6, 2, local, "192.0.2.1:443", 1)), "made by another anchor's rule");
        assert!(!stays(record(6, 2, local, "192.0.2.1:443", u32::MAX)), "made by no anchor's rule");
        assert!(!stays(record(6, 1, local, "192.0.2.1:443", 0)), "opened from outside");
        assert!(!stays(record(6, 2, local, "192.0.2.1:444", 0)), "another port");
        assert!(!stays(record(6, 2, local, "192.0.2.2:443", 0)), "another address");
        assert!(!stays(record(17, 2, local, "192.0.2.1:51820", 0)), "UDP makes a new one");
    }

    #[test]
    fn connections_inside_the_tunnel_stay_while_it_carries_them() {
        let inside = |remote: &str| record(6, 2, "10.64.0.2:50000", remote, 0);
        let stays = |record: Vec<u8>, carries| read(&record).first().unwrap().may_stay(&rules(carries), 0);
        assert!(stays(inside("198.51.100.7:443"), true));
        assert!(!stays(inside("198.51.100.7:443"), false), "the tunnel is gone");
        assert!(stays(inside("10.64.0.1:53"), true));
        assert!(!stays(inside("198.51.100.7:53"), true), "G3");
    }

    #[test]
    fn the_request_names_exactly_one_flow() {
        let state = read(&record(17, 2, "192.168.1.5:50000", "198.51.100.7:53", 3)).remove(0);
        let bytes = state.end();
        assert_eq!(bytes[..2], [AF_INET, 17]);
        assert_eq!((&bytes[8..12], &bytes[24..28]), (&[192, 168, 1, 5][..], &[255; 4][..]));
        assert_eq!(bytes[60..65], [0xc3, 0x50, 0, 0, PF_OP_EQ]);
        assert_eq!(bytes[72..76], [198, 51, 100, 7]);
        assert_eq!(bytes[124..129], [0, 53, 0, 0, PF_OP_EQ]);
        assert_eq!(&bytes[136..140], b"en0\0");
        let inward = read(&record(17, 1, "192.168.1.5:50000", "198.51.100.7:53", 3)).remove(0).end();
        assert_eq!(inward[8..12], [198, 51, 100, 7], "the one who opened it is the source");
        let ping = read(&record(1, 2, "192.168.1.5:7", "198.51.100.7:0", 3)).remove(0).end();
        assert_eq!(ping[64], 0, "no port");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let whole = record(17, 2, "192.168.1.5:50000", "198.51.100.7:53", 3);
        assert!(read(&whole[..RECORD - 1]).is_empty());
        let mut other = whole.clone();
        other[FAMILY] = 99;
        assert!(read(&other).is_empty());
        assert_eq!(read(&[whole.clone(), whole].concat()).len(), 2);
    }
}
