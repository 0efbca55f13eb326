//! Typed access to a JSON object of the list: each accessor gives a checked value or the reason to refuse the item.

use super::parse::Refusal;
use serde_json::{Map, Value};
use std::str::FromStr;

/// One JSON object.
#[derive(Clone, Copy)]
pub(super) struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    pub(super) fn new(value: &'a Value) -> Result<Self, Refusal> {
        value.as_object().map(Self).ok_or(Refusal::NotAnObject)
    }

    /// The value, if the field exists and is not null.
    pub(super) fn get(self, field: &'static str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn entries(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.iter()
    }

    pub(super) fn text(self, field: &'static str) -> Result<&'a str, Refusal> {
        self.get(field).ok_or(Refusal::Missing(field))?.as_str().ok_or(Refusal::WrongType(field))
    }

    /// A required text, parsed.
    pub(super) fn parsed<T: FromStr>(self, field: &'static str) -> Result<T, Refusal> {
        self.text(field)?.parse().map_err(|_| Refusal::BadText(field))
    }

    /// An optional text, parsed.
    pub(super) fn maybe_parsed<T: FromStr>(self, field: &'static str) -> Result<Option<T>, Refusal> {
        if self.get(field).is_none() { Ok(None) } else { self.parsed(field).map(Some) }
    }

    /// An optional whole number from `min` to `max`.
    pub(super) fn whole(self, field: &'static str, min: u64, max: u64) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_u64().ok_or(Refusal::OutOfRange(field))?;
        if (min..=max).contains(&number) { Ok(Some(number)) } else { Err(Refusal::OutOfRange(field)) }
    }

    /// An optional finite number from `min` to `max`.
    pub(super) fn real(self, field: &'static str, min: f64, max: f64) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_f64().ok_or(Refusal::WrongType(field))?;
        if (min..=max).contains(&number) { Ok(Some(number)) } else { Err(Refusal::OutOfRange(field)) }
    }

    pub(super) fn switch(self, field: &'static str) -> Result<bool, Refusal> {
        self.get(field).map_or(Ok(false), |value| value.as_bool().ok_or(Refusal::WrongType(field)))
    }

    /// An optional array of at most `max` items.
    pub(super) fn array(self, field: &'static str, max: usize) -> Result<&'a [Value], Refusal> {
        let Some(value) = self.get(field) else { return Ok(&[]) };
        let items = value.as_array().ok_or(Refusal::WrongType(field))?;
        if items.len() <= max { Ok(items) } else { Err(Refusal::TooMany(field)) }
    }
}
