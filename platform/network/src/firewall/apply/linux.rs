//! Running `nft`: absolute path, fixed arguments, empty environment, JSON on standard input, a time limit, bounded output.
//!
//! Every load is read back and compared with what was asked for; a difference is an error, never a success.

use crate::firewall::Ruleset;
use crate::firewall::compile::nftables::{self, FAMILIES};
use hamn_core::policy::NetworkPolicy;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Where distributions put nft. Never looked up through `PATH`.
const CANDIDATES: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
const ARGUMENTS: [&str; 3] = ["-j", "-f", "-"];
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// A listing of ours is about 250 bytes a rule; this is room for many thousand rules.
const MAX_OUTPUT_BYTES: u64 = 4 << 20;
const MAX_COMPLAINT_BYTES: u64 = 4096;
const MAX_REASON_CHARS: usize = 300;

/// Why the firewall is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not installed, or cannot be started.
    #[error("nft cannot be started; install the package \"nftables\": {0}")]
    NftMissing(io::Error),
    /// The program refused the transaction; the rules before it are still in force.
    #[error("nft refused the rules: {reason}")]
    NftRefused {
        /// The start of what it said.
        reason: String,
    },
    /// The program did not end in time. Whether the rules are in force is unknown.
    #[error("nft did not answer within {} s", TIME_LIMIT.as_secs())]
    Timeout,
    /// The kernel holds other rules than asked for.
    #[error("the rules in force are not those asked for ({detail})")]
    ReadBackDiffers {
        /// The first difference.
        detail: String,
    },
    /// Talking to the program failed, or its answer makes no sense.
    #[error("talk to nft: {0}")]
    Io(#[from] io::Error),
}

/// The `nft` program of this machine.
#[derive(Clone, Debug)]
pub struct Nft {
    path: PathBuf,
}

impl Nft {
    /// Finds the program in its fixed places.
    ///
    /// # Errors
    /// [`NftError::NftMissing`] when it is in none of them.
    pub fn find() -> Result<Self, NftError> {
        CANDIDATES
            .iter()
            .map(Path::new)
            .find(|path| path.is_file())
            .map(Self::at)
            .ok_or_else(|| NftError::NftMissing(io::Error::from(io::ErrorKind::NotFound)))
    }

    /// The program at this absolute path.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Makes the policy true: its rules in force and read back, or nothing of ours left for an open one.
    ///
    /// # Errors
    /// See [`NftError`]. After an error the rules in force are the old or the new ones, never fewer (G4).
    pub async fn enforce(&self, policy: &NetworkPolicy) -> Result<(), NftError> {
        match Ruleset::lower(policy) {
            Some(rules) => self.apply(&rules).await,
            None => self.remove().await,
        }
    }

    /// Swaps in these rules in one transaction, reads them back and compares.
    ///
    /// # Errors
    /// See [`NftError`].
    pub async fn apply(&self, rules: &Ruleset) -> Result<(), NftError> {
        self.load(&nftables::batch(rules)).await?;
        match self.difference(rules).await? {
            None => Ok(()),
            Some(detail) => Err(NftError::ReadBackDiffers { detail }),
        }
    }

    /// Removes everything of ours and makes sure that it is gone.
    ///
    /// # Errors
    /// See [`NftError`].
    pub async fn remove(&self) -> Result<(), NftError> {
        self.load(&nftables::remove()).await?;
        if self.is_present().await? {
            return Err(NftError::ReadBackDiffers { detail: "a table of ours is still there".to_owned() });
        }
        Ok(())
    }

    /// True when the kernel holds exactly these rules in our chains.
    ///
    /// # Errors
    /// [`NftError::NftMissing`], [`NftError::Timeout`] or [`NftError::Io`]; a listing that nft refuses is a difference.
    pub async fn matches(&self, rules: &Ruleset) -> Result<bool, NftError> {
        Ok(self.difference(rules).await?.is_none())
    }

    /// True when any table of ours exists.
    ///
    /// # Errors
    /// See [`NftError`].
    pub async fn is_present(&self) -> Result<bool, NftError> {
        let listing = self.ask(&nftables::list_tables()).await?;
        let tables = listing.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(tables.iter().filter_map(|object| object.get("table")).any(|table| {
            let is = |field: &str, value: &str| table.get(field).and_then(Value::as_str) == Some(value);
            is("name", nftables::TABLE) && FAMILIES.iter().any(|family| is("family", family))
        }))
    }

