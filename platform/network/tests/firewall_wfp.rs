//! The filters for Windows of the named policies, as reviewed text, and what the engine would refuse; needs no Windows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod firewall_policies;

use firewall_policies::{enforced, policy};
use hamn_core::net::InterfaceName;
use hamn_core::policy::NetworkPolicy;
use hamn_network::firewall::Ruleset;
use hamn_network::firewall::compile::wfp::{self, Condition, Lifetime, Sublayer, Verdict};
use hamn_network::firewall::compile::wfp_objects::{
    Bindings, Field, Found, Object, SERVICE_SID, Step, Value, admits, bind, interfaces_of, steps,
};
use std::collections::BTreeSet;

const LUID: u64 = 0x0035_0000_0100_0000;

/// As on a computer where every interface that the policy names exists.
fn objects(name: &str) -> Vec<Object> {
    let NetworkPolicy::Enforce(policy) = policy(name) else { panic!("{name} has filters") };
    let filters = wfp::compile(&Ruleset::enforce(&policy));
    let interfaces = interfaces_of(&filters).into_iter().map(|interface| (interface, LUID)).collect();
    bind(&filters, &Bindings { interfaces, application: b"an application id".to_vec() })
}

fn text(objects: &[Object], lifetime: Lifetime) -> String {
    objects.iter().filter(|object| object.lifetime == lifetime).map(|object| format!("{object}\n")).collect()
}

/// What the engine holds after these were stored.
fn stored(objects: &[Object]) -> Found {
    Found {
        provider: true,
        sublayers: Sublayer::ALL.map(|sublayer| (sublayer, sublayer.weight())).into(),
        filters: objects.iter().map(|object| (object.key, Some(object.clone()))).collect(),
    }
}

#[test]
fn every_named_policy_as_persistent_filters() {
    for (name, _) in enforced() {
        insta::assert_snapshot!(name, text(&objects(name), Lifetime::Persistent));
    }
}

#[test]
fn boot_time_filters_are_those_of_lockdown_whatever_the_policy() {
    let lockdown = text(&objects("lockdown"), Lifetime::BootTime);
    insta::assert_snapshot!("boot_time", lockdown);
    assert_eq!(lockdown.replace("BootTime", "Persistent"), text(&objects("lockdown"), Lifetime::Persistent), "BOOT-05");
    for (name, _) in enforced() {
        assert_eq!(text(&objects(name), Lifetime::BootTime), lockdown, "{name}");
    }
}

/// The engine refuses a whole transaction for one condition that its layer lacks.
#[test]
fn every_condition_is_one_of_its_layer_and_every_key_is_unique() {
    for (name, _) in enforced() {
        let objects = objects(name);
        for object in &objects {
            let fields: BTreeSet<Field> = object.conditions.iter().map(|condition| condition.field).collect();
            assert_eq!(
                fields.len(),
                object.conditions.len(),
                "{name}: two conditions on a field would be alternatives: {object}"
            );
            for condition in &object.conditions {
                assert!(condition.field.is_at(object.layer), "{name}: {object}");
                let v4 = matches!(condition.value, Value::V4(..));
                let v6 = matches!(condition.value, Value::V6(..));
                assert!(!(if object.layer.is_ipv4() { v6 } else { v4 }), "{name}: {object}");
            }
        }
        let keys: BTreeSet<u128> = objects.iter().map(|object| object.key).collect();
        assert_eq!(keys.len(), objects.len(), "{name}");
        let places: BTreeSet<_> =
            objects.iter().map(|object| (object.layer, object.sublayer, object.lifetime, object.weight)).collect();
        assert_eq!(places.len(), objects.len(), "{name}: no two filters of one place have one weight");
    }
}

/// Each layer ends in a block of everything, in both lifetimes and both families (G1, G6, G7).
#[test]
fn every_layer_but_those_that_guard_ends_in_a_block_of_everything() {
    use wfp::Layer;
    for (name, _) in enforced() {
        let objects = objects(name);
        let guards = [Layer::ArriveV4, Layer::ArriveV6];
        for layer in Layer::ALL.into_iter().filter(|layer| !guards.contains(layer)) {
            for lifetime in [Lifetime::Persistent, Lifetime::BootTime] {
                let here = objects.iter().filter(|o| o.layer == layer && o.lifetime == lifetime && o.sublayer == Sublayer::Base);
                let last = here.min_by_key(|object| object.weight).unwrap();
                assert!(last.conditions.is_empty() && last.verdict == Verdict::Block, "{name}: {last}");
            }
        }
    }
}

/// A tunnel that does not exist yet is not permitted, and what keeps its address off other links holds for all of them.
#[test]
fn without_the_interface_less_is_permitted_and_nothing_less_is_blocked() {
    for (name, policy) in enforced() {
        let filters = wfp::compile(&Ruleset::enforce(&policy));
        let without = bind(&filters, &Bindings { application: b"an application id".to_vec(), ..Bindings::default() });
        let with = objects(name);
        let count = |objects: &[Object], verdict| objects.iter().filter(|object| object.verdict == verdict).count();
        let permits_inside = filters.iter().filter(|filter| {
            let inside = |condition: &Condition| matches!(condition, Condition::LocalInterface(_, true));
            filter.verdict == Verdict::Permit && filter.conditions.iter().any(inside)
        });
        let blocks_inside = filters.iter().filter(|filter| {
            let inside = |condition: &Condition| matches!(condition, Condition::LocalInterface(_, true));
            filter.verdict == Verdict::Block && filter.conditions.iter().any(inside)
        });
        assert_eq!(count(&without, Verdict::Permit), count(&with, Verdict::Permit) - permits_inside.count(), "{name}");
        assert_eq!(count(&without, Verdict::Block), count(&with, Verdict::Block) - blocks_inside.count(), "{name}");
        assert!(without.iter().flat_map(|object| &object.conditions).all(|one| one.field != Field::LocalInterface), "{name}");
    }
    let everywhere = wfp::Filter {
        key: 0,
        layer: wfp::Layer::ConnectV4,
        sublayer: Sublayer::Base,
        weight: 1,
        verdict: Verdict::Permit,
        conditions: vec![Condition::LocalInterface(InterfaceName::tunnel(), false)],
        lifetime: Lifetime::Persistent,
        purpose: hamn_network::firewall::ruleset::Purpose::Lan,
    };
    assert!(bind(&[everywhere], &Bindings::default()).is_empty(), "a permit never loses its last condition");
}

