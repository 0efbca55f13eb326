//! The licences of the libraries that are compiled into the programs and the page: their names, and the texts that their authors ship.

use super::{output, read};
use crate::build::{cargo, root};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Beginnings of the names of files with such texts, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
/// A longer one is no licence text.
const LIMIT: u64 = 256 * 1024;

/// A library of others.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Library {
    /// `name-version`.
    name: String,
    /// The expression in its manifest.
    licence: String,
    /// Its sources, when they are on this computer.
    place: Option<PathBuf>,
}

/// A list of the libraries, then each text once with the libraries that carry it. With the page's libraries when `page` is set.
pub fn texts(packages: &[&str], page: bool) -> Result<String> {
    texts_for(packages, page, None)
}

/// The same, of the programs for another target.
pub fn texts_for(packages: &[&str], page: bool, target: Option<&str>) -> Result<String> {
    let mut libraries = libraries(packages, target)?;
    if page {
        libraries.extend(page_libraries(&root()?.join("ui"))?);
    }
    let mut list = String::from("These libraries are compiled into the programs of this package.\n\n");
    let mut carriers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for Library { name, licence, place } in &libraries {
        list.push_str(&format!("{name}: {licence}\n"));
        for text in place.as_deref().map(own_texts).transpose()?.unwrap_or_default() {
            carriers.entry(text).or_default().push(name);
        }
    }
    let mut texts: Vec<(Vec<&str>, String)> = carriers.into_iter().map(|(text, of)| (of, text)).collect();
    texts.sort();
    for (of, text) in texts {
        list.push_str(&format!("\n{}\n{}:\n\n{text}\n", "=".repeat(100), of.join(", ")));
    }
    Ok(list)
}

fn libraries(packages: &[&str], target: Option<&str>) -> Result<BTreeSet<Library>> {
    let places = places()?;
    let mut found = BTreeSet::new();
    for package in packages {
        let mut tree = cargo(&format!("tree --offline --locked --edges normal --prefix none --package {package} --format"))?;
        let tree = tree.arg("{p}|{l}");
        if let Some(target) = target {
            tree.args(["--target", target]);
        }
        let listing = output(tree)?;
        // Parts of this workspace have a path in parentheses behind the version.
        let others = listing.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.contains("(/"));
        for line in others {
            let (library, licence) = line.split_once('|').context("cargo tree prints something else")?;
            let mut words = library.split(' ');
            let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let name = format!("{name}-{}", version.trim_start_matches('v'));
            let place = places.iter().map(|place| place.join(&name)).find(|place| place.is_dir());
            found.insert(Library { name, licence: licence.to_owned(), place });
        }
    }
    ensure!(found.len() > 20, "cargo tree lists only {} libraries", found.len());
    Ok(found)
}

/// What npm's lock file names and does not call a tool of development. npm writes it with one value a line.
fn page_libraries(directory: &Path) -> Result<Vec<Library>> {
    let lock = read(&directory.join("package-lock.json"))?;
    let mut found = Vec::new();
    for entry in lock.split("\n    \"node_modules/").skip(1) {
        let (entry, _) = entry.split_once("\n    }").context("package-lock.json has an entry without an end")?;
        let (path, _) = entry.split_once('"').context("package-lock.json has an entry without a name")?;
        let value = |key: &str| {
            let (_, after) = entry.split_once(&format!("\n      \"{key}\": \""))?;
            Some(after.split_once('"')?.0)
        };
        if !entry.contains("\n      \"dev\": true") {
            let name = path.rsplit("node_modules/").next().unwrap_or(path);
            let version = value("version").with_context(|| format!("{name} has no version"))?;
            let licence = value("license").with_context(|| format!("{name} has no licence"))?;
            let place = Some(directory.join("node_modules").join(path)).filter(|place| place.is_dir());
            found.push(Library { name: format!("{name}-{version}"), licence: licence.to_owned(), place });
        }
    }
    ensure!(found.len() > 5, "package-lock.json names only {} libraries", found.len());
    Ok(found)
}

/// The directories with the sources of libraries.
pub fn places() -> Result<Vec<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).context("HOME is not set")?;
    let sources = home.join("registry/src");
    let entries = fs::read_dir(&sources).with_context(|| format!("read {}", sources.display()))?;
    let mut places = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    places.sort();
    Ok(places)
}

fn own_texts(directory: &Path) -> Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let wanted = NAMES.iter().any(|start| name.starts_with(start));
        if wanted && entry.metadata().is_ok_and(|data| data.is_file() && data.len() <= LIMIT) {
            // A text that is no text is listed by its name alone.
            texts.extend(fs::read_to_string(entry.path()).map(|text| text.trim().replace("\r\n", "\n")));
        }
    }
    Ok(texts)
}
