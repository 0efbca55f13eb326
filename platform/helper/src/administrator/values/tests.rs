//! What a registry and a property list can say, and what they must not be able to do (POL-01, POL-02).

use super::*;
use hamn_core::location::Destination;
use hamn_core::managed::{self, Effective, Managed, WhoMayDisconnect};
use hamn_core::settings::{Dns, KillSwitch, Settings};

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn sz(name: &str, text: &str) -> RegistryValue {
    RegistryValue { name: name.to_owned(), kind: REG_SZ, bytes: utf16(&format!("{text}\0")) }
}

fn dword(name: &str, number: u32) -> RegistryValue {
    RegistryValue { name: name.to_owned(), kind: REG_DWORD, bytes: number.to_le_bytes().to_vec() }
}

fn multi(name: &str, texts: &[&str]) -> RegistryValue {
    RegistryValue { name: name.to_owned(), kind: REG_MULTI_SZ, bytes: utf16(&(texts.join("\0") + "\0\0")) }
}

fn loaded(values: &[Named]) -> (Managed, Vec<String>) {
    managed::load(&[("registry".to_owned(), document(values))])
}

fn of_values(values: Vec<RegistryValue>) -> (Managed, Vec<String>) {
    loaded(&of_registry(&RegistryKey { values, ..RegistryKey::default() }, true))
}

fn effective(managed: &Managed) -> Effective {
    managed.apply(&Settings::default())
}

fn locks_everything(managed: &Managed) -> bool {
    let effective = effective(managed);
    effective.settings.kill_switch == KillSwitch::Always && Settings::keys().iter().all(|key| effective.is_locked(key.name))
}

#[test]
fn every_key_can_be_said_in_the_registry() {
    let key = RegistryKey {
        values: vec![
            sz("Kill_Switch", "always"),
            dword("auto_connect", 1),
            dword("allow_lan", 0),
            multi("dns", &["10.0.0.53", "2001:db8::53"]),
            RegistryValue { name: "ipv6".to_owned(), kind: REG_QWORD, bytes: vec![0; 8] },
            sz("destination", "city:stockholm"),
            sz("who_may_disconnect", "admin"),
            dword("profiles_allowed", 0),
            sz("organisation", "Västerås hamn"),
            dword("always_on", 0),
            dword("lockdown", 1),
        ],
        lists: vec![("provider".to_owned(), vec![sz("10", "https://b.example"), sz("2", "https://a.example")])],
    };
    let (managed, notes) = loaded(&of_registry(&key, true));
    assert_eq!(notes, Vec::<String>::new());
    let now = effective(&managed);
    assert_eq!(now.settings.kill_switch, KillSwitch::Always);
    assert!(now.settings.auto_connect && !now.settings.allow_lan && !now.settings.ipv6 && !now.profiles_allowed);
    let addresses = vec!["10.0.0.53".parse().unwrap(), "2001:db8::53".parse().unwrap()];
    assert_eq!(now.settings.dns, Dns::Custom { addresses });
    assert_eq!(now.settings.destination.text(), "city:stockholm");
    assert_eq!(now.who_may_disconnect, WhoMayDisconnect::Admin);
    let provider: Vec<String> = now.provider.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(provider, ["https://a.example", "https://b.example"], "in the order of the numbers");
    assert_eq!(managed.organisation(), Some("Västerås hamn"));
}

