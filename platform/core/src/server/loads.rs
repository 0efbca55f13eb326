//! The unsigned, fast-changing loads: they can only make a server less wanted, never add or change where traffic goes.

use super::list::{ServerList, ServerState};
use super::parse::server_state;
use super::read::Object;
use crate::json::{self, Limits};
use crate::text::Id;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

const LIMITS: Limits = Limits { bytes: 4 * 1024 * 1024, depth: 8, values: 400_000 };

/// The loads of the servers of one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    servers: BTreeMap<Id, Load>,
}

/// What the provider says about one server at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Load {
    /// 0 (idle) to 100 (full).
    pub load_pct: Option<u8>,
    /// State.
    pub state: Option<ServerState>,
}

/// Why the document is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadsError {
    /// Too big, too deep, or not JSON.
    #[error("the loads are not JSON of a sensible size")]
    NotJson,
    /// No `servers` object.
    #[error("the loads have no `servers`")]
    NoServers,
}

impl Loads {
    /// Reads the document. Servers that the signed list does not have, and values that mean nothing, are left out.
    ///
    /// # Errors
    /// [`LoadsError`]; go on without loads.
    pub fn parse(bytes: &[u8], list: &ServerList) -> Result<Self, LoadsError> {
        let value = json::parse(bytes, &LIMITS).map_err(|_| LoadsError::NotJson)?;
        let items = value.get("servers").ok_or(LoadsError::NoServers)?;
        let items = Object::new(items).map_err(|_| LoadsError::NoServers)?;
        let known: BTreeMap<&str, &Id> = list.servers.iter().map(|server| (server.id.as_str(), &server.id)).collect();
        let mut servers = BTreeMap::new();
        for (id, item) in items.entries() {
            let Some(id) = known.get(id.as_str()) else { continue };
            let load_pct = item.get("load_pct").and_then(Value::as_f64).filter(|load| *load >= 0.0);
            let load = Load { load_pct: load_pct.map(percent), state: item.get("state").and_then(server_state) };
            servers.insert((*id).clone(), load);
        }
        Ok(Self { servers })
    }

    /// The load of a server.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Load> {
        self.servers.get(id)
    }

    /// The worse of the signed and the unsigned state.
    #[must_use]
    pub fn state(&self, id: &str, signed: ServerState) -> ServerState {
        self.get(id).and_then(|load| load.state).map_or(signed, |state| state.max(signed))
    }
}

/// The whole percent at or above `load`, at most 100.
fn percent(load: f64) -> u8 {
    (0..100).find(|whole| f64::from(*whole) >= load).unwrap_or(100)
}
