//! The firewall: a policy is lowered once to an OS-neutral `Ruleset`, which one module per operating system compiles and applies.
//!
//! `ruleset` is the vocabulary, `lower` the only place where a policy becomes rules, `eval` says what the rules do to
//! one packet, `compile` writes them for an operating system (pure, on every OS), `apply` loads and reads them back.

pub mod apply;
pub mod compile;
pub mod eval;
mod lower;
pub mod ruleset;

pub use ruleset::Ruleset;
