//! macOS: the anchor's rules as the kernel takes them through `/dev/pf`, byte by byte. Pure.
//!
//! The layout is that of `net/pfvar.h` (xnu) for 64-bit processes, unchanged since OS X 10.7. An `ioctl` carries the size
//! of its structure in its number, so a kernel with another layout refuses the call, and nothing is believed to be in force.

use super::pf::{ANCHOR, PfAction, PfRule, Protocol, Socket};
use hamn_core::net::Transport;
use ipnet::IpNet;
use std::net::IpAddr;

/// `sizeof(struct pfioc_rule)`.
pub const REQUEST: usize = 3104;
/// `sizeof(struct pfioc_trans_e)`.
pub const TRANSACTION: usize = 1032;
/// `PF_RULESET_FILTER`, the kind of ruleset that passes and blocks.
const RULESET_FILTER: u32 = 1;

// struct pfioc_rule
const ACTION: usize = 0;
const TICKET: usize = 4;
const POOL_TICKET: usize = 8;
const NUMBER: usize = 12;
const ANCHOR_NAME: usize = 16;
const ANCHOR_CALL: usize = 1040;
const NAME_SIZE: usize = 1024;
const RULE: usize = 2064;
const RULE_SIZE: usize = 1040;

// struct pf_rule
const SOURCE: usize = 0;
const DESTINATION: usize = 64;
const INTERFACE: usize = 256;
const INTERFACE_SIZE: usize = 16;
const RETURN_ICMP: usize = 964;
const RETURN_ICMP6: usize = 966;
const USER: usize = 976;
const USER_OPERATION: usize = 984;
const RULE_FLAG: usize = 1000;
const RULE_ACTION: usize = 1004;
const DIRECTION: usize = 1005;
const QUICK: usize = 1008;
const INTERFACE_NOT: usize = 1009;
const KEEP_STATE: usize = 1012;
const FAMILY: usize = 1013;
const PROTOCOL: usize = 1014;
const ICMP_TYPE: usize = 1015;

// struct pf_rule_addr
const MASK: usize = 16;
const PORT: usize = 48;
const PORT_OPERATION: usize = 52;

const PF_PASS: u8 = 0;
const PF_DROP: u8 = 1;
const PF_IN: u8 = 1;
const PF_OUT: u8 = 2;
const PF_OP_EQ: u8 = 2;
const PF_OP_NE: u8 = 3;
const PF_STATE_NORMAL: u8 = 1;
const PFRULE_RETURN: u32 = 0x8;
const PFRULE_IFBOUND: u32 = 0x1_0000;
/// `AF_INET` of macOS.
pub const AF_INET: u8 = 2;
/// `AF_INET6` of macOS.
pub const AF_INET6: u8 = 30;
/// `UID_MAX` of macOS: a packet without a socket.
const UID_UNKNOWN: u32 = 0x7fff_ffff;
/// `ICMP_UNREACH` and `ICMP_UNREACH_PORT`.
const PORT_UNREACHABLE: u16 = 3 << 8 | 3;
/// `ICMP6_DST_UNREACH` and `ICMP6_DST_UNREACH_NOPORT`.
const PORT_UNREACHABLE_V6: u16 = 1 << 8 | 4;

/// What a rule does and what it matches: the parts of `struct pf_rule` that are compared on reading back. The others are
/// the kernel's counters, caches and numbers, or belong to actions that our rules do not have.
const SIGNIFICANT: [std::ops::Range<usize>; 15] = [
    0..32,      // source address and mask
    40..41,     // kind of source
    48..53,     // source port
    56..57,     // source negated
    64..96,     // destination address and mask
    104..105,   // kind of destination
    112..117,   // destination port
    120..121,   // destination negated
    792..800,   // operating system's fingerprint, routing table
    908..912,   // greatest number of states
    952..956,   // probability
    964..968,   // answers of a refusal
    972..985,   // tag to match, user
    988..1006,  // group, flags, action, direction
    1008..1024, // quick, interface negated … type of service
];

/// What is asked for in `pfioc_rule.action` (`DIOCCHANGERULE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `PF_CHANGE_ADD_HEAD`
    AddHead,
    /// `PF_CHANGE_REMOVE`
    Remove,
    /// `PF_CHANGE_GET_TICKET`
    GetTicket,
}

impl Change {
    const fn number(self) -> u32 {
        match self {
            Self::AddHead => 1,
            Self::Remove => 5,
            Self::GetTicket => 6,
        }
    }
}

/// A `struct pfioc_rule`, as written for the kernel and as it comes back.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Request {
    bytes: [u8; REQUEST],
}

