//! The list: a good one is read whole, a bad item is left out with its reason, a bad document changes nothing (API-06).

use super::*;
use crate::address::AddressClass;
use crate::location::Destination;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const KEY: &str = "r83LIc0Q2F8s3dY9x5y17Yz8wTADJc7giW1t5eSmoXc=";

/// The list of provider.md C3, shortened where nothing reads it.
pub(super) fn sample() -> Value {
    json!({"format":1,"serial":1432,"generated_at":"2026-11-20T20:00:00Z","expires_at":"2026-11-27T20:00:00+00:00","new_field":{},
      "regions":[{"id":"se","country":"SE","name":"Sweden","datacenters":[
        {"id":"se-sto","slug":"stockholm","city":"Stockholm","latitude":59.33,"longitude":18.07,"hosting":"own_rack","asn":64496}]}],
      "pools":[{"id":"pool-se-sto-1"}],
      "servers":[{"id":"vpn05","name":"VPN05 - Stockholm","datacenter":"se-sto","state":"online","weight":100,"capacity_bps":1_424_000_000_u64,
        "features":["multihop","port_forward","ipv6"],
        "exits":[{"id":"se","country":"SE","ipv4":"198.51.100.1","ipv6":"2001:db8:1::1","default":true},{"id":"us","country":"US","ipv4":"198.51.100.129"}],
        "endpoints":[
          {"protocol":"wireguard","service":"shared","addresses":["2001:db8:1::1","198.51.100.1"],"public_key":KEY,"ports":[51820],
           "port_ranges":[[40000,40100]],"gateway_ipv4":"10.64.0.1","gateway_ipv6":"fd5a:7e57::1","auth":"fail_open"},
          {"protocol":"wireguard","service":"public-ipv4","addresses":["198.51.100.1"],"public_key":KEY,"ports":[51821]},
          {"protocol":"openvpn","service":"shared","addresses":["198.51.100.1"],"udp_ports":[1194]}]}],
      "dns":{"plain":["10.64.0.1"],"filtering":{"ads":["10.64.0.2"]}},
      "api":{"endpoints":["https://api.sandbox.test","https://192.0.2.10","https://[2001:db8::10]:8443"],"pins":["sha256/AAAA"]}})
}

pub(super) fn read(value: &Value) -> Result<ParsedList, ListError> {
    parse(value.to_string().as_bytes(), &ListRules::default())
}

/// The sample with a second, good server, and `edit` done to the first one.
fn with_edit(edit: impl FnOnce(&mut Value)) -> Result<ParsedList, ListError> {
    let mut value = sample();
    let mut other = value["servers"][0].clone();
    other["id"] = json!("vpn06");
    value["servers"].as_array_mut().unwrap().push(other);
    edit(&mut value["servers"][0]);
    read(&value)
}

#[test]
fn the_documented_list_is_read_whole() {
    let parsed = read(&sample()).unwrap();
    assert_eq!((parsed.rejected_count, &parsed.rejected), (0, &vec![]));
    let list = parsed.list;
    assert_eq!((list.serial, list.generated_at_unix_s, list.expires_at_unix_s), (1432, 1_795_204_800, 1_795_809_600));
    assert!(!list.is_expired(1_795_809_600) && list.is_expired(1_795_809_601));
    let server = list.server("vpn05").unwrap();
    assert_eq!(server.endpoints.len(), 1);
    assert_eq!(server.endpoints[0].port_ranges, [(40_000, 40_100)]);
    assert_eq!(server.exits.iter().map(|exit| exit.country.as_str()).collect::<Vec<_>>(), ["se", "us"]);
    assert_eq!(server.features, ["multihop", "port_forward", "ipv6"]);
    assert_eq!(list.datacenter(server).unwrap().coordinates, Some((59.33, 18.07)));
    assert_eq!(
        list.api.reachable_while_blocked().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.10:443/tcp", "[2001:db8::10]:8443/tcp"]
    );
    assert_eq!(list.dns.filtering["ads"].len(), 1);
}

