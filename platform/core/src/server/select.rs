//! Which server: by location, load, past quality and weight, never by asking the servers. Two clients with the same
//! wish differ in their seed, so that a thousand of them spread over the servers that suit them about equally.

use super::list::{Datacenter, Exit, Server, ServerList, ServerState, WireGuardEndpoint};
use super::loads::Loads;
use super::quality::Quality;
use crate::location::Destination;
use std::collections::BTreeSet;

/// At most this many are returned.
pub const MAX_CHOICES: usize = 32;

/// What else counts.
#[derive(Clone, Copy, Debug)]
pub struct Preferences<'a> {
    /// A server that carries IPv6 is preferred.
    pub ipv6: bool,
    /// Where the user is, latitude and longitude in degrees, if known.
    pub near: Option<(f64, f64)>,
    /// Servers that just failed: chosen only after all others.
    pub avoid: &'a [String],
    /// Past experience.
    pub quality: &'a Quality,
    /// Wall clock, seconds since 1970; only for the age of experience.
    pub now_unix_s: i64,
}

/// One way to go, with everything from the list that a plan needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice<'a> {
    /// Server.
    pub server: &'a Server,
    /// Its data centre.
    pub datacenter: &'a Datacenter,
    /// Exit, when the server has several.
    pub exit: Option<&'a Exit>,
    /// Gateway.
    pub endpoint: &'a WireGuardEndpoint,
}

/// Why there is no choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    /// A profile needs no list.
    #[error("a profile is not in the server list")]
    Profile,
    /// Nothing in the list matches.
    #[error("no server of the list matches {destination}")]
    NoMatch {
        /// The destination, in words.
        destination: String,
    },
    /// The server has no such exit.
    #[error("server {server} has no exit {exit}")]
    NoExit {
        /// Server id.
        server: String,
        /// Exit id.
        exit: String,
    },
    /// All that match are out of service.
    #[error(
        "none of the matching servers takes clients: {draining} draining, {maintenance} under maintenance, {offline} offline"
    )]
    NoneOnline {
        /// How many.
        draining: usize,
        /// How many.
        maintenance: usize,
        /// How many.
        offline: usize,
    },
}

/// The servers to try, best first, at most [`MAX_CHOICES`]. The same input gives the same answer.
///
/// # Errors
/// [`NoServer`] with the reason.
pub fn select<'a>(
    list: &'a ServerList,
    loads: &Loads,
    destination: &Destination,
    preferences: &Preferences<'_>,
    seed: u64,
) -> Result<Vec<Choice<'a>>, NoServer> {
    let avoid: BTreeSet<&str> = preferences.avoid.iter().map(String::as_str).collect();
    let (mut draining, mut maintenance, mut offline) = (0_usize, 0_usize, 0_usize);
    let mut ranked: Vec<(bool, f64, Choice<'a>)> = Vec::new();
    for choice in matching(list, destination)? {
        match loads.state(choice.server.id.as_str(), choice.server.state) {
            ServerState::Online => {
                let id = choice.server.id.as_str();
                let random = mix(seed ^ fingerprint(id));
                // Efraimidis and Spirakis (2006): ascending -ln(u)/weight draws without replacement by weight.
                let rank = -unit(random).ln() / weight(&choice, loads, preferences);
                ranked.push((avoid.contains(id), rank, with_endpoint(choice, random)));
            }
            ServerState::Draining => draining = draining.saturating_add(1),
            ServerState::Maintenance => maintenance = maintenance.saturating_add(1),
            ServerState::Offline => offline = offline.saturating_add(1),
        }
    }
    if ranked.is_empty() {
        if draining == 0 && maintenance == 0 && offline == 0 {
            return Err(NoServer::NoMatch { destination: destination.to_string() });
        }
        return Err(NoServer::NoneOnline { draining, maintenance, offline });
    }
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    Ok(ranked.into_iter().take(MAX_CHOICES).map(|(_, _, choice)| choice).collect())
}

