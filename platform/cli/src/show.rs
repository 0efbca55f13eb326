//! Text for people, from documents. Pure: no clock, no terminal. Words carry the meaning, colours only repeat it.

use hamn_core::state::Phase;
use hamn_core::status::{StateKind, Status, TunnelStatus};
use hamn_ipc::wire::{
    AccountInfo, Check, CheckResult, DeviceList, EventKind, EventLine, Ladder, LogLine, LogView, PolicyView, ProfileList,
    RestoreOutput, ServerEntry, ServerListing, SettingEntry, SettingsView, VerifyReport, VersionOutput,
};
use serde_json::Value;
use std::fmt::Write;

/// What the text depends on beside the document.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The terminal shows colours.
    pub colour: bool,
    /// Wall clock, seconds since 1970.
    pub now_unix_s: i64,
}

/// Colours by meaning (ANSI SGR).
#[derive(Clone, Copy, Debug)]
enum Tone {
    Good,
    Attention,
    Bad,
}

impl View {
    fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Attention => 33,
            Tone::Bad => 31,
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The whole status.
    pub fn status(self, status: &Status) -> String {
        let mut text = format!("{}\n", self.headline(status));
        if let Some(blocked) = &status.blocked {
            let _ = writeln!(text, "  Reason:      {}", plain(&blocked.message));
            let _ = writeln!(text, "  What to do:  {}", plain(&blocked.action));
        }
        if let Some(tunnel) = &status.tunnel {
            text.push_str(&self.tunnel(tunnel));
        }
        let protection = &status.protection;
        let leaving = if status.protected { "only through the tunnel" } else { "not restricted" };
        let _ = writeln!(text, "  Traffic:     {leaving}");
        let _ = writeln!(text, "  Kill switch: {}", value(&serde_json::to_value(protection.kill_switch).unwrap_or_default()));
        if let Some(error) = &protection.error {
            let _ = writeln!(text, "  Protection:  {}", self.tone(Tone::Bad, &plain(error)));
        }
        if protection.tampered > 0 {
            let _ = writeln!(
                text,
                "  Tampering:   another program changed the rules {} time(s); they were restored",
                protection.tampered
            );
        }
        if status.provider.list_stale {
            text.push_str("  Servers:     the list is old; no newer one could be fetched\n");
        }
        for warning in &status.warnings {
            let _ = writeln!(text, "  {} {}", self.tone(Tone::Attention, "Note:"), plain(&warning.message));
        }
        text
    }

    /// One line.
    pub fn headline(self, status: &Status) -> String {
        let destination = status.destination.as_ref().map(|destination| plain(&destination.to_string()));
        let place = status.tunnel.as_ref().map(place_of).or(destination).unwrap_or_default();
        match status.state {
            StateKind::Connected if status.tunnel.as_ref().is_some_and(|tunnel| tunnel.stalled) => {
                format!("{} to {place}: nothing is received at the moment, trying again", self.tone(Tone::Attention, "Connected"))
            }
            StateKind::Connected => format!("{} to {place}", self.tone(Tone::Good, "Connected")),
            StateKind::Connecting => {
                let phase = status.attempt.as_ref().and_then(|attempt| attempt.phase);
                let failures = status.attempt.as_ref().map_or(0, |attempt| attempt.failures);
                let again = if failures > 0 { format!(" (after {failures} failed)") } else { String::new() };
                format!(
                    "{} to {place}{again}: {}",
                    self.tone(Tone::Attention, "Connecting"),
                    phase.map_or("starting", phase_words)
                )
            }
            StateKind::Disconnecting => self.tone(Tone::Attention, "Disconnecting"),
            StateKind::Disconnected if status.protected => {
                format!("{}, lockdown: the network is blocked", self.tone(Tone::Attention, "Disconnected"))
            }
            StateKind::Disconnected => "Disconnected".to_owned(),
            StateKind::Blocked => {
                let retrying = status.blocked.as_ref().is_some_and(|blocked| blocked.retrying);
                let what = if status.protected { "the network is blocked" } else { "no tunnel, and the network is open" };
                let next = if retrying { "; trying again" } else { "" };
                format!("{}: {what}{next}", self.tone(Tone::Bad, "Blocked"))
            }
        }
    }

