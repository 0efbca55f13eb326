//! What the desktop and the tray are told, state by state.
#![cfg(test)]

#[path = "../../platform/ipc/tests/fake/mod.rs"]
mod fake;

use hamn_core::location::{Destination, Target};
use hamn_core::state::BlockReason;
use hamn_core::status::{StateKind, Status};
use hamn_ipc::wire::VersionInfo;
use hamn_window::link::{Link, LinkState, Word};
use hamn_window::notify::{Notice, notice};
use hamn_window::preferences::Preferences;
use hamn_window::tray::{self, Action, Entry};
use hamn_window::words::Words;

fn link(status: Option<Status>) -> Link {
    let first = Link::first(0);
    let Some(status) = status else { return first };
    let versions = VersionInfo { helper: "9.9.9".into(), api: 1 };
    first.after(None, Word::Status { session: 1, status: Box::new(status), versions }, 0).unwrap()
}

fn in_state(state: StateKind, protected: bool) -> Status {
    let mut status = Status { state, protected, ..fake::status() };
    status.protection.enforcing = protected;
    if state != StateKind::Disconnected {
        status.target = Target::Connected { destination: Destination::Best };
        status.destination = Some(Destination::Best);
    }
    if state == StateKind::Connected {
        status.tunnel = Some(fake::tunnel());
    }
    if state == StateKind::Blocked {
        status.blocked = Some(fake::blocked(BlockReason::GatewaySilent));
    }
    status
}

fn failing(state: StateKind) -> Status {
    let mut status = in_state(state, false);
    status.protection.enforcing = true;
    status.protection.in_force = false;
    status.protection.error = Some("nft: refused".into());
    status
}

