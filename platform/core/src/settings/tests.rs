//! Settings and intent survive every damage to their files as an error, and every good file as itself (FS-01).

use super::*;
use crate::location::Target;
use crate::text::ProfileName;
use proptest::prelude::*;
use serde_json::{Value, json};

fn id() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(b"abcz059-".to_vec()), 1..20)
        .prop_map(|bytes| format!("s{}", String::from_utf8(bytes).unwrap()))
}

fn destinations() -> impl Strategy<Value = Destination> {
    prop_oneof![
        Just(Destination::Best),
        prop::sample::select(vec!["se", "us", "de"]).prop_map(|c| Destination::Country { country: c.to_owned() }),
        id().prop_map(|city| Destination::City { city }),
        (id(), prop::option::of(id())).prop_map(|(server, exit)| Destination::Server { server, exit }),
        prop::sample::select(vec!["home", "My office_1.2", "a-b"])
            .prop_map(|name| Destination::Profile { name: name.to_owned() }),
    ]
}

fn all_settings() -> impl Strategy<Value = Settings> {
    let address = prop::sample::select(vec!["1.1.1.1", "9.9.9.9", "10.0.0.1", "2620:fe::fe", "fd00::53"]);
    let dns = prop_oneof![
        Just(Dns::Provider),
        prop::collection::vec(address, 1..=10)
            .prop_map(|list| Dns::Custom { addresses: list.iter().map(|text| text.parse().unwrap()).collect() }),
    ];
    let kill_switch = prop::sample::select(vec![KillSwitch::Off, KillSwitch::WhileConnected, KillSwitch::Always]);
    (kill_switch, any::<[bool; 3]>(), dns, prop::option::of(1280_u16..=1500), destinations(), 1_u16..=90).prop_map(
        |(kill_switch, [auto_connect, allow_lan, ipv6], dns, mtu, destination, key_rotation_days)| Settings {
            kill_switch,
            auto_connect,
            allow_lan,
            dns,
            ipv6,
            mtu,
            destination,
            key_rotation_days,
        },
    )
}

fn full() -> Settings {
    Settings {
        kill_switch: KillSwitch::Always,
        auto_connect: true,
        allow_lan: true,
        dns: Dns::Custom { addresses: vec!["9.9.9.9".parse().unwrap(), "2620:fe::fe".parse().unwrap()] },
        ipv6: false,
        mtu: Some(1300),
        destination: Destination::Server { server: "vpn05".to_owned(), exit: Some("us".to_owned()) },
        key_rotation_days: 30,
    }
}

proptest! {
    #[test]
    fn what_is_saved_is_loaded(settings in all_settings(), destination in destinations()) {
        prop_assert_eq!(load(&save(&settings)), Ok(Loaded { settings, migrated_from: None }));
        let target = Target::Connected { destination };
        prop_assert_eq!(load_target(&save_target(&target)), Ok(target));
    }

    #[test]
    fn every_text_of_a_setting_sets_it(settings in all_settings()) {
        let mut copy = Settings::default();
        for key in Settings::keys() {
            copy.set(key.name, &settings.text(key.name).unwrap()).unwrap();
            prop_assert_eq!(copy.get(key.name), settings.get(key.name));
        }
        prop_assert_eq!(copy, settings);
    }

    #[test]
    fn setting_anything_is_atomic_and_leaves_valid_settings(settings in all_settings(), key in ".{0,20}", pick in 0_usize..9, value in ".{0,40}") {
        let mut changed = settings.clone();
        let key = Settings::keys().get(pick).map_or(key.as_str(), |info| info.name);
        if changed.set(key, &value).is_err() {
            prop_assert_eq!(&changed, &settings);
        }
        prop_assert!(changed.validate().is_ok());
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load(&bytes);
        let _ = load_target(&bytes);
    }
}

#[test]
fn every_truncation_is_an_error() {
    let file = save(&full());
    let target = save_target(&Target::Connected { destination: full().destination });
    // The last byte is the newline after the document.
    for end in 0..file.len() - 1 {
        assert!(load(&file[..end]).is_err(), "settings cut at {end}");
    }
    for end in 0..target.len() - 1 {
        assert!(load_target(&target[..end]).is_err(), "intent cut at {end}");
    }
}

