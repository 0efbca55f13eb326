//! The administrator's word holds, and a policy that cannot be read locks and blocks (POL-01, POL-02, POL-05).

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn read(value: &Value) -> Managed {
    parse(value.to_string().as_bytes()).unwrap()
}

fn user() -> Settings {
    let mut settings = Settings::default();
    for (key, value) in [("kill-switch", "off"), ("allow-lan", "on"), ("dns", "9.9.9.9"), ("destination", "us"), ("mtu", "1300")]
    {
        settings.set(key, value).unwrap();
    }
    settings
}

#[test]
fn every_key_has_its_effect() {
    let managed = read(&json!({
        "kill_switch": {"value": "always", "locked": true}, "auto_connect": {"value": true, "locked": true}, "allow_lan": {"value": false, "locked": true},
        "dns": {"value": ["10.0.0.53"], "locked": true}, "ipv6": {"value": false, "locked": true}, "destination": {"value": "city:stockholm", "locked": true},
        "provider": {"value": ["https://vpn.example", "https://192.0.2.10:8443"], "locked": true}, "who_may_disconnect": {"value": "admin", "locked": true},
        "profiles_allowed": {"value": false, "locked": true}
    }));
    let effective = managed.apply(&user());
    assert_eq!(effective.settings.kill_switch, KillSwitch::Always);
    assert!(
        effective.settings.auto_connect
            && !effective.settings.allow_lan
            && !effective.settings.ipv6
            && !effective.profiles_allowed
    );
    assert_eq!(effective.settings.dns, Dns::Custom { addresses: vec!["10.0.0.53".parse().unwrap()] });
    assert_eq!(effective.settings.destination.text(), "city:stockholm");
    assert_eq!(effective.settings.mtu, Some(1_300));
    assert_eq!(effective.who_may_disconnect, WhoMayDisconnect::Admin);
    assert_eq!(effective.provider.as_ref().unwrap()[1].to_string(), "https://192.0.2.10:8443");
    assert_eq!(
        effective.locked,
        ["kill-switch", "auto-connect", "allow-lan", "dns", "ipv6", "destination", "provider", "who-may-disconnect", "profiles"]
    );
    assert!(effective.is_locked("kill_switch") && !effective.is_locked("mtu"));
}

#[test]
fn without_policy_the_user_decides() {
    let effective = Managed::default().apply(&user());
    assert_eq!((effective.settings, effective.locked), (user(), vec![]));
    assert!(effective.profiles_allowed && effective.provider.is_none());
    assert_eq!(effective.who_may_disconnect, WhoMayDisconnect::Anyone);
    assert_eq!(load(&[]), (Managed::default(), vec![]));
}

#[test]
fn values_that_are_not_locked_are_where_the_user_starts() {
    let managed = read(&json!({"allow_lan": {"value": true, "locked": false}, "kill_switch": {"value": "always"}}));
    assert!(managed.defaults().allow_lan && managed.defaults().kill_switch == KillSwitch::Always);
    let mut settings = managed.defaults();
    settings.set("allow-lan", "off").unwrap();
    settings.set("kill-switch", "off").unwrap();
    let effective = managed.apply(&settings);
    assert!(!effective.settings.allow_lan);
    assert_eq!((effective.settings.kill_switch, effective.locked), (KillSwitch::Always, vec!["kill-switch"]));
}

#[test]
fn lockdown_and_always_on_are_never_weakened_by_another_key_of_the_file() {
    for file in [
        r#"{"lockdown":{"value":true},"kill_switch":{"value":"off","locked":false}}"#,
        r#"{"kill_switch":{"value":"off","locked":false},"lockdown":{"value":true}}"#,
    ] {
        let effective = parse(file.as_bytes()).unwrap().apply(&user());
        assert_eq!((effective.settings.kill_switch, effective.is_locked("kill-switch")), (KillSwitch::Always, true), "{file}");
    }
    for file in [
        r#"{"always_on":{"value":true},"who_may_disconnect":{"value":"anyone"}}"#,
        r#"{"who_may_disconnect":{"value":"anyone"},"always_on":{"value":true}}"#,
    ] {
        let effective = parse(file.as_bytes()).unwrap().apply(&user());
        assert_eq!((effective.settings.auto_connect, effective.who_may_disconnect), (true, WhoMayDisconnect::Admin), "{file}");
    }
    for (file, mode, locked) in [
        (json!({"lockdown": {"value": false}}), KillSwitch::WhileConnected, true),
        (json!({"lockdown": {"value": false, "locked": false}}), KillSwitch::Off, false),
        (json!({"lockdown": {"value": false}, "kill_switch": {"value": "off"}}), KillSwitch::Off, true),
        (json!({"lockdown": {"value": false}, "kill_switch": {"value": "always"}}), KillSwitch::Always, true),
    ] {
        let effective = read(&file).apply(&user());
        assert_eq!((effective.settings.kill_switch, effective.is_locked("kill-switch")), (mode, locked), "{file}");
    }
    let effective =
        read(&json!({"always_on": {"value": true, "locked": false}, "auto_connect": {"value": false}})).apply(&user());
    assert!(effective.settings.auto_connect && effective.is_locked("auto-connect") && effective.is_locked("who-may-disconnect"));
}

