//! Content digests (`sha256:…`) and the ids that are digests: image, chain and diff ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A hash algorithm registered by the OCI image specification
/// (<https://github.com/opencontainers/image-spec/blob/main/descriptor.md#registered-algorithms>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 64 hex digits.
    Sha256,
    /// SHA-384, 96 hex digits; not registered, but Docker's grammar accepts it.
    Sha384,
    /// SHA-512, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The number of hex digits after the colon.
    #[must_use]
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no digest. The texts are those of Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:hex` at all.
    #[error("invalid checksum digest format")]
    Format,
    /// The hex part is too short or too long.
    #[error("invalid checksum digest length")]
    Length,
    /// An algorithm that nobody here can compute.
    #[error("unsupported digest algorithm")]
    Algorithm,
}

/// A digest: algorithm and lower-case hex, never anything else. Safe as a file name after the colon is cut off.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    text: Box<str>,
    algorithm: Algorithm,
}

impl Digest {
    /// Parses `algorithm:hex`.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        if name.is_empty() || hex.is_empty() {
            return Err(DigestError::Format);
        }
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha384" => Algorithm::Sha384,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm),
        };
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length);
        }
        if !is_lower_hex(hex) {
            return Err(DigestError::Format);
        }
        Ok(Self {
            text: text.into(),
            algorithm,
        })
    }

    /// The digest of bytes in memory.
    #[must_use]
    pub fn sha256_of(bytes: &[u8]) -> Self {
        Self::from_sha256_bytes(Sha256::digest(bytes).into())
    }

    /// Wraps a SHA-256 that was computed elsewhere.
    #[must_use]
    pub fn from_sha256_bytes(bytes: [u8; 32]) -> Self {
        Self {
            text: format!("sha256:{}", hex(&bytes)).into(),
            algorithm: Algorithm::Sha256,
        }
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The whole text, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::parse(text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Parses `algorithm:hex`.
            pub fn parse(text: &str) -> Result<Self, DigestError> {
                Digest::parse(text).map(Self)
            }

            /// The digest itself.
            #[must_use]
            pub const fn digest(&self) -> &Digest {
                &self.0
            }

            /// The hex digits.
            #[must_use]
            pub fn hex(&self) -> &str {
                self.0.hex()
            }

            /// The whole text, `sha256:…`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The first twelve hex digits, as tables show them.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0.hex()[..12]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.0.as_str()
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                Self::parse(text)
            }
        }
    };
}

digest_id! {
    /// The digest of an image's configuration: the id that `images` shows.
    ImageId
}
digest_id! {
    /// The digest of one layer's tar stream, uncompressed.
    DiffId
}
digest_id! {
    /// The identity of a stack of layers
    /// (<https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid>).
    ChainId
}

impl ChainId {
    /// The chain id of the stack, base first; `None` of an empty stack.
    #[must_use]
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        let (first, rest) = layers.split_first()?;
        let base = Self(first.0.clone());
        Some(rest.iter().fold(base, |below, layer| below.then(layer)))
    }

    /// The chain id of `self` with one more layer on top.
    #[must_use]
    pub fn then(&self, layer: &DiffId) -> Self {
        Self(Digest::sha256_of(format!("{self} {layer}").as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registered_lower_case_digests_parse() {
        let hello = Digest::sha256_of(b"hello");
        let text = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(hello.to_string(), text);
        assert_eq!(Digest::parse(text), Ok(hello.clone()));
        assert_eq!(hello.hex().len(), 64);
        assert_eq!(
            Digest::parse(&text.to_uppercase()),
            Err(DigestError::Algorithm)
        );
        assert_eq!(
            Digest::parse(&text.replace("2cf", "2CF")),
            Err(DigestError::Format)
        );
        assert_eq!(Digest::parse("sha256:abc"), Err(DigestError::Length));
        assert_eq!(Digest::parse("md5:abc"), Err(DigestError::Algorithm));
        assert_eq!(Digest::parse("sha256"), Err(DigestError::Format));
        assert_eq!(
            Digest::parse("sha256:../../etc/passwd"),
            Err(DigestError::Length)
        );
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let a = DiffId(Digest::sha256_of(b"a"));
        let b = DiffId(Digest::sha256_of(b"b"));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(
            ChainId::of(std::slice::from_ref(&a)).unwrap().digest(),
            a.digest()
        );
        let both = ChainId::of(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(
            both.digest(),
            &Digest::sha256_of(format!("{a} {b}").as_bytes())
        );
    }

    #[test]
    fn json_is_the_plain_text() {
        let id = ImageId(Digest::sha256_of(b""));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ImageId>(&json).unwrap(), id);
        serde_json::from_str::<ImageId>("\"sha256:x\"").unwrap_err();
    }
}
