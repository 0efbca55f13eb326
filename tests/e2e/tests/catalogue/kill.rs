//! KILL: the helper dies or stops at any moment; nothing leaks and it comes back to what was wanted (G4, G6, G22).

use crate::states::{Protected, enter};
use anyhow::Result;
use hamn_e2e::World;
use hamn_e2e::wait::{in_time, ms, s, within};
use hamn_provider::sandbox::address as at;
use nix::sys::signal::Signal;
use rand::RngExt;
use serde_json::json;
use std::time::{Duration, Instant};

/// KILL-01: at least 100 random instants after a random request, under flood.
#[test]
fn kill_01_slow_a_hundred_random_instants() -> Result<()> {
    in_time(a_hundred_random_instants)
}

fn a_hundred_random_instants() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.set("kill_switch", "always")?;
    world.connect()?;
    world.lab.reset_witness()?;
    let flooders = world.flood(s(300))?;
    let mut back = Vec::new();
    for round in 0..110 {
        let (request, instant) = (rand::rng().random_range(0..5), ms(rand::rng().random_range(0..=50)));
        let wanted = match request {
            0 => ("us", at::GATEWAY_US_V4, world.want("us")),
            1 => ("se", at::GATEWAY_V4, world.want("se")),
            2 => ("se, by way of disconnected", at::GATEWAY_V4, world.give_up().and_then(|()| world.want("se"))),
            3 => (
                "se, with a setting",
                at::GATEWAY_V4,
                world.want("se").and_then(|()| world.patch(&json!({ "allow_lan": round % 2 == 0 }))),
            ),
            _ => (
                "us, reconnecting",
                at::GATEWAY_US_V4,
                world.want("us").and_then(|()| world.call("POST", "/v1/reconnect", &json!({})).map(drop)),
            ),
        };
        wanted.2?;
        std::thread::sleep(instant);
        world.kill_helper()?;
        world.assert_no_traffic_outside(&format!("round {round}: {} and killed {} ms later", wanted.0, instant.as_millis()))?;
        let start = Instant::now();
        world.start_helper()?;
        world.wait_for_exit(wanted.1, s(30))?;
        back.push(start.elapsed());
    }
    for mut flooder in flooders {
        flooder.kill()?;
        flooder.wait()?;
    }
    world.assert_no_traffic_outside("110 kills")?;
    back.sort();
    let (p95, worst) = (back[back.len() * 95 / 100], back[back.len() - 1]);
    world.give_up()?;
    world.set("kill_switch", "off")?;
    world.wait_in_force()?;
    world.control()?;
    within(&format!("back to the intent (p95; the worst took {} ms)", worst.as_millis()), p95, s(3))
}

/// KILL-02: SIGKILL in S2, S3, S4 and S1, S6: the rules stay, set P stays inside, the intent survives.
#[test]
fn kill_02_killed_in_each_state() -> Result<()> {
    for state in crate::states::ALL {
        let mut world = World::start()?;
        world.control()?;
        enter(&mut world, state)?;
        world.kill_helper()?;
        world.assert_no_leak(&format!("helper killed in {state:?}"))?;
        assert_eq!(world.lab.exit_address(false, ms(200))?, None, "{state:?}");
        world.start_helper()?;
        world.assert_no_leak(&format!("helper restarted after {state:?}"))?;
        if matches!(state, Protected::Connecting | Protected::Reconnecting) {
            world.lab.isp_heals()?;
        }
        if matches!(state, Protected::Connecting | Protected::Reconnecting | Protected::Connected) {
            world.wait_for_exit(at::GATEWAY_V4, s(15))?;
        }
    }
    Ok(())
}

/// KILL-04: the helper is stopped (SIGSTOP), then goes on.
#[test]
fn kill_04_stopped_and_continued() -> Result<()> {
    in_time(stopped_and_continued)
}

fn stopped_and_continued() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    world.signal_helper(Signal::SIGSTOP)?;
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        world.assert_no_leak("helper stopped")?;
    }
    assert_eq!(world.lab.exit_address(false, ms(200))?, None, "the tunnel lives in the helper");
    world.lab.reset_witness()?;
    world.signal_helper(Signal::SIGCONT)?;
    let took = world.wait_for_exit(at::GATEWAY_V4, s(10))?;
    world.assert_nothing_outside("after SIGCONT")?;
    within("traffic again", took, s(3))
}

/// IPC-10: eight callers race; the last intent wins and nothing leaks.
#[test]
fn ipc_10_racing_callers_end_in_the_last_intent() -> Result<()> {
    let mut world = World::start()?;
    world.set("kill_switch", "always")?;
    world.lab.reset_witness()?;
    let flooders = world.flood(s(8))?;
    let api = world.api();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let api = api.clone();
            std::thread::spawn(move || {
                for _ in 0..40 {
                    let (path, body) = match rand::rng().random_range(0..4) {
                        0 => ("/v1/disconnect", json!({})),
                        1 => ("/v1/reconnect", json!({})),
                        2 => ("/v1/connect", json!({ "destination": "us" })),
                        _ => ("/v1/connect", json!({ "destination": "se" })),
                    };
                    // Refusals (too many requests, nothing to reconnect) are answers, too.
                    let answer = api.call("POST", path, Some(&body));
                    assert!(answer.is_ok_and(|answer| answer.status < 600), "every call is answered");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().map_err(|_| anyhow::anyhow!("a caller was not answered"))?;
    }
    // The bucket of calls per second may be empty.
    hamn_e2e::wait::until("the last word is taken", s(5), || Ok(world.want("us").ok()))?;
    world.wait_for_exit(at::GATEWAY_US_V4, s(30))?;
    for mut flooder in flooders {
        flooder.kill()?;
        flooder.wait()?;
    }
    world.assert_nothing_outside("racing callers")
}
