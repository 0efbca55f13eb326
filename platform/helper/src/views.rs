//! The documents that readers get, made from what the helper holds.

use crate::clock;
use crate::provider::ListInUse;
use crate::service::Service;
use hamn_core::profile::{self, Profile};
use hamn_core::server::{Datacenter, Loads, Quality, Server, ServerState};
use hamn_core::status::{ProviderStatus, Status};
use hamn_core::time::Now;
use hamn_ipc::wire::{CityEntry, CountryEntry, ExitEntry, ProfileEntry, ProfileRemark, ServerEntry, ServerListing};
use std::collections::BTreeMap;

impl Service {
    /// The machine's snapshot with counters, provider and warnings.
    pub(crate) fn status(&mut self) -> Status {
        let mut status = self.machine.status();
        env!("CARGO_PKG_VERSION").clone_into(&mut status.version);
        status.sequence = self.announcer.sequence();
        status.warnings = self.announcer.warnings().to_vec();
        status.managed_by = self.managed.organisation().map(str::to_owned);
        status.protection.tampered = self.tampered;
        status.protection.dns_backend = self.enforcer.dns_backend().map(str::to_owned);
        if let Some(tunnel) = &mut status.tunnel
            && let Some(running) = &self.running
        {
            let stats = running.tunnel.stats();
            tunnel.rx_bytes = stats.rx_bytes;
            tunnel.tx_bytes = stats.tx_bytes;
            tunnel.last_handshake_s = stats.last_handshake_age_ms.map(|age| age / 1000);
            stats.engine.clone_into(&mut tunnel.engine);
            tunnel.endpoint = Some(stats.endpoint);
            tunnel.exit_addresses = self.exits.as_ref().map(|exits| exits.of(running.attempt).to_vec()).unwrap_or_default();
        }
        if let Some(provider) = &self.provider {
            let list = provider.list();
            status.provider = ProviderStatus {
                url: Some(provider.url.clone()),
                logged_in: provider.logged_in(),
                list_serial: list.as_ref().map(|list| list.list.serial),
                list_stale: list.is_some_and(|list| list.stale(clock::now().unix_s)),
            };
        }
        status
    }

    /// Publishes the status to readers.
    pub(crate) fn publish(&mut self) {
        let status = self.status();
        self.announcer.publish(status);
    }
}

/// Countries, their cities, their servers.
pub(crate) fn listing(in_use: &ListInUse, quality: &Quality, now: Now) -> ServerListing {
    let (list, loads) = (&in_use.list, in_use.loads(now));
    let mut servers: BTreeMap<&str, Vec<ServerEntry>> = BTreeMap::new();
    for server in &list.servers {
        servers.entry(server.datacenter.as_str()).or_default().push(server_entry(&loads, quality, server));
    }
    let mut countries: BTreeMap<String, CountryEntry> = BTreeMap::new();
    for datacenter in list.datacenters.values() {
        let Some(servers) = servers.remove(datacenter.id.as_str()) else { continue };
        let country = datacenter.country.to_string();
        let entry = countries.entry(country.clone()).or_insert_with(|| CountryEntry {
            country,
            name: datacenter.region_name.to_string(),
            cities: Vec::new(),
        });
        entry.cities.push(city_entry(datacenter, servers));
    }
    let mut countries: Vec<CountryEntry> = countries.into_values().collect();
    countries.sort_by(|a, b| a.name.cmp(&b.name));
    for country in &mut countries {
        country.cities.sort_by(|a, b| a.name.cmp(&b.name));
    }
    ServerListing {
        serial: Some(list.serial),
        generated_at_unix_s: Some(list.generated_at_unix_s),
        expires_at_unix_s: Some(list.expires_at_unix_s),
        stale: in_use.stale(now.unix_s),
        countries,
    }
}

fn city_entry(datacenter: &Datacenter, mut servers: Vec<ServerEntry>) -> CityEntry {
    servers.sort_by(|a, b| a.id.cmp(&b.id));
    let (latitude, longitude) = datacenter.coordinates.unwrap_or_default();
    CityEntry {
        id: datacenter.id.to_string(),
        slug: datacenter.slug.to_string(),
        name: datacenter.city.to_string(),
        latitude,
        longitude,
        servers,
    }
}

fn server_entry(loads: &Loads, quality: &Quality, server: &Server) -> ServerEntry {
    ServerEntry {
        id: server.id.to_string(),
        name: server.name.to_string(),
        state: state_word(loads.state(server.id.as_str(), server.state)).to_owned(),
        load_pct: loads.get(server.id.as_str()).and_then(|load| load.load_pct),
        features: server.features.clone(),
        protocols: vec!["wireguard".to_owned()],
        exits: server
            .exits
            .iter()
            .map(|exit| ExitEntry { id: exit.id.to_string(), country: exit.country.to_string(), default: exit.default })
            .collect(),
        latency_ms: quality.get(server.id.as_str()).and_then(|record| record.round_trip_ms),
    }
}

const fn state_word(state: ServerState) -> &'static str {
    match state {
        ServerState::Online => "online",
        ServerState::Draining => "draining",
        ServerState::Maintenance => "maintenance",
        ServerState::Offline => "offline",
    }
}

/// A remark of an import.
pub(crate) fn remark(warning: profile::Warning) -> ProfileRemark {
    let (code, message) = (warning.remark.code().to_owned(), warning.remark.message().to_owned());
    ProfileRemark { line: (warning.line > 0).then_some(warning.line), code, message }
}

/// An imported profile without its secrets.
pub(crate) fn profile_entry(profile: &Profile) -> ProfileEntry {
    ProfileEntry {
        name: profile.name.to_string(),
        endpoint: profile.endpoint.to_string(),
        ipv4: profile.addresses.iter().any(|address| address.addr().is_ipv4()),
        ipv6: profile.addresses.iter().any(|address| address.addr().is_ipv6()),
        dns: !profile.dns.is_empty(),
        remarks: Vec::new(),
    }
}
