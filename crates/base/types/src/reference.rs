//! Image references: the grammar of `docker.io/library/debian:12@sha256:…` and its short forms.
//!
//! Facts from <https://github.com/distribution/reference>: an untyped first component is a registry when it contains
//! `.` or `:`, is `localhost`, or has an upper-case letter; everything else lives on Docker Hub.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{Digest, DigestError, is_lower_hex};
use crate::{Classify, ErrorKind};

/// The registry of names without one.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of names without tag and digest.
pub const DEFAULT_TAG: &str = "latest";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
/// The longest path that registries accept.
const PATH_MAX: usize = 255;

/// Why a text is no reference. The texts are those of Docker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hex digits are an image id, never a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The path is too long.
    #[error("repository name must not be more than {PATH_MAX} characters")]
    TooLong,
    /// The digest after `@` is wrong.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Classify for ReferenceError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// A normalised reference: registry and path are always known, tag and digest are as the user gave them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: Box<str>,
    path: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

/// What the name of an image on a command line may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyReference {
    /// 64 hex digits or a bare digest: an image id.
    Id(Digest),
    /// A name.
    Name(Reference),
}

impl Reference {
    /// Parses what a user types; `debian` becomes `docker.io/library/debian`. No tag is added.
    pub fn parse_normalized(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let name_end = rest.find([':', '@']).unwrap_or(rest.len());
        let remote = &rest[..rest.find(':').unwrap_or(rest.len())];
        if remote.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase(remote.to_owned()));
        }
        let (path, suffix) = rest.split_at(name_end);
        if !is_domain(domain) || !is_path(path) {
            return Err(ReferenceError::Format);
        }
        let (tag, digest) = parse_suffix(suffix)?;
        if path.len() > PATH_MAX {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self {
            domain: domain.into(),
            path: path.into(),
            tag: tag.map(Into::into),
            digest,
        })
    }

    /// Parses a name, a digest or the 64 hex digits of an image id.
    pub fn parse_any(text: &str) -> Result<AnyReference, ReferenceError> {
        if is_identifier(text) {
            return Ok(AnyReference::Id(Digest::parse(&format!("sha256:{text}"))?));
        }
        if let Ok(digest) = Digest::parse(text) {
            return Ok(AnyReference::Id(digest));
        }
        Self::parse_normalized(text).map(AnyReference::Name)
    }

    /// The registry, with its port.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, when there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when there is one.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path`, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Whether neither tag nor digest is given.
    #[must_use]
    pub const fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The reference with `:latest` when it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.into());
        }
        self
    }

    /// The same repository with this tag and no digest; refuses what is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self {
            tag: Some(tag.into()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository by digest, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository without tag and digest.
    #[must_use]
    pub fn repository(&self) -> Self {
        Self {
            tag: None,
            digest: None,
            ..self.clone()
        }
    }

    /// The short name that people see: `debian` of `docker.io/library/debian:latest`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if &*self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.to_string(),
        }
    }

    /// The short form that people see, with tag and digest: `debian:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), Suffix(self))
    }
}

/// `:tag@digest` of a reference.
struct Suffix<'a>(&'a Reference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        match &self.0.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, Suffix(self))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({self})")
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse_normalized(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_normalized(&text).map_err(de::Error::custom)
    }
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && is_lower_hex(text)
}

/// Splits off the registry. The path gets `library/` on Docker Hub when it has one component, so it is owned there.
fn split_domain(text: &str) -> (&str, String) {
    let hub = |path: &str| {
        let one = !path.contains('/');
        (
            DEFAULT_DOMAIN,
            if one {
                format!("{OFFICIAL}{path}")
            } else {
                path.to_owned()
            },
        )
    };
    let Some((first, rest)) = text.split_once('/') else {
        return hub(text);
    };
    if first == LEGACY_DOMAIN || first == DEFAULT_DOMAIN {
        return hub(rest);
    }
    let domain =
        first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase);
    if domain {
        (first, rest.to_owned())
    } else {
        hub(text)
    }
}

fn parse_suffix(suffix: &str) -> Result<(Option<&str>, Option<Digest>), ReferenceError> {
    let (tag, digest) = match suffix.split_once('@') {
        Some((tag, digest)) => (tag, Some(digest)),
        None => (suffix, None),
    };
    let tag = match tag.strip_prefix(':') {
        Some(tag) if is_tag(tag) => Some(tag),
        None if tag.is_empty() => None,
        _ => return Err(ReferenceError::Format),
    };
    let digest = match digest {
        None => None,
        Some(text) if has_digest_shape(text) => Some(Digest::parse(text)?),
        Some(_) => return Err(ReferenceError::Format),
    };
    Ok((tag, digest))
}

