//! The report for support: what people may send on, without secrets, addresses, names of hosts and account (G14, G20).

use crate::host;
use crate::redact::{redact, shown};
use hamn_core::event::HostFacts;
use hamn_core::status::{Protection, Status, TunnelStatus};
use hamn_ipc::wire::{LogLine, PolicyView, Report, SettingsView};
use std::fmt::Write as _;

/// Largest report in bytes.
const LARGEST: usize = 256 * 1024;
/// Of that, what stands before the log: rules and warnings are many only when something is wrong with them.
const LARGEST_FRONT: usize = 64 * 1024;

/// What the report is made of.
pub(crate) struct Material {
    pub(crate) status: Status,
    pub(crate) settings: SettingsView,
    pub(crate) policy: PolicyView,
    pub(crate) facts: HostFacts,
    pub(crate) now_unix_s: i64,
    pub(crate) log: Vec<LogLine>,
}

/// The report. Every line of it passes the redaction of the log; what identifies somebody by itself (account, server, place)
/// is not put in at all.
pub(crate) fn report(material: &Material) -> Report {
    let mut front = Front::default();
    front.line("Hamn report. It holds no account number, no keys, no addresses and no names of hosts.");
    front.line(&format!("Made at {} (seconds since 1970).", Verbatim(material.now_unix_s)));
    about_system(material, &mut front);
    about_status(&material.status, &mut front);
    front.line("\nSettings");
    for entry in &material.settings.settings {
        let locked = if entry.locked { ", locked" } else { "" };
        front.line(&format!("{} = {} ({:?}{locked})", entry.key, entry.value, entry.source));
    }
    front.line("\nRules");
    let policy = &material.policy;
    let force = if policy.in_force { "in force" } else { "NOT in force" };
    front.line(&format!("policy {} is {force}", policy.generation.0));
    policy.words.iter().for_each(|words| front.line(words));
    front.line("\nLog");
    Report { text: with_log(front.text, &material.log) }
}

/// Digits in groups that the redaction does not take for an account's.
struct Verbatim(i64);

impl std::fmt::Display for Verbatim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (high, low) = (self.0 / 100_000, self.0 % 100_000);
        write!(f, "{high}_{:05}", low.unsigned_abs())
    }
}

/// The part before the log; every line is redacted, and there is a bound.
#[derive(Default)]
struct Front {
    text: String,
}

impl Front {
    fn line(&mut self, words: &str) {
        let start = words.chars().take_while(|c| *c == '\n').count();
        let clean = redact(words.trim_start_matches('\n'));
        if self.text.len().saturating_add(clean.len()) < LARGEST_FRONT {
            self.text.extend(std::iter::repeat_n('\n', start));
            self.text.push_str(&clean);
            self.text.push('\n');
        }
    }
}

fn about_system(material: &Material, front: &mut Front) {
    let (status, facts) = (&material.status, &material.facts);
    front.line(&format!("\nhelper {}, {}", status.version, host::system()));
    let routes = format!("default routes: IPv4 {}, IPv6 {}", facts.ipv4, facts.ipv6);
    front.line(&format!("online {}, {routes}, attached networks {}", facts.online, facts.attached.len()));
    let backend = status.protection.dns_backend.as_deref().unwrap_or("none");
    front.line(&format!("DNS backend {backend}"));
}

fn about_status(status: &Status, front: &mut Front) {
    front.line(&format!("\nstate {:?}, protected {}", status.state, status.protected));
    if let Some(blocked) = &status.blocked {
        front.line(&format!("blocked {}, retrying {}", blocked.code.code(), blocked.retrying));
    }
    if let Some(attempt) = &status.attempt {
        front.line(&format!("attempt {}, phase {:?}, failures {}", attempt.number.0, attempt.phase, attempt.failures));
    }
    if let Some(tunnel) = &status.tunnel {
        about_tunnel(tunnel, front);
    }
    about_protection(&status.protection, front);
    let provider = &status.provider;
    let list = if provider.list_serial.is_some() { "a server list" } else { "no server list" };
    let stale = if provider.list_stale { " that has expired" } else { "" };
    front.line(&format!("provider {}, logged in {}, {list}{stale}", provider.url.is_some(), provider.logged_in));
    front.line(&format!("managed {}", status.managed_by.is_some()));
    for warning in &status.warnings {
        front.line(&format!("warning {}: {}", warning.code, warning.message));
    }
}

fn about_tunnel(tunnel: &TunnelStatus, front: &mut Front) {
    let inside: Vec<String> = tunnel.addresses.iter().map(|net| shown(net.addr())).collect();
    let exits: Vec<String> = tunnel.exit_addresses.iter().copied().map(shown).collect();
    let gateway = tunnel.endpoint.map_or_else(|| "none".to_owned(), |endpoint| shown(endpoint.address.ip()));
    front.line(&format!("tunnel engine {}, mtu {}, gateway {gateway}", tunnel.engine, tunnel.mtu));
    front.line(&format!("inside {}, resolvers {}", inside.join(" "), tunnel.resolvers.len()));
    front.line(&format!("seen from outside as {}", if exits.is_empty() { "unknown".to_owned() } else { exits.join(" ") }));
    let age = tunnel.last_handshake_s.map_or_else(|| "never".to_owned(), |age| format!("{age} s ago"));
    front.line(&format!("last handshake {age}, stalled {}, provisional {}", tunnel.stalled, tunnel.provisional));
    front.line(&format!("received {} kB, sent {} kB", tunnel.rx_bytes / 1_000, tunnel.tx_bytes / 1_000));
}

