//! Secrets as sealed files: one random key rests in the system's credential store, and everything else is encrypted with it
//! in files that are as atomic as all others.
//!
//! Credential Manager takes 2,560 bytes at most (`CRED_MAX_CREDENTIAL_BLOB_SIZE`), and a profile has up to 64 KiB; the key
//! has 32 bytes. A copy of the disk alone opens nothing, and a file cannot be put in the place of another: its name is
//! sealed with it.

use super::{SecretFiles, SecretName, SecretStore};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// How a sealed file begins: which form it has.
const FORM: &[u8; 8] = b"hamnsea1";
const KEY: usize = 32;
const NONCE: usize = 12;

/// The credential store of the system, as far as it is needed: it holds one key.
pub trait KeyStore: Send + Sync {
    /// The key, or `None` when there is none. A store that is locked or out of reach is an error, not an empty one.
    fn read(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>>;
    /// Keeps the key.
    fn write(&self, key: &[u8]) -> io::Result<()>;
}

/// Sealed files below a directory for us alone.
pub struct SealedFiles<K> {
    files: SecretFiles,
    keys: K,
    known: Mutex<Option<Zeroizing<[u8; KEY]>>>,
}

impl<K: KeyStore> SealedFiles<K> {
    /// Uses `directory`, which the caller has checked (`directory::private`), and the key of `keys`. Asks for it only when
    /// a secret is read or written: who has none needs no store.
    #[must_use]
    pub const fn new(directory: PathBuf, keys: K) -> Self {
        Self { files: SecretFiles::new(directory), keys, known: Mutex::new(None) }
    }

    /// The key; a new one when there is none and it is to be `made`.
    fn key(&self, made: bool) -> io::Result<Option<Zeroizing<[u8; KEY]>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = match self.keys.read()? {
                Some(stored) => {
                    let key = <[u8; KEY]>::try_from(stored.as_slice());
                    Some(Zeroizing::new(key.map_err(|_| invalid("the key in the system's credential store is damaged"))?))
                }
                None if made => {
                    let key = Zeroizing::new(rand::random::<[u8; KEY]>());
                    self.keys.write(key.as_slice())?;
                    Some(key)
                }
                None => None,
            };
        }
        Ok(known.clone())
    }
}

impl<K: KeyStore> SecretStore for SealedFiles<K> {
    fn read(&self, name: &SecretName) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(sealed) = self.files.read(name)? else { return Ok(None) };
        let lost = "it is sealed with a key that the system's credential store no longer has; log in or import it again";
        let key = self.key(false)?.ok_or_else(|| invalid(lost))?;
        open(&key, name, &sealed).map(Some)
    }
    fn write(&self, name: &SecretName, secret: &[u8]) -> io::Result<()> {
        let key = self.key(true)?.ok_or_else(|| invalid("no key to seal with"))?;
        self.files.write(name, &seal(&key, name, secret)?)
    }
    fn remove(&self, name: &SecretName) -> io::Result<()> {
        self.files.remove(name)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn cipher(key: &[u8; KEY]) -> io::Result<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new).map_err(|_| invalid("a key of another length"))
}

/// What is sealed with a secret without being hidden: form and name.
fn associated(name: &SecretName) -> Aad<Vec<u8>> {
    Aad::from([FORM, name.file_name().as_bytes()].concat())
}

/// Form, nonce, then what ChaCha20-Poly1305 (RFC 8439) makes of it. The nonce is random: a computer that writes a secret
/// every second for a century stays far below the 2^32 for which that is sound.
fn seal(key: &[u8; KEY], name: &SecretName, secret: &[u8]) -> io::Result<Vec<u8>> {
    let nonce: [u8; NONCE] = rand::random();
    // With room for the tag the buffer never moves: no copy of the secret is left behind.
    let mut hidden = Vec::with_capacity(secret.len().saturating_add(CHACHA20_POLY1305.tag_len()));
    hidden.extend_from_slice(secret);
    cipher(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), associated(name), &mut hidden)
        .map_err(|_| invalid("it could not be sealed"))?;
    Ok([FORM.as_slice(), &nonce, &hidden].concat())
}