    fn tunnel(self, tunnel: &TunnelStatus) -> String {
        let mut text = String::new();
        if let Some(endpoint) = &tunnel.endpoint {
            let _ = writeln!(text, "  Server:      {endpoint} ({})", plain(&tunnel.engine));
        }
        let addresses: Vec<String> = tunnel.addresses.iter().map(|net| net.addr().to_string()).collect();
        let _ = writeln!(text, "  Address:     {} on {}, MTU {}", addresses.join(", "), plain(&tunnel.interface), tunnel.mtu);
        if !tunnel.exit_addresses.is_empty() {
            let seen: Vec<String> = tunnel.exit_addresses.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "  Seen as:     {}", seen.join(", "));
        }
        let resolvers: Vec<String> = tunnel.resolvers.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  DNS:         {}", if resolvers.is_empty() { "none".to_owned() } else { resolvers.join(", ") });
        let _ = writeln!(text, "  Transfer:    {} received, {} sent", bytes(tunnel.rx_bytes), bytes(tunnel.tx_bytes));
        if let Some(since) = tunnel.connected_since_unix_s {
            let seconds = u64::try_from(self.now_unix_s.saturating_sub(since)).unwrap_or(0);
            let _ = writeln!(text, "  Time:        {}", duration(seconds));
        }
        text
    }

    /// One line of the event stream.
    pub fn event(self, event: &EventLine) -> String {
        let message = event.message.as_deref().map(plain).unwrap_or_default();
        match (&event.status, event.kind) {
            (Some(status), EventKind::Status) => self.headline(status),
            (_, EventKind::Warning) => format!("{} {message}", self.tone(Tone::Attention, "Note:")),
            (_, EventKind::Status | EventKind::Log | EventKind::End) => message,
        }
    }

    /// How far a connection comes.
    pub fn ladder(self, ladder: &Ladder) -> String {
        self.checks(&ladder.steps)
    }

    fn checks(self, checks: &[Check]) -> String {
        let mut text = String::new();
        for check in checks {
            let (tone, word) = match check.result {
                CheckResult::Pass => (Tone::Good, "pass   "),
                CheckResult::Fail => (Tone::Bad, "FAIL   "),
                CheckResult::Skipped => (Tone::Attention, "skipped"),
                CheckResult::Unknown => (Tone::Bad, "UNKNOWN"),
            };
            let _ = writeln!(text, "{}  {}: {}", self.tone(tone, word), plain(&check.title), plain(&check.reason));
        }
        text
    }

    /// The self-test.
    pub fn verify(self, report: &VerifyReport) -> String {
        let text = self.checks(&report.checks);
        let failed =
            report.checks.iter().filter(|check| matches!(check.result, CheckResult::Fail | CheckResult::Unknown)).count();
        let last = if report.ok {
            self.tone(Tone::Good, "Nothing leaks.")
        } else {
            self.tone(
                Tone::Bad,
                &format!("{failed} of {} checks did not pass: traffic may leave outside the tunnel.", report.checks.len()),
            )
        };
        text + &last + "\n"
    }

    /// The rules.
    pub fn policy(self, policy: &PolicyView) -> String {
        let state = match (policy.in_force, &policy.error) {
            (true, _) => self.tone(Tone::Good, "in force"),
            (false, Some(error)) => self.tone(Tone::Bad, &format!("NOT in force: {}", plain(error))),
            (false, None) => self.tone(Tone::Bad, "NOT in force"),
        };
        let words: String = policy.words.iter().map(|line| format!("  {}\n", plain(line))).collect();
        format!("Policy {} is {state}.\n{words}\n{}\n", policy.generation.0, plain_lines(policy.native.trim_end()))
    }
}