#[test]
fn a_bad_item_of_a_server_takes_only_that_server_with_it() {
    type Edit = fn(&mut Value);
    let cases: &[(&str, Edit, &str)] = &[
        ("servers[0]", |s| *s = json!("x"), "not an object"),
        ("servers[0]", |s| s["id"] = json!("vpn06\n"), "`id` is malformed"),
        ("servers[1]", |s| s["id"] = json!("vpn06"), "another item has the same id"),
        ("servers[0]", |s| s["name"] = json!("x\u{202e}"), "`name` is malformed"),
        ("servers[0]", |s| s["name"] = json!("x\u{0}"), "`name` is malformed"),
        ("servers[0]", |s| s["name"] = json!("x".repeat(4096)), "`name` is malformed"),
        ("servers[0]", |s| s["name"] = json!(7), "`name` is of the wrong type"),
        ("servers[0]", |s| s["datacenter"] = json!("nowhere"), "its data centre is not in the list"),
        ("servers[0]", |s| s["datacenter"] = json!("$(reboot)"), "`datacenter` is malformed"),
        ("servers[0]", |s| s["state"] = json!("burning"), "`state` is malformed"),
        ("servers[0]", |s| s["weight"] = json!(-1), "`weight` is out of range"),
        ("servers[0]", |s| s["endpoints"] = json!([]), "it has no usable WireGuard endpoint"),
        ("servers[0]", |s| s["endpoints"] = json!({}), "`endpoints` is of the wrong type"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["public_key"] = json!("AAAA"), "`public_key` is not a usable key"),
        (
            "servers[0].endpoints[0]",
            |s| s["endpoints"][0]["public_key"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            "`public_key` is not a usable key",
        ),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["ports"] = json!([65536]), "`ports` is out of range"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["ports"] = json!([0]), "`ports` is out of range"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["ports"] = json!([-1]), "`ports` is out of range"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["ports"] = json!([1.5]), "`ports` is out of range"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["ports"] = json!(vec![1; 65]), "`ports` has too many items"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["port_ranges"] = json!([[2, 1]]), "`port_ranges` is out of range"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["port_ranges"] = json!([[2]]), "`port_ranges` is of the wrong type"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["addresses"] = json!([]), "`addresses` is missing"),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["addresses"] = json!(["vpn05.test"]), "`addresses` is malformed"),
        (
            "servers[0].endpoints[0]",
            |s| s["endpoints"][0]["addresses"] = json!(["10.64.0.2"]),
            "`addresses` is a private address",
        ),
        (
            "servers[0].endpoints[0]",
            |s| s["endpoints"][0]["addresses"] = json!(["192.0.2.10"]),
            "a gateway has the address of the API",
        ),
        (
            "servers[0].endpoints[0]",
            |s| s["endpoints"][0]["gateway_ipv4"] = json!("127.0.0.1"),
            "`gateway_ipv4` is a loopback address",
        ),
        ("servers[0].endpoints[0]", |s| s["endpoints"][0]["gateway_ipv4"] = json!("fd00::1"), "`gateway_ipv4` is malformed"),
        (
            "servers[0].endpoints[0]",
            |s| {
                s["endpoints"][0]["ports"] = json!([]);
                s["endpoints"][0]["port_ranges"] = json!([]);
            },
            "it has no port",
        ),
    ];
    for (path, edit, reason) in cases {
        let parsed = with_edit(edit).unwrap();
        let first = &parsed.rejected[0];
        assert_eq!((first.path.as_str(), first.reason.to_string().as_str()), (*path, *reason));
        assert_eq!(parsed.list.servers.len(), 1, "{path} {reason}");
    }
}

#[test]
fn gateways_in_special_ranges_are_refused_and_private_ones_only_by_default() {
    let gateway = |address: &str, rules: ListRules| {
        let mut value = sample();
        value["servers"][0]["endpoints"][0]["addresses"] = json!([address]);
        parse(value.to_string().as_bytes(), &rules)
    };
    let lab = ListRules { allow_private_gateways: true };
    for address in [
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "169.254.1.1",
        "240.1.1.1",
        "::1",
        "::",
        "ff02::1",
        "fe80::1",
        "::ffff:198.51.100.1",
        "::ffff:127.0.0.1",
    ] {
        assert!(gateway(address, ListRules::default()).is_err() && gateway(address, lab).is_err(), "{address}");
    }
    for address in ["10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00::1", "100.64.0.1"] {
        assert_eq!(gateway(address, ListRules::default()), Err(ListError::Empty { rejected: 2 }), "{address}");
        assert!(gateway(address, lab).is_ok(), "{address}");
    }
    // Not even a laboratory may put a gateway on its resolver.
    assert_eq!(gateway("10.64.0.2", lab), Err(ListError::Empty { rejected: 2 }));
    for address in ["192.0.2.9", "198.51.100.1", "203.0.113.1", "2001:db8::1", "9.9.9.9"] {
        assert!(gateway(address, ListRules::default()).is_ok(), "{address}");
    }
    assert_eq!(Refusal::BadAddress("addresses", AddressClass::Loopback).to_string(), "`addresses` is a loopback address");
}

