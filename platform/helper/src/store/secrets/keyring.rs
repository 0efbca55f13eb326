//! The sealing key as one entry of the system's credential store (crates `keyring-core` and its native stores).

use super::sealed::KeyStore;
use keyring_core::{Entry, Error};
use std::io;
use zeroize::Zeroizing;

/// Service and account under which the key is kept.
pub(super) const SERVICE: &str = "org.hamn.helper";
pub(super) const ACCOUNT: &str = "sealing-key";

/// Opens the store and the entry in it, each time: a keychain may be locked, replaced or unlocked meanwhile.
pub(super) struct Keyring {
    pub(super) entry: fn() -> keyring_core::Result<Entry>,
}

impl KeyStore for Keyring {
    fn read(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        match (self.entry)().and_then(|entry| entry.get_secret()) {
            Ok(secret) => Ok(Some(Zeroizing::new(secret))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(told(&error)),
        }
    }
    fn write(&self, key: &[u8]) -> io::Result<()> {
        (self.entry)().and_then(|entry| entry.set_secret(key)).map_err(|error| told(&error))
    }
}

/// The words of a store never hold the secret, but an error of encoding carries it: only kinds that do not are quoted (G14).
fn told(error: &Error) -> io::Error {
    let words = if let Error::PlatformFailure(cause) | Error::NoStorageAccess(cause) = error {
        format!("the system's credential store: {cause}")
    } else {
        "the system's credential store cannot be used".to_owned()
    };
    io::Error::other(words)
}
