//! The result: JSON for programs, Markdown for people.

use crate::bench::{ENGINE, NO_TUNNEL, Plan, Programs};
use crate::peers::ManyPeers;
use crate::stats::Spread;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Everything that was measured, and what was not.
#[derive(Debug, Serialize)]
pub struct Report {
    /// UTC.
    pub date: String,
    /// Processors.
    pub cores: usize,
    /// The kernel.
    pub kernel: String,
    /// Runnable threads in the minute before. Above about half a core only ratios mean something.
    pub load_before: f64,
    /// The same at the end; the benchmark itself keeps both cores busy.
    pub load_after: f64,
    /// `release` or `debug`.
    pub build: &'static str,
    /// The other programs.
    pub versions: Vec<String>,
    /// What ratios are taken to.
    pub reference: String,
    /// Few and short rounds.
    pub quick: bool,
    /// Seconds that everything took.
    pub took_s: f64,
    /// The outer links carry whole trains.
    pub main: Group,
    /// The outer links carry datagrams one by one.
    pub segmented: Group,
    /// Nothing to do.
    pub idle: Vec<Idle>,
    /// A gateway of many.
    pub peers: Vec<ManyPeers>,
    /// What the engine should reach, and what it reached.
    pub targets: Vec<Target>,
    /// What could not be measured, and why.
    pub not_measured: Vec<Missing>,
}

/// Tunnels at rest.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// Which.
    pub subject: String,
    /// Client, gateway.
    pub wake_ups_per_s: [f64; 2],
    /// Client, gateway.
    pub rss_mib: [f64; 2],
}

/// What could not be measured.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A promise.
#[derive(Debug, Serialize)]
pub struct Target {
    /// Of what.
    pub what: String,
    /// At least, or at most.
    pub bound: &'static str,
    /// This.
    pub wanted: f64,
    /// Measured.
    pub got: f64,
    /// Whether it is reached.
    pub reached: bool,
}

/// subject -> test -> metric -> rounds. A round that failed has no entry.
type Rounds = BTreeMap<String, BTreeMap<String, BTreeMap<&'static str, BTreeMap<usize, f64>>>>;

/// Tests of one kind of network.
#[derive(Debug, Default)]
pub struct Group {
    order: Vec<String>,
    rounds: Rounds,
}

impl Group {
    /// Adds a round.
    pub fn add(&mut self, subject: &str, test: &str, round: usize, metrics: BTreeMap<&'static str, f64>) {
        if !self.order.iter().any(|known| known == subject) {
            self.order.push(subject.to_owned());
        }
        let test = self.rounds.entry(subject.to_owned()).or_default().entry(test.to_owned()).or_default();
        for (metric, value) in metrics {
            test.entry(metric).or_default().insert(round, value);
        }
    }

    fn samples(&self, subject: &str, test: &str, metric: &str) -> Option<&BTreeMap<usize, f64>> {
        self.rounds.get(subject)?.get(test)?.get(metric)
    }

    /// All rounds of one metric.
    #[must_use]
    pub fn spread(&self, subject: &str, test: &str, metric: &str) -> Option<Spread> {
        Spread::of(&self.samples(subject, test, metric)?.values().copied().collect::<Vec<_>>())
    }

    /// Round by round, over the reference in the same round.
    #[must_use]
    pub fn ratio(&self, subject: &str, reference: &str, test: &str, metric: &str) -> Option<Spread> {
        let of = self.samples(reference, test, metric)?;
        let own = self.samples(subject, test, metric)?.iter();
        Spread::of(&own.filter_map(|(round, value)| Some(value / of.get(round)?)).collect::<Vec<_>>())
    }
}

