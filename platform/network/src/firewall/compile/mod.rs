//! Compilers from the neutral ruleset to what an operating system takes. Pure: each one compiles on every OS.

pub mod nftables;
pub mod pf;
pub mod pf_states;
pub mod pf_wire;
pub mod wfp;
pub mod wfp_objects;
