//! The measurement: all tunnels up at once, each test through each of them in turn, round after round.

use crate::conf::{Conf, Peer, new_key};
use crate::lab::{GATEWAY, Lab, server};
use crate::peers;
use crate::ping::{await_answer, ping};
use crate::process::Process;
use crate::programs::{End, Kind, Program};
use crate::report::{Group, Idle, Missing, Report};
use crate::stats::percentile;
use crate::traffic::{Direction, Load};
use anyhow::{Context, Result};
use hamn_wireguard::x25519::PublicKey;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The gateway's first UDP port; each tunnel has its own.
const PORT: u16 = 51_820;
/// The subject without a tunnel.
pub const NO_TUNNEL: &str = "no tunnel";
/// Our engine, at both ends.
pub const ENGINE: &str = "hamn engine";
/// gotatun's `Device`, at both ends.
pub const STOCK: &str = "stock gotatun";

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds of each test.
    pub rounds: usize,
    /// Counted time of a stream or flood.
    pub window: Duration,
    /// Not counted: TCP opens its window.
    pub warm_up: Duration,
    /// Echoes of an idle tunnel in a round, and of a busy one.
    pub echoes: u32,
    /// Rounds with the outer links segmented.
    pub segmented_rounds: usize,
    /// Peers of the gateway that has many.
    pub peers: u16,
    /// How often each of them makes a handshake.
    pub handshakes: u16,
    /// Four streams and IPv6 in both directions, all programs.
    pub whole: bool,
    /// Only subjects with one of these in their names.
    pub only: Vec<String>,
    /// Tests with one of these in their names; empty for all.
    pub tests: Vec<String>,
}

impl Plan {
    /// For the README: about twenty minutes.
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: 5,
            window: Duration::from_millis(2_000),
            warm_up: Duration::from_millis(400),
            echoes: 400,
            segmented_rounds: 3,
            peers: 1_000,
            handshakes: 3,
            whole: true,
            only: Vec::new(),
            tests: Vec::new(),
        }
    }

    /// Shows that everything runs; the numbers mean little.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            window: Duration::from_millis(300),
            warm_up: Duration::from_millis(100),
            echoes: 60,
            segmented_rounds: 1,
            handshakes: 1,
            whole: false,
            ..Self::full()
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }
}

/// What can be compared.
#[derive(Debug)]
pub struct Programs {
    /// The one that ratios are taken to: the newest wireguard-go.
    pub reference: Program,
    /// Debian's wireguard-go, where the reference is another.
    pub old: Option<Program>,
    /// Other implementations.
    pub others: Vec<Program>,
    /// gotatun's `Device`.
    pub stock: Program,
    /// Ours.
    pub engine: Program,
}

impl Programs {
    /// Looks for them all.
    ///
    /// # Errors
    /// Without any wireguard-go, or when our own have not been built.
    pub fn find(newer: Option<&Path>, tools: &Path) -> Result<Self> {
        let newest = || {
            let entries = std::fs::read_dir(tools).ok()?.flatten().map(|entry| entry.path());
            let mut found: Vec<PathBuf> = entries
                .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wireguard-go-")))
                .map(|path| path.join("usr/bin/wireguard-go"))
                .collect();
            found.sort();
            found.pop()
        };
        let newer = match newer {
            Some(path) => Some(path.to_owned()),
            None => newest(),
        };
        let newer = newer.map(|path| {
            Program::find("wireguard-go", &path, Kind::WireguardGo)
                .with_context(|| format!("{} is not a program", path.display()))
        });
        let installed = |name| Program::installed(name, "wireguard-go", Kind::WireguardGo, None);
        let (reference, old) = match newer.transpose()? {
            Some(newer) => (newer, installed("wireguard-go (installed)")),
            None => (installed("wireguard-go").context("there is no wireguard-go")?, None),
        };
        let bin = tools.join("bin");
        let others = [("boringtun-cli", "boringtun-cli"), ("gotatun-cli", "gotatun")];
        let others = others.iter().filter_map(|(name, file)| Program::installed(name, file, Kind::Rust, Some(&bin))).collect();
        let (stock, engine) = (Program::ours(STOCK, "hamn-stock")?, Program::ours(ENGINE, "hamn-wg")?);
        Ok(Self { reference, old, others, stock, engine })
    }

