//! Policies as systems keep them (values of the registry, a property list) turned into the document that
//! `hamn_core::managed` reads. Nothing here asks the system: what it keeps comes in as bytes and trees.
//!
//! Every value is `{"value": …, "locked": …}` in that document. A value that cannot be turned into one becomes `null`,
//! which the reader refuses: a policy that is not understood locks everything, and is never passed over (G15).

use serde_json::Value;
use std::fmt::Write as _;

/// More values than any policy has.
pub const MAX_VALUES: usize = 256;
/// Longest value in bytes, and longest name in characters.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
const MAX_NAME: usize = 128;
/// Items of one list.
const MAX_ITEMS: usize = 256;
/// Nested lists and dictionaries.
const MAX_DEPTH: usize = 6;

/// One value of a policy before it is read: its name, what it says, and whether users may change it.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Key of the policy.
    pub name: String,
    /// `Value::Null` for one that is of no use.
    pub value: Value,
    /// Holds whatever the user does.
    pub locked: bool,
}

/// The document, or `None` when there is too much of it. Names that differ only in case are one to a registry, and a name
/// that stands twice is refused by the reader.
#[must_use]
pub fn document(values: &[Named]) -> Option<Vec<u8>> {
    if values.len() > MAX_VALUES || values.iter().any(|value| value.name.chars().count() > MAX_NAME) {
        return None;
    }
    let mut text = String::from("{");
    for (index, Named { name, value, locked }) in values.iter().enumerate() {
        let key = Value::String(name.to_ascii_lowercase());
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{key}:");
        // A dictionary that says so itself has value and lock in it.
        let whole = value.as_object().is_some_and(|object| object.contains_key("value"));
        let _ = if whole { write!(text, "{value}") } else { write!(text, "{{\"value\":{value},\"locked\":{locked}}}") };
    }
    text.push('}');
    (text.len() <= hamn_core::managed::MAX_POLICY_BYTES).then(|| text.into_bytes())
}

// ---- the registry ------------------------------------------------------------------------------------------------------

/// Types of registry values ("Registry value types" at learn.microsoft.com).
const REG_SZ: u32 = 1;
const REG_DWORD: u32 = 4;
const REG_MULTI_SZ: u32 = 7;
const REG_QWORD: u32 = 11;

/// One value as `RegEnumValueW` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryValue {
    /// Its name; empty for the default value of a key.
    pub name: String,
    /// Its type.
    pub kind: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What one registry key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryKey {
    /// Its values.
    pub values: Vec<RegistryValue>,
    /// Its subkeys with their values: lists, as the `list` element of administrative templates writes them.
    pub lists: Vec<(String, Vec<RegistryValue>)>,
}

/// `locked`: what stands in `Policies\Hamn`; otherwise in `Policies\Hamn\Recommended`.
///
/// A `REG_DWORD` or `REG_QWORD` of 0 or 1 is no or yes, `REG_SZ` is text, `REG_MULTI_SZ` and a subkey are lists of text.
/// `REG_EXPAND_SZ` is refused: a policy does not depend on an environment.
#[must_use]
pub fn of_registry(key: &RegistryKey, locked: bool) -> Vec<Named> {
    let values =
        key.values.iter().map(|value| Named { name: value.name.clone(), value: listed(&value.name, plain(value)), locked });
    let lists = key.lists.iter().map(|(name, items)| Named { name: name.clone(), value: list(items), locked });
    values.chain(lists).collect()
}

/// `dns` and `provider` are lists, of which an installer's command line makes one text, with commas or spaces between the items;
/// and a box for lists may hold nothing but the word `provider`.
fn listed(name: &str, value: Value) -> Value {
    const WORD: &str = "provider";
    let dns = name.eq_ignore_ascii_case("dns");
    match value {
        Value::String(text) if text != WORD && (dns || name.eq_ignore_ascii_case("provider")) => {
            text.split([',', ' ']).filter(|item| !item.is_empty()).map(Value::from).collect()
        }
        Value::Array(items) if dns && matches!(items.as_slice(), [Value::String(only)] if only == WORD) => Value::from(WORD),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            other
        }
    }
}