#[test]
fn a_bad_exit_resolver_api_address_or_data_centre_is_left_out_alone() {
    let mut value = sample();
    value["servers"][0]["exits"][1]["country"] = json!("USA");
    value["dns"]["plain"] = json!(["127.0.0.1", "10.64.0.1", 5]);
    value["api"]["endpoints"] = json!(["http://x.test", "https://127.0.0.1", "https://ok.test", "https://a/$(x)"]);
    value["api"]["pins"] = json!(["sha256/\n"]);
    value["regions"][0]["datacenters"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id":"se-x","slug":"x","city":"X","latitude":1e9,"longitude":0}));
    value["regions"].as_array_mut().unwrap().push(json!({"country":"??","name":"N","datacenters":[]}));
    let parsed = read(&value).unwrap();
    let paths: Vec<&str> = parsed.rejected.iter().map(|rejected| rejected.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "dns.plain[0]",
            "dns.plain[2]",
            "api.endpoints[0]",
            "api.endpoints[1]",
            "api.endpoints[3]",
            "api.pins[0]",
            "regions[0].datacenters[1]",
            "regions[1]",
            "servers[0].exits[1]"
        ]
    );
    assert_eq!((parsed.list.servers[0].exits.len(), parsed.list.datacenters.len()), (1, 1));
    assert_eq!(parsed.rejected[6].id.as_ref().map(crate::text::Id::as_str), Some("se-x"));
}

#[test]
fn a_document_that_is_no_list_is_refused() {
    let edited = |edit: fn(&mut Value)| {
        let mut value = sample();
        edit(&mut value);
        read(&value).unwrap_err()
    };
    let raw = |bytes: &[u8]| parse(bytes, &ListRules::default()).unwrap_err();
    assert_eq!(edited(|v| v["format"] = json!(2)), ListError::Format);
    assert_eq!(edited(|v| v["servers"] = json!([])), ListError::Empty { rejected: 0 });
    assert_eq!(edited(|v| v["servers"] = json!({})), ListError::Field(Refusal::WrongType("servers")));
    assert_eq!(edited(|v| v["serial"] = json!(-1)), ListError::Field(Refusal::OutOfRange("serial")));
    assert_eq!(edited(|v| v["expires_at"] = json!("tomorrow")), ListError::Field(Refusal::BadText("expires_at")));
    assert_eq!(edited(|v| v["dns"]["plain"] = json!([])), ListError::Field(Refusal::Missing("dns.plain")));
    assert_eq!(edited(|v| v["servers"] = json!(vec![0; MAX_SERVERS + 1])), ListError::TooManyServers);
    assert_eq!(edited(|v| v["servers"] = json!(vec![0; MAX_SERVERS])), ListError::Empty { rejected: 20_000 });
    assert_eq!(raw(&vec![b' '; MAX_LIST_BYTES + 1]), ListError::TooBig);
    assert_eq!(raw(b"\xff{}"), ListError::NotUtf8);
    assert_eq!(raw(b"<html>"), ListError::NotJson);
    assert_eq!(raw(b""), ListError::NotJson);
    assert_eq!(raw("[".repeat(100_000).as_bytes()), ListError::TooComplex);
    assert_eq!(raw(format!("[{}0]", "0,".repeat(4_000_000)).as_bytes()), ListError::TooComplex);
    assert_eq!(raw(b"[]"), ListError::Field(Refusal::NotAnObject));
}

#[test]
fn duplicate_keys_count_once_and_reasons_are_bounded() {
    let text = sample().to_string().replacen("{\"format\":1,", "{\"format\":7,\"format\":1,", 1);
    assert!(parse(text.as_bytes(), &ListRules::default()).is_ok());
    let mut value = sample();
    let good = value["servers"][0].clone();
    let mut servers = vec![json!(null); 5_000];
    servers.push(good);
    value["servers"] = json!(servers);
    let parsed = read(&value).unwrap();
    assert_eq!((parsed.rejected.len(), parsed.rejected_count, parsed.list.servers.len()), (MAX_REJECTED_KEPT, 5_000, 1));
}

#[test]
fn words_of_the_command_line_are_countries_then_cities_then_servers() {
    let list = read(&sample()).unwrap().list;
    let text = |word: &str| resolve_text(&list, word).map(|destination| destination.text());
    for (word, destination) in [
        ("best", "best"),
        ("US", "us"),
        ("Stockholm", "city:stockholm"),
        ("se-sto", "city:stockholm"),
        ("vpn05", "server:vpn05"),
        (" VPN05/us ", "server:vpn05/us"),
        ("profile:Home", "profile:Home"),
    ] {
        assert_eq!(text(word).as_deref(), Ok(destination), "{word}");
    }
    for word in ["atlantis", "vpn05/de", "vpn99", "", "../x"] {
        assert!(text(word).is_err(), "{word}");
    }
    assert_eq!(resolve_text(&list, "se"), Ok(Destination::Country { country: "se".to_owned() }));
}