    /// Each with its version.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        let all = [&self.reference].into_iter().chain(&self.old).chain(&self.others);
        all.map(|program| format!("{}: {} ({})", program.name, program.version, program.path.display())).collect()
    }

    fn pairs(&self) -> Vec<(String, &Program, &Program)> {
        let same = [&self.reference].into_iter().chain(&self.old).chain(&self.others).chain([&self.stock, &self.engine]);
        let mut pairs: Vec<_> = same.map(|program| (program.name.clone(), program, program)).collect();
        pairs.push((format!("{ENGINE} -> {}", self.reference.name), &self.engine, &self.reference));
        pairs
    }
}

/// A tunnel between the client and the gateway, or the plain network.
pub struct Subject {
    /// As shown.
    pub name: String,
    index: u8,
    ends: Option<[End; 2]>,
}

impl Subject {
    fn processes(&self) -> Option<[Process; 2]> {
        self.ends.as_ref().map(|[near, far]| [near.process, far.process])
    }
}

/// Brings up the tunnel number `index`, from 1 on.
///
/// # Errors
/// When an end does not start, or no echo comes through.
pub fn tunnel(lab: &Lab, index: u8, near: &Program, far: &Program, directory: &Path) -> Result<[End; 2]> {
    let keys = [new_key(), new_key()];
    let public = keys.clone().map(|key| PublicKey::from(&key));
    let port = PORT + u16::from(index);
    let [near_key, far_key] = keys;
    let inner = |last: u8| vec![format!("10.100.{index}.{last}/24"), format!("fd00:100:{index}::{last}/64")];
    let clients = vec![format!("10.100.{index}.2/32").parse()?, format!("fd00:100:{index}::2/128").parse()?];
    let all = vec!["0.0.0.0/0".parse()?, "::/0".parse()?];
    let far_conf =
        Conf { private_key: far_key, port, peers: vec![Peer { public_key: public[0], endpoint: None, allowed_ips: clients }] };
    let near_conf = Conf {
        private_key: near_key,
        port: 0,
        peers: vec![Peer { public_key: public[1], endpoint: Some((GATEWAY, port).into()), allowed_ips: all }],
    };
    let far = End::start(&lab.gateway, far, &format!("g{index}"), &inner(1), &far_conf, directory)?;
    let near = End::start(&lab.client, near, &format!("c{index}"), &inner(2), &near_conf, directory)?;
    let (v4, v6) = (server(index, false), server(index, true));
    lab.client.sh(&format!("ip route add {v4}/32 dev c{index}; ip -6 route add {v6}/128 dev c{index}"))?;
    await_answer(&lab.client, v4)?;
    await_answer(&lab.client, v6)?;
    Ok([near, far])
}

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Streams { direction: Direction, count: usize, v6: bool },
    Flood { direction: Direction, bytes: usize },
    IdleEchoes,
    BusyEchoes(Direction),
}

const fn streams(direction: Direction, count: usize, v6: bool) -> Test {
    Test::Streams { direction, count, v6 }
}

impl Test {
    const ALL: [Self; 12] = [
        Self::IdleEchoes,
        streams(Direction::Up, 1, false),
        streams(Direction::Down, 1, false),
        streams(Direction::Up, 4, false),
        streams(Direction::Down, 4, false),
        streams(Direction::Up, 1, true),
        streams(Direction::Down, 1, true),
        Self::BusyEchoes(Direction::Up),
        Self::BusyEchoes(Direction::Down),
        Self::Flood { direction: Direction::Up, bytes: 100 },
        Self::Flood { direction: Direction::Up, bytes: 1_200 },
        Self::Flood { direction: Direction::Down, bytes: 1_200 },
    ];
    const SEGMENTED: [Self; 2] = [streams(Direction::Up, 1, false), streams(Direction::Down, 1, false)];

