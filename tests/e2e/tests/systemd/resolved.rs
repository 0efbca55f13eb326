//! DNS-08 with systemd-resolved and NetworkManager: the usual desktop.

use anyhow::{Result, ensure};
use hamn_e2e::wait::{s, until};

use crate::machine::{Kind, Machine, SOON, skipped};

/// What resolved knows of the physical link.
fn eth0(machine: &Machine) -> Result<String> {
    machine.run("for what in dns domain default-route llmnr mdns; do resolvectl $what eth0; done; readlink /etc/resolv.conf")
}

fn has_default_route(machine: &Machine) -> Result<bool> {
    Ok(machine.run("resolvectl default-route eth0")?.trim_end().ends_with("yes"))
}

fn tampered(machine: &Machine) -> Result<u64> {
    Ok(machine.api().status()?["protection"]["tampered"].as_u64().unwrap_or(0))
}

/// How many questions for the LAN's resolver programs and resolved itself tried to send, counted before any rule of ours.
fn tried_on_lan(machine: &Machine) -> Result<u64> {
    let listing = machine.run("nft list counter inet tried lan")?;
    Ok(listing
        .split_whitespace()
        .skip_while(|word| *word != "packets")
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(u64::MAX))
}

const TRIED: &str = "nft 'table inet tried { counter lan { } ; chain out { type filter hook output priority -400; ip daddr 10.0.1.50 udp dport 53 counter name lan; }; }'";

#[test]
fn dns_08_resolved_asks_the_tunnel_only_and_is_as_before_afterwards() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let machine = Machine::boot(&Kind::desktop())?;
    machine.run(TRIED)?;
    machine.resolves_outside("control")?;
    ensure!(tried_on_lan(&machine)? > 0, "control: the counter counts");
    let before = eth0(&machine)?;
    ensure!(has_default_route(&machine)?, "control: {before}");
    machine.start_helper()?;
    machine.connect()?;
    assert_eq!(machine.backend()?, "systemd-resolved");
    let ours = machine.run("resolvectl dns hamn0; resolvectl domain hamn0; resolvectl default-route hamn0")?;
    ensure!(ours.contains("10.99.0.1") && ours.contains("~.") && ours.contains("yes"), "{ours}");
    ensure!(!has_default_route(&machine)?, "another link keeps its default route for DNS");
    let tried = tried_on_lan(&machine)?;
    machine.resolves_inside("inside.test")?;
    // Not only refused by the firewall: resolved does not even try.
    assert_eq!(tried_on_lan(&machine)?, tried);
    let state = machine.run("nmcli -g GENERAL.STATE device show hamn0")?;
    ensure!(state.starts_with("10 "), "NetworkManager manages the tunnel: {state}");
    machine.disconnect()?;
    assert_eq!(eth0(&machine)?, before);
    machine.resolves_outside("after")
}

#[test]
fn dns_08_resolved_what_network_manager_resets_is_put_right() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut machine = Machine::boot(&Kind::desktop())?;
    machine.resolves_outside("control")?;
    let before = eth0(&machine)?;
    machine.start_helper()?;
    machine.connect()?;
    machine.world.lab.reset_witness()?;
    let mut resets = 0;
    for (round, line) in
        ["nmcli connection up eth0", "nmcli device reapply eth0", "resolvectl default-route eth0 yes"].iter().enumerate()
    {
        let earlier = tampered(&machine)?;
        machine.run(line)?;
        // `reapply` of the same settings may well reset nothing.
        let reset = until("a reset is noticed", SOON, || Ok((tampered(&machine)? > earlier).then_some(()))).is_ok();
        resets += u32::from(reset);
        until(&format!("undone after {line}"), SOON, || Ok((!has_default_route(&machine)?).then_some(())))?;
        machine.wait_for("connected", s(20))?;
        machine.resolves_inside(&format!("reset{round}.test"))?;
    }
    ensure!(resets >= 1, "control: nothing reset the flag");
    machine.world.assert_nothing_outside("while NetworkManager reset the link")?;
    machine.disconnect()?;
    assert_eq!(eth0(&machine)?, before);
    Ok(())
}

#[test]
fn dns_08_resolved_a_killed_helper_comes_back_and_nobody_else_is_asked() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut machine = Machine::boot(&Kind::desktop())?;
    machine.resolves_outside("control")?;
    let before = eth0(&machine)?;
    machine.start_helper()?;
    machine.connect()?;
    machine.world.lab.reset_witness()?;
    let mut asking = machine
        .beside("for i in 0 1 2 3 4 5 6 7 8 9 a b c d e f; do timeout 1 getent ahostsv4 killed$i.test; sleep 0.1; done")?;
    for _ in 0..2 {
        let old = machine.helper_pid()?;
        machine.run(&format!("kill -9 {old}"))?;
        until("systemd starts another", s(15), || Ok(machine.helper_pid().ok().filter(|pid| *pid != 0 && *pid != old)))?;
        machine.wait_for("connected", s(20))?;
    }
    asking.wait()?;
    machine.resolves_inside("again.test")?;
    assert_eq!(machine.asked("killed").0, 0, "the LAN's resolver was asked while the helper was dead");
    machine.world.assert_nothing_outside("while the helper was killed")?;
    machine.disconnect()?;
    assert_eq!(eth0(&machine)?, before);
    machine.resolves_outside("after")
}
