//! Compilers from the neutral ruleset to what an operating system takes. Pure: each one compiles on every OS.

pub mod nftables;
pub mod pf;
pub mod wfp;
