//! DNS: questions go to the tunnel's resolver inside the tunnel, or nowhere (G3).

use crate::states::{ALL, Protected, enter};
use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until};
use hamn_provider::sandbox::address as at;
use std::net::IpAddr;

/// Asks this server for this name; true when it answered.
fn dig(world: &World, server: IpAddr, name: &str, tcp: bool) -> bool {
    let command = world.lab.client.command("dig").args(["+short", "+tries=1", "+time=1", name]);
    let command = if tcp { command.arg("+tcp") } else { command };
    command.arg(format!("@{server}")).as_nobody().ok().is_ok_and(|answer| !answer.trim().is_empty() && !answer.contains(';'))
}

/// Resolves as programs do, through `/etc/resolv.conf`.
fn look_up(world: &World, name: &str) -> bool {
    world.lab.client.command("getent").args(["ahostsv4", name]).as_nobody().timeout(s(6)).succeeds()
}

fn asked(world: &World, name: &str) -> (usize, usize) {
    let count = |log: Vec<hamn_provider::sandbox::service::Query>| log.iter().filter(|query| query.name == name).count();
    (count(world.lab.lan_dns.entries()), count(world.lab.internet_dns.entries()))
}

/// Port 53 to these servers outside the tunnel, on the wire as the witness sees it.
fn assert_no_dns_outside(world: &mut World, when: &str) -> Result<()> {
    world.lab.reset_witness()?;
    for server in [at::LAN_HOST_V4, at::LAN_HOST_V6, at::RESOLVER_V4, at::RESOLVER_V6, at::ROUTER_V4] {
        let flooder = world.flood_at(vec![server], &[53, 853], ms(50))?;
        ensure!(World::flooded(flooder)?.tried > 100, "the flood was too small");
    }
    ensure!(!dig(world, at::LAN_HOST_V4, "udp.test", false), "{when}: the LAN's resolver answered");
    ensure!(!dig(world, at::LAN_HOST_V4, "tcp.test", true), "{when}: the LAN's resolver answered over TCP");
    let dns: Vec<String> = world.lab.witness.samples().into_iter().filter(|line| line.contains(":53,")).collect();
    ensure!(dns.is_empty(), "{when}: {dns:#?}");
    world.assert_no_traffic_outside(when)
}

/// DNS-01: while connected, only the tunnel's resolver is asked, and only inside.
#[test]
fn dns_01_only_the_tunnels_resolver_is_asked() -> Result<()> {
    let mut world = World::start()?;
    // Negative control: without protection every resolver can be asked.
    for server in [at::LAN_HOST_V4, at::LAN_HOST_V6, at::RESOLVER_V4, at::RESOLVER_V6] {
        ensure!(dig(&world, server, "control.test", false) && dig(&world, server, "control.test", true), "control: {server}");
    }
    ensure!(look_up(&world, "before.test"), "control: lookups work");
    assert_eq!(asked(&world, "before.test").0, 1, "control: the LAN's resolver was asked");
    world.connect()?;
    world.lab.reset_witness()?;
    ensure!(look_up(&world, "inside.test"), "lookups work inside the tunnel");
    assert_eq!(asked(&world, "inside.test").0, 0, "the LAN's resolver was asked");
    for server in [at::RESOLVER_V4, at::RESOLVER_V6, at::LAN_HOST_V4, at::LAN_HOST_V6] {
        for tcp in [false, true] {
            ensure!(!dig(&world, server, "foreign.test", tcp), "{server} answered, tcp {tcp}");
        }
    }
    assert_eq!(asked(&world, "foreign.test"), (0, 0), "a resolver that is not the tunnel's was asked");
    world.assert_nothing_outside("connected")?;
    world.disconnect()?;
    ensure!(look_up(&world, "after.test"), "lookups work again");
    assert_eq!(asked(&world, "after.test").0, 1, "the LAN's resolver is asked again");
    Ok(())
}

