//! The shipped unit files: what systemd thinks of them, and what the kernel says of the process.

use anyhow::{Context, Result, ensure};

use crate::machine::{Kind, Machine, skipped};

/// `CAP_NET_ADMIN` is number 12.
const NET_ADMIN: &str = "0000000000001000";

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {name} in {status}"))?.trim())
}

fn exposure(machine: &Machine, unit: &str) -> Result<f64> {
    let text = machine.run(&format!("systemd-analyze security --offline=true --no-pager {unit}"))?;
    let line = text.lines().find(|line| line.contains("Overall exposure level")).with_context(|| text.clone())?;
    Ok(line.rsplit(": ").next().and_then(|rest| rest.split(' ').next()).context("no number")?.parse()?)
}

#[test]
fn unit_hardening_holds_while_a_tunnel_is_up() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let machine = Machine::boot(&Kind::desktop())?;
    ensure!(exposure(&machine, "dbus.service")? > 5.0, "control: the number is read");
    for unit in ["hamn-helper.service", "hamn-lockdown.service"] {
        let exposure = exposure(&machine, unit)?;
        ensure!(exposure <= 2.5, "{unit}: {exposure}");
        let complaints = machine.run(&format!("systemd-analyze verify {unit} 2>&1"))?;
        ensure!(complaints.trim().is_empty(), "{complaints}");
    }
    machine.start_helper()?;
    machine.connect()?;
    let pid = machine.helper_pid()?;
    let status = machine.run(&format!("cat /proc/{pid}/status"))?;
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"] {
        assert_eq!(field(&status, set)?, NET_ADMIN, "{set}");
    }
    assert_eq!((field(&status, "NoNewPrivs")?, field(&status, "Seccomp")?), ("1", "2"));
    let limits = machine.run(&format!("cat /proc/{pid}/limits"))?;
    ensure!(limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")), "{limits}");
    Ok(())
}

/// What the helper's own view of the file system allows, tried by a program with all rights in the helper's mount namespace.
#[test]
fn unit_hardening_confines_files_and_devices() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let machine = Machine::boot(&Kind::plain())?;
    machine.run("mkdir -p /home/somebody /etc/cron.d; echo secret > /home/somebody/file; echo secret > /tmp/everybody")?;
    machine.start_helper()?;
    let pid = machine.helper_pid()?;
    let inside = |line: &str| {
        machine.command("nsenter").args(["--target", &pid.to_string(), "--mount", "--", "sh", "-euc", line]).succeeds()
    };
    ensure!(inside("touch /var/lib/hamn/x && rm /var/lib/hamn/x"), "control: its own directory can be written");
    for forbidden in [
        "touch /usr/x",
        "touch /var/lib/x",
        "touch /boot/x",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "cat /home/somebody/file",
        "cat /tmp/everybody",
        "mkdir /sys/fs/cgroup/x",
        "echo x >> /etc/passwd",
        "echo x >> /etc/shadow",
        "touch /etc/cron.d/x",
        "touch /etc/systemd/system/x.service",
    ] {
        ensure!(!inside(forbidden), "allowed: {forbidden}");
        ensure!(machine.command("sh").args(["-euc", forbidden]).succeeds(), "control: {forbidden}");
    }
    Ok(())
}
