//! Reads the administrator's directory: `policy.d/*.json` and `provider.json`, and what the system keeps of policies (the
//! registry, managed preferences). What is there but cannot be trusted locks down (G15).

#[cfg(target_os = "linux")]
#[path = "administrator/linux.rs"]
mod place;
#[cfg(target_os = "macos")]
#[path = "administrator/macos.rs"]
mod place;
#[cfg(windows)]
#[path = "administrator/windows.rs"]
mod place;
pub mod values;

pub use place::Changes;

use crate::store::atomic::Trust;
use crate::store::{atomic, directory};
use anyhow::{Context, bail};
use hamn_api::ProviderConfig;
use hamn_core::managed::{self, Managed};
use std::path::Path;

/// Largest policy file in bytes.
const LIMIT_BYTES: u64 = 256 * 1024;
/// How many policy files are read.
const MAX_FILES: usize = 64;

/// The merged policy and what to tell the administrator. A policy that cannot be trusted or read is the closed one.
#[must_use]
pub fn policy(policy_dir: &Path) -> (Managed, Vec<String>) {
    match place::documents(policy_dir) {
        Ok(files) => managed::load(&files),
        Err(error) => {
            let note =
                format!("the administrator's policy cannot be used ({error:#}); everything is locked and the network blocked");
            (Managed::locked_down(), vec![note])
        }
    }
}

/// Name and content of each policy file; no content for one that others can write, that is a link, or that is too large.
fn policy_files(policy_dir: &Path) -> anyhow::Result<Vec<(String, Option<Vec<u8>>)>> {
    let directory = policy_dir.join("policy.d");
    // Whoever can write to the directory above can put another one in its place.
    if !directory::of_administrator(policy_dir)? || !directory::of_administrator(&directory)? {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&directory).context("list the policy files")? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        if files.len() >= MAX_FILES {
            bail!("more than {MAX_FILES} policy files");
        }
        let content = atomic::read(&path, LIMIT_BYTES, Trust::Administrator).ok().flatten();
        files.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), content));
    }
    Ok(files)
}

/// The provider to use, if any: `provider.json`, with the addresses that the policy names in place of its own, or with
/// `url` put first when one was given on the command line.
///
/// # Errors
/// When the file is there but not trustworthy or not readable, or addresses were given and no file says whom to trust.
pub fn provider(policy_dir: &Path, url: Option<&str>, by_policy: Option<Vec<String>>) -> anyhow::Result<Option<ProviderConfig>> {
    let path = policy_dir.join("provider.json");
    let bytes = if directory::of_administrator(policy_dir)? {
        atomic::read(&path, LIMIT_BYTES, Trust::Administrator).with_context(|| format!("read {}", path.display()))?
    } else {
        None
    };
    let Some(bytes) = bytes else {
        if let Some(url) = by_policy.iter().flatten().map(String::as_str).chain(url).next() {
            bail!("{url} was given as provider, but {} with its certificate and list keys is missing", path.display());
        }
        return Ok(None);
    };
    let mut config = ProviderConfig::parse(&bytes).with_context(|| format!("read {}", path.display()))?;
    match (by_policy, url) {
        (Some(urls), _) => config.urls = urls,
        (None, Some(url)) => {
            config.urls.retain(|known| known != url);
            config.urls.insert(0, url.to_owned());
        }
        (None, None) => {}
    }
    Ok(Some(config))
}