/// Our own sockets are told by program and by service (G8); every filter for them asks for both.
#[test]
fn a_filter_for_our_own_sockets_asks_for_program_and_service() {
    for (name, _) in enforced() {
        for object in objects(name) {
            let has = |field| object.conditions.iter().any(|condition| condition.field == field);
            assert_eq!(has(Field::Application), has(Field::User), "{name}: {object}");
        }
    }
    let own = objects("connecting_v4").into_iter().filter(|o| o.conditions.iter().any(|one| one.field == Field::User));
    assert!(own.count() >= 2, "gateway and API");
}

/// `[MS-DTYP]` 2.4.6: header, list of one entry, owner, group; byte for byte.
#[test]
fn the_descriptor_admits_the_service_alone() {
    let hex: String = admits(&SERVICE_SID).iter().map(|byte| format!("{byte:02x}")).collect();
    let sha1_of_name_in_utf16 = "e31982a88bc921013055e346c716a5f7a696578c";
    let service = "010600000000000550000000".to_owned() + sha1_of_name_in_utf16;
    let system = "010100000000000512000000";
    let header = "01000480".to_owned() + "44000000" + "50000000" + "00000000" + "14000000";
    let list = "02003000".to_owned() + "01000000" + "00002800" + "01000000" + &service;
    assert_eq!(hex, header + &list + system + system);
}

#[test]
fn a_transaction_changes_only_what_differs() {
    let (lockdown, connected) = (objects("lockdown"), objects("connected_dual"));
    let first = steps(&Found::default(), &lockdown);
    assert_eq!(first.iter().filter(|step| matches!(step, Step::AddFilter(_))).count(), lockdown.len());
    assert!(matches!(first[..3], [Step::AddProvider, Step::AddSublayer(Sublayer::Dns), Step::AddSublayer(Sublayer::Base)]));
    assert_eq!(steps(&stored(&lockdown), &lockdown), []);
    assert_eq!(stored(&lockdown).difference(&lockdown), None);

    let change = steps(&stored(&lockdown), &connected);
    let deleted = change.iter().filter(|step| matches!(step, Step::DeleteFilter(_))).count();
    let added = change.iter().filter(|step| matches!(step, Step::AddFilter(_))).count();
    assert_eq!(lockdown.len() - deleted + added, connected.len());
    assert!(deleted < lockdown.len(), "boot-time filters stay as they are");

    let end = steps(&stored(&connected), &[]);
    assert_eq!(end.len(), connected.len() + 3);
    assert_eq!(end.last(), Some(&Step::DeleteProvider), "what others refer to goes last (G19)");
    assert_eq!(steps(&Found::default(), &[]), []);
}

/// Whatever another program did, the difference is seen and the transaction ends in exactly the wanted filters (TAMPER).
#[test]
fn every_kind_of_tampering_is_seen_and_undone() {
    type Harm = fn(&mut Found);
    let harms: [(&str, Harm); 7] = [
        ("a filter deleted", |found| drop(found.filters.pop_first())),
        ("all filters deleted", |found| found.filters.clear()),
        ("everything deleted", |found| *found = Found::default()),
        ("a filter that cannot be read", |found| *found.filters.values_mut().next().unwrap() = None),
        ("a filter with another verdict under its key", |found| {
            let object = found.filters.values_mut().next().unwrap().as_mut().unwrap();
            object.verdict = if object.verdict == Verdict::Block { Verdict::Permit } else { Verdict::Block };
        }),
        ("a foreign filter", |found| drop(found.filters.insert(7, None))),
        ("a sublayer of another weight", |found| found.sublayers.extend([(Sublayer::Dns, 1)])),
    ];
    let wanted = objects("connected_dual_lan");
    for (name, harm) in harms {
        let mut found = stored(&wanted);
        harm(&mut found);
        assert!(found.difference(&wanted).is_some(), "{name}");
        assert_eq!(perform(found.clone(), &steps(&found, &wanted)), stored(&wanted), "{name}");
    }
}

/// The engine in a few lines: refuses what the real one refuses.
fn perform(mut found: Found, steps: &[Step<'_>]) -> Found {
    for step in steps {
        match step {
            Step::DeleteFilter(key) => assert!(found.filters.remove(key).is_some()),
            Step::DeleteSublayer(sublayer) => {
                let used = found.filters.values().flatten().any(|object| object.sublayer == *sublayer);
                assert!(!used && found.sublayers.remove(sublayer).is_some(), "in use, or not there");
            }
            Step::DeleteProvider => assert!(found.provider && found.filters.is_empty() && found.sublayers.is_empty()),
            Step::AddProvider => assert!(!std::mem::replace(&mut found.provider, true)),
            Step::AddSublayer(sublayer) => assert_eq!(found.sublayers.insert(*sublayer, sublayer.weight()), None),
            Step::AddFilter(object) => {
                assert!(found.provider && found.sublayers.contains_key(&object.sublayer));
                assert!(found.filters.insert(object.key, Some((*object).clone())).is_none(), "a key twice");
            }
        }
    }
    found
}