impl Request {
    /// About the rules that pass and block in the main ruleset.
    #[must_use]
    pub const fn main() -> Self {
        Self { bytes: [0; REQUEST] }
    }

    /// About those of our anchor.
    #[must_use]
    pub fn anchor() -> Self {
        let mut request = Self::main();
        request.put(ANCHOR_NAME, ANCHOR.as_bytes());
        request
    }

    /// One rule for our anchor.
    #[must_use]
    pub fn rule(rule: &PfRule) -> Self {
        let mut request = Self::anchor();
        request.put(RULE, &bytes(rule));
        request
    }

    /// The rule of the main ruleset that leads into our anchor, for packets of every kind.
    #[must_use]
    pub fn reference() -> Self {
        let mut request = Self::main();
        request.put(ANCHOR_CALL, ANCHOR.as_bytes());
        request
    }

    /// With the ticket of a transaction or of a ruleset.
    #[must_use]
    pub fn ticket(mut self, ticket: u32) -> Self {
        self.put(TICKET, &ticket.to_ne_bytes());
        self
    }

    /// With the ticket of the address pool, which must be fresh although our rules have no pool.
    #[must_use]
    pub fn pool_ticket(mut self, ticket: u32) -> Self {
        self.put(POOL_TICKET, &ticket.to_ne_bytes());
        self
    }

    /// About the rule with this number.
    #[must_use]
    pub fn number(mut self, number: u32) -> Self {
        self.put(NUMBER, &number.to_ne_bytes());
        self
    }

    /// With what `DIOCCHANGERULE` shall do.
    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.put(ACTION, &change.number().to_ne_bytes());
        self
    }

    /// The ticket that the kernel filled in.
    #[must_use]
    pub fn given_ticket(&self) -> u32 {
        self.number_at(TICKET)
    }

    /// How many rules there are, as `DIOCGETRULES` fills in.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.number_at(NUMBER)
    }

    /// True when the rule leads into our anchor, without conditions.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        let name = self.bytes.get(ANCHOR_CALL..ANCHOR_CALL + NAME_SIZE).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        // "/org.hamn" is how the kernel gives a name that was written as an absolute one.
        name.strip_prefix(b"/").unwrap_or(name) == ANCHOR.as_bytes() && self.same_rule(&Self::reference())
    }

    /// True when the rules inside do and match the same, and lead into no anchor or the same.
    #[must_use]
    pub fn same_rule(&self, other: &Self) -> bool {
        let part = |request: &Self, range: &std::ops::Range<usize>| {
            request.bytes.get(RULE + range.start..RULE + range.end).map(<[u8]>::to_vec)
        };
        SIGNIFICANT.iter().all(|range| part(self, range) == part(other, range))
            && self.text(RULE + INTERFACE, INTERFACE_SIZE) == other.text(RULE + INTERFACE, INTERFACE_SIZE)
    }

    /// True when it is a rule of its own, not one that leads into an anchor.
    #[must_use]
    pub fn leads_nowhere(&self) -> bool {
        self.text(ANCHOR_CALL, NAME_SIZE).is_empty()
    }

    /// Up to the first zero byte.
    fn text(&self, at: usize, size: usize) -> &[u8] {
        let field = self.bytes.get(at..at + size).unwrap_or_default();
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn number_at(&self, at: usize) -> u32 {
        let field = self.bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
        field.map_or(0, u32::from_ne_bytes)
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        put(&mut self.bytes, at, value);
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("ticket", &self.given_ticket()).field("number", &self.count()).finish_non_exhaustive()
    }
}

/// A `struct pfioc_trans_e` for our anchor's filter rules.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Transaction {
    bytes: [u8; TRANSACTION],
}

impl Transaction {
    /// To be begun.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = [0; TRANSACTION];
        put(&mut bytes, 0, &RULESET_FILTER.to_ne_bytes());
        put(&mut bytes, 4, ANCHOR.as_bytes());
        Self { bytes }
    }

    /// Its ticket once it was begun.
    #[must_use]
    pub fn ticket(&self) -> u32 {
        let field = self.bytes.get(1028..1032).and_then(|field| field.try_into().ok());
        field.map_or(0, u32::from_ne_bytes)
    }
}

impl Default for Transaction {
    fn default() -> Self {
        Self::new()
    }
}

