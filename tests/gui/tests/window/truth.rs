//! What the window says when its helper is not as usual: never more than it can know, and again the truth once it can.

use crate::{open, open_with};
use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s};
use hamn_e2e::world::Setup;
use hamn_gui_tests::fake::FakeHelper;
use nix::sys::signal::{Signal, kill};
use serde_json::json;

#[test]
fn a_stopped_helper_is_not_believed_and_a_continued_one_is() -> Result<()> {
    let world = World::start()?;
    world.connect()?;
    let window = open(&world)?;
    window.wait_for_state(&["connected"], s(10))?;
    world.signal_helper(Signal::SIGSTOP)?;
    window.wait_for_state(&["unreachable"], s(15))?;
    world.signal_helper(Signal::SIGCONT)?;
    window.wait_for_state(&["connected"], s(15))?;
    Ok(())
}

#[test]
fn a_restarted_helper_is_found_again() -> Result<()> {
    let mut world = World::start()?;
    world.connect()?;
    let window = open(&world)?;
    window.wait_for_state(&["connected"], s(10))?;
    for signal in [Signal::SIGUSR1, Signal::SIGKILL] {
        world.stop_helper(signal)?;
        window.wait_for_state(&["unreachable"], s(5))?;
        world.start_helper()?;
        window.wait_for_state(&["connected"], s(20))?;
    }
    world.disconnect()?;
    window.wait_for_state(&["disconnected"], s(5))?;
    Ok(())
}

#[test]
fn without_a_socket_the_window_waits_for_the_helper() -> Result<()> {
    let mut world = World::with(Setup { helper: false, login: false, ..Setup::default() })?;
    let window = open(&world)?;
    window.wait_for_state(&["unreachable"], s(10))?;
    world.start_helper()?;
    window.wait_for_state(&["signed_out"], s(15))?;
    std::fs::remove_file(world.socket())?;
    // The old connection still works, and the helper behind it still tells the truth.
    world.kill_helper()?;
    window.wait_for_state(&["unreachable"], s(5))?;
    world.start_helper()?;
    window.wait_for_state(&["signed_out"], s(15))?;
    Ok(())
}

#[test]
fn an_old_helper_is_named_and_a_new_one_taken() -> Result<()> {
    let world = World::start()?;
    let place = world.directory().join("fake/helper.sock");
    let old = FakeHelper::imitating(&world.api(), &place)?;
    old.answer("GET /v1/version", 200, json!({"helper": "0.0.1", "api": 0}));
    let window = open_with(&world, |options| options.socket.clone_from(&place))?;
    window.wait_for_state(&["incompatible"], s(10))?;
    drop(old);
    window.wait_for_state(&["unreachable"], s(10))?;
    // An answer with a part missing is no reason to say "disconnected", or to show nothing.
    let broken = FakeHelper::imitating(&world.api(), &place)?;
    broken.doctor("GET /v1/status", |status| {
        status.as_object_mut().map(|object| object.remove("protection"));
    });
    broken.publish(|_| ());
    window.wait_for_state(&["incompatible", "unreachable"], s(15))?;
    drop(broken);
    let good = FakeHelper::imitating(&world.api(), &place)?;
    window.wait_for_state(&["disconnected"], s(15))?;
    drop(good);
    Ok(())
}

#[test]
fn a_stranger_at_the_socket_is_not_believed() -> Result<()> {
    let world = World::start()?;
    let place = world.directory().join("fake/helper.sock");
    let stranger = FakeHelper::imitating(&world.api(), &place)?;
    stranger.publish(|status| {
        status["state"] = json!("connected");
        status["protected"] = json!(true);
    });
    std::os::unix::fs::chown(&place, Some(65534), Some(65534))?;
    let window = open_with(&world, |options| options.socket.clone_from(&place))?;
    window.wait_for_state(&["untrusted"], s(10))?;
    std::os::unix::fs::chown(&place, Some(0), Some(0))?;
    window.wait_for_state(&["connected", "not_protected", "degraded"], s(15))?;
    Ok(())
}

/// Asleep: neither the window nor the helper runs for a while, and the world goes on.
#[test]
fn after_a_sleep_the_window_says_what_is_true_now() -> Result<()> {
    let world = World::start()?;
    world.connect()?;
    let window = open(&world)?;
    window.wait_for_state(&["connected"], s(10))?;
    let sleepers = window.processes();
    ensure!(sleepers.len() >= 2, "only {sleepers:?} sleep");
    for id in &sleepers {
        kill(*id, Signal::SIGSTOP)?;
    }
    world.disconnect()?;
    std::thread::sleep(ms(2500));
    for id in &sleepers {
        kill(*id, Signal::SIGCONT)?;
    }
    window.wait_for_state(&["disconnected"], s(10))?;
    Ok(())
}
