//! Words for the tray and for notifications. The page hands them over in the user's language; English stands in until then.

use crate::plain;
use hamn_core::location::Destination;
use hamn_core::state::BlockReason;
use hamn_ipc::{Problem, ProblemCode};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most words that are kept: the words below, the reasons and the names of some places.
const MOST: usize = 512;
/// Longest key in bytes: `place:` and a destination.
const LONGEST_KEY: usize = 140;
/// Longest word in characters.
const LONGEST: usize = 256;

/// What a word is for. Beside these the page may name `reason:CODE` (a sentence for a blocked tunnel) and `place:DESTINATION`
/// (a place in the user's language, `place:se`).
pub const WORDS: [(&str, &str); 20] = [
    ("state_unknown", "Waiting for the helper"),
    ("state_disconnected", "Not connected"),
    ("state_locked", "Not connected, everything is blocked"),
    ("state_connecting", "Connecting"),
    ("state_connected", "Connected: {place}"),
    ("state_disconnecting", "Disconnecting"),
    ("state_blocked", "Blocked: nothing leaves this computer"),
    ("state_unprotected", "Not protected"),
    ("connect", "Connect"),
    ("disconnect", "Disconnect"),
    ("best", "Best server"),
    ("favourites", "Favourites"),
    ("recents", "Recent places"),
    ("open", "Open Hamn"),
    ("quit", "Quit"),
    ("notify_connected", "Connected: {place}"),
    ("notify_blocked", "The connection was lost. Everything is blocked."),
    ("notify_blocked_body", "{reason}"),
    ("notify_unprotected", "You are not protected"),
    ("notify_unprotected_body", "Hamn cannot make sure that nothing leaves this computer outside the tunnel."),
];

/// Words by what they are for.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Words(BTreeMap<String, String>);

impl Words {
    /// The same words, each on one plain line. Words for nothing that is known are left out: a page of another release says more.
    ///
    /// # Errors
    /// `invalid_value`: too many words.
    pub fn checked(self) -> Result<Self, Problem> {
        if self.0.len() > MOST {
            return Err(Problem::with_detail(ProblemCode::InvalidValue, format!("there are at most {MOST} words")));
        }
        let known = self.0.into_iter().filter(|(key, _)| is_key(key));
        Ok(Self(known.map(|(key, word)| (key, plain::line(&word, LONGEST))).collect()))
    }

    /// A word, in English when the page has not said it.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        let english = || WORDS.iter().find(|(known, _)| *known == key).map_or("", |(_, word)| *word);
        self.said(key).unwrap_or_else(english)
    }

    /// A word with `{place}` or `{reason}` in its place. What is put in is not looked at again.
    #[must_use]
    pub fn with(&self, key: &str, name: &str, value: &str) -> String {
        let hole = format!("{{{name}}}");
        match self.get(key).split_once(&hole) {
            Some((before, after)) => plain::line(&format!("{before}{value}{after}"), LONGEST),
            None => self.get(key).to_owned(),
        }
    }

    /// A place in words.
    #[must_use]
    pub fn place(&self, place: &Destination) -> String {
        if let Some(said) = self.said(&format!("place:{}", place.text())) {
            return said.to_owned();
        }
        match place {
            Destination::Best => self.get("best").to_owned(),
            Destination::Country { country } => plain::line(&country.to_uppercase(), 64),
            Destination::City { city } => plain::line(city, 64),
            Destination::Server { server, exit: None } => plain::line(server, 64),
            Destination::Server { server, exit: Some(exit) } => plain::line(&format!("{server}/{exit}"), 128),
            Destination::Profile { name } => plain::line(name, 64),
        }
    }

    /// Why there is no tunnel, in one sentence. `helpers` is the helper's own, in English.
    #[must_use]
    pub fn reason(&self, code: BlockReason, helpers: &str) -> String {
        self.said(&format!("reason:{}", code.code())).map_or_else(|| plain::line(helpers, LONGEST), str::to_owned)
    }

    fn said(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|word| !word.is_empty())
    }
}

fn is_key(key: &str) -> bool {
    if key.len() > LONGEST_KEY {
        return false;
    }
    match key.split_once(':') {
        None => WORDS.iter().any(|(known, _)| *known == key),
        Some(("reason", code)) => BlockReason::ALL.iter().any(|reason| reason.code() == code),
        Some(("place", place)) => place.parse::<Destination>().is_ok(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pairs: &[(&str, &str)]) -> Words {
        Words(pairs.iter().map(|(key, word)| ((*key).to_owned(), (*word).to_owned())).collect())
    }

    #[test]
    fn english_stands_in_and_the_pages_words_win() {
        let said = words(&[("connect", "Anslut"), ("quit", ""), ("place:se", "Sverige"), ("reason:offline", "Inget nät.")]);
        let said = said.checked().unwrap();
        assert_eq!((said.get("connect"), said.get("quit"), said.get("nonsense")), ("Anslut", "Quit", ""));
        let country = |country: &str| Destination::Country { country: country.into() };
        assert_eq!((said.place(&country("se")), said.place(&country("us"))), ("Sverige".into(), "US".into()));
        assert_eq!(said.reason(BlockReason::Offline, "No link."), "Inget nät.");
        assert_eq!(said.reason(BlockReason::NoServer, "No\nserver."), "No server.");
    }

    #[test]
    fn what_is_put_into_a_word_cannot_put_in_more_or_break_the_line() {
        assert_eq!(
            Words::default().with("state_connected", "place", "{place} {reason}\n\u{202e}x"),
            "Connected: {place} {reason} x"
        );
        assert_eq!(Words::default().with("connect", "place", "x"), "Connect");
    }

    #[test]
    fn unknown_words_are_left_out_and_too_many_are_refused() {
        for bad in ["", "connekt", "reason:none", "place:", "place:../x", "x:y", &format!("place:{}", "a".repeat(200))] {
            assert_eq!(words(&[(bad, "x")]).checked().unwrap(), Words::default(), "{bad:?}");
        }
        let many = (0..=MOST).map(|number| (format!("place:city:c-{number}"), String::new())).collect();
        assert!(Words(many).checked().is_err());
        assert_eq!(
            words(&[("open", &format!("a\n{}", "b".repeat(999)))]).checked().unwrap().get("open").chars().count(),
            LONGEST
        );
    }
}