    /// Runs one transaction without reading it back.
    ///
    /// # Errors
    /// See [`NftError`].
    pub async fn load(&self, batch: &Value) -> Result<(), NftError> {
        self.run(batch).await.map(|_| ())
    }

    async fn difference(&self, rules: &Ruleset) -> Result<Option<String>, NftError> {
        // Two listings: nft 1.0.6 forgets the first table when one request names two.
        let [inet, arp] = FAMILIES;
        let (inet, arp) = tokio::join!(self.difference_in(rules, inet), self.difference_in(rules, arp));
        Ok(inet?.or(arp?))
    }

    async fn difference_in(&self, rules: &Ruleset, family: &str) -> Result<Option<String>, NftError> {
        let listing = match self.ask(&nftables::list(family)).await {
            Ok(listing) => listing,
            // Most often: the table is gone.
            Err(NftError::NftRefused { reason }) => return Ok(Some(format!("table {family} {}: {reason}", nftables::TABLE))),
            Err(error) => return Err(error),
        };
        let Some(found) = nftables::listed(&listing, family) else { return Ok(Some("not a listing".to_owned())) };
        Ok(first_difference(&nftables::expected(rules, family), &found))
    }

    async fn ask(&self, request: &Value) -> Result<Value, NftError> {
        let answer = self.run(request).await?;
        serde_json::from_slice(&answer).map_err(|error| NftError::Io(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    async fn run(&self, input: &Value) -> Result<Vec<u8>, NftError> {
        let input = input.to_string();
        let (status, output, complaint) =
            tokio::time::timeout(TIME_LIMIT, self.exchange(input.as_bytes())).await.map_err(|_| NftError::Timeout)??;
        if status.success() { Ok(output) } else { Err(NftError::NftRefused { reason: short(&complaint) }) }
    }

    /// When this is dropped half-way, the child is killed.
    async fn exchange(&self, input: &[u8]) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), NftError> {
        let mut child = Command::new(&self.path)
            .args(ARGUMENTS)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NftError::NftMissing)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(NftError::Io(io::Error::other("a pipe of nft is missing")));
        };
        let write = async move {
            match stdin.write_all(input).await {
                // It ended without reading all: the exit status tells why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                result => result,
            }
        };
        let (written, output, complaint) =
            tokio::join!(write, read_bounded(stdout, MAX_OUTPUT_BYTES), read_bounded(stderr, MAX_COMPLAINT_BYTES));
        written?;
        let (output, complaint) = (output?, complaint?);
        Ok((child.wait().await?, output, complaint))
    }
}

/// Reads to the end, but keeps no more than `limit`; more than that on standard output is no answer of ours.
async fn read_bounded(mut from: impl AsyncRead + Unpin, limit: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    (&mut from).take(limit).read_to_end(&mut kept).await?;
    // The rest is read and thrown away: a child that blocks on a full pipe would never end.
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(kept)
}

fn first_difference(expected: &[Value], found: &[Value]) -> Option<String> {
    let at = expected.iter().zip(found).position(|(a, b)| a != b);
    let at = at.or_else(|| (expected.len() != found.len()).then(|| expected.len().min(found.len())))?;
    let text = |object: Option<&Value>| object.map_or_else(|| "nothing".to_owned(), |object| clip(&object.to_string()));
    Some(format!("expected {}, found {}", text(expected.get(at)), text(found.get(at))))
}

/// The start of a complaint, on one line.
fn short(complaint: &[u8]) -> String {
    clip(&String::from_utf8_lossy(complaint))
}

fn clip(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = Nft::at(Path::new("/nonexistent/nft")).apply(&Ruleset::lockdown()).await.unwrap_err();
        assert!(matches!(error, NftError::NftMissing(_)), "{error}");
        assert!(error.to_string().contains("install the package"));
    }

    #[tokio::test]
    async fn a_program_that_refuses_or_talks_without_end_is_an_error() {
        let error = Nft::at(Path::new("/bin/false")).apply(&Ruleset::lockdown()).await.unwrap_err();
        assert!(matches!(error, NftError::NftRefused { .. }), "{error}");
        // It prints its arguments, which is no listing of ours.
        let error = Nft::at(Path::new("/bin/echo")).apply(&Ruleset::lockdown()).await.unwrap_err();
        assert!(matches!(error, NftError::Io(_)), "{error}");
    }

    #[test]
    fn complaints_are_short_and_on_one_line() {
        let reason = short("x\n\u{1b}[31m".repeat(1000).as_bytes());
        assert!(reason.chars().count() <= MAX_REASON_CHARS && !reason.contains(['\n', '\u{1b}']), "{reason}");
    }
}
