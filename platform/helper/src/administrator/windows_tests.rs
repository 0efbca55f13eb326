//! Policies in a real registry: they are read, locked, told when they change, and gone afterwards.

use super::*;
use hamn_core::settings::{KillSwitch, Settings};

/// Removes what the test wrote, also when it fails.
struct Cleared;

impl Drop for Cleared {
    fn drop(&mut self) {
        let _ = LOCAL_MACHINE.remove_tree(OURS);
    }
}

#[test]
fn policies_of_the_registry_are_read_and_told_when_they_change() {
    let _ = LOCAL_MACHINE.create(ALL).unwrap();
    let _cleared = Cleared;
    let _ = LOCAL_MACHINE.remove_tree(OURS);
    let nowhere = tempfile::tempdir().unwrap().path().join("none");
    assert_eq!(crate::administrator::policy(&nowhere), (hamn_core::managed::Managed::default(), Vec::new()));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut changes = Changes::watch().unwrap();
    let key = LOCAL_MACHINE.create(OURS).unwrap();
    key.set_u32("lockdown", 1).unwrap();
    key.set_multi_string("dns", &["10.0.0.53"]).unwrap();
    key.create("provider").unwrap().set_string("1", "https://vpn.example").unwrap();
    key.create(RECOMMENDED).unwrap().set_u32("allow_lan", 1).unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), changes.next()).await.unwrap() });
    let (managed, notes) = crate::administrator::policy(&nowhere);
    assert_eq!(notes, Vec::<String>::new());
    let effective = managed.apply(&Settings::default());
    assert_eq!(effective.settings.kill_switch, KillSwitch::Always);
    assert!(effective.is_locked("kill-switch") && effective.is_locked("dns") && !effective.is_locked("allow-lan"));
    assert!(managed.defaults().allow_lan && effective.provider.unwrap().len() == 1);

    key.set_string("lockdown", "nonsense").unwrap();
    let (managed, notes) = crate::administrator::policy(&nowhere);
    assert!(managed.apply(&Settings::default()).is_locked("mtu") && notes.len() == 1, "{notes:?}");
}
