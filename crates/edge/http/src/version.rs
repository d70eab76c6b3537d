//! Versions of the API: what a path may name and what is answered for one that is out of range.

use std::fmt;

use havre_api_traits::ApiError;

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u32,
    minor: u32,
}

/// The newest version that is spoken, and the one meant when a path names none.
pub const MAX: ApiVersion = ApiVersion::new(1, 56);
/// [`MAX`] as a header carries it.
pub(crate) const MAX_TEXT: &str = "1.56";
/// The oldest version that is spoken.
pub const MIN: ApiVersion = ApiVersion::new(1, 24);

impl ApiVersion {
    /// Version `major.minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Whether this is older than 1.`minor`.
    #[must_use]
    pub fn before(self, minor: u32) -> bool {
        self < Self::new(1, minor)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Splits `/v1.43/info` into the text `1.43` and `/info`; a path without a version stays whole.
///
/// Docker's pattern is `/v{version:[0-9.]+}`, so `/version` is not a version.
pub(crate) fn split(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else {
        return (None, path);
    };
    let Some(end) = rest.find('/') else {
        return (None, path);
    };
    let (version, tail) = rest.split_at(end);
    if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        (Some(version), tail)
    } else {
        (None, path)
    }
}

/// The version that `text` (the part of the path between `/v` and `/`) asks for.
pub(crate) fn check(text: Option<&str>) -> Result<ApiVersion, ApiError> {
    let Some(text) = text else {
        return Ok(MAX);
    };
    let asked = parse(text);
    if asked < MIN {
        return Err(ApiError::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {MIN}, \
             please upgrade your client to a newer version"
        )));
    }
    if asked > MAX {
        return Err(ApiError::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {MAX}"
        )));
    }
    Ok(asked)
}

/// Whether a client of version `text` reads plain-text errors only.
pub(crate) fn reads_plain_errors(text: Option<&str>) -> bool {
    text.is_some_and(|text| parse(text) < MIN)
}

/// As Docker compares: a part that is missing or is no number counts as zero; parts after the second
/// do not matter because no version has them.
fn parse(text: &str) -> ApiVersion {
    let mut parts = text.split('.').map(|part| {
        part.parse::<u32>()
            .unwrap_or(if part.is_empty() { 0 } else { u32::MAX })
    });
    ApiVersion::new(parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split() {
        for (path, expected) in [
            ("/v1.43/info", (Some("1.43"), "/info")),
            ("/version", (None, "/version")),
            ("/v1.43", (None, "/v1.43")),
            ("/vx/info", (None, "/vx/info")),
            ("/v/info", (None, "/v/info")),
            ("/info", (None, "/info")),
            (
                "/v1.24/images/v1.2/x/json",
                (Some("1.24"), "/images/v1.2/x/json"),
            ),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn versions_out_of_range_get_dockers_texts() {
        assert_eq!(check(None).unwrap(), MAX);
        assert_eq!(MAX.to_string(), MAX_TEXT);
        assert_eq!(check(Some("1.24")).unwrap(), MIN);
        assert_eq!(check(Some("1.50")).unwrap(), ApiVersion::new(1, 50));
        assert_eq!(
            check(Some("1.99")).unwrap_err().message,
            "client version 1.99 is too new. Maximum supported API version is 1.56"
        );
        assert_eq!(
            check(Some("1.23")).unwrap_err().message,
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade \
             your client to a newer version"
        );
        check(Some("99999999999999999999.1")).unwrap_err();
        check(Some("1.99999999999999999999")).unwrap_err();
        check(Some("...")).unwrap_err();
        assert!(reads_plain_errors(Some("1.9")));
        assert!(!reads_plain_errors(Some("1.99")));
        assert!(!reads_plain_errors(None));
    }
}
