//! The platform an image is made for: `linux/arm64/v8`.

use std::env::consts;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Classify, ErrorKind};

/// Operating system, architecture and variant, in the words of Go (`amd64`, not `x86_64`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `v7`, `v8`; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {reason}: invalid argument")]
pub struct PlatformError {
    text: String,
    reason: &'static str,
}

impl Classify for PlatformError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        Self::normalized("linux", consts::ARCH, "")
    }

    /// Parses `os/arch[/variant]`, or one of the two alone as Docker does.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        let fail = |reason| {
            Err(PlatformError {
                text: text.to_owned(),
                reason,
            })
        };
        let valid = |p: &str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().copied().all(valid) {
            return fail("platform specifier component must match [A-Za-z0-9_.-]+");
        }
        match *parts.as_slice() {
            [one] if is_os(one) => Ok(Self {
                os: one.to_lowercase(),
                ..Self::host()
            }),
            [one] if is_arch(one) => Ok(Self::normalized("linux", one, "")),
            [_] => fail("unknown operating system or architecture"),
            [os, arch] => Ok(Self::normalized(os, arch, "")),
            [os, arch, variant] => Ok(Self::normalized(os, arch, variant)),
            _ => fail("cannot parse platform specifier"),
        }
    }

    /// Whether a program for `image` runs on this platform as it is.
    #[must_use]
    pub fn matches(&self, image: &Self) -> bool {
        let image = Self::normalized(&image.os, &image.architecture, &image.variant);
        self.os == image.os
            && self.architecture == image.architecture
            && (self.variant.is_empty()
                || image.variant.is_empty()
                || self.variant == image.variant)
    }

    /// The platform in Go's words, whatever the input called it (`x86_64`, `aarch64`, `armhf`).
    #[must_use]
    pub fn normalized(os: &str, architecture: &str, variant: &str) -> Self {
        let arch = architecture.to_lowercase();
        let variant = variant.to_lowercase();
        let (arch, variant) = match (arch.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", if v == "v1" { "" } else { v }),
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
            ("aarch64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64", v) if cfg!(target_endian = "little") => ("ppc64le", v),
            (a, v) => (a, v),
        };
        Self {
            os: os.to_lowercase(),
            architecture: arch.to_owned(),
            variant: variant.to_owned(),
        }
    }
}

fn is_os(text: &str) -> bool {
    matches!(
        text.to_lowercase().as_str(),
        "linux" | "windows" | "darwin" | "freebsd"
    )
}

fn is_arch(text: &str) -> bool {
    const KNOWN: [&str; 20] = [
        "386", "amd64", "arm", "arm64", "armel", "armhf", "aarch64", "i386", "loong64", "mips",
        "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm", "x86_64",
        "x86-64",
    ];
    KNOWN.contains(&text.to_lowercase().as_str())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("aarch64", "linux/arm64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(
                Platform::parse(text).unwrap().to_string(),
                expected,
                "{text}"
            );
        }
        for text in ["", "a/b/c/d", "linux/", "linux/am d", "nonsense"] {
            Platform::parse(text).unwrap_err();
        }
    }

    #[test]
    fn an_image_without_variant_matches() {
        let arm = Platform::parse("linux/arm64").unwrap();
        assert!(arm.matches(&Platform::parse("linux/arm64/v8").unwrap()));
        assert!(!arm.matches(&Platform::parse("linux/amd64").unwrap()));
    }
}