#[test]
fn files_are_merged_by_name_and_a_lock_is_not_undone() {
    let file = |name: &str, value: Value| (name.to_owned(), Some(value.to_string().into_bytes()));
    let (managed, notes) = load(&[
        file(
            "90-later.json",
            json!({"ipv6": {"value": true, "locked": false}, "allow_lan": {"value": true}, "new_thing": {"value": 1}}),
        ),
        file("10-first.json", json!({"ipv6": {"value": false, "locked": true}, "allow_lan": {"value": false}})),
    ]);
    let effective = managed.apply(&Settings::default());
    assert!(!effective.settings.ipv6 && effective.settings.allow_lan);
    assert_eq!(notes, ["90-later.json: unknown key new_thing"]);
}

#[test]
fn a_policy_that_cannot_be_used_locks_everything_and_blocks() {
    let oversized = format!("{{\"x\":\"{}\"}}", "x".repeat(MAX_POLICY_BYTES)).into_bytes();
    let mut bad: Vec<Option<Vec<u8>>> = vec![None, Some(oversized), Some(vec![0xff]), Some(vec![b'['; 1_000])];
    for text in [
        "",
        "[]",
        "null",
        "{",
        r#"{"kill_switch":"always"}"#,
        r#"{"kill_switch":{"value":true}}"#,
        r#"{"kill_switch":{"value":"alway"}}"#,
        r#"{"kill_switch":{"value":"always","locked":"yes"}}"#,
        r#"{"kill_switch":{"value":"always","unlock":true}}"#,
        r#"{"kill_switch":{"locked":true}}"#,
        r#"{"kill_switch":{"value":"always"},"kill_switch":{"value":"off"}}"#,
        r#"{"kill_switch":{"value":"always"},"kill_\u0073witch":{"value":"off"}}"#,
        r#"{"lockdown":{"value":1}}"#,
        r#"{"dns":{"value":["127.0.0.1"]}}"#,
        r#"{"dns":{"value":[]}}"#,
        r#"{"destination":{"value":"profile:../../etc/shadow"}}"#,
        r#"{"destination":{"value":"stockholm"}}"#,
        r#"{"provider":{"value":"http://x"}}"#,
        r#"{"provider":{"value":[]}}"#,
        r#"{"provider":{"value":"file:///etc/shadow"}}"#,
        r#"{"who_may_disconnect":{"value":"root"}}"#,
    ] {
        bad.push(Some(text.as_bytes().to_vec()));
    }
    let good = ("00.json".to_owned(), Some(br#"{"kill_switch":{"value":"off"}}"#.to_vec()));
    for bytes in bad {
        let (managed, notes) = load(&[good.clone(), ("50.json".to_owned(), bytes.clone())]);
        assert_eq!(
            (managed.clone(), notes.len()),
            (Managed::locked_down(), 1),
            "{:?}",
            bytes.as_deref().map(String::from_utf8_lossy)
        );
        let effective = managed.apply(&user());
        assert_eq!((effective.settings.kill_switch, effective.settings.allow_lan), (KillSwitch::Always, false));
        assert!(Settings::keys().iter().all(|key| effective.is_locked(key.name)));
        assert!(OTHER_KEYS.iter().all(|key| effective.is_locked(key)));
        assert_eq!((effective.who_may_disconnect, effective.profiles_allowed), (WhoMayDisconnect::Admin, false));
    }
}

proptest! {
    /// F7: whatever a damaged file says, it is refused or leaves valid settings.
    #[test]
    fn damaged_policies_never_panic_and_never_give_invalid_settings(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
        let file = br#"{"lockdown":{"value":true,"locked":true},"dns":{"value":["10.0.0.53"]},"destination":{"value":"se","locked":false}}"#;
        let mut bytes = file.to_vec();
        let length = bytes.len();
        prop_assert!(parse(&file[..cut % length]).is_err());
        bytes[at % length] = byte;
        if let Ok(managed) = parse(&bytes) {
            prop_assert!(managed.apply(&user()).settings.validate().is_ok() && managed.defaults().validate().is_ok());
        }
    }
}

// Shown to people and nothing else: it decides nothing, and the policy that names nobody takes no name away.
#[test]
fn the_organisation_is_one_short_line_and_decides_nothing() {
    let of = |name: &str| read(&json!({ "organisation": { "value": name, "locked": true } }));
    let named = of("Example Ltd. – IT");
    assert_eq!(named.organisation(), Some("Example Ltd. – IT"));
    assert_eq!(named.apply(&user()), Managed::default().apply(&user()));
    assert!(named.unknown_keys().is_empty());
    assert_eq!(read(&json!({})).organisation(), None);
    let other = read(&json!({ "ipv6": { "value": false } }));
    assert_eq!(merge(vec![named.clone(), other]).organisation(), Some("Example Ltd. – IT"));
    assert_eq!(merge(vec![named, of("Later")]).organisation(), Some("Later"), "the later file, as with everything");
    assert_eq!(of(&"x".repeat(80)).organisation().map(str::len), Some(80));
    for bad in [json!(""), json!("  "), json!("a\nb"), json!("x".repeat(81)), json!(7), json!(["a"])] {
        let text = json!({ "organisation": { "value": bad } }).to_string();
        let (managed, notes) = load(&[("a.json".to_owned(), Some(text.clone().into_bytes()))]);
        assert!(managed.organisation().is_none() && !notes.is_empty(), "{text}");
    }
}