    /// The name in the JSON.
    fn name(self) -> String {
        let word = |direction| if direction == Direction::Up { "up" } else { "down" };
        match self {
            Self::Streams { direction, count, v6 } => {
                format!("tcp{}_{count}_{}", if v6 { "_ipv6" } else { "" }, word(direction))
            }
            Self::Flood { direction, bytes } => format!("udp_{bytes}_{}", word(direction)),
            Self::IdleEchoes => "echo_idle".to_owned(),
            Self::BusyEchoes(direction) => format!("echo_busy_{}", word(direction)),
        }
    }
}

type Metrics = BTreeMap<&'static str, f64>;

/// Measures everything.
///
/// # Errors
/// When the network cannot be built. A program that fails is listed in the report.
pub fn run(plan: &Plan, programs: &Programs, say: &dyn Fn(&str)) -> Result<Report> {
    let start = Instant::now();
    let mut report = Report::begin(plan, programs);
    let directory = tempfile::tempdir()?;
    let lab = Lab::new()?;
    let mut subjects = vec![Subject { name: NO_TUNNEL.to_owned(), index: 0, ends: None }];
    await_answer(&lab.client, server(0, false))?;
    await_answer(&lab.client, server(0, true))?;
    for (index, (name, near, far)) in (1..).zip(programs.pairs().into_iter().filter(|(name, ..)| plan.wants(name))) {
        say(&format!("starting {name}"));
        if let Some(ends) = keep(&mut report.not_measured, &name, tunnel(&lab, index, near, far, directory.path())) {
            subjects.push(Subject { name, index, ends: Some(ends) });
        }
    }
    say("idle tunnels");
    report.idle = idle(&subjects, if plan.whole { Duration::from_secs(5) } else { Duration::from_secs(2) })?;
    report.main = rounds(plan, plan.rounds, &lab, &subjects, &Test::ALL, &mut report.not_measured, say);
    if plan.segmented_rounds > 0 {
        say("outer links without segmentation");
        if keep(&mut report.not_measured, "outer links without segmentation", lab.set_outer_segmentation(false)).is_some() {
            let tests = &Test::SEGMENTED;
            report.segmented = rounds(plan, plan.segmented_rounds, &lab, &subjects, tests, &mut report.not_measured, say);
            lab.set_outer_segmentation(true)?;
        }
    }
    drop(subjects);
    for program in [Some(&programs.reference), Some(&programs.stock), Some(&programs.engine)].into_iter().flatten() {
        if plan.peers > 0 && plan.wants(&program.name) {
            say(&format!("{} peers: {}", plan.peers, program.name));
            let row = peers::measure(&lab, program, plan.peers, plan.handshakes, directory.path());
            report.peers.extend(keep(&mut report.not_measured, &format!("{} peers of {}", plan.peers, program.name), row));
        }
    }
    report.finish(start.elapsed());
    Ok(report)
}

fn idle(subjects: &[Subject], time: Duration) -> Result<Vec<Idle>> {
    let look = || -> Result<Vec<[f64; 2]>> {
        let all = subjects.iter().filter_map(Subject::processes);
        all.map(|[near, far]| Ok([near.wake_ups()?, far.wake_ups()?])).collect()
    };
    // What the first packets began is over.
    std::thread::sleep(Duration::from_millis(500));
    let before = look()?;
    std::thread::sleep(time);
    let after = look()?;
    let tunnels = subjects.iter().filter_map(|subject| Some((&subject.name, subject.processes()?)));
    tunnels
        .zip(before.iter().zip(&after))
        .map(|((name, processes), (before, after))| {
            Ok(Idle {
                subject: name.clone(),
                wake_ups_per_s: [0, 1].map(|end| (after[end] - before[end]) / time.as_secs_f64()),
                rss_mib: [processes[0].rss_mib()?, processes[1].rss_mib()?],
            })
        })
        .collect()
}

fn rounds(
    plan: &Plan,
    count: usize,
    lab: &Lab,
    subjects: &[Subject],
    tests: &[Test],
    missing: &mut Vec<Missing>,
    say: &dyn Fn(&str),
) -> Group {
    let mut group = Group::default();
    for test in tests {
        let name = test.name();
        if !plan.tests.is_empty() && !plan.tests.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        say(&name);
        for round in 0..count {
            // Whoever is first meets a colder machine: everybody is, in turn.
            for place in 0..subjects.len() {
                let subject = &subjects[(place + round) % subjects.len()];
                let what = format!("{}, {name}, round {}", subject.name, round + 1);
                let metrics = keep(missing, &what, measure(plan, lab, subject, *test));
                group.add(&subject.name, &name, round, metrics.unwrap_or_default());
            }
        }
    }
    group
}

