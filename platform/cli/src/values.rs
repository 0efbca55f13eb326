//! What `hamn settings set` takes: from a setting's name and text to a patch.

use hamn_core::location::Destination;
use hamn_core::settings::{Dns, KillSwitch};
use hamn_ipc::wire::{ServerListing, SettingKey, SettingsPatch, is_name};
use hamn_ipc::{Problem, ProblemCode, place};
use std::net::IpAddr;

/// Makes the patch. `listing` serves to find places; without it the form of the text decides.
///
/// # Errors
/// `invalid_value` that says what the setting takes.
pub fn patch(key: SettingKey, text: &str, listing: Option<&ServerListing>) -> Result<SettingsPatch, Problem> {
    let none = SettingsPatch::default();
    Ok(match key {
        SettingKey::KillSwitch => SettingsPatch { kill_switch: Some(kill_switch(text)?), ..none },
        SettingKey::AutoConnect => SettingsPatch { auto_connect: Some(switch(text)?), ..none },
        SettingKey::AllowLan => SettingsPatch { allow_lan: Some(switch(text)?), ..none },
        SettingKey::Dns => SettingsPatch { dns: Some(dns(text)?), ..none },
        SettingKey::Ipv6 => SettingsPatch { ipv6: Some(switch(text)?), ..none },
        SettingKey::Mtu => SettingsPatch { mtu: Some(mtu(text)?), ..none },
        SettingKey::Destination => SettingsPatch { destination: Some(destination(text, listing)?), ..none },
        SettingKey::KeyRotationDays => SettingsPatch { key_rotation_days: Some(number(text, 1, 90)?), ..none },
    })
}

fn wrong(says: &str) -> Problem {
    Problem::with_detail(ProblemCode::InvalidValue, says)
}

fn kill_switch(text: &str) -> Result<KillSwitch, Problem> {
    match text.replace('_', "-").as_str() {
        "off" => Ok(KillSwitch::Off),
        "while-connected" => Ok(KillSwitch::WhileConnected),
        "always" => Ok(KillSwitch::Always),
        _ => Err(wrong("the kill switch is `off`, `while-connected` or `always`")),
    }
}

fn switch(text: &str) -> Result<bool, Problem> {
    match text {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err(wrong("the setting is `on` or `off`")),
    }
}

fn dns(text: &str) -> Result<Dns, Problem> {
    if text == "provider" {
        return Ok(Dns::Provider);
    }
    let addresses: Result<Vec<IpAddr>, _> = text.split(',').map(|address| address.trim().parse()).collect();
    match addresses {
        Ok(addresses) if addresses.len() <= 10 => Ok(Dns::Custom { addresses }),
        Ok(_) | Err(_) => Err(wrong("the setting is `provider`, or one to ten addresses with commas between")),
    }
}

fn mtu(text: &str) -> Result<Option<u16>, Problem> {
    if text == "auto" { Ok(None) } else { number(text, 1280, 1500).map(Some) }
}

fn number(text: &str, least: u16, most: u16) -> Result<u16, Problem> {
    let found = text.parse().ok().filter(|number| (least..=most).contains(number));
    found.ok_or_else(|| wrong(&format!("the setting is a number from {least} to {most}")))
}

fn destination(text: &str, listing: Option<&ServerListing>) -> Result<Destination, Problem> {
    match text.strip_prefix("profile:") {
        Some(name) if is_name(name) => Ok(Destination::Profile { name: name.to_owned() }),
        Some(_) => Err(wrong("a profile's name is 1 to 64 letters, digits, `_`, `.` or `-`")),
        None => place::resolve(text, listing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_values_or_say_what_is_wanted() {
        let good = |key, text| patch(key, text, None).unwrap();
        assert_eq!(good(SettingKey::KillSwitch, "while_connected").kill_switch, Some(KillSwitch::WhileConnected));
        assert_eq!(good(SettingKey::AllowLan, "on").allow_lan, Some(true));
        assert_eq!(
            good(SettingKey::Dns, "10.0.0.1, ::1").dns,
            Some(Dns::Custom { addresses: vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()] })
        );
        assert_eq!(good(SettingKey::Mtu, "auto").mtu, Some(None));
        assert_eq!(good(SettingKey::Destination, "profile:home").destination, Some(Destination::Profile { name: "home".into() }));
        assert_eq!(good(SettingKey::Destination, "se").destination, Some(Destination::Country { country: "se".into() }));
        for key in SettingKey::ALL {
            let bad = patch(key, "\u{1}", None).unwrap_err();
            assert!(matches!(bad.code, ProblemCode::InvalidValue | ProblemCode::NoServer), "{key}");
        }
        for (key, text) in
            [(SettingKey::Mtu, "1279"), (SettingKey::Mtu, "1501"), (SettingKey::KeyRotationDays, "0"), (SettingKey::Dns, "")]
        {
            assert_eq!(patch(key, text, None).unwrap_err().code, ProblemCode::InvalidValue);
        }
    }
}
