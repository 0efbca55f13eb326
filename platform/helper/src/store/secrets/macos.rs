//! Secrets on macOS: files sealed with a key in the System keychain, which a daemon of root can use with nobody logged in
//! (Keychain Services, `SecPreferencesDomain.system`).

use super::SecretStore;
use super::keyring::{ACCOUNT, Keyring, SERVICE};
use super::sealed::SealedFiles;
use apple_native_keyring_store::keychain::Store;
use keyring_core::Entry;
use keyring_core::api::CredentialStoreApi;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The secrets below `state_dir`.
#[must_use]
pub fn open(state_dir: &Path) -> Arc<dyn SecretStore> {
    Arc::new(SealedFiles::new(state_dir.to_owned(), Keyring { entry }))
}

fn entry() -> keyring_core::Result<Entry> {
    Store::new_with_configuration(&HashMap::from([("keychain", "System")]))?.build(SERVICE, ACCOUNT, None)
}