fn about_protection(protection: &Protection, front: &mut Front) {
    let Protection { kill_switch, allow_lan, enforcing, in_force, tampered, .. } = protection;
    front.line(&format!("kill switch {kill_switch:?}, LAN {allow_lan}, enforcing {enforcing}, in force {in_force}"));
    front.line(&format!("rules restored after tampering {tampered} times"));
    if let Some(error) = &protection.error {
        front.line(&format!("protection error: {error}"));
    }
}

/// The newest lines matter most: the oldest give way.
fn with_log(mut text: String, log: &[LogLine]) -> String {
    let mut newest = Vec::new();
    let mut room = LARGEST.saturating_sub(text.len());
    for line in log.iter().rev() {
        let mut written = format!("{} {} {} ", Verbatim(line.at_unix_s), line.level, line.target);
        let _ = writeln!(written, "{}", redact(&line.message));
        let Some(rest) = room.checked_sub(written.len()) else { break };
        room = rest;
        newest.push(written);
    }
    newest.iter().rev().for_each(|line| text.push_str(line));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamn_core::machine::Machine;
    use hamn_core::net::Endpoint;
    use hamn_core::plan::Place;
    use hamn_core::policy::NetworkPolicy;
    use hamn_core::settings::{Dns, Settings};
    use hamn_core::state::Generation;
    use hamn_core::status::Warning;

    /// Each is told somewhere in the material, as carelessly as it could be.
    const CANARIES: [&str; 10] = [
        "4242424242424242",
        "qJ8dWlYq3Zc2n0m1p5o7r9t1v3x5z7B9D1F3H5J7L9M=",
        "198.51.100.7",
        "203.0.113.99",
        "2001:db8:abcd::17",
        "192.168.77.7",
        "52:54:00:ab:cd:ef",
        "secret-host.example.test",
        "somebody@example.test",
        "/home/somebody",
    ];

    fn material(lines: usize) -> Material {
        let all = CANARIES.join(", ");
        let dns = Dns::Custom { addresses: vec!["198.51.100.7".parse().unwrap(), "2001:db8:abcd::17".parse().unwrap()] };
        let settings = Settings { dns, ..Settings::default() };
        let mut status = Machine::new(settings.clone(), Vec::new(), 1).status();
        status.provider.url = Some("https://secret-host.example.test".to_owned());
        status.protection.error = Some(all.clone());
        status.warnings = vec![Warning { code: "files".to_owned(), message: all.clone() }];
        status.tunnel = Some(TunnelStatus {
            place: Place { server: "secret-host.example.test".to_owned(), server_name: all.clone(), ..Place::default() },
            interface: "hamn0".to_owned(),
            endpoint: Some(Endpoint::udp("198.51.100.7:51820".parse().unwrap())),
            addresses: vec!["192.168.77.7/32".parse().unwrap()],
            resolvers: vec!["198.51.100.7".parse().unwrap()],
            mtu: 1420,
            engine: "engine".to_owned(),
            rx_bytes: 4_242_424_242_424_242,
            tx_bytes: 1,
            last_handshake_s: Some(4),
            connected_since_unix_s: None,
            stalled: false,
            exit_addresses: vec!["203.0.113.99".parse().unwrap(), "2001:db8:abcd::17".parse().unwrap()],
            provisional: false,
        });
        let line = |n: usize| LogLine {
            at_unix_s: 1_800_000_000,
            level: "info".to_owned(),
            target: "hamn_helper".to_owned(),
            message: format!("line {n}: {all} {}", "word ".repeat(100)),
        };
        Material {
            status,
            settings: SettingsView::new(&settings, &[]),
            policy: PolicyView {
                words: vec![format!("Packets to {all} pass.")],
                native: all.clone(),
                policy: NetworkPolicy::Open,
                generation: Generation(3),
                in_force: true,
                error: Some(all.clone()),
            },
            facts: HostFacts { attached: vec!["192.168.77.0/24".parse().unwrap()], ..HostFacts::default() },
            now_unix_s: 1_800_000_000,
            log: (0..lines).map(line).collect(),
        }
    }

    // SEC-01, SEC-04
    #[test]
    fn no_canary_survives_and_the_kinds_of_addresses_do() {
        let text = report(&material(3)).text;
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} in\n{text}");
        }
        for kept in ["seen from outside as <IPv4 public> <IPv6 public>", "inside <IPv4 private>", "kernel ", "line 2", "mtu 1420"]
        {
            assert!(text.contains(kept), "{kept} is missing in\n{text}");
        }
        // The control: what is looked for is there before.
        let careless = format!("{:?}", material(1).status);
        assert!(["198.51.100.7", "203.0.113.99", "secret-host"].iter().all(|canary| careless.contains(canary)));
    }

    #[test]
    fn the_report_is_bounded_and_keeps_the_newest_lines() {
        let mut long = material(2_000);
        long.policy.words = vec!["many words ".repeat(50); 2_000];
        let text = report(&long).text;
        assert!(text.len() <= LARGEST && text.len() > LARGEST / 2, "{}", text.len());
        assert!(text.contains("line 1999:") && !text.contains("line 0:"));
    }
}
