//! Ids of containers, exec processes, networks and their ends, and how a prefix that a user typed finds one object.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{hex, is_lower_hex};

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id `{0}`: expected 64 lower-case hexadecimal digits")]
pub struct IdError(String);

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses 64 lower-case hex digits.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if text.len() == 64 && is_lower_hex(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError(text.chars().take(80).collect()))
                }
            }

            /// Makes an id of random bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(hex(&bytes).into())
            }

            /// The first twelve digits, as tables show them.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..12]
            }

            /// All 64 digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }
    };
}

hex_id! {
    /// The id of a container: 64 lower-case hex digits.
    ContainerId
}
hex_id! {
    /// The id of an exec process: 64 lower-case hex digits.
    ExecId
}
hex_id! {
    /// The id of a network: 64 lower-case hex digits.
    NetworkId
}
hex_id! {
    /// The id of a container's end of a network: 64 lower-case hex digits.
    EndpointId
}

/// Why a prefix did not find one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Nothing starts with the prefix.
    #[error("no id starts with the prefix")]
    NotFound,
    /// More than one id starts with the prefix.
    #[error("multiple IDs found with provided prefix")]
    Ambiguous,
}

/// Finds the one candidate that starts with `prefix`. An exact match wins; an empty prefix finds nothing.
pub fn resolve_prefix<T: AsRef<str>>(
    candidates: impl IntoIterator<Item = T>,
    prefix: &str,
) -> Result<T, PrefixError> {
    if prefix.is_empty() {
        return Err(PrefixError::NotFound);
    }
    let mut found = None;
    let mut ambiguous = false;
    for candidate in candidates {
        let text = candidate.as_ref();
        if text == prefix {
            return Ok(candidate);
        }
        if text.starts_with(prefix) {
            ambiguous |= found.is_some();
            found = Some(candidate);
        }
    }
    match found {
        Some(_) if ambiguous => Err(PrefixError::Ambiguous),
        Some(candidate) => Ok(candidate),
        None => Err(PrefixError::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_exactly_64_lower_case_hex_digits() {
        let id = ContainerId::from_bytes([0xab; 32]);
        assert_eq!(id.as_str(), "ab".repeat(32));
        assert_eq!(id.short(), "abababababab");
        assert_eq!(ContainerId::parse(id.as_str()), Ok(id));
        ContainerId::parse(&"AB".repeat(32)).unwrap_err();
        ContainerId::parse("ab").unwrap_err();
        ContainerId::parse(&"../".repeat(22)[..64]).unwrap_err();
    }

    #[test]
    fn a_prefix_finds_one_object_or_says_why_not() {
        let ids = ["abc", "abd", "b", "bc"];
        assert_eq!(resolve_prefix(ids, "abc"), Ok("abc"));
        assert_eq!(resolve_prefix(ids, "ab"), Err(PrefixError::Ambiguous));
        assert_eq!(resolve_prefix(ids, "b"), Ok("b"), "an exact match wins");
        assert_eq!(resolve_prefix(ids, "x"), Err(PrefixError::NotFound));
        assert_eq!(resolve_prefix(ids, ""), Err(PrefixError::NotFound));
    }
}
