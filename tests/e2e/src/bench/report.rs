//! The result: JSON for programs, Markdown for the README.

use crate::bench::stats::Spread;
use crate::bench::throughput::Direction;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

/// Everything that was measured, and what was not.
#[derive(Debug, Serialize)]
pub struct Report {
    /// UTC.
    pub date: String,
    /// Processors of the machine.
    pub cores: usize,
    /// Average number of runnable threads in the minute before: above about half a core, only ratios mean something.
    pub load_before: f64,
    /// The same at the end; the benchmark itself keeps one to two threads busy.
    pub load_after: f64,
    /// `release` or `debug`.
    pub build: &'static str,
    /// wireguard-go and gotatun, as they name themselves.
    pub versions: [String; 2],
    /// Fewer rounds; the numbers mean little.
    pub quick: bool,
    /// Seconds that the whole benchmark took.
    pub took_s: f64,
    /// Command to first byte.
    pub connect: Vec<ConnectRow>,
    /// One TCP stream.
    pub throughput: Vec<ThroughputRow>,
    /// Policy swaps.
    pub firewall: Vec<SwapRow>,
    /// The helper at rest.
    pub helper: Vec<HelperRow>,
    /// Questions to the helper.
    pub cli: Vec<LatencyRow>,
    /// 10,000 servers.
    pub list: Option<ListRows>,
    /// What could not be measured, and why.
    pub not_measured: Vec<Missing>,
}

/// One way to connect.
#[derive(Debug, Serialize)]
pub struct ConnectRow {
    /// The command.
    pub way: String,
    /// Milliseconds from the command's start to the first byte from the web.
    pub first_byte_ms: Spread,
    /// Milliseconds from the command's start to its end.
    pub command_ms: Spread,
    /// Rounds that failed.
    pub failures: usize,
}

/// One client in one direction.
#[derive(Debug, Serialize)]
pub struct ThroughputRow {
    /// Which.
    pub client: String,
    /// Which way.
    pub direction: Direction,
    /// Median.
    pub mbit_per_s: f64,
    /// Each round.
    pub rounds_mbit_per_s: Vec<f64>,
    /// The median over wireguard-go's.
    pub ratio_to_wireguard_go: Option<f64>,
    /// Processor seconds of the client's process for each Gbit carried, median.
    pub client_cpu_s_per_gbit: Option<f64>,
    /// The most memory the client's process ever had resident.
    pub client_peak_rss_mib: Option<f64>,
}

/// Policy swaps.
#[derive(Debug, Serialize)]
pub struct SwapRow {
    /// `alone` or `under a flood`.
    pub load: String,
    /// Milliseconds until the new rules are in force, read back and found as asked.
    pub verified_ms: Spread,
    /// Milliseconds until they are in force.
    pub in_force_ms: Spread,
    /// The flood.
    pub datagrams_per_s: Option<f64>,
}

/// The helper at rest.
#[derive(Debug, Serialize)]
pub struct HelperRow {
    /// `disconnected`, `connected`, …
    pub state: String,
    /// Resident memory.
    pub rss_mib: f64,
    /// The most so far.
    pub peak_rss_mib: f64,
    /// Threads.
    pub threads: u64,
    /// Wake-ups of all threads.
    pub wake_ups_per_s: f64,
    /// Processor time.
    pub cpu_ms_per_s: f64,
    /// Seconds watched.
    pub watched_s: f64,
}

/// A latency.
#[derive(Debug, Serialize)]
pub struct LatencyRow {
    /// Of what.
    pub what: String,
    /// Milliseconds.
    pub ms: Spread,
}

/// The list of servers.
#[derive(Debug, Serialize)]
pub struct ListRows {
    /// How many servers.
    pub servers: u32,
    /// Size of the document.
    pub bytes: usize,
    /// The signature over the exact bytes.
    pub verify_ms: Spread,
    /// To checked types.
    pub parse_ms: Spread,
    /// The best servers.
    pub choose_ms: Spread,
}

