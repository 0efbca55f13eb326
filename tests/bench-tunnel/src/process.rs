//! What `/proc` says about a program of a tunnel: processor time, memory, descriptors, wake-ups.

use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// A process, by its id.
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

    fn for_each_thread(self, file: &str, mut look: impl FnMut(&str)) -> Result<()> {
        for thread in fs::read_dir(self.path("task")).context("list threads")? {
            // A thread may end in between.
            if let Ok(text) = fs::read_to_string(thread?.path().join(file)) {
                look(&text);
            }
        }
        Ok(())
    }

    /// Processor seconds of all threads alive, to the nanosecond; work of the kernel on their behalf is included.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_s(self) -> Result<f64> {
        let mut sum = 0.0;
        self.for_each_thread("schedstat", |text| {
            let ns: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
            sum += ns / 1e9;
        })?;
        Ok(sum)
    }

    /// How often all threads alive were woken.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn wake_ups(self) -> Result<f64> {
        let mut sum = 0.0;
        self.for_each_thread("status", |text| sum += field(text, "voluntary_ctxt_switches:").unwrap_or(0.0))?;
        Ok(sum)
    }

    /// Resident memory in MiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn rss_mib(self) -> Result<f64> {
        Ok(field(&self.read("status")?, "VmRSS:").context("no VmRSS")? / 1024.0)
    }

    /// The most resident memory in MiB since [`Self::forget_peak`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_rss_mib(self) -> Result<f64> {
        Ok(field(&self.read("status")?, "VmHWM:").context("no VmHWM")? / 1024.0)
    }

    /// Lets the peak begin anew (proc_pid_clear_refs(5)). Where the kernel cannot, the peak is the process's own.
    pub fn forget_peak(self) {
        let _ = fs::write(self.path("clear_refs"), "5");
    }

    /// Open descriptors.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn descriptors(self) -> Result<usize> {
        Ok(fs::read_dir(self.path("fd")).context("list descriptors")?.count())
    }
}

fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_numbers_make_sense() {
        let me = Process(std::process::id());
        assert!(me.rss_mib().unwrap() > 0.5 && me.peak_rss_mib().unwrap() > 0.5 && me.descriptors().unwrap() >= 3);
        let (cpu, woken) = (me.cpu_s().unwrap(), me.wake_ups().unwrap());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while me.cpu_s().unwrap() <= cpu || me.wake_ups().unwrap() <= woken {
            assert!(std::time::Instant::now() < end, "work and sleep are counted");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
