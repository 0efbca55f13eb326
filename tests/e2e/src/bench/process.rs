//! What `/proc` says about a process: processor time, memory, threads, wake-ups.

use crate::wait::{s, until};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A process, by its id in our view of `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0))
    }

    fn read(self, file: &str) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Processor seconds used so far by all threads, dead ones included (10 ms steps).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_s(self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name may hold spaces and parentheses; the numbers begin after the last one (proc_pid_stat(5)).
        let numbers = stat.rsplit_once(')').context("stat without a name")?.1;
        let mut ticks = numbers.split_whitespace().skip(11);
        let user: f64 = ticks.next().context("no utime")?.parse()?;
        let system: f64 = ticks.next().context("no stime")?.parse()?;
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock tick")?;
        Ok((user + system) / f64::from(i32::try_from(hertz)?))
    }

    fn status_number(self, file: &str, field: &str) -> Result<u64> {
        let text = self.read(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
        Ok(line.split_whitespace().next().context("an empty field")?.parse()?)
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn rss_kib(self) -> Result<u64> {
        self.status_number("status", "VmRSS:")
    }

    /// The most resident memory so far, in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_rss_kib(self) -> Result<u64> {
        self.status_number("status", "VmHWM:")
    }

    /// Threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn threads(self) -> Result<u64> {
        self.status_number("status", "Threads:")
    }

    /// How often each thread alive was woken so far: its voluntary context switches, by thread id.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn wake_ups(self) -> Result<BTreeMap<String, u64>> {
        let mut woken = BTreeMap::new();
        for thread in fs::read_dir(self.path("task")).context("list threads")? {
            let name = thread?.file_name().to_string_lossy().into_owned();
            // A thread may end in between.
            if let Ok(count) = self.status_number(&format!("task/{name}/status"), "voluntary_ctxt_switches:") {
                woken.insert(name, count);
            }
        }
        Ok(woken)
    }

    /// Kills the process and waits until it is gone.
    ///
    /// # Errors
    /// When it is still there after two seconds.
    pub fn end(self) -> Result<()> {
        let _ = kill(Pid::from_raw(i32::try_from(self.0)?), Signal::SIGKILL);
        // A zombie has no namespace.
        until("a process is gone", s(2), || Ok(fs::read_link(self.path("ns/net")).is_err().then_some(())))
    }

    /// The processes with this program name in a network namespace.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn named(name: &str, network: &Path) -> Result<Vec<Self>> {
        let wanted = fs::read_link(network).context("read a namespace")?;
        let all = fs::read_dir("/proc").context("list processes")?.flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).map(Self);
        let fits = |process: &Self| {
            process.read("comm").is_ok_and(|comm| comm.trim() == name)
                && fs::read_link(process.path("ns/net")).is_ok_and(|found| found == wanted)
        };
        Ok(ids.filter(fits).collect())
    }
}

/// Wake-ups between two looks. What a thread that ended in between did is not known and not counted.
#[must_use]
pub fn woken_since(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> u64 {
    after.iter().map(|(thread, count)| count.saturating_sub(before.get(thread).copied().unwrap_or(0))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ends_hides_no_other() {
        let look =
            |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<BTreeMap<_, _>>();
        let before = look(&[("1", 100), ("2", 5000)]);
        assert_eq!(woken_since(&before, &look(&[("1", 140), ("3", 2)])), 42);
    }

    #[test]
    fn our_own_numbers_make_sense() {
        let me = Process(std::process::id());
        assert!(me.rss_kib().unwrap() > 500 && me.peak_rss_kib().unwrap() >= me.rss_kib().unwrap() / 2);
        assert!(me.threads().unwrap() >= 1);
        let before = me.wake_ups().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(woken_since(&before, &me.wake_ups().unwrap()) > 0);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let cpu = me.cpu_s().unwrap();
        while me.cpu_s().unwrap() <= cpu {
            assert!(std::time::Instant::now() < end, "spinning costs no time");
        }
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let same = Process::named(name.trim(), Path::new("/proc/self/ns/net")).unwrap();
        assert!(same.contains(&me) || same.is_empty(), "{same:?}");
    }
}