/// A `struct pf_rule`. Zero is "any" or "none" in every field that is left out.
fn bytes(rule: &PfRule) -> [u8; RULE_SIZE] {
    let mut bytes = [0; RULE_SIZE];
    side(&mut bytes, SOURCE, rule.from, rule.from_port);
    side(&mut bytes, DESTINATION, rule.to, rule.to_port);
    if let Some((name, on)) = &rule.interface {
        put(&mut bytes, INTERFACE, name.as_bytes().get(..INTERFACE_SIZE - 1).unwrap_or(name.as_bytes()));
        put(&mut bytes, INTERFACE_NOT, &[u8::from(!on)]);
    }
    let mut flags = 0;
    if rule.action == PfAction::Return {
        flags |= PFRULE_RETURN;
        put(&mut bytes, RETURN_ICMP, &PORT_UNREACHABLE.to_ne_bytes());
        put(&mut bytes, RETURN_ICMP6, &PORT_UNREACHABLE_V6.to_ne_bytes());
    }
    if rule.keep_state {
        flags |= PFRULE_IFBOUND;
        put(&mut bytes, KEEP_STATE, &[PF_STATE_NORMAL]);
    }
    put(&mut bytes, RULE_FLAG, &flags.to_ne_bytes());
    if let Some((user, operation)) = rule.socket.map(user) {
        put(&mut bytes, USER, &user.to_ne_bytes());
        put(&mut bytes, USER_OPERATION, &[operation]);
    }
    put(&mut bytes, RULE_ACTION, &[if rule.action == PfAction::Pass { PF_PASS } else { PF_DROP }]);
    put(&mut bytes, DIRECTION, &[if rule.inward { PF_IN } else { PF_OUT }]);
    put(&mut bytes, QUICK, &[u8::from(rule.quick)]);
    put(&mut bytes, FAMILY, &[rule.family.map_or(0, |v4| if v4 { AF_INET } else { AF_INET6 })]);
    if let Some(protocol) = rule.protocol {
        put(&mut bytes, PROTOCOL, &[protocol_number(protocol)]);
        // One more than the type, so that zero is "any".
        let kind = match protocol {
            Protocol::Icmp(kind) | Protocol::IcmpV6(kind) => kind.saturating_add(1),
            Protocol::Transport(_) => 0,
        };
        put(&mut bytes, ICMP_TYPE, &[kind]);
    }
    bytes
}

const fn user(socket: Socket) -> (u32, u8) {
    match socket {
        Socket::Root => (0, PF_OP_EQ),
        Socket::Local => (UID_UNKNOWN, PF_OP_NE),
    }
}

/// The number of a protocol in an IP header.
#[must_use]
pub const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Transport(Transport::Tcp) => 6,
        Protocol::Transport(Transport::Udp) => 17,
        Protocol::Icmp(_) => 1,
        Protocol::IcmpV6(_) => 58,
    }
}

fn side(bytes: &mut [u8], at: usize, net: Option<IpNet>, port: Option<u16>) {
    if let Some(net) = net {
        put_address(bytes, at, net.network());
        put_address(bytes, at + MASK, net.netmask());
    }
    if let Some(port) = port {
        put(bytes, at + PORT, &port.to_be_bytes());
        put(bytes, at + PORT_OPERATION, &[PF_OP_EQ]);
    }
}

/// A `struct pf_addr`.
pub(super) fn put_address(bytes: &mut [u8], at: usize, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => put(bytes, at, &v4.octets()),
        IpAddr::V6(v6) => put(bytes, at, &v6.octets()),
    }
}

