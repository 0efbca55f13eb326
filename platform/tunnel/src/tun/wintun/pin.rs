//! Which file may be loaded as `wintun.dll`: the one beside the helper's executable, with exactly the published content.
//! Pure.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// The file, beside the executable.
pub(super) const FILE: &str = "wintun.dll";
/// SHA-256 of the library of Wintun 0.14 for x86-64 and for ARM64, as in `wintun/bin` of the crates `wintun` 0.5.1 and
/// `wintun-bindings` 0.7.40, and in the archive of wintun.net.
const AMD64: &str = "e5da8447dc2c320edc0fc52fa01885c103de8c118481f683643cacc3220dafce";
const ARM64: &str = "f7ba89005544be9d85231a9e0d5f23b2d15b3311667e2dad0debd344918a3f80";
/// The largest file that is read. The library has less than half of it.
const MOST_BYTES: u64 = 1 << 20;

/// Why a library is not loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LibraryError {
    #[error("{FILE} is loaded only from the directory of the running program, and its path is unknown ({0})")]
    Place(String),
    #[error("{path} is missing: install the program again ({source})")]
    Missing { path: PathBuf, source: io::Error },
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not the {FILE} that belongs to this program: install the program again (SHA-256 {found})")]
    Changed { path: PathBuf, found: String },
    #[error("no {FILE} is known for the processor {0}")]
    Processor(&'static str),
    #[error("Windows does not accept the signature of {path}: error 0x{code:08x}")]
    Signature { path: PathBuf, code: u32 },
    #[error("{path} cannot be loaded: {source}")]
    Load { path: PathBuf, source: io::Error },
    #[error("{path} has no function {function}")]
    Function { path: PathBuf, function: &'static str },
}

/// Where the library is: beside this executable. No search path, no environment, no current directory.
pub(super) fn beside(executable: &Path) -> Result<PathBuf, LibraryError> {
    let plain = |part: Component<'_>| matches!(part, Component::Prefix(_) | Component::RootDir | Component::Normal(_));
    let good = executable.is_absolute() && executable.components().all(plain);
    let directory = executable.parent().filter(|directory| good && !directory.as_os_str().is_empty());
    let directory = directory.ok_or_else(|| LibraryError::Place(executable.display().to_string()))?;
    Ok(directory.join(FILE))
}

/// The content that a processor's library must have, as `std::env::consts::ARCH` names processors.
pub(super) const fn digest_for(processor: &str) -> Option<&'static str> {
    match processor.as_bytes() {
        b"x86_64" => Some(AMD64),
        b"aarch64" => Some(ARM64),
        _ => None,
    }
}

/// Reads the opened file to its end and compares it. What was compared is what is loaded only as long as nobody can write
/// to the file: the caller opens it so.
pub(super) fn check(file: impl Read, path: &Path, expected: &str) -> Result<(), LibraryError> {
    let mut content = Vec::new();
    file.take(MOST_BYTES)
        .read_to_end(&mut content)
        .map_err(|source| LibraryError::Unreadable { path: path.to_owned(), source })?;
    let mut found = String::new();
    for byte in Sha256::digest(&content) {
        // Writing to a String does not fail.
        let _ = write!(found, "{byte:02x}");
    }
    if found == expected { Ok(()) } else { Err(LibraryError::Changed { path: path.to_owned(), found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(content: &[u8]) -> String {
        Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_library_is_beside_the_executable_or_nowhere() {
        let directory = std::env::temp_dir();
        assert_eq!(beside(&directory.join("hamn-helper.exe")).unwrap(), directory.join("wintun.dll"));
        let indirect = directory.join("..").join("hamn-helper.exe");
        for bad in
            [Path::new("hamn-helper.exe"), Path::new("./hamn-helper"), Path::new("bin/hamn-helper"), Path::new(""), &indirect]
        {
            assert!(matches!(beside(bad), Err(LibraryError::Place(_))), "{}", bad.display());
        }
        let root = directory.ancestors().last().unwrap();
        assert!(beside(root).is_err());
    }

    #[test]
    fn an_error_names_the_file_and_the_way_out() {
        let path = || PathBuf::from("C:/Program Files/Hamn/wintun.dll");
        let error = check(&b"tampered"[..], &path(), AMD64).unwrap_err().to_string();
        assert!(
            error.starts_with("C:/Program Files/Hamn/wintun.dll is not the wintun.dll that belongs to this program"),
            "{error}"
        );
        assert!(error.contains("install the program again") && error.contains(&digest(b"tampered")), "{error}");
        let error = beside(Path::new("hamn-helper.exe")).unwrap_err().to_string();
        assert!(error.contains("only from the directory of the running program"), "{error}");
        let source = || io::Error::other("why");
        let errors = [
            LibraryError::Missing { path: path(), source: source() },
            LibraryError::Unreadable { path: path(), source: source() },
            LibraryError::Signature { path: path(), code: 0x800b_0100 },
            LibraryError::Load { path: path(), source: source() },
            LibraryError::Function { path: path(), function: "WintunStartSession" },
        ];
        let texts = errors.map(|error| error.to_string());
        assert!(texts.iter().all(|text| text.contains("C:/Program Files/Hamn/wintun.dll")), "{texts:?}");
        assert!(texts.iter().any(|text| text.ends_with("error 0x800b0100")), "{texts:?}");
        assert_eq!(LibraryError::Processor("mips").to_string(), "no wintun.dll is known for the processor mips");
    }

    #[test]
    fn one_changed_bit_or_one_byte_more_or_less_is_noticed() {
        let content: Vec<u8> = (0..427_552_u32).map(|at| at.to_le_bytes()[0]).collect();
        let expected = digest(&content);
        let refused = |content: &[u8]| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE);
            std::fs::write(&path, content).unwrap();
            let result = check(std::fs::File::open(&path).unwrap(), &path, &expected);
            matches!(result, Err(LibraryError::Changed { .. }))
        };
        assert!(!refused(&content));
        let mut changed = content.clone();
        changed[200_000] ^= 1;
        assert!(refused(&changed));
        assert!(refused(&content[..content.len() - 1]));
        assert!(refused(&[&content[..], &[0]].concat()));
        assert!(refused(&[]));
    }

    #[test]
    fn a_file_without_end_is_refused_after_a_megabyte() {
        let mut endless = std::io::repeat(7);
        assert!(matches!(check(&mut endless, Path::new(FILE), AMD64), Err(LibraryError::Changed { .. })));
    }

    #[test]
    fn the_pins_are_whole_digests() {
        for processor in ["x86_64", "aarch64"] {
            let pin = digest_for(processor).unwrap();
            assert!(pin.len() == 64 && pin.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
        }
        assert_ne!(AMD64, ARM64);
        assert_eq!(digest_for("x86"), None);
    }
}
