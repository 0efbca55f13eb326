//! Policies on macOS: managed preferences of `org.hamn.client` (a configuration profile), beside the files of the
//! administrator's directory. Only what is forced counts: other preferences any user could write.
#![expect(unsafe_code, reason = "managed preferences have no safe wrapper in the crates we use")]

use super::values::{Property, document, of_properties};
use core_foundation::array::CFArray;
use core_foundation::base::{CFType, TCFType};
use core_foundation::boolean::CFBoolean;
use core_foundation::dictionary::CFDictionary;
use core_foundation::number::CFNumber;
use core_foundation::string::CFString;
use core_foundation_sys::preferences::{CFPreferencesAppSynchronize, CFPreferencesAppValueIsForced, CFPreferencesCopyAppValue};
use hamn_core::managed::KEYS;
use std::path::Path;
use std::time::Duration;

/// The domain of the preferences.
const DOMAIN: &str = "org.hamn.client";
/// Property lists are trees; one that is deeper is none of ours.
const MAX_DEPTH: usize = 8;
/// How often they are read again. The system tells an application of changed preferences by `NSUserDefaults` on a run loop,
/// which a daemon without one does not get, and it keeps no promise about the files below `/Library/Managed Preferences`.
const INTERVAL: Duration = Duration::from_secs(30);

/// Name and content of each policy.
pub(super) fn documents(policy_dir: &Path) -> anyhow::Result<Vec<(String, Option<Vec<u8>>)>> {
    let mut found = super::policy_files(policy_dir)?;
    let forced = forced();
    if !forced.is_empty() {
        found.push(("managed preferences".to_owned(), document(&of_properties(&forced))));
    }
    Ok(found)
}

/// The keys that a profile forces (`CFPreferencesAppValueIsForced`).
fn forced() -> Vec<(String, Property)> {
    let domain = CFString::from_static_string(DOMAIN);
    // SAFETY: the name is a string that lives through the call.
    unsafe { CFPreferencesAppSynchronize(domain.as_concrete_TypeRef()) };
    let named = KEYS.iter().filter_map(|key| forced_value(key, &domain).map(|value| ((*key).to_owned(), value)));
    named.collect()
}

fn forced_value(key: &'static str, domain: &CFString) -> Option<Property> {
    let name = CFString::from_static_string(key);
    // SAFETY: both are strings that live through the call.
    if unsafe { CFPreferencesAppValueIsForced(name.as_concrete_TypeRef(), domain.as_concrete_TypeRef()) } == 0 {
        return None;
    }
    // SAFETY: as above.
    let value = unsafe { CFPreferencesCopyAppValue(name.as_concrete_TypeRef(), domain.as_concrete_TypeRef()) };
    if value.is_null() {
        // Forced, and gone when it was to be read: not to be passed over.
        return Some(Property::Other);
    }
    // SAFETY: a copy that is ours to release.
    Some(property(&unsafe { CFType::wrap_under_create_rule(value) }, 0))
}

fn property(value: &CFType, depth: usize) -> Property {
    if depth > MAX_DEPTH {
        return Property::Other;
    }
    let below = depth.saturating_add(1);
    if let Some(text) = value.downcast::<CFString>() {
        return Property::Text(text.to_string());
    }
    if let Some(flag) = value.downcast::<CFBoolean>() {
        return Property::Flag(flag.into());
    }
    if let Some(number) = value.downcast::<CFNumber>() {
        return number.to_i64().map_or(Property::Other, Property::Number);
    }
    if let Some(items) = value.downcast::<CFArray>() {
        // SAFETY: what a property list holds are objects, which the list keeps alive.
        let item = |item| property(&unsafe { CFType::wrap_under_get_rule(item) }, below);
        return Property::List(items.get_all_values().into_iter().map(item).collect());
    }
    if let Some(entries) = value.downcast::<CFDictionary>() {
        let (keys, values) = entries.get_keys_and_values();
        // SAFETY: as above.
        let object = |object| unsafe { CFType::wrap_under_get_rule(object) };
        let entry = |(key, value)| match object(key).downcast::<CFString>() {
            Some(name) => (name.to_string(), property(&object(value), below)),
            None => (String::new(), Property::Other),
        };
        return Property::Table(keys.into_iter().zip(values).map(entry).collect());
    }
    Property::Other
}

/// Tells when it is time to look again.
pub struct Changes(tokio::time::Interval);

impl Changes {
    /// Looks every half minute from now on.
    ///
    /// # Errors
    /// None.
    pub fn watch() -> std::io::Result<Self> {
        let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Ok(Self(interval))
    }

    /// Waits until it is time.
    pub async fn next(&mut self) {
        self.0.tick().await;
    }
}
