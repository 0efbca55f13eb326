//! Files that the user asks for: a report or the settings, saved where downloads go. The page never names a path.

#[cfg(all(test, unix))]
#[path = "files/unix.rs"]
mod unix;

use crate::private_file;
use hamn_ipc::{Problem, ProblemCode};
use schemars::JsonSchema;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// How many names are tried before giving up.
const NAMES: u32 = 20;

/// What is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The redacted report.
    Report,
    /// The settings as JSON.
    Settings,
}

impl Kind {
    const fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Report => ("hamn-report", "txt"),
            Self::Settings => ("hamn-settings", "json"),
        }
    }

    /// Largest content in bytes.
    const fn largest(self) -> usize {
        match self {
            Self::Report => 4 * 1024 * 1024,
            Self::Settings => 256 * 1024,
        }
    }
}

/// Where a file was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Saved {
    /// Its path, for the user to read.
    pub path: String,
}

/// Saves `text` as a new file in `directory`, named after `now` (UTC). Nothing is ever overwritten.
///
/// # Errors
/// `too_large`; `internal` with the operating system's word.
pub fn save(kind: Kind, text: &str, directory: &Path, now: OffsetDateTime) -> Result<Saved, Problem> {
    if text.len() > kind.largest() {
        return Err(Problem::new(ProblemCode::TooLarge));
    }
    for number in 0..NAMES {
        let path = directory.join(name(kind, now, number));
        match private_file::create(&path, text.as_bytes()) {
            Ok(()) => return Ok(Saved { path: path.display().to_string() }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    Err(failed(&directory.join(name(kind, now, 0)), &io::ErrorKind::AlreadyExists.into()))
}

fn failed(path: &Path, error: &io::Error) -> Problem {
    Problem::with_detail(ProblemCode::Internal, format!("{}: {error}", path.display()))
        .action("Make sure that your download directory exists and can be written, then try again.")
}

fn name(kind: Kind, now: OffsetDateTime, number: u32) -> PathBuf {
    let (stem, extension) = kind.name();
    let (date, clock) = (now.date(), now.time());
    let day = format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day());
    let time = format!("{:02}{:02}{:02}", clock.hour(), clock.minute(), clock.second());
    let again = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    format!("{stem}-{day}-{time}{again}.{extension}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-20 07:08:09 UTC);

    #[test]
    fn each_save_is_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let save = |text| save(Kind::Report, text, directory.path(), NOW).unwrap().path;
        let (one, two) = (save("one"), save("two"));
        assert!(Path::new(&one).ends_with("hamn-report-20261120-070809.txt"), "{one}");
        assert!(Path::new(&two).ends_with("hamn-report-20261120-070809-2.txt"), "{two}");
        assert_eq!((fs::read_to_string(&one).unwrap(), fs::read_to_string(&two).unwrap()), ("one".into(), "two".into()));
    }

    #[test]
    fn too_much_and_nowhere_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let large = "x".repeat(Kind::Settings.largest() + 1);
        assert_eq!(save(Kind::Settings, &large, directory.path(), NOW).unwrap_err().code, ProblemCode::TooLarge);
        let nowhere = directory.path().join("missing");
        assert_eq!(save(Kind::Report, "x", &nowhere, NOW).unwrap_err().code, ProblemCode::Internal);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