#[test]
fn the_keys_are_those_of_the_reader() {
    for key in managed::KEYS {
        let document = document(&[Named { name: key.to_owned(), value: Value::Null, locked: true }]);
        let error = managed::parse(&document.unwrap()).expect_err(key);
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn what_is_recommended_is_where_the_user_starts_and_the_lock_wins() {
    let recommended = of_registry(&RegistryKey { values: vec![dword("allow_lan", 1)], ..RegistryKey::default() }, false);
    let (managed, _) = loaded(&recommended);
    assert!(managed.defaults().allow_lan && !effective(&managed).is_locked("allow-lan"));
    let locked = document(&of_registry(&RegistryKey { values: vec![dword("allow_lan", 0)], ..RegistryKey::default() }, true));
    let (both, notes) = managed::load(&[("a".to_owned(), locked), ("b".to_owned(), document(&recommended))]);
    assert!(notes.is_empty() && !both.defaults().allow_lan && effective(&both).is_locked("allow-lan"));
}

#[test]
fn no_values_are_no_policy() {
    assert_eq!(of_values(Vec::new()), (Managed::default(), Vec::new()));
    let (managed, notes) = of_values(vec![sz("nonsense", "x"), sz("", "")]);
    assert!(!locks_everything(&managed));
    assert_eq!(notes.len(), 2, "{notes:?}");
}

// G15: each of these could be meant as a lock.
#[test]
fn what_cannot_be_read_locks_everything() {
    let raw = |name: &str, kind, bytes: &[u8]| RegistryValue { name: name.to_owned(), kind, bytes: bytes.to_vec() };
    let huge = sz("organisation", &"x".repeat(MAX_VALUE_BYTES));
    for bad in [
        dword("lockdown", 2),
        sz("lockdown", "true"),
        sz("allow_lan", "1"),
        dword("kill_switch", 1),
        sz("kill_switch", "ALWAYS"),
        raw("lockdown", REG_DWORD, &[1]),
        raw("lockdown", REG_DWORD, &[]),
        raw("ipv6", REG_QWORD, &[1, 0, 0, 0]),
        raw("kill_switch", REG_SZ, &utf16("al\0ways\0")),
        raw("kill_switch", REG_SZ, b"alw"),
        raw("kill_switch", REG_SZ, &[0x00, 0xd8, 0x00, 0x00]),
        raw("kill_switch", 2, &utf16("always\0")),
        raw("dns", 3, &[10, 0, 0, 53]),
        raw("dns", 6, &[]),
        raw("dns", u32::MAX, &[]),
        sz("dns", "10.0.0.53;10.0.0.54"),
        multi("dns", &["10.0.0.53", "", "x"]),
        multi("dns", &["10.0.0.53"; MAX_ITEMS + 1]),
        multi("provider", &[]),
        huge,
    ] {
        let what = format!("{} {} {}", bad.name, bad.kind, bad.bytes.len());
        let (managed, notes) = of_values(vec![dword("allow_lan", 1), bad]);
        assert!(locks_everything(&managed) && !notes.is_empty(), "{what}: {notes:?}");
    }
    assert!(locks_everything(&of_values((0..=MAX_VALUES).map(|n| dword(&format!("n{n}"), 1)).collect()).0));
    assert!(locks_everything(&of_values(vec![dword(&"n".repeat(MAX_NAME + 1), 1)]).0));
    assert!(locks_everything(&of_values(vec![dword("Lockdown", 0), dword("lockdown", 0)]).0), "twice is not once");
    let mixed = RegistryKey { lists: vec![("dns".to_owned(), vec![dword("1", 1)])], ..RegistryKey::default() };
    assert!(locks_everything(&loaded(&of_registry(&mixed, true)).0));
    let both = RegistryKey { values: vec![multi("dns", &["10.0.0.53"])], lists: vec![("dns".to_owned(), vec![])] };
    assert!(locks_everything(&loaded(&of_registry(&both, true)).0));
}

#[test]
fn text_needs_no_zero_at_its_end_and_may_have_several() {
    for bytes in [utf16("always"), utf16("always\0"), utf16("always\0\0\0")] {
        let (managed, notes) = of_values(vec![RegistryValue { name: "kill_switch".to_owned(), kind: REG_SZ, bytes }]);
        assert!(notes.is_empty() && effective(&managed).settings.kill_switch == KillSwitch::Always);
    }
}

#[test]
fn a_text_cannot_break_out_of_its_place() {
    let (managed, notes) = of_values(vec![sz("organisation", r#"x","locked":false},"lockdown":{"value":false"#)]);
    assert!(notes.is_empty(), "{notes:?}");
    assert!(managed.organisation().unwrap().starts_with("x\",\"locked"));
    let (managed, notes) = of_values(vec![sz(r#"a":{},"lockdown"#, "x")]);
    assert!(!locks_everything(&managed) && notes.len() == 1, "an unknown key: {notes:?}");
}

#[test]
fn managed_preferences_are_read_with_and_without_a_lock_of_their_own() {
    let table = |entries: Vec<(&str, Property)>| {
        Property::Table(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let text = |text: &str| Property::Text(text.to_owned());
    let forced = vec![
        ("kill_switch".to_owned(), text("always")),
        ("allow_lan".to_owned(), table(vec![("value", Property::Flag(true)), ("locked", Property::Flag(false))])),
        ("dns".to_owned(), Property::List(vec![text("10.0.0.53")])),
        ("destination".to_owned(), text("se")),
    ];
    let (managed, notes) = loaded(&of_properties(&forced));
    assert_eq!(notes, Vec::<String>::new());
    let now = effective(&managed);
    assert!(now.is_locked("kill-switch") && !now.is_locked("allow-lan") && managed.defaults().allow_lan);
    assert_eq!(now.settings.destination, Destination::Country { country: "se".to_owned() });
    let deep = (0..40).fold(text("x"), |inner, _| Property::List(vec![inner]));
    for (name, bad) in [
        ("kill_switch", Property::Other),
        ("kill_switch", Property::Number(1)),
        ("lockdown", Property::Number(1)),
        ("lockdown", table(vec![("value", Property::Flag(true)), ("also", Property::Flag(true))])),
        ("lockdown", table(vec![("locked", Property::Flag(true))])),
        ("lockdown", table(vec![("value", Property::Other), ("locked", Property::Flag(false))])),
        ("dns", deep),
        ("dns", Property::List(vec![text("10.0.0.53"); MAX_ITEMS + 1])),
        ("organisation", text(&"x".repeat(MAX_VALUE_BYTES + 1))),
    ] {
        let what = format!("{name}: {bad:?}").chars().take(120).collect::<String>();
        assert!(locks_everything(&loaded(&of_properties(&[(name.to_owned(), bad)])).0), "{what}");
    }
}

#[test]
fn one_line_of_an_installer_is_a_list_and_one_word_of_a_list_is_a_word() {
    let dns = |value: RegistryValue| {
        let (managed, notes) = of_values(vec![value]);
        assert!(notes.is_empty() && !locks_everything(&managed), "{notes:?}");
        effective(&managed).settings.dns
    };
    let two = dns(multi("dns", &["10.0.0.53", "10.0.0.54"]));
    assert_eq!(dns(sz("dns", "10.0.0.53, 10.0.0.54")), two);
    assert_eq!(dns(sz("DNS", "10.0.0.53 10.0.0.54")), two);
    assert_eq!(dns(multi("dns", &["provider"])), dns(sz("dns", "provider")));
    assert_ne!(dns(sz("dns", "provider")), two);
    let (managed, _) = of_values(vec![sz("provider", "https://a.example https://b.example")]);
    assert_eq!(effective(&managed).provider.unwrap().len(), 2);
    assert!(locks_everything(&of_values(vec![sz("dns", "10.0.0.53 provider")]).0));
}
