//! As much of a URL as a registry client needs: an origin, and a path with its query.

use std::fmt;

/// Plain or over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What credentials are bound to: two URLs with equal origins speak to the same server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// In lower case, an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    pub(crate) fn parse(scheme: Scheme, authority: &str) -> Option<Self> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (
                    host,
                    if port.is_empty() {
                        None
                    } else {
                        Some(port.strip_prefix(':')?)
                    },
                )
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => scheme.port(),
        };
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(fine) {
            return None;
        }
        Some(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// As it stands in a URL and in the `Host` header: without the scheme's own port.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == self.scheme.port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.text(), self.authority())
    }
}

/// An absolute URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// Begins with a slash; has no fragment.
    pub(crate) target: String,
}

impl Url {
    pub(crate) fn new(origin: &Origin, target: String) -> Self {
        Self {
            origin: origin.clone(),
            target,
        }
    }

    /// Reads `http://…` or `https://…`. User names in it are refused.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let origin = Origin::parse(scheme, authority)?;
        Some(Self {
            origin,
            target: clean_target(target)?,
        })
    }

    /// Where a `Location` seen at this URL leads.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") && !location.starts_with('/') && !location.starts_with('?') {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.origin.scheme.text()));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = if location.starts_with('/') {
            clean_target(location)?
        } else if location.starts_with('?') {
            clean_target(&format!("{path}{location}"))?
        } else {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            clean_target(&format!("{folder}/{location}"))?
        };
        Some(Self {
            origin: self.origin.clone(),
            target,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

/// Without fragment, with a slash at its beginning, and with nothing that breaks a request line.
fn clean_target(target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default();
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    Some(if target.starts_with('/') {
        target.to_owned()
    } else {
        format!("/{target}")
    })
}

/// Writes a value of a query or form (<https://url.spec.whatwg.org/#urlencoded-serializing>).
pub(crate) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together() {
        for (text, written) in [
            ("https://Example.org", "https://example.org/"),
            ("http://h:80/a?b=c#d", "http://h/a?b=c"),
            ("https://[::1]:5000/v2/", "https://[::1]:5000/v2/"),
            ("https://h?x=1", "https://h/?x=1"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), written);
        }
        for text in [
            "h/a",
            "ftp://h/",
            "https://",
            "https://u:p@h/",
            "https://h:x/",
            "https://h/a b",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_location_is_relative_to_where_it_was_seen() {
        let base = Url::parse("https://h:1/a/b?c=d").unwrap();
        for (location, url) in [
            ("https://other/x", "https://other/x"),
            ("//other/x", "https://other/x"),
            ("/x?u=https://y", "https://h:1/x?u=https://y"),
            ("x", "https://h:1/a/x"),
            ("?e=f", "https://h:1/a/b?e=f"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), url);
        }
        assert_eq!(base.join("file:///etc/passwd"), None);
    }
}
