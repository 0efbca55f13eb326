//! One line of a self-test, the same on every system.

/// One line of a self-test.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was read back.
    pub what: String,
    /// It is as it should be.
    pub ok: bool,
    /// In words; what differs, if anything does.
    pub detail: String,
}

impl Finding {
    /// From what was found, in words; an error says what differs.
    #[must_use]
    pub fn new(what: &str, found: Result<String, String>) -> Self {
        let ok = found.is_ok();
        Self { what: what.to_owned(), ok, detail: found.unwrap_or_else(|problem| problem) }
    }

    /// The only line before the first policy.
    #[must_use]
    pub fn no_policy() -> Self {
        Self::new("policy", Err("none was applied yet".to_owned()))
    }
}
