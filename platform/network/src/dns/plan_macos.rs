//! Which keys of macOS's dynamic store have to hold our resolvers, and what they held before. Pure.
//!
//! `configd` keeps each network service's resolvers under `State:/Network/Service/<id>/DNS` (from DHCP) and
//! `Setup:/Network/Service/<id>/DNS` (from the preferences; writing here leaves the preferences alone), and makes the
//! resolver configuration of the host from those of the primary service. All of them are ours while the tunnel is up, so
//! that no other service can become a source of resolvers: SystemConfiguration, `SCDynamicStoreKeyCreateNetworkServiceEntity`.

use crate::dns::plan::DnsPlan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every key with resolvers of a service, as a regular expression for the store.
pub const SERVICE_KEYS: &str = "(State|Setup):/Network/Service/[^/]+/DNS";
/// Says which service is the primary one: a change of it is a change for us.
pub const GLOBAL_KEY: &str = "State:/Network/Global/IPv4";
/// The key of our own service, there while the tunnel is up.
pub const OUR_KEY: &str = "State:/Network/Service/org.hamn/DNS";
/// More services than this are not looked at: a desktop has a dozen.
pub const KEYS_LIMIT: usize = 512;

/// What one key holds: a property list in binary form, compared and put back as it is.
pub type Value = Vec<u8>;

/// What was there before us, by key; `None` when the key did not exist.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Before {
    /// By key.
    pub keys: BTreeMap<String, Option<Value>>,
}

/// The state of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// The plan's resolvers, set by us.
    Ours,
    /// Resolvers of another plan, set by us.
    Stale,
    /// Something else.
    Other(Value),
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changes {
    /// Keys to set to our resolvers.
    pub set: Vec<String>,
    /// The note, to be on disk before anything is set.
    pub before: Before,
    /// Keys that were ours and were changed by another program.
    pub changed_by_others: Vec<String>,
}

impl Changes {
    /// What has to be done for all services to have our resolvers. `primary` is the primary service's id; a key that is
    /// missing there is made, because the service may get resolvers in any moment.
    #[must_use]
    pub fn toward_ours(store: &BTreeMap<String, Held>, primary: Option<&str>, noted: &Before) -> Self {
        let mut changes = Self { before: noted.clone(), ..Self::default() };
        for (key, held) in store {
            match held {
                Held::Ours => continue,
                Held::Stale => drop(changes.before.keys.entry(key.clone()).or_default()),
                Held::Other(value) => {
                    if noted.keys.contains_key(key) {
                        changes.changed_by_others.push(key.clone());
                    }
                    // The newest value of others is what comes back: a lease from another network must not.
                    changes.before.keys.insert(key.clone(), Some(value.clone()).filter(|_| key != OUR_KEY));
                }
            }
            changes.set.push(key.clone());
        }
        let wanted = primary.map(|id| format!("State:/Network/Service/{id}/DNS")).into_iter().chain([OUR_KEY.to_owned()]);
        for key in wanted.filter(|key| !store.contains_key(key)) {
            if noted.keys.contains_key(&key) {
                changes.changed_by_others.push(key.clone());
            }
            changes.before.keys.insert(key.clone(), None);
            changes.set.push(key);
        }
        changes
    }

    /// Nothing has to be done.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
}