/// Many servers over eight countries.
pub(super) fn large(count: usize) -> Value {
    let mut value = sample();
    let places = [
        ("SE", 59.3, 18.1),
        ("DE", 52.5, 13.4),
        ("US", 40.7, -74.0),
        ("JP", 35.7, 139.7),
        ("BR", -23.5, -46.6),
        ("ZA", -33.9, 18.4),
    ];
    let regions = places.iter().map(|(country, latitude, longitude)| {
        let slug = country.to_lowercase();
        json!({"id":slug,"country":country,"name":country,"datacenters":[{"id":format!("{slug}-1"),"slug":format!("city-{slug}"),"city":country,"latitude":latitude,"longitude":longitude}]})
    });
    value["regions"] = regions.collect();
    let template = sample()["servers"][0].clone();
    let servers = (0..count).map(|i| {
        let mut server = template.clone();
        let country = places[i % places.len()].0;
        server["id"] = json!(format!("vpn{i}"));
        server["datacenter"] = json!(format!("{}-1", country.to_lowercase()));
        server["exits"] = json!([{"id":"x","country":country,"default":true}]);
        server
    });
    value["servers"] = servers.collect();
    value
}

#[test]
fn ten_thousand_servers_are_read_and_chosen_from_in_time() {
    let mut value = large(10_000);
    // As much as fits: the list of provider.md C3 with every endpoint would be over 8 MiB at this length.
    for server in value["servers"].as_array_mut().unwrap() {
        server["endpoints"].as_array_mut().unwrap().truncate(1);
    }
    let bytes = value.to_string().into_bytes();
    let start = std::time::Instant::now();
    let parsed = parse(&bytes, &ListRules::default()).unwrap();
    let (parse_time, start) = (start.elapsed(), std::time::Instant::now());
    let preferences =
        Preferences { ipv6: true, near: Some((48.9, 2.3)), avoid: &[], quality: &Quality::default(), now_unix_s: 0 };
    select(&parsed.list, &Loads::default(), &Destination::Best, &preferences, 1).unwrap();
    let select_time = start.elapsed();
    println!("{} bytes: parse {parse_time:?}, select {select_time:?}", bytes.len());
    assert_eq!(parsed.list.servers.len(), 10_000);
    assert!(parse_time.as_millis() < 2_000 && select_time.as_millis() < 500, "parse {parse_time:?}, select {select_time:?}");
}

/// Replaces one value somewhere in the document.
fn mutate(value: &mut Value, path: &mut impl Iterator<Item = usize>, with: &Value) {
    let step = path.next();
    match (value, step) {
        (Value::Array(items), Some(step)) if !items.is_empty() => {
            let at = step % items.len();
            mutate(&mut items[at], path, with);
        }
        (Value::Object(map), Some(step)) if !map.is_empty() => {
            let at = step % map.len();
            mutate(map.values_mut().nth(at).unwrap(), path, with);
        }
        (other, _) => *other = with.clone(),
    }
}

proptest! {
    #[test]
    fn hostile_values_anywhere_never_break_what_is_kept(
        changes in prop::collection::vec((prop::collection::vec(0_usize..12, 1..7), 0_usize..14), 1..6)
    ) {
        let hostile = [
            json!(null), json!(-1), json!(1e300), json!(65_536), json!(""), json!("a\u{0}b"), json!("10.0.0.1"), json!("127.0.0.1"), json!([]), json!({}),
            json!(true), json!("$(reboot);`id`"), json!("\u{202e}gpj.exe"), json!("x".repeat(5_000)),
        ];
        let mut value = large(6);
        for (path, which) in changes {
            mutate(&mut value, &mut path.into_iter(), &hostile[which]);
        }
        if let Ok(parsed) = read(&value) {
            prop_assert!(!parsed.list.servers.is_empty());
            for server in &parsed.list.servers {
                prop_assert!(parsed.list.datacenter(server).is_some());
                for endpoint in &server.endpoints {
                    prop_assert!(!endpoint.addresses.is_empty());
                    prop_assert!(endpoint.ports.len() + endpoint.port_ranges.len() > 0);
                    prop_assert!(endpoint.addresses.iter().all(|a| crate::address::classify(*a) == AddressClass::Global));
                }
            }
        }
    }

    #[test]
    fn damaged_bytes_never_panic(cut in 0_usize..4_000, at in 0_usize..4_000, bit in 0_u8..8) {
        let mut bytes = sample().to_string().into_bytes();
        let length = bytes.len();
        bytes[at % length] ^= 1 << bit;
        let _ = parse(&bytes, &ListRules::default());
        bytes.truncate(cut % length);
        prop_assert!(parse(&bytes, &ListRules::default()).is_err());
    }
}
