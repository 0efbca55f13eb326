//! The helper's own parts against a scripted provider, and the whole service in a network namespace.

mod devices;
mod diagnosis;
mod ladder;
mod scripted;
mod service;
mod stand;
