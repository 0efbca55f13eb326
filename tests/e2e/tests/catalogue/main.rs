//! The acceptance catalogue of guarantees.md, on real parts in network namespaces.
//!
//! Names begin with the case's name (`leak_02_…`). Every leak case contains its negative control: the same probes with the
//! protection away, which the witness must see. Cases of more than ten seconds have `slow_` in their name.

mod api;
mod boot;
mod dns;
mod engine;
mod files;
mod flows;
mod inbound;
mod kill;
mod lab;
mod lan;
mod layout;
mod leak;
mod network;
mod profile;
mod routes;
mod secrets;
mod states;
mod support;
mod tamper;
