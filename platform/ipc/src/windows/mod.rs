//! Windows: pipes, security descriptors and tokens, each call behind a safe function.

pub(crate) mod security;
pub(crate) mod token;
