//! What the tests of the real window share: helpers that pretend, and texts that attack.

pub mod fake;
pub mod hostile;