fn measure(plan: &Plan, lab: &Lab, subject: &Subject, test: Test) -> Result<Metrics> {
    let processes = subject.processes();
    for process in processes.iter().flatten() {
        process.forget_peak();
    }
    let v4 = server(subject.index, false);
    let mut metrics = match test {
        Test::Streams { direction, count, v6 } => {
            let load = Load::streams(&lab.client, &lab.net, server(subject.index, v6), direction, count)?;
            count_for(plan, load, processes, |bytes, seconds| ("mbit_per_s", bytes * 8.0 / 1e6 / seconds, bytes * 8.0 / 1e9))?
        }
        Test::Flood { direction, bytes } => {
            let size = f64::from(u32::try_from(bytes)?);
            let load = Load::flood(&lab.client, &lab.net, v4, direction, bytes)?;
            count_for(plan, load, processes, |count, seconds| ("kpps", count / 1e3 / seconds, count * size * 8.0 / 1e9))?
        }
        Test::IdleEchoes => echoes(lab, v4, plan.echoes, 4)?,
        Test::BusyEchoes(direction) => {
            let load = Load::streams(&lab.client, &lab.net, v4, direction, 1)?;
            load.await_first()?;
            std::thread::sleep(plan.warm_up);
            let metrics = echoes(lab, v4, plan.echoes, 5);
            load.stop()?;
            metrics?
        }
    };
    if let Some([near, far]) = processes {
        metrics.extend([("rss_client_mib", near.peak_rss_mib()?), ("rss_gateway_mib", far.peak_rss_mib()?)]);
    }
    Ok(metrics)
}

fn echoes(lab: &Lab, to: std::net::IpAddr, count: u32, interval_ms: u32) -> Result<Metrics> {
    let times = ping(&lab.client, to, count, interval_ms)?;
    let at = |percent| percentile(&times, percent).context("no answers");
    let lost = f64::from(count) - f64::from(u32::try_from(times.len())?);
    Ok(Metrics::from([("p50_us", at(50)?), ("p99_us", at(99)?), ("lost", lost)]))
}

/// What arrives in the window, and the processor time of both ends for each Gbit of it. `scale` makes of what arrived and the seconds
/// the name of the rate, the rate, and the Gbit.
fn count_for(
    plan: &Plan,
    load: Load,
    processes: Option<[Process; 2]>,
    scale: impl Fn(f64, f64) -> (&'static str, f64, f64),
) -> Result<Metrics> {
    load.await_first()?;
    std::thread::sleep(plan.warm_up);
    let cpu = || processes.map(|[near, far]| Ok::<_, anyhow::Error>([near.cpu_s()?, far.cpu_s()?])).transpose();
    let (start, before, cpu_before) = (Instant::now(), load.arrived(), cpu()?);
    std::thread::sleep(plan.window);
    let (time, arrived, cpu_after) = (start.elapsed(), load.arrived() - before, cpu()?);
    load.stop()?;
    // 2^53 bytes would take weeks.
    let arrived: f64 = format!("{arrived}").parse()?;
    let (name, rate, gbit) = scale(arrived, time.as_secs_f64());
    anyhow::ensure!(gbit > 0.0, "nothing arrived");
    let mut metrics = Metrics::from([(name, rate)]);
    if let Some((before, after)) = cpu_before.zip(cpu_after) {
        let cost = |end: usize| (after[end] - before[end]) / gbit;
        metrics.extend([("cpu_client_s_per_gbit", cost(0)), ("cpu_gateway_s_per_gbit", cost(1))]);
    }
    Ok(metrics)
}

/// Keeps a result, or writes down why there is none.
fn keep<T>(missing: &mut Vec<Missing>, what: &str, result: Result<T>) -> Option<T> {
    result
        .map_err(|error| {
            let why: String = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ").chars().take(500).collect();
            missing.push(Missing { what: what.to_owned(), why });
        })
        .ok()
}