/// Where a tunnel comes out.
fn place_of(tunnel: &TunnelStatus) -> String {
    let place = &tunnel.place;
    let name = if place.server_name.is_empty() { &place.server } else { &place.server_name };
    if place.country.is_empty() {
        return plain(name);
    }
    plain(&format!("{name}, {} ({})", place.city, place.country))
}

/// How far a connect is.
pub const fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Securing => "blocking everything first",
        Phase::Preparing => "choosing a server",
        Phase::Admitting => "letting the tunnel out",
        Phase::Verifying => "waiting for the first traffic",
        Phase::Routing => "sending all traffic into the tunnel",
    }
}

/// The account.
pub fn account(account: &AccountInfo) -> String {
    if !account.logged_in {
        return "Not logged in.\n".to_owned();
    }
    let mut text = format!("Logged in as {}\n", plain(account.id.as_deref().unwrap_or("?")));
    let lines = [
        ("Status", account.status.as_deref()),
        ("Paid until", account.paid_until.as_deref()),
        ("This device", account.device.as_deref()),
    ];
    for (name, found) in lines {
        if let Some(found) = found {
            let _ = writeln!(text, "  {:<13}{}", format!("{name}:"), plain(found));
        }
    }
    if let Some(limit) = account.device_limit {
        let _ = writeln!(text, "  Devices:     at most {limit}");
    }
    if !account.addons.is_empty() {
        let _ = writeln!(text, "  Extras:      {}", plain(&account.addons.join(", ")));
    }
    text
}

/// The devices.
pub fn devices(list: &DeviceList) -> String {
    if list.devices.is_empty() {
        return "No devices.\n".to_owned();
    }
    let rows = list.devices.iter().map(|device| {
        let here = if device.current { "this computer" } else { "" };
        let text = |field: &Option<String>| plain(field.as_deref().unwrap_or(""));
        vec![plain(&device.id), plain(&device.name), text(&device.platform), text(&device.created_at), here.to_owned()]
    });
    columns(rows.collect())
}

/// The places.
pub fn servers(listing: &ServerListing) -> String {
    let mut rows = Vec::new();
    for country in &listing.countries {
        for city in &country.cities {
            rows.extend(city.servers.iter().map(|server| server_row(&country.country, &city.slug, server)));
        }
    }
    let mut text = if rows.is_empty() { "No servers.\n".to_owned() } else { columns(rows) };
    if listing.stale {
        text.push_str("The list is old; no newer one could be fetched.\n");
    }
    text
}

fn server_row(country: &str, city: &str, server: &ServerEntry) -> Vec<String> {
    let load = server.load_pct.map_or_else(String::new, |load| format!("load {load} %"));
    let exits: Vec<&str> = server.exits.iter().map(|exit| exit.id.as_str()).collect();
    let exits = if exits.len() > 1 { format!("exits {}", exits.join(", ")) } else { String::new() };
    let state = if server.state == "online" { "" } else { &server.state };
    let latency = server.latency_ms.map_or_else(String::new, |ms| format!("{ms} ms"));
    [country, city, &server.id, &load, &latency, &exits, state].into_iter().map(plain).collect()
}

/// The profiles.
pub fn profiles(list: &ProfileList) -> String {
    if list.profiles.is_empty() {
        return "No profiles. Import one with `hamn profile import FILE --name NAME`.\n".to_owned();
    }
    let rows = list.profiles.iter().map(|profile| {
        let carries = match (profile.ipv4, profile.ipv6) {
            (true, true) => "IPv4 and IPv6",
            (true, false) => "IPv4",
            (false, true) => "IPv6",
            (false, false) => "nothing",
        };
        vec![plain(&profile.name), plain(&profile.endpoint), carries.to_owned()]
    });
    let mut text = columns(rows.collect());
    for profile in &list.profiles {
        for remark in &profile.remarks {
            let _ = writeln!(text, "Note: {}: {}", plain(&profile.name), plain(&remark.to_string()));
        }
    }
    text
}