/// What to put back: keys that still hold what we set. What another program has set since then stays, a service that is gone
/// stays gone.
#[must_use]
pub fn restoring(store: &BTreeMap<String, Held>, noted: &Before) -> Vec<(String, Option<Value>)> {
    let is_ours = |key: &String| matches!(store.get(key), Some(Held::Ours | Held::Stale));
    noted.keys.iter().filter(|(key, _)| is_ours(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The id of a service in one of its keys.
#[must_use]
pub fn service_of(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once(":/Network/Service/")?;
    rest.strip_suffix("/DNS").filter(|id| !id.is_empty() && !id.contains('/'))
}

/// The addresses as `ServerAddresses` holds them, in order.
#[must_use]
pub fn server_addresses(plan: &DnsPlan) -> Vec<String> {
    plan.resolvers.iter().map(ToString::to_string).collect()
}

/// One line for each change, for people and snapshots.
#[must_use]
pub fn describe(changes: &Changes, plan: &DnsPlan) -> String {
    let servers = server_addresses(plan).join(" ");
    changes.set.iter().map(|key| format!("set {key} ServerAddresses {servers}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::dns_plan;

    const WIFI: &str = "State:/Network/Service/AAAA/DNS";
    const WIFI_SETUP: &str = "Setup:/Network/Service/AAAA/DNS";
    const OTHER: &str = "State:/Network/Service/BBBB/DNS";

    fn other(text: &str) -> Held {
        Held::Other(text.as_bytes().to_vec())
    }

    fn store(entries: &[(&str, Held)]) -> BTreeMap<String, Held> {
        entries.iter().map(|(key, held)| ((*key).to_owned(), held.clone())).collect()
    }

    fn applied(store: &mut BTreeMap<String, Held>, changes: &Changes) {
        store.extend(changes.set.iter().map(|key| (key.clone(), Held::Ours)));
    }

    #[test]
    fn all_services_get_ours_and_get_back_what_they_had() {
        let mut store = store(&[(WIFI, other("lease")), (WIFI_SETUP, other("manual")), (OTHER, other("vpn"))]);
        let original = store.clone();
        let changes = Changes::toward_ours(&store, Some("AAAA"), &Before::default());
        insta::assert_snapshot!(describe(&changes, &dns_plan(&["10.64.0.1", "fd64::1"])));
        assert!(changes.changed_by_others.is_empty());
        applied(&mut store, &changes);
        assert!(Changes::toward_ours(&store, Some("AAAA"), &changes.before).is_empty());
        for (key, value) in restoring(&store, &changes.before) {
            match value {
                Some(value) => store.insert(key, Held::Other(value)),
                None => store.remove(&key),
            };
        }
        assert_eq!(store, original);
    }

    #[test]
    fn a_primary_service_without_resolvers_gets_ours_before_it_gets_others() {
        let changes = Changes::toward_ours(&BTreeMap::new(), Some("AAAA"), &Before::default());
        assert_eq!(changes.set, [WIFI, OUR_KEY]);
        assert!(changes.before.keys.values().all(Option::is_none));
    }

    #[test]
    fn what_another_program_sets_is_set_again_and_comes_back_at_the_end() {
        let mut store = store(&[(WIFI, other("lease"))]);
        let first = Changes::toward_ours(&store, Some("AAAA"), &Before::default());
        applied(&mut store, &first);
        store.insert(WIFI.to_owned(), other("new lease"));
        let second = Changes::toward_ours(&store, Some("AAAA"), &first.before);
        assert_eq!((&second.set, &second.changed_by_others), (&vec![WIFI.to_owned()], &vec![WIFI.to_owned()]));
        applied(&mut store, &second);
        let back = restoring(&store, &second.before);
        assert!(back.contains(&(WIFI.to_owned(), Some(b"new lease".to_vec()))));
        assert!(back.contains(&(OUR_KEY.to_owned(), None)), "ours is removed");
    }

    #[test]
    fn what_is_no_longer_ours_is_not_touched() {
        let noted = Changes::toward_ours(&store(&[(WIFI, other("lease"))]), None, &Before::default()).before;
        assert_eq!(restoring(&store(&[(WIFI, other("newer"))]), &noted), []);
        assert_eq!(restoring(&BTreeMap::new(), &noted), [], "the service is gone");
    }

    #[test]
    fn resolvers_of_the_tunnel_before_are_replaced_and_never_noted_as_the_original() {
        let first = Changes::toward_ours(&store(&[(WIFI, other("lease"))]), Some("AAAA"), &Before::default());
        let now = store(&[(WIFI, Held::Stale), (OUR_KEY, Held::Stale)]);
        let second = Changes::toward_ours(&now, Some("AAAA"), &first.before);
        assert_eq!((second.set.len(), second.changed_by_others.len()), (2, 0));
        assert_eq!(second.before, first.before);
        assert_eq!(restoring(&now, &second.before).len(), 2);
    }

    #[test]
    fn a_new_service_is_no_tampering() {
        let noted = Changes::toward_ours(&store(&[(WIFI, other("lease"))]), Some("AAAA"), &Before::default()).before;
        let now = store(&[(WIFI, Held::Ours), (OUR_KEY, Held::Ours), (OTHER, other("phone"))]);
        let changes = Changes::toward_ours(&now, Some("AAAA"), &noted);
        assert_eq!((changes.set, changes.changed_by_others.len()), (vec![OTHER.to_owned()], 0));
    }

    #[test]
    fn a_key_names_its_service() {
        assert_eq!(service_of(WIFI), Some("AAAA"));
        assert_eq!(service_of(WIFI_SETUP), Some("AAAA"));
        for wrong in ["State:/Network/Global/DNS", "State:/Network/Service//DNS", "State:/Network/Service/a/b/DNS"] {
            assert_eq!(service_of(wrong), None, "{wrong}");
        }
    }
}
