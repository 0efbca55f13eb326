//! Secrets on Windows: files sealed with a key in Credential Manager, in the set of the account that the service runs as
//! (LocalSystem). `CRED_PERSIST_LOCAL_MACHINE` keeps it on this computer: it roams nowhere.

use super::SecretStore;
use super::keyring::{ACCOUNT, Keyring, SERVICE};
use super::sealed::SealedFiles;
use keyring_core::Entry;
use keyring_core::api::CredentialStoreApi;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use windows_native_keyring_store::Store;

/// The secrets below `state_dir`.
#[must_use]
pub fn open(state_dir: &Path) -> Arc<dyn SecretStore> {
    Arc::new(SealedFiles::new(state_dir.to_owned(), Keyring { entry }))
}

fn entry() -> keyring_core::Result<Entry> {
    Store::new()?.build(SERVICE, ACCOUNT, Some(&HashMap::from([("persistence", "Local")])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::secrets::SecretName;
    use crate::store::secrets::sealed::KeyStore;

    #[test]
    fn credential_manager_keeps_the_key_and_a_large_secret_survives_a_new_start() {
        let keys = Keyring { entry: || Store::new()?.build("org.hamn.test", ACCOUNT, None) };
        let _ = (keys.entry)().unwrap().delete_credential();
        assert!(keys.read().unwrap().is_none());
        keys.write(&[7; 32]).unwrap();
        assert_eq!(keys.read().unwrap().unwrap().as_slice(), [7; 32]);
        (keys.entry)().unwrap().delete_credential().unwrap();
        assert!(keys.read().unwrap().is_none());
        let directory = tempfile::tempdir().unwrap();
        let secret = vec![b'x'; 60 * 1024];
        open(directory.path()).write(&SecretName::Device, &secret).unwrap();
        assert_eq!(open(directory.path()).read(&SecretName::Device).unwrap().unwrap().as_slice(), secret);
    }
}
