//! Links of the form `hamn://connect/DESTINATION`. Web pages and mails write them: the parser is strict, and what it finds is
//! only ever shown to the user as a question.

use hamn_core::location::Destination;
use schemars::JsonSchema;
use serde::Serialize;

/// The scheme with its colon.
pub const SCHEME: &str = "hamn:";
/// The only thing that a link may say.
const CONNECT: &str = "hamn://connect/";
/// Longest destination in bytes: the bound of the local API.
const LONGEST: usize = 128;

/// Why a link is not taken. The link itself is not part of the message: it may hold anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    /// Another scheme, host or form.
    #[error("a link must begin with hamn://connect/")]
    Form,
    /// Longer than a destination can be.
    #[error("the link is too long")]
    TooLong,
    /// A destination is letters, digits and `:/_.-`; nothing is percent-encoded.
    #[error("the link holds characters that no destination has")]
    Characters,
    /// The form is right and it is no destination.
    #[error("the link names no destination")]
    Destination,
}

/// Payload of the event `deep_link`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeepLink {
    /// Where the link wants to go. Ask before acting.
    pub destination: Destination,
}

/// Reads a link.
///
/// # Errors
/// Everything that is not exactly a destination after `hamn://connect/`.
pub fn parse(link: &str) -> Result<Destination, BadLink> {
    let destination = link.strip_prefix(CONNECT).ok_or(BadLink::Form)?;
    if destination.len() > LONGEST {
        return Err(BadLink::TooLong);
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'/' | b'_' | b'.' | b'-');
    if !destination.bytes().all(known) {
        return Err(BadLink::Characters);
    }
    destination.parse().map_err(|_| BadLink::Destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_destination_can_be_linked() {
        for text in ["best", "se", "city:se-sto", "server:vpn05", "server:vpn05/us", "profile:Home"] {
            assert_eq!(parse(&format!("hamn://connect/{text}")).map(|found| found.text()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn hostile_links_are_refused() {
        let long = format!("hamn://connect/{}", "a".repeat(200));
        let refused = [
            ("", BadLink::Form),
            ("hamn:", BadLink::Form),
            ("hamn:connect/se", BadLink::Form),
            ("HAMN://connect/se", BadLink::Form),
            ("hamn://CONNECT/se", BadLink::Form),
            ("hamn://login/4242", BadLink::Form),
            ("hamn://user@connect/se", BadLink::Form),
            ("hamn://connect:80/se", BadLink::Form),
            (" hamn://connect/se", BadLink::Form),
            ("https://connect/se", BadLink::Form),
            ("javascript:alert(1)", BadLink::Form),
            ("hamn://connect/", BadLink::Destination),
            ("hamn://connect//se", BadLink::Destination),
            ("hamn://connect/se/", BadLink::Destination),
            ("hamn://connect/../se", BadLink::Destination),
            ("hamn://connect/server:../../etc", BadLink::Destination),
            ("hamn://connect/server:a/b/c", BadLink::Destination),
            ("hamn://connect/profile:", BadLink::Destination),
            ("hamn://connect/profile:-x", BadLink::Destination),
            ("hamn://connect/swe", BadLink::Destination),
            ("hamn://connect/s%65", BadLink::Characters),
            ("hamn://connect/se?now=1", BadLink::Characters),
            ("hamn://connect/se#now", BadLink::Characters),
            ("hamn://connect/se\n", BadLink::Characters),
            ("hamn://connect/se\0", BadLink::Characters),
            ("hamn://connect/profile:a b", BadLink::Characters),
            ("hamn://connect/profile:\u{202e}x", BadLink::Characters),
            ("hamn://connect/<script>", BadLink::Characters),
            ("hamn://connect/s\u{435}", BadLink::Characters),
            (&long, BadLink::TooLong),
        ];
        for (link, why) in refused {
            assert_eq!(parse(link), Err(why), "{link:?}");
        }
    }

    #[test]
    fn a_destination_of_any_bytes_is_refused_or_means_itself() {
        // What is accepted must come out as it went in: no second spelling of a place.
        for code in 0_u8..=255 {
            for text in [format!("{}", char::from(code)), format!("s{}", char::from(code)), format!("city:{}a", char::from(code))]
            {
                if let Ok(found) = parse(&format!("hamn://connect/{text}")) {
                    assert!(found.validate().is_ok() && found.text().eq_ignore_ascii_case(&text), "{text:?}");
                }
            }
        }
    }
}
