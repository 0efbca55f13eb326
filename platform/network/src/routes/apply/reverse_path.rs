//! `src_valid_mark`: with strict `rp_filter` the kernel accepts replies to our marked sockets only if it looks at the mark.
//!
//! Measured: strict `rp_filter` kills the tunnel unless this is 1 and the firewall restores the mark by connection
//! tracking. The value found is kept in a file until it is restored.

use crate::files;
use std::path::Path;

const JOURNAL: &str = "src-valid-mark.before";
const SWITCH: &str = "net/ipv4/conf/all/src_valid_mark";

/// Sets the switch when it is off.
///
/// # Errors
/// A sentence for people when reverse path filtering will drop the tunnel's packets and the switch cannot be set.
pub fn accept_marked_replies(proc_sys: &Path, state_dir: &Path) -> Result<(), String> {
    let switch = proc_sys.join(SWITCH);
    let Ok(before) = std::fs::read_to_string(&switch) else { return Ok(()) };
    if before.trim() == "1" {
        return Ok(());
    }
    let journal = state_dir.join(JOURNAL);
    // A full disk must not cost the tunnel: without a note the switch stays on, which harms nobody.
    if !journal.exists()
        && let Err(error) = files::write_atomically(&journal, before.trim().as_bytes(), 0o600)
    {
        tracing::warn!(%error, "src_valid_mark will not be set back");
    }
    match std::fs::write(&switch, "1\n") {
        Ok(()) => Ok(()),
        Err(error) if is_filtering(proc_sys) => {
            Err(format!("rp_filter drops the tunnel's packets and src_valid_mark cannot be set: {error}"))
        }
        Err(error) => {
            tracing::debug!(%error, "src_valid_mark cannot be set; rp_filter is off");
            Ok(())
        }
    }
}

/// Puts back what was found.
///
/// # Errors
/// The switch or the note cannot be written.
pub fn restore(proc_sys: &Path, state_dir: &Path) -> std::io::Result<Option<String>> {
    let journal = state_dir.join(JOURNAL);
    let before = match std::fs::read_to_string(&journal) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Only ever "0": the switch is not touched when it is on.
    if before.trim() == "0" {
        std::fs::write(proc_sys.join(SWITCH), "0\n")?;
    }
    std::fs::remove_file(&journal)?;
    Ok(Some("src_valid_mark set back to 0".to_owned()))
}

/// True when any interface looks for a way back to a packet's source (the larger of `all` and the interface counts). Also
/// the loose mode (2) finds none without the mark: our table says "unreachable".
fn is_filtering(proc_sys: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(proc_sys.join("net/ipv4/conf")) else { return false };
    entries
        .flatten()
        .take(4096)
        .any(|entry| std::fs::read_to_string(entry.path().join("rp_filter")).is_ok_and(|value| matches!(value.trim(), "1" | "2")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(mark: &str, rp_filter: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let all = dir.path().join("net/ipv4/conf/all");
        std::fs::create_dir_all(&all).unwrap();
        std::fs::write(all.join("src_valid_mark"), mark).unwrap();
        std::fs::write(all.join("rp_filter"), rp_filter).unwrap();
        dir
    }

    #[test]
    fn the_switch_is_set_once_and_restored_once() {
        let (proc_sys, state) = (tree("0\n", "1\n"), tempfile::tempdir().unwrap());
        let value = || std::fs::read_to_string(proc_sys.path().join(SWITCH)).unwrap();
        accept_marked_replies(proc_sys.path(), state.path()).unwrap();
        assert_eq!(value(), "1\n");
        accept_marked_replies(proc_sys.path(), state.path()).unwrap();
        assert!(restore(proc_sys.path(), state.path()).unwrap().is_some());
        assert_eq!(value(), "0\n");
        assert_eq!(restore(proc_sys.path(), state.path()).unwrap(), None);
    }

    #[test]
    fn a_switch_that_was_on_stays_on() {
        let (proc_sys, state) = (tree("1\n", "1\n"), tempfile::tempdir().unwrap());
        accept_marked_replies(proc_sys.path(), state.path()).unwrap();
        assert_eq!(restore(proc_sys.path(), state.path()).unwrap(), None);
    }
}
