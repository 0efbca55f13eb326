//! The whole way of a person: sign in, connect, lose the tunnel, get it back, disconnect; each word of the window beside the facts.

use crate::open;
use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until};
use hamn_e2e::window::gallery::{give_tunnel_back, take_tunnel};
use hamn_e2e::window::page::word;
use hamn_e2e::world::Setup;
use hamn_provider::sandbox::address as at;

#[test]
fn sign_in_connect_lose_the_tunnel_recover_disconnect() -> Result<()> {
    let mut world = World::with(Setup { login: false, ..Setup::default() })?;
    let window = open(&world)?;
    window.wait_for_state(&["signed_out"], s(10))?;
    sign_in(&world, &window)?;
    connect(&world, &window)?;
    lose_the_helper(&mut world, &window)?;
    lose_the_tunnel(&world, &window)?;
    lose_the_gateway(&world, &window)?;
    disconnect(&world, &window)?;
    window.ensure_no_errors()
}

fn sign_in(world: &World, window: &hamn_e2e::window::Window) -> Result<()> {
    window.go("account")?;
    window.type_into("login-account", hamn_e2e::provider::ACCOUNT)?;
    window.click("login-submit")?;
    until("the helper knows the account", s(10), || Ok((world.status()?["provider"]["logged_in"] == true).then_some(())))?;
    window.go("connect")?;
    window.wait_for_state(&["disconnected"], s(5))?;
    Ok(())
}

fn connect(world: &World, window: &hamn_e2e::window::Window) -> Result<()> {
    ensure!(world.exit_address()? == Some(at::ISP_NAT_V4.to_string()), "before: the ISP's address");
    window.click("connect")?;
    window.wait_for_state(&["connected"], s(20))?;
    let seen = world.exit_address()?.context("the web is out of reach")?;
    ensure!(seen == at::GATEWAY_V4.to_string(), "the web sees {seen}");
    window.wait_for_text("exit-v4", s(10), |text| text.contains(&seen))?;
    Ok(())
}

/// The tunnel lives in the helper: with it the tunnel dies, and the rules stay.
fn lose_the_helper(world: &mut World, window: &hamn_e2e::window::Window) -> Result<()> {
    world.kill_helper()?;
    window.wait_for_state(&["unreachable"], s(5))?;
    ensure!(world.lab.exit_address(false, ms(300))?.is_none(), "the network is open");
    ensure!(window.text("exit-v4")?.is_none_or(|text| !text.contains("198.51.100")), "an exit address of a dead tunnel");
    world.start_helper()?;
    window.wait_for_state(&["connected"], s(20))?;
    world.wait_for_exit(at::GATEWAY_V4, s(10))?;
    Ok(())
}

/// The device that carries the tunnel is destroyed and cannot be made again.
fn lose_the_tunnel(world: &World, window: &hamn_e2e::window::Window) -> Result<()> {
    take_tunnel(world)?;
    window.wait_for_state(&["blocked"], s(30))?;
    let why = window.text("reason")?.unwrap_or_default();
    ensure!(!why.is_empty(), "blocked without a reason");
    ensure!(world.lab.exit_address(false, ms(300))?.is_none(), "the network is open");
    give_tunnel_back(world)?;
    window.wait_for_state(&["connected"], s(60))?;
    world.wait_for_exit(at::GATEWAY_V4, s(10)).map(drop)
}

/// The gateway falls silent: the window must say so, with a reason, until it is back.
fn lose_the_gateway(world: &World, window: &hamn_e2e::window::Window) -> Result<()> {
    world.lab.isp_drops("ip daddr 198.51.100.0/24")?;
    world.lab.isp_drops("ip6 daddr 2001:db8:5::/64")?;
    until("the silence is noticed", s(30), || {
        let _ = world.lab.exit_address(false, ms(200));
        let kind = window.state()?.unwrap_or_default();
        Ok(["degraded", "reconnecting", "blocked"].contains(&kind.as_str()).then_some(()))
    })?;
    window.wait_for_state(&["reconnecting", "blocked"], s(90))?;
    ensure!(world.lab.exit_address(false, ms(300))?.is_none(), "the network is open");
    window.wait_for_text("reason", s(60), |text| !text.is_empty())?;
    world.lab.isp_heals()?;
    window.wait_for_state(&["connected"], s(60))?;
    Ok(())
}

fn disconnect(world: &World, window: &hamn_e2e::window::Window) -> Result<()> {
    window.click("disconnect")?;
    window.wait_for_state(&["disconnected"], s(10))?;
    ensure!(world.exit_address()? == Some(at::ISP_NAT_V4.to_string()), "after: the ISP's address");
    ensure!(window.text("exit-v4")?.is_none_or(|text| !text.contains("198.51.100")), "an exit address without a tunnel");
    Ok(())
}

#[test]
fn an_exit_address_that_the_web_sees_is_never_called_absent() -> Result<()> {
    let world = World::start()?;
    let window = open(&world)?;
    connect(&world, &window)?;
    let seen = world.exit_address_v6()?.context("the web is out of reach over IPv6")?;
    // What nobody has seen yet may be called unknown, but not absent.
    let none = word("en", "connect", "connect_exit_none")?;
    let said = window.wait_for_text("exit-v6", s(10), |text| !text.is_empty())?;
    ensure!(said.contains(&seen) || said != none, "the web sees {seen}, and the window says {said}");
    Ok(())
}