/// DNS-02: in every protected state, with LAN access allowed and a resolver on the LAN, port 53 stays shut.
#[test]
fn dns_02_the_lans_resolver_is_never_asked() -> Result<()> {
    for state in ALL {
        let mut world = World::start()?;
        world.lab.reset_witness()?;
        ensure!(dig(&world, at::LAN_HOST_V4, "control.test", false), "control");
        world.set("allow_lan", "true")?;
        enter(&mut world, state)?;
        let printer =
            world.lab.client.command("curl").args(["-s", "--max-time", "2"]).arg(format!("http://{}/", at::LAN_HOST_V4)).ok();
        ensure!(printer.is_ok(), "{state:?}: LAN access is allowed, but the printer is out of reach");
        // The printer's own packets are outside the tunnel by permission; from here on only port 53 is sent.
        if state == Protected::Blocked || state == Protected::Lockdown {
            ensure!(!look_up(&world, "blocked.test"), "{state:?}: a name was resolved");
        }
        assert_no_dns_outside(&mut world, &format!("{state:?} with LAN allowed"))?;
        assert_eq!(asked(&world, "blocked.test").0, 0);
    }
    Ok(())
}

/// DNS-03: the user's own resolver on the LAN: exactly that one, outside; all others shut.
#[test]
fn dns_03_a_private_custom_resolver_and_no_other() -> Result<()> {
    let mut world = World::start()?;
    world.set("allow_lan", "true")?;
    world.set("dns", "10.0.1.50")?;
    world.connect()?;
    world.lab.reset_witness()?;
    ensure!(look_up(&world, "custom.test"), "the custom resolver works");
    ensure!(asked(&world, "custom.test").0 >= 1, "the custom resolver was asked");
    let foreign: Vec<String> =
        world.lab.witness.samples().into_iter().filter(|line| line.contains(":53,") && !line.contains("10.0.1.50:53")).collect();
    ensure!(foreign.is_empty(), "{foreign:#?}");
    world.lab.reset_witness()?;
    let flooder = world.flood_at(vec![at::ROUTER_V4, at::LAN_HOST_V6, at::RESOLVER_V4], &[53], ms(100))?;
    ensure!(World::flooded(flooder)?.tried > 100, "the flood was too small");
    world.assert_no_traffic_outside("other resolvers")
}

/// DNS-07: another program rewrites resolv.conf all the time.
#[test]
fn dns_07_rewritten_resolv_conf_is_put_right_and_never_leaks() -> Result<()> {
    let mut world = World::start()?;
    world.connect()?;
    let ours = world.lab.client.read("/etc/resolv.conf")?;
    ensure!(!ours.contains("10.0.1.50"), "the file names the tunnel's resolver: {ours}");
    world.lab.reset_witness()?;
    for round in 0..10 {
        world.lab.client.write("/etc/resolv.conf", "nameserver 10.0.1.50\n")?;
        let _ = look_up(&world, &format!("round{round}.test"));
        until("resolv.conf is put right", s(1), || Ok((world.lab.client.read("/etc/resolv.conf")? == ours).then_some(())))?;
    }
    world.assert_nothing_outside("while resolv.conf was rewritten")?;
    ensure!(look_up(&world, "healed.test"), "lookups work afterwards");
    Ok(())
}

/// DNS-08 (plain file): after a crash between apply and restore, the next start restores, byte by byte.
#[test]
fn dns_08_resolv_conf_is_restored_byte_by_byte_after_a_crash() -> Result<()> {
    let mut world = World::start()?;
    let odd = "# odd\tbytes \u{e5}\nsearch  example.test\nnameserver 10.0.1.50\noptions edns0\n\n";
    world.lab.client.write("/etc/resolv.conf", odd)?;
    world.connect()?;
    world.kill_helper()?;
    ensure!(world.lab.client.read("/etc/resolv.conf")? != odd, "the tunnel's resolver stays while protected");
    world.start_helper()?;
    world.wait_for_exit(at::GATEWAY_V4, s(10))?;
    world.disconnect()?;
    assert_eq!(world.lab.client.read("/etc/resolv.conf")?, odd);
    // And once more, this time restored by the command that works while no helper runs.
    world.connect()?;
    world.kill_helper()?;
    world.restore_network()?;
    assert_eq!(world.lab.client.read("/etc/resolv.conf")?, odd);
    assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"), "the network is open again");
    Ok(())
}
