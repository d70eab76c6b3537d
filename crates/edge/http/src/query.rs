//! The query of a request, read as Go's `url.ParseQuery` and Docker's form helpers read it.

use havre_api_traits::ApiError;

/// Names and values in order; a name may come more than once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part after `?`.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if part.contains(';') {
                return Err(ApiError::invalid("invalid semicolon separator in query"));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((unescape(name, true)?, unescape(value, true)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of `name`, or the empty string.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or("")
    }

    /// All values of `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Docker's boolean: everything is true but nothing, `0`, `no`, `false` and `none`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.get(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As [`Self::flag`], with `default` when the name is absent.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.find(name).is_some() {
            self.flag(name)
        } else {
            default
        }
    }

    /// A decimal number; None when absent or empty.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<i64>() {
            Ok(number) => Ok(Some(number)),
            Err(error) => Err(ApiError::invalid(format!(
                "strconv.Atoi: parsing {text:?}: {}",
                go_number_error(&error)
            ))),
        }
    }

    /// A size of a terminal: present, decimal, not negative, at most 32 bits. `what` names it in the error.
    pub(crate) fn dimension(&self, name: &str, what: &str) -> Result<u16, ApiError> {
        let text = self.get(name);
        let fail = |why| {
            Err(ApiError::invalid(format!(
                "invalid resize {what} {text:?}: {why}"
            )))
        };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return fail("invalid syntax");
        }
        match digits.parse::<u32>() {
            // The kernel's winsize has 16 bits; Docker cuts silently, a larger screen does not exist.
            Ok(number) if digits.len() == text.len() => {
                Ok(u16::try_from(number).unwrap_or(u16::MAX))
            }
            _ => fail("value out of range"),
        }
    }

    fn find(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Go's words for a number that does not parse.
fn go_number_error(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// Decodes `%XX`, and `+` when `plus` says that this is a query.
pub(crate) fn unescape(text: &str, plus: bool) -> Result<String, ApiError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).and_then(hex_pair);
                let Some(value) = digits else {
                    let end = text.len().min(at + 3);
                    let shown = String::from_utf8_lossy(bytes.get(at..end).unwrap_or_default());
                    return Err(ApiError::invalid(format!("invalid URL escape {shown:?}")));
                };
                out.push(value);
                at += 2;
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8(out).map_err(|_not_utf8| ApiError::invalid("invalid UTF-8 in URL"))
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn booleans_are_dockers() {
        for (text, expected) in [
            ("a=1", true),
            ("a=true", true),
            ("a=True", true),
            ("a=yes", true),
            ("a=x", true),
            ("a=%20no%20", false),
            ("a=0", false),
            ("a=false", false),
            ("a=FALSE", false),
            ("a=none", false),
            ("a=", false),
            ("a", false),
            ("b=1", false),
        ] {
            assert_eq!(query(text).flag("a"), expected, "{text}");
        }
        assert!(query("").flag_or("quiet", true));
        assert!(!query("quiet=0").flag_or("quiet", true));
    }

    #[test]
    fn escapes_are_decoded_or_refused() {
        let parsed = query("filters=%7B%22a%22%3A1%7D&x=a+b&x=%c3%a9&&y");
        assert_eq!(parsed.get("filters"), "{\"a\":1}");
        assert_eq!(parsed.all("x"), ["a b", "é"]);
        assert_eq!(parsed.get("y"), "");
        for (text, message) in [
            ("a=%zz", "invalid URL escape \"%zz\""),
            ("a=%4", "invalid URL escape \"%4\""),
            ("a=%", "invalid URL escape \"%\""),
            ("a=%é", "invalid URL escape \"%é\""),
            ("a=%ff", "invalid UTF-8 in URL"),
            ("a=1;b=2", "invalid semicolon separator in query"),
        ] {
            assert_eq!(Query::parse(text).unwrap_err().message, message, "{text}");
        }
    }

    #[test]
    fn numbers_fail_in_gos_words() {
        assert_eq!(query("t=-1").number("t").unwrap(), Some(-1));
        assert_eq!(query("t=").number("t").unwrap(), None);
        let error = query("t=abc").number("t").unwrap_err();
        assert_eq!(
            error.message,
            "strconv.Atoi: parsing \"abc\": invalid syntax"
        );
        assert_eq!(query("h=24").dimension("h", "height").unwrap(), 24);
        for (text, message) in [
            ("h=", "invalid resize height \"\": invalid syntax"),
            ("h=foo", "invalid resize height \"foo\": invalid syntax"),
            ("h=%2B5", "invalid resize height \"+5\": invalid syntax"),
            ("h=-1", "invalid resize height \"-1\": value out of range"),
            (
                "h=99999999999",
                "invalid resize height \"99999999999\": value out of range",
            ),
        ] {
            assert_eq!(
                query(text).dimension("h", "height").unwrap_err().message,
                message
            );
        }
    }
}
