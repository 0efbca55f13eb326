//! The choice: only servers that take clients, near and idle ones first, spread over clients; and the plan made from it.

use super::list_tests::{large, read, sample};
use super::select::distance_km;
use super::*;
use crate::location::Destination;
use crate::plan::NoPlan;
use crate::settings::{Dns, Settings};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PARIS: (f64, f64) = (48.9, 2.3);

fn list(value: &Value) -> ServerList {
    read(value).unwrap().list
}

fn prefer(quality: &Quality) -> Preferences<'_> {
    Preferences { ipv6: false, near: None, avoid: &[], quality, now_unix_s: 1_000_000 }
}

fn country(code: &str) -> Destination {
    Destination::Country { country: code.to_owned() }
}

fn loads(value: &Value, list: &ServerList) -> Loads {
    Loads::parse(value.to_string().as_bytes(), list).unwrap()
}

/// How often each server is the first choice of a thousand clients.
fn firsts(list: &ServerList, loads: &Loads, destination: &Destination, preferences: &Preferences<'_>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for seed in 0..1_000 {
        let choices = select(list, loads, destination, preferences, seed).unwrap();
        *counts.entry(choices[0].server.id.to_string()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_thousand_clients_spread_over_equal_servers() {
    let list = list(&large(60));
    let counts = firsts(&list, &Loads::default(), &country("de"), &prefer(&Quality::default()));
    assert_eq!(counts.len(), 10);
    assert!(counts.values().all(|count| (50..170).contains(count)), "{counts:?}");
}

#[test]
fn near_servers_come_first_and_loaded_or_failing_ones_later() {
    let list = list(&large(60));
    let mut quality = Quality::default();
    let near = Preferences { near: Some(PARIS), ..prefer(&quality) };
    let counts = firsts(&list, &Loads::default(), &Destination::Best, &near);
    let german: u32 =
        counts.iter().filter(|(id, _)| list.server(id).unwrap().datacenter.as_str() == "de-1").map(|(_, n)| n).sum();
    assert!(german > 800, "{counts:?}");

    // vpn1, vpn7, vpn13 ... are in Germany: all but vpn55 are full.
    let full: serde_json::Map<String, Value> = (0..9).map(|i| (format!("vpn{}", i * 6 + 1), json!({"load_pct": 97}))).collect();
    let full = loads(&json!({"servers": full}), &list);
    assert!(firsts(&list, &full, &country("de"), &prefer(&quality))["vpn55"] > 900);

    for i in 0..9 {
        for _ in 0..5 {
            quality.failed(&format!("vpn{}", i * 6 + 1), 999_000);
        }
    }
    assert!(firsts(&list, &Loads::default(), &country("de"), &prefer(&quality))["vpn55"] > 900);
    let later = Preferences { now_unix_s: 2_000_000, ..prefer(&quality) };
    assert!(firsts(&list, &Loads::default(), &country("de"), &later)["vpn55"] < 500);
}

#[test]
fn servers_that_just_failed_come_last_but_stay() {
    let list = list(&large(18));
    let avoid = ["vpn1".to_owned(), "vpn7".to_owned()];
    let quality = Quality::default();
    let preferences = Preferences { avoid: &avoid, ..prefer(&quality) };
    for seed in 0..100 {
        let order: Vec<String> = select(&list, &Loads::default(), &country("de"), &preferences, seed)
            .unwrap()
            .iter()
            .map(|c| c.server.id.to_string())
            .collect();
        assert_eq!((order.len(), order[0].as_str()), (3, "vpn13"));
    }
}

#[test]
fn one_server_serves_two_countries() {
    let list = list(&sample());
    let quality = Quality::default();
    let exit = |destination: &Destination| {
        let choices = select(&list, &Loads::default(), destination, &prefer(&quality), 1)?;
        Ok(choices[0].exit.unwrap().id.to_string())
    };
    let server = |exit: Option<&str>| Destination::Server { server: "vpn05".to_owned(), exit: exit.map(str::to_owned) };
    assert_eq!(exit(&country("us")).as_deref(), Ok("us"));
    assert_eq!(exit(&country("se")).as_deref(), Ok("se"));
    assert_eq!(exit(&Destination::Best).as_deref(), Ok("se"));
    assert_eq!(exit(&Destination::City { city: "stockholm".to_owned() }).as_deref(), Ok("se"));
    assert_eq!(exit(&server(None)).as_deref(), Ok("se"));
    assert_eq!(exit(&server(Some("us"))).as_deref(), Ok("us"));
    assert_eq!(exit(&server(Some("de"))), Err(NoServer::NoExit { server: "vpn05".to_owned(), exit: "de".to_owned() }));
    assert_eq!(exit(&country("de")), Err(NoServer::NoMatch { destination: "country de".to_owned() }));
    assert_eq!(exit(&Destination::Profile { name: "x".to_owned() }), Err(NoServer::Profile));
}

#[test]
fn servers_out_of_service_are_never_chosen_and_unsigned_loads_cannot_bring_them_back() {
    let mut value = large(12);
    for (i, state) in ["draining", "maintenance", "offline"].iter().enumerate() {
        value["servers"][i]["state"] = json!(state);
    }
    let list = list(&value);
    let quality = Quality::default();
    let hostile = loads(
        &json!({"servers": {"vpn0": {"state":"online","load_pct":0,"endpoints":[{"addresses":["203.0.113.66"]}]}, "evil": {"state":"online"},
            "vpn3": {"state":"offline"}, "vpn4": {"load_pct":-5,"state":"wonderful"}, "vpn5": 7}}),
        &list,
    );
    for seed in 0..200 {
        for choice in select(&list, &hostile, &Destination::Best, &prefer(&quality), seed).unwrap() {
            assert!(!["vpn0", "vpn1", "vpn2", "vpn3"].contains(&choice.server.id.as_str()));
        }
    }
    assert_eq!(hostile.get("evil"), None);
    let only = |id: &str| {
        let destination = Destination::Server { server: id.to_owned(), exit: None };
        select(&list, &hostile, &destination, &prefer(&quality), 1).unwrap_err()
    };
    assert_eq!(only("vpn0"), NoServer::NoneOnline { draining: 1, maintenance: 0, offline: 0 });
    assert_eq!(only("vpn3"), NoServer::NoneOnline { draining: 0, maintenance: 0, offline: 1 });
    assert!(only("vpn1").to_string().contains("1 under maintenance"));
}

#[test]
fn loads_that_are_garbage_are_refused_or_ignored() {
    let list = list(&sample());
    for bytes in [&b""[..], b"[]", b"{}", b"{\"servers\":[]}", b"\xff", &b"[".repeat(1_000)] {
        assert!(Loads::parse(bytes, &list).is_err(), "{bytes:?}");
    }
    let load = |value: Value| loads(&json!({"servers": {"vpn05": value}}), &list).get("vpn05").copied();
    assert_eq!(load(json!({"load_pct": 8.4})).unwrap().load_pct, Some(9));
    assert_eq!(load(json!({"load_pct": 1e300})).unwrap().load_pct, Some(100));
    assert_eq!(load(json!({"load_pct": "8"})).unwrap().load_pct, None);
}

#[test]
fn distances_are_great_circles() {
    for (from, to, km) in [
        ((59.33, 18.07), (52.52, 13.40), 811.0),
        (PARIS, (40.7, -74.0), 5_838.0),
        ((0.0, 179.5), (0.0, -179.5), 111.0),
        ((90.0, 0.0), (-90.0, 0.0), 20_015.0),
        (PARIS, PARIS, 0.0),
    ] {
        assert!((distance_km(from, to) - km).abs() < 6.0, "{from:?} {to:?} {}", distance_km(from, to));
    }
}

#[test]
fn quality_is_bounded_and_survives_forged_numbers() {
    let mut quality = Quality::default();
    for i in 0..5_000_i64 {
        quality.failed(&format!("vpn{i}"), i);
    }
    assert!(quality.get("vpn0").is_none() && quality.get("vpn4999").is_some());
    quality.succeeded("vpn4999", 80, 6_000);
    assert_eq!(quality.get("vpn4999").unwrap().failures, 0);
    let stored = serde_json::to_string(&quality).unwrap();
    assert_eq!(serde_json::from_str::<Quality>(&stored).unwrap(), quality);
    let forged = r#"{"a":{"success":-1e308,"connect_ms":1e308,"failures":4294967295,"last_failure_unix_s":-9223372036854775808,"last_seen_unix_s":0}}"#;
    let forged: Quality = serde_json::from_str(forged).unwrap();
    assert!((0.0..=1.0).contains(&forged.factor("a", i64::MAX)) && forged.factor("a", i64::MAX) > 0.0);
}

#[test]
fn a_plan_holds_what_the_list_the_device_and_the_settings_say() {
    let list = list(&sample());
    let quality = Quality::default();
    let choice = select(&list, &Loads::default(), &country("us"), &prefer(&quality), 1).unwrap()[0];
    let device = DeviceAddresses { ipv4: "10.64.0.3".parse().ok(), ipv6: "fd5a:7e57::3".parse().ok() };
    let made = plan(&list, &choice, &device, &Settings::default(), 5).unwrap();
    assert_eq!(
        (made.place.server.as_str(), made.place.country.as_str(), made.place.exit.as_deref()),
        ("vpn05", "us", Some("us"))
    );
    assert_eq!(made.addresses, ["10.64.0.3/32".parse().unwrap(), "fd5a:7e57::3/128".parse().unwrap()]);
    assert_eq!(made.allowed_ips, ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
    assert_eq!(made.resolvers, ["10.64.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(made.gateway.len(), 2);
    assert_eq!(made.mtu, 1_420);
    assert!(made.endpoints[0].address.is_ipv4() && made.endpoints[1].address.is_ipv6());
    let mut ports = std::collections::BTreeSet::new();
    for seed in 0..500 {
        let port = plan(&list, &choice, &device, &Settings::default(), seed).unwrap().endpoints[0].address.port();
        assert!(port == 51_820 || (40_000..=40_100).contains(&port), "{port}");
        ports.insert(port);
    }
    assert!(ports.len() > 50 && ports.contains(&51_820));

    let no_ipv6 =
        Settings { ipv6: false, mtu: Some(1_300), dns: custom(&["2620:fe::fe", "9.9.9.9", "fd00::53"]), ..Settings::default() };
    let made = plan(&list, &choice, &device, &no_ipv6, 5).unwrap();
    assert!(!made.has_ipv6() && made.allowed_ips.len() == 1 && made.gateway.len() == 1 && made.mtu == 1_300);
    assert_eq!(made.resolvers, ["9.9.9.9".parse::<std::net::IpAddr>().unwrap(), "fd00::53".parse().unwrap()]);
    let only_v6 = DeviceAddresses { ipv4: None, ..device };
    assert_eq!(plan(&list, &choice, &only_v6, &no_ipv6, 5), Err(NoPlan::NoAddress));
    assert!(plan(&list, &choice, &only_v6, &Settings::default(), 5).unwrap().has_ipv6());
}

fn custom(addresses: &[&str]) -> Dns {
    Dns::Custom { addresses: addresses.iter().map(|text| text.parse().unwrap()).collect() }
}

proptest! {
    #[test]
    fn the_choice_depends_on_nothing_but_its_input_and_is_bounded(seed: u64, latitude in -90.0..90.0, longitude in -180.0..180.0) {
        let list = list(&large(60));
        let quality = Quality::default();
        let preferences = Preferences { near: Some((latitude, longitude)), ..prefer(&quality) };
        let choose = || select(&list, &Loads::default(), &Destination::Best, &preferences, seed).unwrap();
        let choices = choose();
        prop_assert_eq!(&choices, &choose());
        prop_assert_eq!(choices.len(), MAX_CHOICES);
        let mut ids: Vec<&str> = choices.iter().map(|choice| choice.server.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), MAX_CHOICES);
    }
}