/// All servers, in any state, that the destination means.
fn matching<'a>(list: &'a ServerList, destination: &Destination) -> Result<Vec<Choice<'a>>, NoServer> {
    if let Destination::Server { server, exit: Some(exit) } = destination
        && list.server(server).is_some_and(|found| !found.exits.iter().any(|known| known.id.as_str() == exit))
    {
        return Err(NoServer::NoExit { server: server.clone(), exit: exit.clone() });
    }
    if matches!(destination, Destination::Profile { .. }) {
        return Err(NoServer::Profile);
    }
    let choices = list.servers.iter().filter_map(|server| {
        let datacenter = list.datacenter(server)?;
        let exit = exit_for(server, datacenter, destination)?;
        let endpoint = server.endpoints.first()?;
        Some(Choice { server, datacenter, exit, endpoint })
    });
    Ok(choices.collect())
}

/// The exit to use on this server; `None` when the destination does not mean this server.
fn exit_for<'a>(server: &'a Server, datacenter: &Datacenter, destination: &Destination) -> Option<Option<&'a Exit>> {
    match destination {
        Destination::Best => Some(server.default_exit()),
        Destination::Country { country } if server.exits.is_empty() => (datacenter.country.as_str() == country).then_some(None),
        Destination::Country { country } => server.exit_in(country).map(Some),
        Destination::City { city } => {
            (datacenter.id.as_str() == city || datacenter.slug.as_str() == city).then(|| server.default_exit())
        }
        Destination::Server { server: id, exit } if server.id.as_str() == id => match exit {
            None => Some(server.default_exit()),
            Some(exit) => server.exits.iter().find(|known| known.id.as_str() == exit).map(Some),
        },
        Destination::Server { .. } | Destination::Profile { .. } => None,
    }
}

fn with_endpoint(choice: Choice<'_>, random: u64) -> Choice<'_> {
    let count = u64::try_from(choice.server.endpoints.len()).unwrap_or(1).max(1);
    let picked = usize::try_from(mix(random) % count).ok().and_then(|index| choice.server.endpoints.get(index));
    Choice { endpoint: picked.unwrap_or(choice.endpoint), ..choice }
}

/// How much a server is wanted, above 0.
fn weight(choice: &Choice<'_>, loads: &Loads, preferences: &Preferences<'_>) -> f64 {
    let id = choice.server.id.as_str();
    let load = loads.get(id).and_then(|load| load.load_pct).map_or(0.0, |load| f64::from(load) / 100.0);
    let free = (1.0 - load).powi(2).max(0.001);
    let distance = match (preferences.near, choice.datacenter.coordinates) {
        (Some(here), Some(there)) => distance_km(here, there),
        (Some(_), None) => 5_000.0,
        (None, _) => 0.0,
    };
    // Steep, so that a few near servers outweigh any number of distant ones.
    let near = (1.0 + (distance / 300.0).powi(2)).powi(-2);
    let at_home = if choice.exit.is_none_or(|exit| exit.country == choice.datacenter.country) { 1.0 } else { 0.3 };
    let ipv6 = if preferences.ipv6 && choice.endpoint.gateway_ipv6.is_none() { 0.5 } else { 1.0 };
    let base = f64::from(choice.server.weight).max(0.01);
    (base * free * near * at_home * ipv6 * preferences.quality.factor(id, preferences.now_unix_s)).max(1e-12)
}

/// Great-circle distance in kilometres (haversine).
pub(super) fn distance_km(from: (f64, f64), to: (f64, f64)) -> f64 {
    const EARTH_RADIUS_KM: f64 = 6_371.0;
    let (lat1, lon1, lat2, lon2) = (from.0.to_radians(), from.1.to_radians(), to.0.to_radians(), to.1.to_radians());
    let half_chord = ((lat2 - lat1) / 2.0).sin().powi(2) + lat1.cos() * lat2.cos() * ((lon2 - lon1) / 2.0).sin().powi(2);
    2.0 * EARTH_RADIUS_KM * half_chord.clamp(0.0, 1.0).sqrt().asin()
}

/// SplitMix64 (Steele, Lea and Flood 2014): a well-mixed number from a seed.
pub(super) const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a of an id: the draw of a server does not depend on its place in the list.
fn fingerprint(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Uniform in (0, 1).
fn unit(random: u64) -> f64 {
    let high = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    (f64::from(high) + 0.5) / 4_294_967_296.0
}
