//! The provider's servers: the signed list, the unsigned loads, what this computer has seen of them, and the choice.

mod list;
mod loads;
mod parse;
mod plan;
mod quality;
mod read;
mod select;

#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod select_tests;

pub use list::{ApiAddresses, Datacenter, Exit, ListDns, Server, ServerList, ServerState, WireGuardEndpoint, resolve_text};
pub use loads::{Load, Loads, LoadsError};
pub use parse::{
    ListError, ListRules, MAX_LIST_BYTES, MAX_LIST_DEPTH, MAX_REJECTED_KEPT, MAX_SERVERS, ParsedList, Refusal, Rejected, parse,
};
pub(crate) use plan::resolvers;
pub use plan::{DeviceAddresses, plan};
pub use quality::{Quality, Record};
pub use select::{Choice, MAX_CHOICES, NoServer, Preferences, select};
