//! What the tray says and offers. It repeats what the window can do, because many desktops show no tray.

mod icon;

pub use icon::Tray;

use crate::link::Link;
use crate::notify::{is_unprotected, place_name};
use crate::preferences::Preferences;
use crate::words::Words;
use hamn_core::location::{Destination, Target};
use hamn_core::status::StateKind;

/// Most places of one kind in the menu.
const MOST_PLACES: usize = 8;

/// One entry of the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Words that cannot be chosen.
    Words(String),
    /// Something to do.
    Action {
        /// What.
        action: Action,
        /// In words.
        label: String,
    },
    /// A line between groups.
    Separator,
}

/// What the user chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bring up a tunnel to where the settings say.
    Connect,
    /// Give up the tunnel.
    Disconnect,
    /// Bring up a tunnel to this place.
    Place(Destination),
    /// Show the window.
    Open,
    /// End the program. The tunnel and the rules are the helper's and stay.
    Quit,
}

impl Action {
    /// The action as the id of a menu entry.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Connect => "connect".to_owned(),
            Self::Disconnect => "disconnect".to_owned(),
            Self::Place(place) => format!("place:{}", place.text()),
            Self::Open => "open".to_owned(),
            Self::Quit => "quit".to_owned(),
        }
    }

    /// The action of an id.
    #[must_use]
    pub fn of(id: &str) -> Option<Self> {
        match id {
            "connect" => Some(Self::Connect),
            "disconnect" => Some(Self::Disconnect),
            "open" => Some(Self::Open),
            "quit" => Some(Self::Quit),
            other => other.strip_prefix("place:")?.parse().ok().map(Self::Place),
        }
    }
}

/// The state in words.
#[must_use]
pub fn state(link: &Link, words: &Words) -> String {
    let Some(status) = &link.status else { return words.get("state_unknown").to_owned() };
    if is_unprotected(status) {
        return words.get("state_unprotected").to_owned();
    }
    match (status.state, &status.tunnel) {
        (StateKind::Connected, Some(tunnel)) => words.with("state_connected", "place", &place_name(words, &tunnel.place)),
        (StateKind::Connected, None) => words.with("state_connected", "place", ""),
        (StateKind::Connecting, _) => words.get("state_connecting").to_owned(),
        (StateKind::Disconnecting, _) => words.get("state_disconnecting").to_owned(),
        (StateKind::Blocked, _) => words.get("state_blocked").to_owned(),
        (StateKind::Disconnected, _) if status.protected => words.get("state_locked").to_owned(),
        (StateKind::Disconnected, _) => words.get("state_disconnected").to_owned(),
    }
}

/// The menu.
#[must_use]
pub fn menu(link: &Link, preferences: &Preferences, words: &Words) -> Vec<Entry> {
    let action = |action: Action, label: &str| Entry::Action { action, label: label.to_owned() };
    let mut entries = vec![Entry::Words(state(link, words))];
    if let Some(status) = &link.status {
        let wanted = matches!(status.target, Target::Connected { .. });
        entries.push(if wanted {
            action(Action::Disconnect, words.get("disconnect"))
        } else {
            action(Action::Connect, words.get("connect"))
        });
        let mut shown: Vec<&Destination> = Vec::new();
        for (title, places) in [("favourites", &preferences.favourites), ("recents", &preferences.recents)] {
            let new: Vec<&Destination> = places.iter().filter(|place| !shown.contains(place)).take(MOST_PLACES).collect();
            if new.is_empty() {
                continue;
            }
            entries.extend([Entry::Separator, Entry::Words(words.get(title).to_owned())]);
            entries.extend(new.iter().map(|place| action(Action::Place((*place).clone()), &words.place(place))));
            shown.extend(new);
        }
    }
    entries.extend([Entry::Separator, action(Action::Open, words.get("open")), action(Action::Quit, words.get("quit"))]);
    entries
}
