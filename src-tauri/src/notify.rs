//! Which change deserves a notification of the desktop. Pure: it looks at the link before and the link after.

use crate::link::Link;
use crate::words::Words;
use hamn_core::location::Destination;
use hamn_core::plan::Place;
use hamn_core::state::BlockReason;
use hamn_core::status::{StateKind, Status};

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A tunnel is up and nothing leaves outside of it.
    Connected(Box<Place>),
    /// A tunnel was lost or did not come up, and everything is blocked.
    Blocked {
        /// Why.
        code: BlockReason,
        /// The helper's sentence.
        message: String,
    },
    /// Traffic may leave outside the tunnel although it must not.
    Unprotected,
}

impl Notice {
    /// True for what must be told although the user looks at the window.
    #[must_use]
    pub const fn is_loud(&self) -> bool {
        matches!(self, Self::Unprotected)
    }

    /// Title and text. The text may be empty.
    #[must_use]
    pub fn texts(&self, words: &Words) -> (String, String) {
        match self {
            Self::Connected(place) => (words.with("notify_connected", "place", &place_name(words, place)), String::new()),
            Self::Blocked { code, message } => {
                let reason = words.reason(*code, message);
                (words.get("notify_blocked").to_owned(), words.with("notify_blocked_body", "reason", &reason))
            }
            Self::Unprotected => (words.get("notify_unprotected").to_owned(), words.get("notify_unprotected_body").to_owned()),
        }
    }
}

/// The place of a tunnel in words: city and country, or the name of a server or profile.
#[must_use]
pub fn place_name(words: &Words, place: &Place) -> String {
    let country = Destination::Country { country: place.country.clone() };
    let country = if country.validate().is_ok() { words.place(&country) } else { String::new() };
    let city = crate::plain::line(&place.city, 64);
    match (city.is_empty(), country.is_empty()) {
        (false, false) => format!("{city}, {country}"),
        (false, true) => city,
        (true, false) => country,
        (true, true) if place.server_name.is_empty() => crate::plain::line(&place.server, 64),
        (true, true) => crate::plain::line(&place.server_name, 64),
    }
}

/// True when traffic may leave outside the tunnel although a tunnel is up or wanted, or the rules are not in force.
#[must_use]
pub fn is_unprotected(status: &Status) -> bool {
    match status.state {
        StateKind::Connected | StateKind::Blocked => !status.protected,
        // The rules are on their way: only a failure to set them counts.
        StateKind::Connecting | StateKind::Disconnecting | StateKind::Disconnected => {
            status.protection.enforcing && status.protection.error.is_some()
        }
    }
}

/// What to tell about the change from `before` to `after`. Nothing is told about a state that was found when the window
/// started or when the helper came back, except danger.
#[must_use]
pub fn notice(before: &Link, after: &Link) -> Option<Notice> {
    let now = after.status.as_ref()?;
    let old = before.status.as_ref();
    if is_unprotected(now) {
        return (!old.is_some_and(is_unprotected)).then_some(Notice::Unprotected);
    }
    let old = old?;
    if now.state == StateKind::Connected && old.state != StateKind::Connected {
        return now.tunnel.as_ref().map(|tunnel| Notice::Connected(Box::new(tunnel.place.clone())));
    }
    if now.state == StateKind::Blocked && old.state != StateKind::Blocked {
        let blocked = now.blocked.as_ref()?;
        return Some(Notice::Blocked { code: blocked.code, message: blocked.message.clone() });
    }
    None
}