fn open(key: &[u8; KEY], name: &SecretName, sealed: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let damaged = || invalid("the sealed file is damaged, or not one of this computer");
    let rest = sealed.strip_prefix(FORM).ok_or_else(damaged)?;
    let (nonce, hidden) = rest.split_at_checked(NONCE).ok_or_else(damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
    let mut secret = Zeroizing::new(hidden.to_vec());
    let length = cipher(key)?.open_in_place(nonce, associated(name), &mut secret).map_err(|_| damaged())?.len();
    secret.truncate(length);
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Scripted(Arc<Mutex<(Option<Vec<u8>>, bool)>>);

    impl KeyStore for Scripted {
        fn read(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
            let state = self.0.lock().unwrap();
            if state.1 { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(state.0.clone().map(Zeroizing::new)) }
        }
        fn write(&self, key: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().0 = Some(key.to_vec());
            Ok(())
        }
    }

    fn store(directory: &std::path::Path, keys: &Scripted) -> SealedFiles<Scripted> {
        SealedFiles::new(directory.to_owned(), keys.clone())
    }

    #[test]
    fn secrets_come_back_and_are_not_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Scripted::default();
        let secret = [b"PrivateKey = ".to_vec(), vec![b'k'; 64 * 1024 - 13]].concat();
        store(directory.path(), &keys).write(&SecretName::Device, &secret).unwrap();
        assert_eq!(store(directory.path(), &keys).read(&SecretName::Device).unwrap().unwrap().as_slice(), secret);
        let raw = std::fs::read(directory.path().join("device.json")).unwrap();
        assert!(!raw.windows(8).any(|part| part == b"kkkkkkkk" || part == b"PrivateK"));
        assert!(store(directory.path(), &keys).read(&SecretName::Session).unwrap().is_none());
        store(directory.path(), &keys).remove(&SecretName::Device).unwrap();
        assert!(store(directory.path(), &keys).read(&SecretName::Device).unwrap().is_none());
    }

    #[test]
    fn no_bit_can_be_changed_and_no_file_put_in_the_place_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Scripted::default();
        let secrets = store(directory.path(), &keys);
        secrets.write(&SecretName::Device, b"one").unwrap();
        let path = directory.path().join("device.json");
        let sealed = std::fs::read(&path).unwrap();
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            std::fs::write(&path, &other).unwrap();
            assert!(secrets.read(&SecretName::Device).is_err(), "byte {at}");
            std::fs::write(&path, &sealed[..at]).unwrap();
            assert!(secrets.read(&SecretName::Device).is_err(), "length {at}");
        }
        std::fs::write(directory.path().join("device-new.json"), &sealed).unwrap();
        assert!(secrets.read(&SecretName::NewDevice).is_err());
    }

    #[test]
    fn a_store_that_is_locked_makes_no_new_key_and_one_that_was_emptied_does() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Scripted::default();
        store(directory.path(), &keys).write(&SecretName::Session, b"old").unwrap();
        keys.0.lock().unwrap().1 = true;
        let locked = store(directory.path(), &keys);
        assert!(locked.write(&SecretName::Session, b"new").is_err() && locked.read(&SecretName::Session).is_err());
        *keys.0.lock().unwrap() = (None, false);
        let emptied = store(directory.path(), &keys);
        assert!(emptied.read(&SecretName::Session).unwrap_err().to_string().contains("log in"));
        emptied.write(&SecretName::Session, b"new").unwrap();
        assert_eq!(emptied.read(&SecretName::Session).unwrap().unwrap().as_slice(), b"new");
        keys.0.lock().unwrap().0 = Some(vec![1; 5]);
        assert!(store(directory.path(), &keys).read(&SecretName::Session).is_err());
    }
}
