//! Where the user wants to come out: the intent, not yet a server.

use crate::text::{BadText, Country, Id, ProfileName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What to connect to. Written by the user, resolved to a server by `server::select`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Destination {
    /// The best server by location preference, load and past quality.
    #[default]
    Best,
    /// Any server with an exit in this country (ISO 3166-1 alpha-2, lower case).
    Country {
        /// Country code.
        country: String,
    },
    /// Any server in this data centre (its id or slug in the server list).
    City {
        /// Data centre id or slug.
        city: String,
    },
    /// This server.
    Server {
        /// Server id.
        server: String,
        /// Exit id on that server, when it has several (row O17); the default exit otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<String>,
    },
    /// An imported WireGuard profile, by the name it was given.
    Profile {
        /// Profile name.
        name: String,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best server"),
            Self::Country { country } => write!(f, "country {country}"),
            Self::City { city } => write!(f, "city {city}"),
            Self::Server { server, exit: None } => write!(f, "server {server}"),
            Self::Server { server, exit: Some(exit) } => write!(f, "server {server}, exit {exit}"),
            Self::Profile { name } => write!(f, "profile {name}"),
        }
    }
}

impl Destination {
    /// The one text that means this destination: `best`, `se`, `city:ID`, `server:ID[/EXIT]` or `profile:NAME`.
    /// Parsing it gives the destination back. (`Display` is for people.)
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Best => "best".to_owned(),
            Self::Country { country } => country.clone(),
            Self::City { city } => format!("city:{city}"),
            Self::Server { server, exit: None } => format!("server:{server}"),
            Self::Server { server, exit: Some(exit) } => format!("server:{server}/{exit}"),
            Self::Profile { name } => format!("profile:{name}"),
        }
    }

    /// Checks the texts inside, for a destination that came from a file or a caller.
    ///
    /// # Errors
    /// What the offending text must look like.
    pub fn validate(&self) -> Result<(), BadText> {
        match self {
            Self::Best => Ok(()),
            Self::Country { country } => match country.parse::<Country>()? {
                parsed if parsed.as_str() == country => Ok(()),
                _ => Err(BadText("a country is written in lower case")),
            },
            Self::City { city } => city.parse::<Id>().map(drop),
            Self::Server { server, exit } => {
                server.parse::<Id>()?;
                exit.as_ref().map_or(Ok(()), |exit| exit.parse::<Id>().map(drop))
            }
            Self::Profile { name } => name.parse::<ProfileName>().map(drop),
        }
    }
}

/// Explicit texts only. A bare word of other than two letters needs the server list: `server::resolve_text`.
impl FromStr for Destination {
    type Err = BadText;
    fn from_str(text: &str) -> Result<Self, BadText> {
        let destination = match text.split_once(':') {
            None if text == "best" => Self::Best,
            None if text.len() == 2 => Self::Country { country: text.parse::<Country>()?.into() },
            Some(("country", country)) => Self::Country { country: country.parse::<Country>()?.into() },
            Some(("city", city)) => Self::City { city: city.to_owned() },
            Some(("server", server)) => match server.split_once('/') {
                None => Self::Server { server: server.to_owned(), exit: None },
                Some((server, exit)) => Self::Server { server: server.to_owned(), exit: Some(exit.to_owned()) },
            },
            Some(("profile", name)) => Self::Profile { name: name.to_owned() },
            _ => {
                return Err(BadText(
                    "not a place: best, a country of two letters, city:ID, server:ID, server:ID/EXIT or profile:NAME",
                ));
            }
        };
        destination.validate()?;
        Ok(destination)
    }
}

/// Persisted intent. `Connected` survives crash, restart and reboot.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "want")]
pub enum Target {
    /// The user wants no tunnel.
    #[default]
    Disconnected,
    /// The user wants a tunnel to `destination`, whatever happens in between.
    Connected {
        /// Where to.
        destination: Destination,
    },
}
