//! NET: links, addresses and gateways change; traffic flows again within three seconds and nothing leaks meanwhile.

use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{in_time, ms, s, within};
use hamn_provider::sandbox::address as at;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// The goal of the guarantees: p95 within three seconds.
const GOAL: Duration = Duration::from_secs(3);

fn p95(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[(times.len() * 95).div_ceil(100) - 1]
}

/// NET-01: the link goes down and up, the address changes, again and again.
#[test]
fn net_01_slow_link_and_address_changes() -> Result<()> {
    in_time(link_and_address_changes)
}

fn link_and_address_changes() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    world.lab.reset_witness()?;
    let flooders = world.flood(s(120))?;
    let mut times = Vec::new();
    for round in 0..30_u8 {
        match round % 3 {
            0 => {
                world.lab.unplug()?;
                std::thread::sleep(ms(u64::from(round) * 20));
                world.lab.plug_in()?;
            }
            1 => world.lab.change_address(&format!("10.0.1.{}/24", 100 + round))?,
            _ => {
                world.lab.change_address("10.0.1.2/24")?;
                world.lab.forget_translations()?;
            }
        }
        let start = Instant::now();
        world.wait_for_exit(at::GATEWAY_V4, s(20))?;
        times.push(start.elapsed());
        world.assert_nothing_outside(&format!("round {round}"))?;
    }
    for mut flooder in flooders {
        flooder.kill()?;
        flooder.wait()?;
    }
    within(&format!("traffic again (p95 of {times:?})"), p95(times.clone()), GOAL)
}

/// NET-02: from one link to another and back.
#[test]
fn net_02_another_link_takes_over() -> Result<()> {
    in_time(another_link_takes_over)
}

fn another_link_takes_over() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    world.lab.reset_witness()?;
    let flooders = world.flood(s(4))?;
    world.lab.plug_in_wlan()?;
    world.lab.unplug()?;
    let there = world.wait_for_exit(at::GATEWAY_V4, s(20))?;
    let both = hamn_e2e::probe::Salvo {
        devices: vec!["wlan0".into()],
        sources: vec![at::CLIENT_WLAN_V4, at::CLIENT_WLAN_V6],
        ..world.salvo()
    };
    world.fire_salvo(&both)?;
    world.lab.plug_in()?;
    world.lab.unplug_wlan()?;
    let back = world.wait_for_exit(at::GATEWAY_V4, s(20))?;
    for flooder in flooders {
        World::flooded(flooder)?;
    }
    world.assert_nothing_outside("from link to link")?;
    within("traffic over the other link", there, GOAL)?;
    within("traffic over the first link again", back, GOAL)
}

/// NET-04: the gateway forgets everything (restart), while traffic is wanted.
#[test]
fn net_04_gateway_restart() -> Result<()> {
    in_time(gateway_restart)
}

fn gateway_restart() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    world.lab.reset_witness()?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let provider = world.provider.as_mut().ok_or_else(|| anyhow::anyhow!("no provider"))?;
        provider.kill_gateway()?;
        let _ = world.lab.exit_address(false, ms(300))?;
        world.provider.as_mut().ok_or_else(|| anyhow::anyhow!("no provider"))?.start_gateway(&world.lab)?;
        times.push(world.wait_for_exit(at::GATEWAY_V4, s(20))?);
    }
    world.assert_nothing_outside("gateway restarts")?;
    within(&format!("traffic again (p95 of {times:?})"), p95(times.clone()), GOAL)
}

/// NET-04: the path swallows everything, or answers with port unreachable, for a while.
#[test]
fn net_04_blackhole_and_unreachable() -> Result<()> {
    in_time(blackhole_and_unreachable)
}

fn blackhole_and_unreachable() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    world.lab.reset_witness()?;
    let mut times = Vec::new();
    for (fault, length) in [("drop", s(6)), ("reject", s(4))] {
        world.lab.router.nft(&format!("add rule inet isp faults ip daddr 198.51.100.0/24 {fault}\nadd rule inet isp faults ip6 daddr 2001:db8:5::/64 {fault}\n"))?;
        let end = Instant::now() + length;
        while Instant::now() < end {
            assert_eq!(world.lab.exit_address(false, ms(300))?, None, "{fault}");
        }
        let status = world.status()?;
        ensure!(
            status["state"] != "connected" || status["tunnel"]["stalled"] == true,
            "the silence is shown within {} s: {status:#}",
            length.as_secs()
        );
        world.lab.isp_heals()?;
        times.push(world.wait_for_exit(at::GATEWAY_V4, s(20))?);
    }
    world.assert_nothing_outside("faults on the path")?;
    world.fire()?;
    world.assert_nothing_outside("after faults on the path")?;
    within(&format!("traffic again (worst of {times:?})"), p95(times.clone()), GOAL)
}

/// NET-06: asleep, then awake with another address. SIGSTOP stands for the sleep.
#[test]
fn net_06_asleep_and_awake_elsewhere() -> Result<()> {
    in_time(asleep_and_awake_elsewhere)
}

fn asleep_and_awake_elsewhere() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    world.lab.reset_witness()?;
    world.signal_helper(Signal::SIGSTOP)?;
    world.lab.unplug()?;
    std::thread::sleep(s(3));
    world.lab.plug_in()?;
    world.lab.change_address("10.0.1.99/24")?;
    world.lab.forget_translations()?;
    world.fire()?;
    world.signal_helper(Signal::SIGCONT)?;
    let took = world.wait_for_exit(at::GATEWAY_V4, s(20))?;
    world.assert_nothing_outside("sleep")?;
    within("traffic again", took, GOAL)
}
