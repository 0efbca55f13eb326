//! What `cargo xtask bench` measures. Every part says why when it could not measure something; nothing is left out silently.
//!
//! All tunnels end at the same gateway program and run in the same laboratory in one run, one after the other in turn,
//! so that ratios mean something even when the machine is busy with other things.

pub mod clients;
pub mod connect;
pub mod gateway;
pub mod idle;
pub mod list;
pub mod process;
pub mod report;
pub mod stats;
pub mod status;
pub mod swap;
pub mod throughput;

use crate::bench::clients::{Client, Clients};
use crate::bench::report::{Missing, Report};
use crate::world::{Setup, World};
use anyhow::{Context, Result, anyhow};
use hamn_provider::sandbox::Host;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connects of each kind.
    pub connects: usize,
    /// Throughput rounds of each client and direction.
    pub rounds: usize,
    /// How long one throughput round counts.
    pub window: Duration,
    /// Firewall swaps with and without load, each.
    pub swaps: usize,
    /// How long the idle helper is watched, each time.
    pub idle: Duration,
    /// Runs of `hamn status`.
    pub statuses: usize,
    /// Times the list of servers is read.
    pub lists: usize,
}

impl Plan {
    /// For the README.
    pub const FULL: Self = Self {
        connects: 20,
        rounds: 3,
        window: Duration::from_secs(3),
        swaps: 500,
        idle: Duration::from_secs(20),
        statuses: 200,
        lists: 20,
    };
    /// For a test: everything runs, the numbers mean little.
    pub const QUICK: Self = Self {
        connects: 3,
        rounds: 1,
        window: Duration::from_millis(700),
        swaps: 40,
        idle: Duration::from_secs(2),
        statuses: 20,
        lists: 2,
    };
}

/// Runs code on a thread of its own inside a host, where programs and sockets belong to that host, and waits for it.
///
/// # Errors
/// When the host is gone, and what the code returns.
pub fn inside<T: Send + 'static>(host: &Host, name: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (answer, result) = sync_channel(1);
    let thread = host.thread(name, move || drop(answer.send(work())))?;
    let result = result.recv();
    let _ = thread.join();
    result.map_err(|_| anyhow!("{name} panicked"))?
}

/// Runs the whole benchmark. `progress` is told what is being measured.
pub fn run(plan: &Plan, quick: bool, progress: &dyn Fn(&str)) -> Report {
    let start = Instant::now();
    let mut report = Report::new(quick);
    progress("reading a list of 10,000 servers");
    report.list = keep(&mut report.not_measured, "list of 10,000 servers", list::measure(plan.lists));
    progress("firewall swaps, alone and under a flood");
    report.firewall = keep(&mut report.not_measured, "firewall swap", swap::measure(plan.swaps)).unwrap_or_default();
    progress("building the laboratory");
    if let Some(mut world) = laboratory(&mut report.not_measured) {
        // It reads every frame, on the same processors.
        keep(&mut report.not_measured, "the laboratory without its witness", world.lab.retire_witness());
        in_the_laboratory(plan, &world, &mut report, progress);
    }
    report.finish(start.elapsed());
    report
}

/// With everything; or, when Hamn or its provider does not come up, without them, for what can be measured all the same.
fn laboratory(missing: &mut Vec<Missing>) -> Option<World> {
    let whole = World::start();
    if let Some(world) = keep(missing, "everything of Hamn in the laboratory", whole) {
        return Some(world);
    }
    keep(
        missing,
        "everything in the laboratory",
        World::with(Setup { provider: false, helper: false, login: false, ..Setup::default() }),
    )
}

fn in_the_laboratory(plan: &Plan, world: &World, report: &mut Report, progress: &dyn Fn(&str)) {
    crate::interrupt::remove_when_interrupted(world.lab.directory());
    let missing = &mut report.not_measured;
    let hamn = world.helper_pid().is_ok();
    let clients = keep(missing, "tunnels", Clients::prepare(world));
    if hamn {
        progress("the idle helper, disconnected");
        report.helper.extend(keep(missing, "helper, idle and disconnected", idle::measure(world, "disconnected", plan.idle)));
        progress("`hamn status`");
        report.cli = keep(missing, "`hamn status`", status::measure(world, plan.statuses)).unwrap_or_default();
    }
    let Some(clients) = clients else { return };
    report.versions = clients.versions();
    progress("connecting, Hamn and wg-quick in turn");
    connect::measure(world, &clients, plan.connects, report);
    if hamn {
        progress("the idle helper, connected");
        let connected = clients.up(world, Client::Hamn).and_then(|()| idle::measure(world, "connected", plan.idle));
        report.helper.extend(keep(&mut report.not_measured, "helper, idle and connected", connected));
        let _ = clients.down(world, Client::Hamn);
    }
    progress("TCP through the tunnels, in turn");
    throughput::measure(world, &clients, plan, report);
    if hamn && report.throughput.iter().any(|row| row.client == Client::Hamn.name()) {
        let after = idle::measure(world, "disconnected, after the transfers", Duration::from_secs(1));
        report.helper.extend(keep(&mut report.not_measured, "helper after the transfers", after));
    }
}

/// Keeps a result, or writes down why there is none.
pub fn keep<T>(missing: &mut Vec<Missing>, what: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let words: Vec<char> = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
            let why = match words.len().checked_sub(500).filter(|tail| *tail > 200) {
                // Programs say what they do first and what went wrong last.
                Some(tail) => format!("{} … {}", String::from_iter(&words[..200]), String::from_iter(&words[tail..])),
                None => words.iter().collect(),
            };
            missing.push(Missing { what: what.to_owned(), why });
            None
        }
    }
}

/// Milliseconds of a duration.
#[must_use]
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Turns a condition into a reason.
///
/// # Errors
/// When the value is missing.
pub fn some<T>(value: Option<T>, why: &'static str) -> Result<T> {
    value.context(why)
}