fn plain(value: &RegistryValue) -> Value {
    if value.bytes.len() > MAX_VALUE_BYTES {
        return Value::Null;
    }
    match value.kind {
        REG_SZ => text(&value.bytes).map_or(Value::Null, Value::String),
        REG_DWORD => {
            <[u8; 4]>::try_from(value.bytes.as_slice()).map_or(Value::Null, |bytes| truth(u32::from_le_bytes(bytes).into()))
        }
        REG_QWORD => <[u8; 8]>::try_from(value.bytes.as_slice()).map_or(Value::Null, |bytes| truth(u64::from_le_bytes(bytes))),
        REG_MULTI_SZ => texts(&value.bytes).map_or(Value::Null, Value::Array),
        _ => Value::Null,
    }
}

fn truth(number: u64) -> Value {
    match number {
        0 => Value::Bool(false),
        1 => Value::Bool(true),
        other => Value::from(other),
    }
}

/// UTF-16 up to the zeros at the end, none of which must be there (`RegQueryValueEx`: "may not have been stored with the
/// proper terminating null characters"). Text with a zero in the middle, an odd byte or half a character is none.
fn text(bytes: &[u8]) -> Option<String> {
    let text = whole_text(bytes)?;
    let text = text.trim_end_matches('\0');
    (!text.contains('\0')).then(|| text.to_owned())
}

fn whole_text(bytes: &[u8]) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let characters: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    if rest.is_empty() { String::from_utf16(&characters).ok() } else { None }
}

/// Texts that end with a zero each; after the last one stands one more.
fn texts(bytes: &[u8]) -> Option<Vec<Value>> {
    let text = whole_text(bytes)?;
    let text = text.trim_end_matches('\0');
    if text.is_empty() {
        return Some(Vec::new());
    }
    let items: Vec<Value> = text.split('\0').take(MAX_ITEMS + 1).map(Value::from).collect();
    (items.len() <= MAX_ITEMS).then_some(items)
}

/// A subkey as a list: every value is text, in the order of their names, numbers by their worth.
fn list(items: &[RegistryValue]) -> Value {
    if items.len() > MAX_ITEMS || items.iter().any(|item| item.kind != REG_SZ || item.bytes.len() > MAX_VALUE_BYTES) {
        return Value::Null;
    }
    let mut items: Vec<&RegistryValue> = items.iter().collect();
    items.sort_by_key(|item| (item.name.parse::<u32>().unwrap_or(u32::MAX), item.name.clone()));
    let texts: Option<Vec<Value>> = items.iter().map(|item| text(&item.bytes).map(Value::String)).collect();
    texts.map_or(Value::Null, Value::Array)
}

// ---- property lists ----------------------------------------------------------------------------------------------------

/// A value of a property list ("Property List Types and Objects" at developer.apple.com).
#[derive(Clone, Debug, PartialEq)]
pub enum Property {
    /// `CFString`.
    Text(String),
    /// `CFBoolean`.
    Flag(bool),
    /// `CFNumber` that is whole.
    Number(i64),
    /// `CFArray`.
    List(Vec<Property>),
    /// `CFDictionary`.
    Table(Vec<(String, Property)>),
    /// Any other: data, a date, a number that is not whole.
    Other,
}

/// Managed preferences that are forced: a plain value is locked, a dictionary `{value, locked}` says it itself.
#[must_use]
pub fn of_properties(forced: &[(String, Property)]) -> Vec<Named> {
    let named = |(name, property): &(String, Property)| Named { name: name.clone(), value: tree(property, 0), locked: true };
    forced.iter().map(named).collect()
}

fn tree(property: &Property, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    match property {
        Property::Text(text) if text.len() <= MAX_VALUE_BYTES => Value::from(text.as_str()),
        Property::Flag(flag) => Value::Bool(*flag),
        Property::Number(number) => Value::from(*number),
        Property::List(items) if items.len() <= MAX_ITEMS => {
            Value::Array(items.iter().map(|item| tree(item, depth.saturating_add(1))).collect())
        }
        Property::Table(entries) if entries.len() <= MAX_ITEMS => {
            let entries = entries.iter().map(|(name, item)| (name.clone(), tree(item, depth.saturating_add(1))));
            Value::Object(entries.collect())
        }
        Property::Text(_) | Property::List(_) | Property::Table(_) | Property::Other => Value::Null,
    }
}

#[cfg(test)]
mod tests;