/// The settings.
pub fn settings(view: &SettingsView) -> String {
    let remark = |entry: &SettingEntry| {
        if entry.locked {
            "fixed by the administrator"
        } else if entry.value == entry.default {
            "default"
        } else {
            ""
        }
    };
    columns(
        view.settings.iter().map(|entry| vec![entry.key.to_string(), value(&entry.value), remark(entry).to_owned()]).collect(),
    )
}

/// A setting's value as `settings set` takes it.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "auto".to_owned(),
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => plain(&text.replace('_', "-")),
        Value::Array(items) => items.iter().map(self::value).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(plain);
            if let Some(addresses) = fields.get("addresses") {
                return self::value(addresses);
            }
            if let Some(uses) = text("use") {
                return uses;
            }
            match text("kind").as_deref() {
                Some("profile") => format!("profile:{}", text("name").unwrap_or_default()),
                Some("server") => [text("server"), text("exit")].into_iter().flatten().collect::<Vec<_>>().join("/"),
                Some(kind) => text(kind).unwrap_or_else(|| kind.to_owned()),
                None => plain(&value.to_string()),
            }
        }
    }
}

/// The versions.
pub fn version(output: &VersionOutput) -> String {
    let helper = output
        .helper
        .as_ref()
        .map_or("not running".to_owned(), |helper| format!("{} (API {})", plain(&helper.helper), helper.api));
    format!("hamn   {}\nhelper {helper}\n", output.client)
}

/// What `restore-network` did.
pub fn restore(output: &RestoreOutput) -> String {
    let by = if output.by_running_helper { "the running helper" } else { "the helper's program, since no helper runs" };
    format!("The network is open again. It was restored by {by}.\n")
}

/// Text of others without what could command a terminal.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')).collect()
}

fn plain_lines(text: &str) -> String {
    text.lines().map(|line| plain(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// Text of several lines, without what could play tricks on a terminal.
pub fn lines(text: &str) -> String {
    plain_lines(text) + "\n"
}

/// The log: wall clock in seconds since 1970, level, message.
pub fn log(view: &LogView) -> String {
    let row = |line: &LogLine| vec![line.at_unix_s.to_string(), line.level.clone(), plain(&line.message)];
    columns(view.lines.iter().map(row).collect())
}

/// Rows in columns, two spaces apart.
fn columns(rows: Vec<Vec<String>>) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).filter(|(_, width)| **width > 0).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn bytes(count: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (size, unit) in units {
        if count >= size {
            let tenths = count / (size / 10);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} bytes")
}

fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\r\n\u{7}c\u{202e}d"), "a[31mbcd");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1_300_000), bytes(2_000_000_000_000)],
            ["0 bytes", "999 bytes", "1.3 MB", "2.0 TB"]
        );
        assert_eq!([duration(5), duration(125), duration(7260), duration(90_000)], ["5 s", "2 min", "2 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn values_are_shown_as_they_are_set() {
        let show = |text: &str| value(&serde_json::from_str(text).unwrap());
        assert_eq!(show(r#"{"use":"custom","addresses":["10.0.0.1","::1"]}"#), "10.0.0.1,::1");
        assert_eq!(show(r#"{"use":"provider"}"#), "provider");
        assert_eq!(show(r#"{"kind":"server","server":"vpn05","exit":"us"}"#), "vpn05/us");
        assert_eq!(show(r#"{"kind":"profile","name":"home"}"#), "profile:home");
        assert_eq!(show(r#"{"kind":"country","country":"se"}"#), "se");
        assert_eq!(show(r#"{"kind":"best"}"#), "best");
        assert_eq!(show("\"while_connected\""), "while-connected");
        assert_eq!(show("null"), "auto");
    }
}