impl Serialize for Group {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let metrics = |subject: &str, test: &str, names: &BTreeMap<&'static str, BTreeMap<usize, f64>>| {
            let spreads = names.keys().filter_map(|name| Some((*name, self.spread(subject, test, name)?)));
            spreads.collect::<BTreeMap<_, _>>()
        };
        let tests = |subject: &str| {
            let tests = self.rounds.get(subject).into_iter().flatten();
            tests.map(|(test, names)| (test.clone(), metrics(subject, test, names))).collect::<BTreeMap<_, _>>()
        };
        let all: BTreeMap<_, _> = self.order.iter().map(|subject| (subject.clone(), tests(subject))).collect();
        all.serialize(serializer)
    }
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn begin(plan: &Plan, programs: &Programs) -> Self {
        let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
        Self {
            date: time::OffsetDateTime::now_utc().format(format).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load_before: load(),
            load_after: 0.0,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            versions: programs.versions(),
            reference: programs.reference.name.clone(),
            quick: !plan.whole,
            took_s: 0.0,
            main: Group::default(),
            segmented: Group::default(),
            idle: Vec::new(),
            peers: Vec::new(),
            targets: Vec::new(),
            not_measured: Vec::new(),
        }
    }

    /// Compares with what is promised.
    pub fn finish(&mut self, took: Duration) {
        self.took_s = took.as_secs_f64();
        self.load_after = load();
        let reference = self.reference.clone();
        let mut targets = Vec::new();
        let mut at_least = |what: String, wanted: f64, got: Option<Spread>| {
            targets.extend(got.map(|got| Target {
                what,
                bound: "at least",
                wanted,
                got: got.median,
                reached: got.median >= wanted,
            }));
        };
        let speed = |group: &Group, subject: &str, test: &str| group.ratio(subject, &reference, test, "mbit_per_s");
        let to_reference = format!("{ENGINE} -> {reference}");
        for (name, [up, down]) in [("tcp_1", [2.0, 1.8]), ("tcp_4", [2.5, 2.5]), ("tcp_ipv6_1", [2.0, 1.8])] {
            at_least(format!("{name}_up, times {reference}"), up, speed(&self.main, ENGINE, &format!("{name}_up")));
            at_least(format!("{name}_down, times {reference}"), down, speed(&self.main, ENGINE, &format!("{name}_down")));
        }
        for direction in ["up", "down"] {
            let test = format!("tcp_1_{direction}");
            at_least(format!("{test}, far end {reference}"), 1.4, speed(&self.main, &to_reference, &test));
            at_least(format!("{test}, outer links segmented"), 1.8, speed(&self.segmented, ENGINE, &test));
        }
        let mut at_most = |what: String, wanted: f64, got: Option<f64>| {
            targets.extend(got.map(|got| Target { what, bound: "at most", wanted, got, reached: got <= wanted }));
        };
        for direction in ["up", "down"] {
            let cpu = self.main.spread(ENGINE, &format!("tcp_1_{direction}"), "cpu_client_s_per_gbit");
            at_most(format!("tcp_1_{direction}, client's CPU-s per Gbit"), 0.20, cpu.map(|cpu| cpu.median));
        }
        for (end, metric) in [("client", "rss_client_mib"), ("gateway", "rss_gateway_mib")] {
            at_most(format!("peak RSS of the {end}, floods included, MiB"), 16.0, self.peak(ENGINE, metric));
        }
        for (test, metric) in [("echo_idle", "p50_us"), ("echo_busy_up", "p99_us"), ("echo_busy_down", "p99_us")] {
            let ratio = self.main.ratio(ENGINE, &reference, test, metric);
            at_most(format!("{test} {metric}, times {reference}"), 1.0, ratio.map(|ratio| ratio.median));
        }
        if let Some(idle) = self.idle.iter().find(|idle| idle.subject == ENGINE) {
            at_most("idle wake-ups per second".to_owned(), 2.0, Some(idle.wake_ups_per_s[0].max(idle.wake_ups_per_s[1])));
        }
        self.targets = targets;
    }

    fn peak(&self, subject: &str, metric: &str) -> Option<f64> {
        let tests = [&self.main, &self.segmented].into_iter().filter_map(|group| group.rounds.get(subject)).flatten();
        tests.filter_map(|(_, metrics)| metrics.get(metric)).flat_map(BTreeMap::values).copied().reduce(f64::max)
    }

    /// All tables.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "{}, {} cores, Linux {}, {} build{}, {:.0} s; load average {:.1} before, {:.1} after.\nRatios (x) are to {}, round by round; \
             median [min-max].\n",
            self.date,
            self.cores,
            self.kernel,
            self.build,
            if self.quick { ", quick: the numbers mean little" } else { "" },
            self.took_s,
            self.load_before,
            self.load_after,
            self.reference
        );
        for version in &self.versions {
            let _ = writeln!(out, "* {version}");
        }
        let streams = [("One TCP stream", "tcp_1"), ("Four TCP streams", "tcp_4"), ("One TCP stream, IPv6", "tcp_ipv6_1")];
        for (title, test) in streams {
            self.streams(&mut out, title, &self.main, test);
        }
        self.streams(&mut out, "One TCP stream, outer links without segmentation offload", &self.segmented, "tcp_1");
        self.floods(&mut out);
        self.echoes(&mut out);
        self.rest(&mut out);
        out
    }

    fn cell(&self, group: &Group, subject: &str, test: &str, metric: &str) -> String {
        let Some(spread) = group.spread(subject, test, metric) else { return "–".to_owned() };
        let Spread { median, min, max, .. } = spread;
        let ratio = if subject == NO_TUNNEL { None } else { group.ratio(subject, &self.reference, test, metric) };
        let ratio =
            ratio.map(|ratio| format!(" **{:.2}x** [{:.2}-{:.2}]", ratio.median, ratio.min, ratio.max)).unwrap_or_default();
        format!("{median:.0} [{min:.0}-{max:.0}]{ratio}")
    }

    fn pair(group: &Group, subject: &str, tests: &[&str], metric: &str, digits: usize) -> String {
        let worst = |end: &str| {
            let name = metric.replace("END", end);
            let medians = tests.iter().filter_map(|test| group.spread(subject, test, &name));
            let values: Vec<f64> = medians.map(|spread| if digits == 0 { spread.max } else { spread.median }).collect();
            values.into_iter().reduce(f64::max).map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        format!("{} / {}", worst("client"), worst("gateway"))
    }

    fn streams(&self, out: &mut String, title: &str, group: &Group, test: &str) {
        let (up, down) = (format!("{test}_up"), format!("{test}_down"));
        let has = |subject: &&String| group.spread(subject, &up, "mbit_per_s").is_some();
        let subjects: Vec<&String> = group.order.iter().filter(has).collect();
        if subjects.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\n## {title}\n\n| client and gateway | up Mbit/s | down Mbit/s | CPU-s/Gbit up | down | peak RSS MiB |\n|---|---|---|---|---|---|"
        );
        for name in subjects {
            let speed = |test: &str| self.cell(group, name, test, "mbit_per_s");
            let cpu = |test: &str| Self::pair(group, name, &[test], "cpu_END_s_per_gbit", 3);
            let rss = Self::pair(group, name, &[&up, &down], "rss_END_mib", 0);
            let _ = writeln!(out, "| {name} | {} | {} | {} | {} | {rss} |", speed(&up), speed(&down), cpu(&up), cpu(&down));
        }
    }

    fn floods(&self, out: &mut String) {
        let tests = ["udp_100_up", "udp_1200_up", "udp_1200_down"];
        let subjects = self.measured(&tests);
        if subjects.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\n## UDP flood, thousands of datagrams received per second\n\n| client and gateway | 100 B up | 1200 B up | 1200 B down | CPU-s/Gbit \
             1200 up | peak RSS MiB |\n|---|---|---|---|---|---|"
        );
        for name in subjects {
            let [small, up, down] = tests.map(|test| self.cell(&self.main, name, test, "kpps"));
            let cpu = Self::pair(&self.main, name, &["udp_1200_up"], "cpu_END_s_per_gbit", 3);
            let rss = Self::pair(&self.main, name, &tests, "rss_END_mib", 0);
            let _ = writeln!(out, "| {name} | {small} | {up} | {down} | {cpu} | {rss} |");
        }
    }

    /// Who has rounds of one of these tests.
    fn measured(&self, tests: &[&str]) -> Vec<&String> {
        let has = |subject: &&String| {
            let known = self.main.rounds.get(*subject);
            tests.iter().any(|test| known.and_then(|known| known.get(*test)).is_some_and(|metrics| !metrics.is_empty()))
        };
        self.main.order.iter().filter(has).collect()
    }

    fn echoes(&self, out: &mut String) {
        let tests = ["echo_idle", "echo_busy_up", "echo_busy_down"];
        let subjects = self.measured(&tests);
        if subjects.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\n## Ping, microseconds\n\n| client and gateway | idle p50 | idle p99 | during one stream up p50 | p99 | down p50 | p99 |\n\
             |---|---|---|---|---|---|---|"
        );
        for name in subjects {
            let _ = write!(out, "| {name} |");
            for test in tests {
                for metric in ["p50_us", "p99_us"] {
                    let _ = write!(out, " {} |", self.cell(&self.main, name, test, metric));
                }
            }
            out.push('\n');
        }
    }

    fn rest(&self, out: &mut String) {
        out.push_str("\n## At rest\n\n| client and gateway | wake-ups/s | RSS MiB |\n|---|---|---|\n");
        for Idle { subject, wake_ups_per_s: wakes, rss_mib: rss } in &self.idle {
            let _ = writeln!(out, "| {subject} | {:.1} / {:.1} | {:.1} / {:.1} |", wakes[0], wakes[1], rss[0], rss[1]);
        }
        out.push_str(
            "\n## A gateway with many peers\n\n| gateway | peers | RSS MiB before, with sessions | handshakes/s | gateway CPU-ms per \
             handshake | cookies | failed | echoes answered |\n|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.peers {
            let _ = writeln!(
                out,
                "| {} | {} | {:.1}, {:.1} | {:.0} | {:.2} | {} | {} | {} |",
                row.gateway,
                row.peers,
                row.rss_configured_mib,
                row.rss_sessions_mib,
                row.handshakes_per_s,
                row.cpu_ms_per_handshake,
                row.cookies,
                row.failed,
                row.echoes
            );
        }
        out.push_str("\n## What the engine should reach\n\n| | wanted | got | |\n|---|---|---|---|\n");
        for Target { what, bound, wanted, got, reached } in &self.targets {
            let _ = writeln!(
                out,
                "| {what} | {bound} {wanted:.2} | {got:.2} | {} |",
                if *reached { "reached" } else { "not reached" }
            );
        }
        for Missing { what, why } in &self.not_measured {
            let _ = writeln!(out, "\nNot measured: {what}: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round_and_failed_rounds_are_left_out() {
        let mut group = Group::default();
        let add = |group: &mut Group, who: &str, round, rate: Option<f64>| {
            group.add(who, "t", round, rate.map(|rate| ("mbit_per_s", rate)).into_iter().collect());
        };
        for (round, (a, b)) in [(Some(10.0), Some(20.0)), (Some(1.0), Some(4.0)), (None, Some(9.0))].into_iter().enumerate() {
            add(&mut group, "a", round, a);
            add(&mut group, "b", round, b);
        }
        let ratio = group.ratio("b", "a", "t", "mbit_per_s").unwrap();
        assert_eq!((ratio.median, ratio.rounds), (3.0, vec![2.0, 4.0]));
        assert!(group.ratio("c", "a", "t", "mbit_per_s").is_none());
    }
}