#[test]
fn ten_thousand_damaged_files_never_panic_and_never_load_invalid_settings() {
    let (file, target) = (save(&full()), save_target(&Target::Connected { destination: full().destination }));
    let v1 = br#"{"version":1,"kill_switch":true,"dns":["1.1.1.1"],"mtu":1400,"location":"se"}"#.to_vec();
    let mut state = 42_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut refused = 0;
    for round in 0..10_000 {
        let mut bytes = [&file, &target, &v1][round % 3].clone();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = u8::try_from(next(256)).unwrap(),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"{}[],:\"0\\n\xff"[next(11)]),
            }
        }
        match load(&bytes) {
            Ok(loaded) => assert!(loaded.settings.validate().is_ok()),
            Err(_) => refused += 1,
        }
        let _ = load_target(&bytes);
    }
    assert!(refused > 5_000, "{refused}");
}

#[test]
fn files_of_version_1_become_what_they_meant() {
    let old = |text: &str| load(text.as_bytes()).map(|loaded| (loaded.settings, loaded.migrated_from));
    let with = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        Ok((settings, Some(1)))
    };
    assert_eq!(old(r#"{"version":1}"#), with(|_| {}));
    assert_eq!(old(r#"{"version":1,"kill_switch":false}"#), with(|s| s.kill_switch = KillSwitch::Off));
    assert_eq!(
        old(r#"{"version":1,"kill_switch":false,"block_when_disconnected":true}"#),
        with(|s| s.kill_switch = KillSwitch::Always)
    );
    assert_eq!(
        old(r#"{"version":1,"dns":["9.9.9.9"],"mtu":1400,"location":"SE","ipv6":false}"#),
        with(|s| {
            s.dns = Dns::Custom { addresses: vec!["9.9.9.9".parse().unwrap()] };
            s.mtu = Some(1400);
            s.ipv6 = false;
            s.destination = Destination::Country { country: "se".to_owned() };
        })
    );
    assert_eq!(
        old(r#"{"version":1,"location":"stockholm"}"#),
        with(|s| s.destination = Destination::City { city: "stockholm".to_owned() })
    );
    assert_eq!(
        old(r#"{"version":1,"location":"server:vpn05","auto_connect":true,"allow_lan":true,"key_rotation_days":3}"#),
        with(|s| {
            s.destination = Destination::Server { server: "vpn05".to_owned(), exit: None };
            s.auto_connect = true;
            s.allow_lan = true;
            s.key_rotation_days = 3;
        })
    );
    for (text, field) in [
        (r#"{"version":1,"kill_switch":"always"}"#, "kill_switch"),
        (r#"{"version":1,"dns":["127.0.0.1"]}"#, "dns"),
        (r#"{"version":1,"location":"../x"}"#, "destination"),
        (r#"{"version":1,"mtu":-1}"#, "mtu"),
        (r#"{"version":1,"destination":{"kind":"best"}}"#, "destination"),
    ] {
        assert!(matches!(old(text), Err(LoadError::Invalid { field: f, .. }) if f == field), "{text}");
    }
}

#[test]
fn wrong_versions_types_and_sizes_are_told_apart() {
    assert_eq!(load(b""), Err(LoadError::NotJson));
    assert_eq!(load(br#"{"version":3}"#), Err(LoadError::Newer { version: 3 }));
    assert_eq!(load_target(br#"{"version":2}"#), Err(LoadError::Newer { version: 2 }));
    assert_eq!(load(&vec![b' '; MAX_FILE_BYTES + 1]), Err(LoadError::TooBig));
    assert_eq!(load("[".repeat(40_000).as_bytes()), Err(LoadError::NotJson));
    for (text, name) in [
        ("[]", "version"),
        ("{}", "version"),
        (r#"{"version":0}"#, "version"),
        (r#"{"version":"2"}"#, "version"),
        (r#"{"version":2,"kill_switch":true}"#, "kill_switch"),
        (r#"{"version":2,"mtu":1279}"#, "mtu"),
        (r#"{"version":2,"mtu":70000}"#, "mtu"),
        (r#"{"version":2,"key_rotation_days":0}"#, "key_rotation_days"),
        (r#"{"version":2,"dns":{"use":"custom","addresses":[]}}"#, "dns"),
        (r#"{"version":2,"dns":{"use":"custom","addresses":["::1"]}}"#, "dns"),
        (r#"{"version":2,"destination":{"kind":"country","country":"SE"}}"#, "destination"),
        (r#"{"version":2,"destination":{"kind":"profile","name":"../../x"}}"#, "destination"),
        (r#"{"version":2,"extra\u0007":1}"#, "extra?"),
    ] {
        assert!(
            matches!(load(text.as_bytes()), Err(LoadError::Invalid { field, .. }) if field == name),
            "{text}: {:?}",
            load(text.as_bytes())
        );
    }
    for text in [r#"{"version":1}"#, r#"{"version":1,"want":"connected"}"#, r#"{"version":1,"want":"disconnected","x":1}"#] {
        assert!(matches!(load_target(text.as_bytes()), Err(LoadError::Invalid { .. })), "{text}");
    }
    assert_eq!(load_target(br#"{"version":1,"want":"disconnected"}"#), Ok(Target::Disconnected));
}

#[test]
fn set_takes_the_documented_texts_and_refuses_others_with_help() {
    let mut settings = Settings::default();
    for (key, text, value) in [
        ("kill-switch", "always", json!("always")),
        ("kill_switch", "while-connected", json!("while_connected")),
        ("auto-connect", "on", json!(true)),
        ("allow-lan", "off", json!(false)),
        ("dns", "1.1.1.1, 9.9.9.9", json!({"use": "custom", "addresses": ["1.1.1.1", "9.9.9.9"]})),
        ("dns", "provider", json!({"use": "provider"})),
        ("ipv6", "off", json!(false)),
        ("mtu", "1420", json!(1420)),
        ("mtu", "auto", Value::Null),
        ("destination", "se", json!({"kind": "country", "country": "se"})),
        ("destination", "city:stockholm", json!({"kind": "city", "city": "stockholm"})),
        ("destination", "server:vpn05/us", json!({"kind": "server", "server": "vpn05", "exit": "us"})),
        ("destination", "profile:My office", json!({"kind": "profile", "name": "My office"})),
        ("destination", "best", json!({"kind": "best"})),
        ("key-rotation-days", "30", json!(30)),
    ] {
        settings.set(key, text).unwrap();
        assert_eq!(settings.get(key), Some(value), "{key} {text}");
    }
    let before = settings.clone();
    for (key, text) in [
        ("kill-switch", "on"),
        ("auto-connect", "maybe"),
        ("dns", ""),
        ("dns", "dns.example"),
        ("dns", "127.0.0.53"),
        ("dns", "::1"),
        ("dns", "0.0.0.0"),
        ("dns", "224.0.0.1"),
        ("dns", "fe80::1"),
        ("dns", "1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1"),
        ("mtu", "1279"),
        ("mtu", "1501"),
        ("mtu", "+1400"),
        ("destination", "stockholm"),
        ("destination", "profile:../x"),
        ("key-rotation-days", "91"),
    ] {
        assert!(matches!(settings.set(key, text), Err(SetError::BadValue { .. })), "{key} {text}");
        assert_eq!(settings, before, "{key} {text}");
    }
    assert_eq!(settings.set("password", "x"), Err(SetError::UnknownKey));
    assert_eq!(settings.get("password"), None);
}

#[test]
fn reset_takes_one_key_or_all() {
    let mut settings = full();
    settings.reset("mtu", &Settings::default()).unwrap();
    assert_eq!(settings, Settings { mtu: None, ..full() });
    for key in Settings::keys() {
        settings.reset(key.name, &Settings::default()).unwrap();
    }
    assert_eq!(settings, Settings::default());
    let mut settings = full();
    settings.reset("all", &Settings::default()).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.reset("x", &Settings::default()), Err(SetError::UnknownKey));
}

#[test]
fn destinations_have_one_text_each() {
    for text in ["best", "se", "city:stockholm", "server:vpn05", "server:vpn05/us", "profile:My office"] {
        assert_eq!(text.parse::<Destination>().unwrap().text(), text);
    }
    assert_eq!("SE".parse::<Destination>().unwrap().text(), "se");
    assert_eq!("country:us".parse::<Destination>().unwrap().text(), "us");
    for bad in [
        "",
        "stockholm",
        "city:",
        "city:A b",
        "server:x/",
        "server:/x",
        "server:x/y/z",
        "profile:",
        "country:sweden",
        "1:2",
        "s1",
    ] {
        assert!(bad.parse::<Destination>().is_err(), "{bad}");
    }
    assert!("home".parse::<ProfileName>().is_ok());
}
