//! Which peer an address belongs to: the longest prefix wins, and a prefix belongs to one peer (cryptokey routing).

use ipnet::IpNet;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// Prefixes of one family: one table for each prefix length in use, the longest first. A client has one or two
/// lengths, a gateway one (a host prefix for each peer), so a lookup is one or two hashes however many peers there are.
#[derive(Clone, Debug)]
struct Family<T> {
    bits: u8,
    tables: Vec<(u8, HashMap<u128, T>)>,
}

impl<T: Copy + Eq> Family<T> {
    const fn new(bits: u8) -> Self {
        Self { bits, tables: Vec::new() }
    }

    fn insert(&mut self, key: u128, length: u8, owner: T) {
        let key = self.masked(key, length);
        let place = self.tables.partition_point(|(other, _)| *other > length);
        if self.tables.get(place).is_none_or(|(other, _)| *other != length) {
            self.tables.insert(place, (length, HashMap::new()));
        }
        if let Some((_, table)) = self.tables.get_mut(place) {
            table.insert(key, owner);
        }
    }

    fn remove(&mut self, owner: T) {
        for (_, table) in &mut self.tables {
            table.retain(|_, other| *other != owner);
        }
        self.tables.retain(|(_, table)| !table.is_empty());
    }

    fn find(&self, key: u128) -> Option<T> {
        self.tables.iter().find_map(|(length, table)| table.get(&self.masked(key, *length)).copied())
    }

    /// The key without its host bits.
    fn masked(&self, key: u128, length: u8) -> u128 {
        let host = u32::from(self.bits.saturating_sub(length));
        key.checked_shr(host).and_then(|prefix| prefix.checked_shl(host)).unwrap_or(0)
    }
}

/// The table of allowed addresses of all peers.
#[derive(Clone, Debug)]
pub struct AllowedIps<T> {
    v4: Family<T>,
    v6: Family<T>,
}

impl<T: Copy + Eq + Hash> Default for AllowedIps<T> {
    fn default() -> Self {
        Self { v4: Family::new(32), v6: Family::new(128) }
    }
}

impl<T: Copy + Eq + Hash> AllowedIps<T> {
    /// Gives the prefix to `owner`, whoever had it.
    pub fn insert(&mut self, net: IpNet, owner: T) {
        let (family, key) = self.family_mut(net.addr());
        family.insert(key, net.prefix_len(), owner);
    }

    /// Takes all prefixes of `owner` away.
    pub fn remove(&mut self, owner: T) {
        self.v4.remove(owner);
        self.v6.remove(owner);
    }

    /// The owner of the longest prefix that holds the address.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<T> {
        match address {
            IpAddr::V4(address) => self.v4.find(u128::from(address.to_bits())),
            IpAddr::V6(address) => self.v6.find(address.to_bits()),
        }
    }

    fn family_mut(&mut self, address: IpAddr) -> (&mut Family<T>, u128) {
        match address {
            IpAddr::V4(address) => (&mut self.v4, u128::from(address.to_bits())),
            IpAddr::V6(address) => (&mut self.v6, address.to_bits()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Few distinct bits, so that prefixes meet.
    fn address() -> impl Strategy<Value = IpAddr> {
        let bits = any::<u32>().prop_map(|bits| bits & 0xc000_8003);
        prop_oneof![
            bits.clone().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
            bits.prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(u128::from(bits) << 96 | u128::from(bits)))),
        ]
    }

    fn net() -> impl Strategy<Value = IpNet> {
        (address(), 0_u8..=128).prop_map(|(address, length)| match address {
            IpAddr::V4(address) => Ipv4Net::new(address, length % 33).unwrap().into(),
            IpAddr::V6(address) => Ipv6Net::new(address, length).unwrap().into(),
        })
    }

    proptest! {
        #[test]
        fn equals_a_linear_search(
            changes in proptest::collection::vec((net(), 0_u32..5, 0_u8..8), 0..40),
            addresses in proptest::collection::vec(address(), 20),
        ) {
            let mut table = AllowedIps::default();
            let mut list: Vec<(IpNet, u32)> = Vec::new();
            for (net, owner, what) in changes {
                if what == 0 {
                    table.remove(owner);
                    list.retain(|(_, other)| *other != owner);
                } else {
                    table.insert(net, owner);
                    list.retain(|(other, _)| other.trunc() != net.trunc());
                    list.push((net, owner));
                }
            }
            for address in addresses {
                let holding = list.iter().filter(|(net, _)| net.contains(&address));
                let expected = holding.max_by_key(|(net, _)| net.prefix_len()).map(|(_, owner)| *owner);
                prop_assert_eq!(table.find(address), expected, "{}", address);
            }
        }
    }
}