/// Every place is inside its structure, as the tests show for each of them.
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    debug_assert!(at + value.len() <= bytes.len(), "outside of the structure");
    if let Some(field) = bytes.get_mut(at..at + value.len()) {
        field.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::ruleset::Purpose;
    use hamn_core::net::Endpoint;
    use hamn_core::policy::{Enforced, TunnelAccess, TunnelTraffic};

    fn rule() -> PfRule {
        PfRule {
            action: PfAction::Pass,
            inward: false,
            quick: true,
            interface: None,
            family: Some(true),
            protocol: Some(Protocol::Transport(Transport::Udp)),
            from: None,
            from_port: None,
            to: Some("192.0.2.1/32".parse().unwrap()),
            to_port: Some(51_820),
            socket: Some(Socket::Root),
            keep_state: true,
            purpose: Purpose::Endpoint,
        }
    }

    fn at(request: &Request, offset: usize, length: usize) -> Vec<u8> {
        request.bytes[RULE + offset..RULE + offset + length].to_vec()
    }

    #[test]
    fn a_rule_has_the_layout_of_pfvar_h() {
        let request = Request::rule(&rule());
        assert_eq!(&request.bytes[16..25], b"org.hamn\0");
        assert_eq!(at(&request, 64, 4), [192, 0, 2, 1]);
        assert_eq!(at(&request, 80, 4), [255; 4]);
        assert_eq!(at(&request, 112, 5), [0xca, 0x6c, 0, 0, PF_OP_EQ], "network byte order");
        assert_eq!(at(&request, 976, 9), [0, 0, 0, 0, 0, 0, 0, 0, PF_OP_EQ], "user root");
        assert_eq!(at(&request, 1000, 4), PFRULE_IFBOUND.to_ne_bytes());
        assert_eq!(at(&request, 1004, 2), [PF_PASS, PF_OUT]);
        assert_eq!(at(&request, 1008, 1), [1], "quick");
        assert_eq!(at(&request, 1012, 4), [PF_STATE_NORMAL, AF_INET, 17, 0]);
        let refused = PfRule {
            action: PfAction::Return,
            inward: true,
            interface: Some(("utun6861".to_owned(), false)),
            family: Some(false),
            protocol: Some(Protocol::IcmpV6(135)),
            socket: Some(Socket::Local),
            to: Some("fe80::/10".parse().unwrap()),
            to_port: None,
            keep_state: false,
            ..rule()
        };
        let request = Request::rule(&refused);
        assert_eq!(at(&request, 256, 9), b"utun6861\0");
        assert_eq!(at(&request, 1009, 1), [1], "not on it");
        assert_eq!(at(&request, 80, 3), [0xff, 0xc0, 0]);
        assert_eq!(at(&request, 964, 4), [3, 3, 4, 1]);
        assert_eq!(at(&request, 976, 4), [0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(at(&request, 984, 1), [PF_OP_NE]);
        assert_eq!(at(&request, 1000, 6), [8, 0, 0, 0, PF_DROP, PF_IN]);
        assert_eq!(at(&request, 1012, 4), [0, AF_INET6, 58, 136]);
    }

    /// What the kernel makes of the bytes: the offsets are those of `pfvar.h`, written down here a second time.
    fn understood(request: &Request, purpose: Purpose) -> PfRule {
        let bytes = &request.bytes[2064..];
        let net = |at: usize| {
            let prefix = bytes[at + 16..at + 32].iter().map(|byte| byte.count_ones()).sum::<u32>();
            let octets: [u8; 16] = bytes[at..at + 16].try_into().unwrap();
            let address = match bytes[1013] {
                2 => Some(IpAddr::from(<[u8; 4]>::try_from(&octets[..4]).unwrap())),
                30 => Some(IpAddr::from(octets)),
                _ => None,
            };
            assert_eq!(bytes[at + 40], 0, "an address and a mask");
            address.map(|address| IpNet::new(address, u8::try_from(prefix).unwrap()).unwrap())
        };
        let port = |at: usize| (bytes[at + 52] == 2).then(|| u16::from_be_bytes([bytes[at + 48], bytes[at + 49]]));
        let text = std::str::from_utf8(&bytes[256..272]).unwrap().trim_end_matches('\0').to_owned();
        let flags = u32::from_ne_bytes(bytes[1000..1004].try_into().unwrap());
        let uid = u32::from_ne_bytes(bytes[976..980].try_into().unwrap());
        PfRule {
            action: match (bytes[1004], flags & 8) {
                (0, _) => PfAction::Pass,
                (_, 8) => PfAction::Return,
                _ => PfAction::Drop,
            },
            inward: bytes[1005] == 1,
            quick: bytes[1008] == 1,
            interface: (!text.is_empty()).then(|| (text, bytes[1009] == 0)),
            family: [(2, true), (30, false)].into_iter().find(|(family, _)| *family == bytes[1013]).map(|(_, v4)| v4),
            protocol: match bytes[1014] {
                6 => Some(Protocol::Transport(Transport::Tcp)),
                17 => Some(Protocol::Transport(Transport::Udp)),
                1 => Some(Protocol::Icmp(bytes[1015] - 1)),
                58 => Some(Protocol::IcmpV6(bytes[1015] - 1)),
                _ => None,
            },
            from: net(0),
            from_port: port(0),
            to: net(64),
            to_port: port(64),
            socket: match (bytes[984], uid) {
                (2, 0) => Some(Socket::Root),
                (3, 0x7fff_ffff) => Some(Socket::Local),
                _ => None,
            },
            keep_state: bytes[1012] == 1 && flags & 0x1_0000 != 0,
            purpose,
        }
    }

    /// A side that says nothing, and one that says "any address of this family", are the same to the kernel.
    fn plain(mut rule: PfRule) -> PfRule {
        rule.from = rule.from.filter(|net| net.prefix_len() > 0);
        rule.to = rule.to.filter(|net| net.prefix_len() > 0);
        rule
    }

    #[test]
    fn the_kernel_understands_every_rule_as_it_was_meant() {
        let tunnel = TunnelAccess {
            interface: "utun6861".to_owned().try_into().unwrap(),
            addresses: vec!["10.64.0.2/32".parse().unwrap(), "fd64::2/128".parse().unwrap()],
            traffic: TunnelTraffic::Everything { carries: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()] },
            resolvers: vec!["10.64.0.1".parse().unwrap()],
            lan_resolvers: vec!["192.168.1.53".parse().unwrap()],
        };
        let enforced = Enforced {
            endpoints: vec![
                Endpoint::udp("192.0.2.1:51820".parse().unwrap()),
                Endpoint::tcp("[2001:db8::1]:443".parse().unwrap()),
            ],
            api: vec![Endpoint::tcp("192.0.2.80:443".parse().unwrap())],
            lan: vec!["192.168.1.0/24".parse().unwrap(), "fe80::/64".parse().unwrap()],
            tunnel: Some(tunnel),
        };
        let rules = crate::firewall::compile::pf::compile(&crate::firewall::Ruleset::enforce(&enforced));
        assert!(rules.len() > 30);
        for rule in rules {
            assert_eq!(plain(understood(&Request::rule(&rule), rule.purpose)), plain(rule.clone()), "{rule}");
        }
    }

    #[test]
    fn every_part_of_a_rule_makes_a_difference_and_the_kernels_numbers_make_none() {
        let original = Request::rule(&rule());
        let differ: [fn(&mut PfRule); 14] = [
            |rule| rule.action = PfAction::Drop,
            |rule| rule.action = PfAction::Return,
            |rule| rule.inward = true,
            |rule| rule.quick = false,
            |rule| rule.interface = Some(("en0".to_owned(), true)),
            |rule| rule.interface = Some(("en0".to_owned(), false)),
            |rule| rule.family = None,
            |rule| rule.protocol = Some(Protocol::Transport(Transport::Tcp)),
            |rule| rule.from = Some("192.0.2.0/24".parse().unwrap()),
            |rule| rule.from_port = Some(53),
            |rule| rule.to = Some("192.0.2.0/24".parse().unwrap()),
            |rule| rule.to_port = Some(53),
            |rule| rule.socket = None,
            |rule| rule.keep_state = false,
        ];
        for (number, change) in differ.iter().enumerate() {
            let mut changed = rule();
            change(&mut changed);
            assert!(!original.same_rule(&Request::rule(&changed)), "change {number}");
        }
        let mut counted = original.clone().ticket(7).number(3);
        for offset in [128, 560, 648, 656, 672, 688, 768, 904, 948, 956, 960] {
            counted.put(RULE + offset, &[0xee; 4]);
        }
        // What follows the name in its field is not part of it.
        counted.put(RULE + INTERFACE + 1, b"x");
        assert!(original.same_rule(&counted));
    }

    #[test]
    fn only_a_rule_without_conditions_leads_into_the_anchor() {
        assert!(Request::reference().is_reference());
        assert!(!Request::main().is_reference() && !Request::rule(&rule()).is_reference());
        let mut absolute = Request::reference();
        absolute.put(ANCHOR_CALL, b"/org.hamn");
        assert!(absolute.is_reference());
        let mut other = Request::reference();
        other.put(ANCHOR_CALL, b"org.hamn.x");
        assert!(!other.is_reference());
        let mut only_udp = Request::reference();
        only_udp.put(RULE + PROTOCOL, &[17]);
        assert!(!only_udp.is_reference(), "a reference for UDP alone protects nothing else");
    }

    #[test]
    fn requests_carry_tickets_numbers_and_changes() {
        let request = Request::anchor().ticket(0x0102_0304).pool_ticket(9).number(5).change(Change::GetTicket);
        assert_eq!((request.given_ticket(), request.count()), (0x0102_0304, 5));
        assert_eq!(request.bytes[..16], [6, 0, 0, 0, 4, 3, 2, 1, 9, 0, 0, 0, 5, 0, 0, 0]);
        assert!(request.leads_nowhere() && !Request::reference().leads_nowhere());
        let transaction = Transaction::new();
        assert_eq!(&transaction.bytes[..13], b"\x01\0\0\0org.hamn\0");
        assert_eq!(transaction.ticket(), 0);
        assert_eq!((size_of::<Request>(), size_of::<Transaction>()), (3104, 1032));
    }
}