/// Something that could not be measured.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Report {
    /// An empty report of this moment on this machine.
    #[must_use]
    pub fn new(quick: bool) -> Self {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
        Self {
            date: OffsetDateTime::now_utc().format(&format).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load_before: load(),
            load_after: 0.0,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            versions: [String::new(), String::new()],
            quick,
            took_s: 0.0,
            connect: Vec::new(),
            throughput: Vec::new(),
            firewall: Vec::new(),
            helper: Vec::new(),
            cli: Vec::new(),
            list: None,
            not_measured: Vec::new(),
        }
    }

    /// Writes down how long it took, and under which load.
    pub fn finish(&mut self, took: Duration) {
        self.took_s = took.as_secs_f64();
        self.load_after = load();
    }

    /// Other programs took part of the processors.
    fn busy(&self) -> bool {
        let cores = f64::from(u32::try_from(self.cores).unwrap_or(1));
        self.load_before > cores / 2.0 || self.load_after > cores * 2.0
    }

    /// The tables for the README.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let date = self.date.split(' ').next().unwrap_or_default();
        writeln!(
            to,
            "Measured on {date} on {} cores ({} build, load {:.1} before and {:.1} after, {:.0} s for everything) in network namespaces on one machine;\n\
             both ends of every tunnel, the web server and the ISP share the cores, so compare ratios, not absolutes.",
            self.cores, self.build, self.load_before, self.load_after, self.took_s
        )?;
        if self.quick {
            writeln!(to, "\n**Quick run: few rounds; these figures mean little.**")?;
        }
        if self.busy() {
            writeln!(to, "\n**Other programs kept the machine busy: every time below is too long, every speed too low.**")?;
        }
        self.write_connect(to)?;
        self.write_throughput(to)?;
        self.write_times(to)?;
        self.write_helper(to)?;
        if !self.not_measured.is_empty() {
            writeln!(to, "\nNot measured:\n")?;
        }
        for Missing { what, why } in &self.not_measured {
            writeln!(to, "- {what}: {}", why)?;
        }
        Ok(())
    }

    fn write_connect(&self, to: &mut String) -> std::fmt::Result {
        if self.connect.is_empty() {
            return Ok(());
        }
        let of = self.connect.iter().find(|row| row.way.contains("wg-quick")).map(|row| row.first_byte_ms.p50);
        writeln!(
            to,
            "\n| connect: command to first byte from the web | p50 ms | p95 ms | p50 of the command alone | rounds | p50 to wg-quick |\n|---|--:|--:|--:|--:|--:|"
        )?;
        for row in &self.connect {
            let Spread { n, p50, p95, .. } = row.first_byte_ms;
            let (alone, ratio) = (row.command_ms.p50, times(of.map(|of| p50 / of)));
            writeln!(to, "| {} | {p50:.0} | {p95:.0} | {alone:.0} | {n} | {ratio} |", row.way)?;
        }
        Ok(())
    }

    fn write_throughput(&self, to: &mut String) -> std::fmt::Result {
        if self.throughput.is_empty() {
            return Ok(());
        }
        let rounds = self.throughput.iter().map(|row| row.rounds_mbit_per_s.len()).max().unwrap_or(0);
        let [go, stock] = &self.versions;
        writeln!(
            to,
            "\nAll clients use one gateway process (the provider's WireGuard engine), MTU 1420, TCP cubic; medians of {rounds} rounds in turn.\n\
             The others run under wg-quick: {go} as Debian ships it, {stock} as its authors ship it."
        )?;
        writeln!(
            to,
            "\n| one TCP stream | Mbit/s up | down | up to wireguard-go | down | CPU-s/Gbit up | down | peak RSS MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for pair in self.throughput.chunk_by(|a, b| a.client == b.client) {
            let find = |direction| pair.iter().find(|row| row.direction == direction);
            let (up, down) = (find(Direction::Up), find(Direction::Down));
            let speed = |row: Option<&ThroughputRow>| row.map_or("–".to_owned(), |row| format!("{:.0}", row.mbit_per_s));
            let ratio = |row: Option<&ThroughputRow>| times(row.and_then(|row| row.ratio_to_wireguard_go));
            let cost = |row: Option<&ThroughputRow>| number(row.and_then(|row| row.client_cpu_s_per_gbit), 2);
            let memory = pair.iter().filter_map(|row| row.client_peak_rss_mib).reduce(f64::max);
            let name = pair.first().map_or("", |row| row.client.as_str());
            let (speed_up, speed_down, ratio_up, ratio_down) = (speed(up), speed(down), ratio(up), ratio(down));
            let (cost_up, cost_down, memory) = (cost(up), cost(down), number(memory, 1));
            writeln!(
                to,
                "| {name} | {speed_up} | {speed_down} | {ratio_up} | {ratio_down} | {cost_up} | {cost_down} | {memory} |"
            )?;
        }
        Ok(())
    }

    fn write_times(&self, to: &mut String) -> std::fmt::Result {
        let mut rows: Vec<(String, &Spread)> = Vec::new();
        for row in &self.firewall {
            let flood = row.datagrams_per_s.map_or(String::new(), |rate| format!(" of {:.0},000 datagrams/s", rate / 1e3));
            rows.push((format!("firewall swap, in force, {}{flood}", row.load), &row.in_force_ms));
            rows.push((format!("firewall swap, in force and read back, {}{flood}", row.load), &row.verified_ms));
        }
        rows.extend(self.cli.iter().map(|row| (row.what.clone(), &row.ms)));
        if let Some(list) = &self.list {
            let name = |what| {
                format!(
                    "list of {},000 servers ({:.1} MB): {what}",
                    list.servers / 1000,
                    f64::from(u32::try_from(list.bytes).unwrap_or(0)) / 1e6
                )
            };
            rows.extend([(name("verify"), &list.verify_ms), (name("parse"), &list.parse_ms), (name("choose"), &list.choose_ms)]);
        }
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(to, "\n| time in ms | p50 | p95 | p99 | samples |\n|---|--:|--:|--:|--:|")?;
        for (name, Spread { n, p50, p95, p99, .. }) in rows {
            writeln!(to, "| {name} | {p50:.2} | {p95:.2} | {p99:.2} | {n} |")?;
        }
        Ok(())
    }

    fn write_helper(&self, to: &mut String) -> std::fmt::Result {
        if self.helper.is_empty() {
            return Ok(());
        }
        writeln!(to, "\n| helper at rest | RSS MiB | threads | wake-ups/s | CPU ms/s |\n|---|--:|--:|--:|--:|")?;
        for row in &self.helper {
            let HelperRow { state, rss_mib, threads, wake_ups_per_s, cpu_ms_per_s, .. } = row;
            writeln!(to, "| {state} | {rss_mib:.1} | {threads} | {wake_ups_per_s:.1} | {cpu_ms_per_s:.1} |")?;
        }
        Ok(())
    }
}

/// The load average of the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}×"))
}
