//! Reading JSON that somebody else wrote: size, depth and number of values are bounded before anything is built.

use serde_json::Value;

/// How large a document may be.
pub(crate) struct Limits {
    /// Bytes.
    pub bytes: usize,
    /// Nested arrays and objects.
    pub depth: usize,
    /// Arrays, objects and commas: an upper bound for what the parser will allocate.
    pub values: usize,
}

/// Why a document is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// More bytes than allowed.
    TooBig,
    /// Not UTF-8.
    NotUtf8,
    /// Nested deeper than allowed.
    TooDeep,
    /// More values than allowed.
    TooManyValues,
    /// Not JSON.
    Syntax,
}

/// Parses within the limits. Of duplicate keys the last one counts.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Value, JsonError> {
    check(bytes, limits)?;
    serde_json::from_slice(bytes).map_err(|_| JsonError::Syntax)
}

/// The bounds alone, for callers that parse into their own types.
pub(crate) fn check(bytes: &[u8], limits: &Limits) -> Result<(), JsonError> {
    if bytes.len() > limits.bytes {
        return Err(JsonError::TooBig);
    }
    if std::str::from_utf8(bytes).is_err() {
        return Err(JsonError::NotUtf8);
    }
    let (mut depth, mut values, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth = depth.saturating_add(1);
                values = values.saturating_add(1);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values = values.saturating_add(1),
            _ => {}
        }
        if depth > limits.depth {
            return Err(JsonError::TooDeep);
        }
        if values > limits.values {
            return Err(JsonError::TooManyValues);
        }
    }
    Ok(())
}

/// A key from a foreign document as it may be shown: printable ASCII, at most 40 characters.
pub(crate) fn shown(key: &str) -> String {
    key.chars().take(40).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked_before_parsing() {
        let limits = Limits { bytes: 1000, depth: 3, values: 10 };
        assert!(parse(br#"{"a":[[1]]}"#, &limits).is_ok());
        assert_eq!(parse(br#"{"a":[[[1]]]}"#, &limits), Err(JsonError::TooDeep));
        assert!(parse(br#"{"a":"[[[[[[\"[[["}"#, &limits).is_ok());
        assert_eq!(parse(b"[1,1,1,1,1,1,1,1,1,1,1,1]", &limits), Err(JsonError::TooManyValues));
        assert_eq!(parse(&[b' '; 1001], &limits), Err(JsonError::TooBig));
        assert_eq!(parse(b"\"\xff\"", &limits), Err(JsonError::NotUtf8));
        assert_eq!(parse(b"{", &limits), Err(JsonError::Syntax));
        assert_eq!(parse("\u{feff}{}".as_bytes(), &limits), Err(JsonError::Syntax));
    }
}