/// `algorithm:hex` with at least 32 digits; whether the algorithm is one of ours is [`Digest::parse`]'s question.
fn has_digest_shape(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphabetic())
            && p.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(':') {
        Some(at) if !domain.ends_with(']') => (&domain[..at], Some(&domain[at + 1..])),
        _ => (domain, None),
    };
    let port_ok = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(is_domain_component),
    };
    port_ok && host_ok
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_path_component)
}

/// Lower-case words joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let bytes = part.as_bytes();
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    word(first)
        && word(last)
        && bytes.split(word).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full(text: &str) -> String {
        match Reference::parse_normalized(text) {
            Ok(reference) => reference.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn short_forms_become_full_ones() {
        let digest = Digest::sha256_of(b"");
        for (text, expected) in [
            ("debian", "docker.io/library/debian"),
            ("debian:12", "docker.io/library/debian:12"),
            ("user/app", "docker.io/user/app"),
            ("docker.io/debian", "docker.io/library/debian"),
            ("index.docker.io/debian", "docker.io/library/debian"),
            ("localhost/x", "localhost/x"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x"),
            ("[::1]:5000/x", "[::1]:5000/x"),
            ("[2001:db8::1]/x", "[2001:db8::1]/x"),
            ("FOO/bar", "FOO/bar"),
            ("a__b/c---d.e", "docker.io/a__b/c---d.e"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
        ] {
            assert_eq!(full(text), expected, "{text}");
        }
        assert_eq!(
            full(&format!("a:b@{digest}")),
            format!("docker.io/library/a:b@{digest}")
        );
    }

    #[test]
    fn bad_forms_are_refused_with_dockers_words() {
        let bad = "invalid reference format";
        let id = "a".repeat(64);
        for (text, expected) in [
            ("", bad.to_owned()),
            ("a..b", bad.to_owned()),
            ("a___b", bad.to_owned()),
            ("a/", bad.to_owned()),
            ("/a", bad.to_owned()),
            ("-a", bad.to_owned()),
            ("a:", bad.to_owned()),
            ("a:b:c", bad.to_owned()),
            ("a@sha256:abc", bad.to_owned()),
            ("a@b", bad.to_owned()),
            ("https://x.y/z", bad.to_owned()),
            (
                "Debian",
                format!("{bad}: repository name (library/Debian) must be lowercase"),
            ),
            (
                &id,
                format!(
                    "invalid repository name ({id}), cannot specify 64-byte hexadecimal strings"
                ),
            ),
            (
                &format!("x@sha256:{}", "a".repeat(40)),
                "invalid checksum digest length".to_owned(),
            ),
            (
                &format!("x@md5:{}", "a".repeat(32)),
                "unsupported digest algorithm".to_owned(),
            ),
            (
                "a/".repeat(140).trim_end_matches('/'),
                "repository name must not be more than 255 characters".to_owned(),
            ),
        ] {
            assert_eq!(full(text), expected, "{text}");
        }
    }

    #[test]
    fn familiar_forms_are_what_people_type() {
        let familiar = |t: &str| {
            Reference::parse_normalized(t)
                .unwrap()
                .with_default_tag()
                .familiar()
        };
        assert_eq!(familiar("debian"), "debian:latest");
        assert_eq!(familiar("docker.io/library/debian:12"), "debian:12");
        assert_eq!(familiar("docker.io/me/x"), "me/x:latest");
        assert_eq!(familiar("docker.io/library/a/b"), "library/a/b:latest");
        assert_eq!(familiar("localhost:5000/x"), "localhost:5000/x:latest");
        let digest = Digest::sha256_of(b"");
        assert_eq!(familiar(&format!("x@{digest}")), format!("x@{digest}"));
    }

    #[test]
    fn ids_and_names_are_told_apart() {
        let id = "b".repeat(64);
        let digest = Digest::parse(&format!("sha256:{id}")).unwrap();
        assert_eq!(
            Reference::parse_any(&id),
            Ok(AnyReference::Id(digest.clone()))
        );
        assert_eq!(
            Reference::parse_any(digest.as_str()),
            Ok(AnyReference::Id(digest))
        );
        assert!(matches!(
            Reference::parse_any("b"),
            Ok(AnyReference::Name(_))
        ));
    }

    proptest! {
        #[test]
        fn what_parses_parses_to_itself_again(text in "[a-zA-Z0-9._:/@\\[\\]-]{0,40}") {
            if let Ok(reference) = Reference::parse_normalized(&text) {
                prop_assert_eq!(Reference::parse_normalized(&reference.to_string()), Ok(reference.clone()));
                prop_assert_eq!(Reference::parse_normalized(&reference.familiar()), Ok(reference));
            }
        }
    }
}
