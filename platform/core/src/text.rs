//! Checked texts: identifiers, names for people, host names, country codes and HTTPS origins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Why a text is refused. The text itself is not part of the message: it may hold anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadText(pub &'static str);

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(String);

        impl $name {
            /// The checked text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadText;
            fn from_str(text: &str) -> Result<Self, BadText> {
                $check(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadText;
            fn try_from(text: String) -> Result<Self, BadText> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_text!(
    /// An identifier of the server list: `[a-z0-9][a-z0-9-]{0,63}`.
    Id,
    check_id
);
checked_text!(
    /// A name for people: 1 to 128 characters, none of them invisible, controlling or reordering.
    Label,
    check_label
);
checked_text!(
    /// A host or domain name (RFC 1123), lower case, without a final dot.
    Hostname,
    check_hostname
);
checked_text!(
    /// ISO 3166-1 alpha-2, lower case.
    Country,
    check_country
);
checked_text!(
    /// The name of an imported profile: `[A-Za-z0-9][A-Za-z0-9 _.-]{0,31}`, not ending in a space or dot (it names a file).
    ProfileName,
    check_profile_name
);

fn check_id(text: &str) -> Result<String, BadText> {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good =
        (1..=64).contains(&text.len()) && text.bytes().all(|b| lower(b) || b == b'-') && text.bytes().next().is_some_and(lower);
    if good {
        Ok(text.to_owned())
    } else {
        Err(BadText("an id is 1 to 64 lower-case letters, digits or '-', not starting with '-'"))
    }
}

fn check_label(text: &str) -> Result<String, BadText> {
    if text.trim().is_empty() || text.len() > 512 || text.chars().count() > 128 {
        return Err(BadText("a name has 1 to 128 characters"));
    }
    if text.chars().any(is_deceptive) {
        return Err(BadText("a name has no control, invisible or text-direction characters"));
    }
    Ok(text.to_owned())
}

fn check_hostname(text: &str) -> Result<String, BadText> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A numeric last label would be read as an IPv4 address by some resolvers (RFC 1123 section 2.1).
    let numeric = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let good = text.len() <= 253 && text.split('.').all(label) && !text.rsplit('.').next().is_some_and(numeric);
    if good { Ok(text.to_ascii_lowercase()) } else { Err(BadText("not a host name")) }
}

fn check_country(text: &str) -> Result<String, BadText> {
    let good = text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic());
    if good { Ok(text.to_ascii_lowercase()) } else { Err(BadText("a country is two letters (ISO 3166-1)")) }
}

fn check_profile_name(text: &str) -> Result<String, BadText> {
    let good = (1..=32).contains(&text.len())
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" _.-".contains(&b))
        && !text.ends_with([' ', '.']);
    if good {
        Ok(text.to_owned())
    } else {
        Err(BadText(
            "a profile name is 1 to 32 letters, digits, ' ', '_', '.' or '-', starts with a letter or digit, and does not end in a space or dot",
        ))
    }
}

/// Characters that make a text look like another one or break a line or terminal (Unicode TR 36, CVE-2021-42574).
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `https://HOST[:PORT]`, nothing else: no user, path, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HttpsOrigin {
    /// Name or address.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// The host of an origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name that has to be resolved.
    Name(Hostname),
    /// An address.
    Address(IpAddr),
}

impl FromStr for HttpsOrigin {
    type Err = BadText;
    fn from_str(text: &str) -> Result<Self, BadText> {
        let rest = text.strip_prefix("https://").ok_or(BadText("an address of the API starts with https://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
            let (inside, after) = rest.split_once(']').ok_or(BadText("'[' without ']'"))?;
            let address: std::net::Ipv6Addr = inside.parse().map_err(|_| BadText("not an IPv6 address"))?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(BadText("text after ']'"))?) };
            (Host::Address(address.into()), port)
        } else {
            let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
            let host = match host.parse::<std::net::Ipv4Addr>() {
                Ok(address) => Host::Address(address.into()),
                Err(_) => Host::Name(host.parse()?),
            };
            (host, port)
        };
        let port = match port {
            None => 443,
            Some(port) => decimal::<u16>(port).filter(|port| *port != 0).ok_or(BadText("a port is 1 to 65535"))?,
        };
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for HttpsOrigin {
    type Error = BadText;
    fn try_from(text: String) -> Result<Self, BadText> {
        text.parse()
    }
}

impl From<HttpsOrigin> for String {
    fn from(origin: HttpsOrigin) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for HttpsOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "https://{name}")?,
            Host::Address(IpAddr::V4(address)) => write!(f, "https://{address}")?,
            Host::Address(IpAddr::V6(address)) => write!(f, "https://[{address}]")?,
        }
        if self.port == 443 { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// A number written with digits only: `str::parse` alone would accept a leading '+'.
pub(crate) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_names_and_hosts_are_checked() {
        let long = "a".repeat(64);
        for good in ["a", "vpn05", "0-1", long.as_str()] {
            assert!(good.parse::<Id>().is_ok(), "{good}");
        }
        let longer = "a".repeat(65);
        for bad in ["", "-a", "A", "a b", "a/b", "a\n", "å", longer.as_str()] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
        }
        for good in ["VPN05 - Stockholm", "Zürich", "Tōkyō"] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", "  ", "a\u{202e}b", "a\nb", "a\0", "a\u{1b}[2J", "a\u{2066}", "a\u{feff}", long.as_str()] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
        for good in ["a", "api.sandbox.test", "A-1.example"] {
            assert!(good.parse::<Hostname>().is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", "-a.b", "a b", "$(id).test", "a;b", "1.2.3.4", "a_b", "a\n.b"] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad:?}");
        }
        for bad in ["", " a", "../x", "a/b", "a\\b", "a.", "a ", "ä", "a\0"] {
            assert!(bad.parse::<ProfileName>().is_err(), "{bad:?}");
        }
        assert!("My office_1.2".parse::<ProfileName>().is_ok());
    }

    #[test]
    fn origins_round_trip_and_nothing_else_is_accepted() {
        for text in [
            "https://api.sandbox.test",
            "https://192.0.2.10",
            "https://[2001:db8::10]",
            "https://[2001:db8::10]:8443",
            "https://a:444",
        ] {
            assert_eq!(text.parse::<HttpsOrigin>().unwrap().to_string(), text);
        }
        for bad in [
            "http://a",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a?x",
            "https://[::1",
            "https://[::1]x",
            "https://a b",
            "HTTPS://a",
            "https://a#x",
            "file:///etc/passwd",
        ] {
            assert!(bad.parse::<HttpsOrigin>().is_err(), "{bad}");
        }
    }
}
