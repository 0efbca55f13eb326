//! What a plan asks of the tunnel's interface, as steps for the system's calls. Pure.

use ipnet::IpNet;
use std::net::IpAddr;

/// Least MTU of a link that carries IPv6 (RFC 8200 section 5).
const LEAST_IPV6_MTU: u32 = 1280;
/// Windows adds it to a route's own metric: lower than what it gives to any link by itself (5 for the fastest), so that of
/// two equal routes the tunnel's wins.
pub(crate) const METRIC: u32 = 1;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// How one address family behaves on the interface (Windows keeps these apart).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FamilySettings {
    pub(crate) family: Family,
    /// In bytes.
    pub(crate) mtu: u32,
    pub(crate) metric: u32,
    /// The plan has an address of it: without it, a system that has switched the family off is as good.
    pub(crate) needed: bool,
}

/// Everything to set, in this order. No routes: every address stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// MTU in bytes, where the interface has one for both families.
    pub(crate) mtu: u16,
    pub(crate) families: [FamilySettings; 2],
    pub(crate) addresses: Vec<IpAddr>,
}

impl Settings {
    pub(crate) fn new(addresses: &[IpNet], mtu: u16) -> Self {
        let addresses: Vec<IpAddr> = addresses.iter().map(IpNet::addr).collect();
        let (mtu_v4, needs_v4) = (u32::from(mtu), addresses.iter().any(IpAddr::is_ipv4));
        let needs_v6 = addresses.iter().any(IpAddr::is_ipv6);
        // A family without addresses carries nothing, and gets what the system accepts.
        let mtu_v6 = if needs_v6 { mtu_v4 } else { mtu_v4.max(LEAST_IPV6_MTU) };
        let families = [
            FamilySettings { family: Family::V4, mtu: mtu_v4, metric: METRIC, needed: needs_v4 },
            FamilySettings { family: Family::V6, mtu: mtu_v6, metric: METRIC, needed: needs_v6 },
        ];
        Self { mtu, families, addresses }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_get_mtu_and_metric_and_addresses_lose_their_networks() {
        let settings = Settings::new(&nets(&["10.64.0.7/16", "fd00::7/64"]), 1380);
        assert_eq!(settings.addresses, ["10.64.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
        assert_eq!(settings.mtu, 1380);
        let [v4, v6] = settings.families;
        assert_eq!(v4, FamilySettings { family: Family::V4, mtu: 1380, metric: 1, needed: true });
        assert_eq!(v6, FamilySettings { family: Family::V6, mtu: 1380, metric: 1, needed: true });
    }

    #[test]
    fn a_family_that_the_plan_does_not_use_gets_what_any_system_accepts() {
        let [v4, v6] = Settings::new(&nets(&["10.64.0.7/32"]), 1200).families;
        assert_eq!((v4.mtu, v4.needed), (1200, true));
        assert_eq!((v6.mtu, v6.needed), (1280, false));
        let [v4, v6] = Settings::new(&nets(&["fd00::7/128"]), 1420).families;
        assert_eq!((v4.mtu, v4.needed), (1420, false));
        assert_eq!((v6.mtu, v6.needed), (1420, true));
    }

    #[test]
    fn an_mtu_that_ipv6_forbids_is_left_to_the_system_to_refuse() {
        // Raising it would make packets that the tunnel drops.
        let [_, v6] = Settings::new(&nets(&["fd00::7/128"]), 1200).families;
        assert_eq!(v6.mtu, 1200);
    }
}
