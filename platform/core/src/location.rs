//! Where the user wants to come out: the intent, not yet a server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

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