#[test]
fn each_change_has_its_notice() {
    use StateKind::{Blocked, Connected, Connecting, Disconnected, Disconnecting};
    let open = || link(Some(in_state(Disconnected, false)));
    let closed = |state| link(Some(in_state(state, true)));
    let connected = Some("connected");
    let (blocked, unprotected) = (Some("blocked"), Some("unprotected"));
    let table = [
        ("an ordinary connection", open(), closed(Connecting), None),
        ("phases", closed(Connecting), closed(Connecting), None),
        ("it is up", closed(Connecting), closed(Connected), connected),
        ("counters", closed(Connected), closed(Connected), None),
        ("straight up", open(), closed(Connected), connected),
        ("up again after being blocked", closed(Blocked), closed(Connected), connected),
        ("the user ends it", closed(Connected), closed(Disconnecting), None),
        ("it is ended", closed(Disconnecting), open(), None),
        ("lost", closed(Connected), closed(Blocked), blocked),
        ("lost while it was taken down", closed(Disconnecting), closed(Blocked), blocked),
        ("it never came up", closed(Connecting), closed(Blocked), blocked),
        ("still blocked", closed(Blocked), closed(Blocked), None),
        ("trying again", closed(Blocked), closed(Connecting), None),
        ("blocked while nobody wanted a tunnel", open(), closed(Blocked), blocked),
        ("the rules fail while connected", closed(Connected), link(Some(in_state(Connected, false))), unprotected),
        ("the rules fail while connecting", closed(Connecting), link(Some(failing(Connecting))), unprotected),
        ("the rules fail while disconnecting", closed(Connected), link(Some(failing(Disconnecting))), unprotected),
        ("lockdown fails", link(Some(in_state(Disconnected, true))), link(Some(failing(Disconnected))), unprotected),
        ("lost, and the network is open", closed(Connected), link(Some(in_state(Blocked, false))), unprotected),
        ("still not protected", link(Some(in_state(Blocked, false))), link(Some(failing(Connecting))), None),
        ("protected again", link(Some(failing(Connecting))), closed(Connected), connected),
        ("the rules are on their way", open(), link(Some(in_state(Connecting, false))), None),
        ("found connected at start", link(None), closed(Connected), None),
        ("found blocked at start", link(None), closed(Blocked), None),
        ("found in danger at start", link(None), link(Some(failing(Connecting))), unprotected),
        ("the helper is gone", closed(Connected), link(None), None),
        ("the helper is back", link(None), open(), None),
    ];
    for (what, before, after, expected) in table {
        let found = notice(&before, &after).map(|notice| match notice {
            Notice::Connected(_) => "connected",
            Notice::Blocked { .. } => "blocked",
            Notice::Unprotected => "unprotected",
        });
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn notices_are_plain_text_in_the_language_of_the_page() {
    let words: Words = serde_json::from_value(serde_json::json!({
        "notify_connected": "Ansluten: {place}",
        "place:se": "Sverige",
        "notify_blocked": "Anslutningen bröts",
        "reason:gateway_silent": "Servern svarar inte.",
    }))
    .unwrap();
    let words = words.checked().unwrap();
    let connected = notice(&link(Some(fake::status())), &link(Some(in_state(StateKind::Connected, true)))).unwrap();
    assert_eq!(connected.texts(&words), ("Ansluten: Stockholm, Sverige".into(), String::new()));
    let blocked = notice(&link(Some(fake::status())), &link(Some(in_state(StateKind::Blocked, true)))).unwrap();
    assert_eq!(blocked.texts(&words), ("Anslutningen bröts".into(), "Servern svarar inte.".into()));
    let mut hostile = in_state(StateKind::Connected, true);
    if let Some(tunnel) = &mut hostile.tunnel {
        tunnel.place.city = "St\u{202e}ock\nholm\u{1b}[31m{reason}".into();
        tunnel.place.country = "../".into();
    }
    let (title, _) = notice(&link(Some(fake::status())), &link(Some(hostile))).unwrap().texts(&Words::default());
    assert_eq!(title, "Connected: Stock holm[31m{reason}");
}

fn labels(entries: &[Entry]) -> Vec<String> {
    let label = |entry: &Entry| match entry {
        Entry::Words(words) => format!("({words})"),
        Entry::Action { action, label } => format!("{label} [{}]", action.id()),
        Entry::Separator => "-".into(),
    };
    entries.iter().map(label).collect()
}

#[test]
fn the_tray_says_the_state_and_offers_places() {
    let country = |country: &str| Destination::Country { country: country.into() };
    let preferences = Preferences {
        favourites: vec![country("se"), Destination::Best],
        recents: vec![country("us"), country("se")],
        ..Preferences::default()
    };
    let words = Words::default();
    let shown = labels(&tray::menu(&link(Some(in_state(StateKind::Connected, true))), &preferences, &words));
    let expected = [
        "(Connected: Stockholm, SE)",
        "Disconnect [disconnect]",
        "-",
        "(Favourites)",
        "SE [place:se]",
        "Best server [place:best]",
        "-",
        "(Recent places)",
        "US [place:us]",
        "-",
        "Open Hamn [open]",
        "Quit [quit]",
    ];
    assert_eq!(shown, expected);
    let shown = labels(&tray::menu(&link(None), &preferences, &words));
    assert_eq!(shown, ["(Waiting for the helper)", "-", "Open Hamn [open]", "Quit [quit]"]);
    let states = [
        (in_state(StateKind::Disconnected, false), "Not connected"),
        (in_state(StateKind::Disconnected, true), "Not connected, everything is blocked"),
        (in_state(StateKind::Connecting, true), "Connecting"),
        (in_state(StateKind::Disconnecting, true), "Disconnecting"),
        (in_state(StateKind::Blocked, true), "Blocked: nothing leaves this computer"),
        (in_state(StateKind::Blocked, false), "Not protected"),
        (failing(StateKind::Connecting), "Not protected"),
    ];
    for (status, expected) in states {
        assert_eq!(tray::state(&link(Some(status)), &words), expected);
    }
    assert_eq!(link(None).state, LinkState::Connecting);
}

#[test]
fn what_is_chosen_in_the_tray_is_what_was_shown() {
    let places = ["best", "se", "city:se-sto", "server:vpn05/us", "profile:Home"];
    let places = places.map(|text| Action::Place(text.parse().unwrap()));
    for action in places.into_iter().chain([Action::Connect, Action::Disconnect, Action::Open, Action::Quit]) {
        assert_eq!(Action::of(&action.id()), Some(action));
    }
    for other in ["", "place:", "place:../x", "restore", "Connect"] {
        assert_eq!(Action::of(other), None);
    }
}
