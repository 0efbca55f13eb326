//! Restart, stop and watchdog under the real service manager.

use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until};

use crate::machine::{Kind, Machine, skipped};
use crate::peer::EXIT;

/// Puts the helper's process out of the way by `how`, under a flood, and demands that it comes back without a leak.
fn comes_back(machine: &mut Machine, how: &str) -> Result<()> {
    machine.world.lab.reset_witness()?;
    let old = machine.helper_pid()?;
    let flooders = machine.world.flood(ms(2500))?;
    machine.run(&how.replace("PID", &old.to_string()))?;
    until(&format!("another helper after {how}"), s(20), || {
        Ok(machine.helper_pid().ok().filter(|pid| *pid != 0 && *pid != old))
    })?;
    machine.wait_for("connected", s(20))?;
    for flooder in flooders {
        ensure!(World::flooded(flooder)?.tried > 1000, "the flood was too small");
    }
    machine.explain(machine.world.assert_nothing_outside(how))?;
    machine.explain(machine.world.wait_for_exit(EXIT.parse()?, s(5)).map(drop))
}

#[test]
fn restart_keeps_blocking_and_reconnects() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut machine = Machine::boot(&Kind::plain())?;
    machine.world.control()?;
    machine.start_helper()?;
    machine.connect()?;
    comes_back(&mut machine, "systemctl restart hamn-helper")?;
    ensure!(machine.run("systemctl show hamn-helper --property NRestarts --value")?.trim() == "0", "a restart is no crash");
    let said = machine.journal();
    ensure!(said.contains("signal=Keep"), "the signal that keeps the rules was sent: {said}");
    Ok(())
}

#[test]
fn stop_leaves_the_rules_when_a_tunnel_is_wanted_and_only_then() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut machine = Machine::boot(&Kind::plain())?;
    machine.world.control()?;
    machine.start_helper()?;
    machine.connect()?;
    machine.run("systemctl stop hamn-helper")?;
    ensure!(!machine.rules()?.is_empty(), "stopping opened the network");
    machine.world.assert_no_leak("after systemctl stop")?;
    machine.run("systemctl start hamn-helper")?;
    machine.wait_for("connected", s(20))?;
    machine.disconnect()?;
    machine.run("systemctl stop hamn-helper")?;
    let left = machine.rules()?;
    ensure!(left.is_empty(), "rules are left: {left}");
    machine.world.control()
}

/// KILL-04
#[test]
fn kill_04_a_stopped_helper_is_replaced_by_the_watchdog() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let drop_in = ("/etc/systemd/system/hamn-helper.service.d/lab.conf", "[Service]\nWatchdogSec=2\n".to_owned());
    let mut machine = Machine::boot(&Kind { files: vec![drop_in], ..Kind::plain() })?;
    machine.start_helper()?;
    machine.connect()?;
    let pid = machine.helper_pid()?;
    // Control: a helper that runs is left alone for more than one period.
    std::thread::sleep(ms(2500));
    assert_eq!(machine.helper_pid()?, pid, "{}", machine.journal());
    comes_back(&mut machine, "kill -STOP PID")?;
    let said = machine.run("journalctl --no-pager -u hamn-helper")?;
    ensure!(said.contains("Watchdog timeout"), "{said}");
    Ok(())
}
