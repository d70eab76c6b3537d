//! What may stand in a container's hosts and resolv.conf files. Whatever a request brings is checked here before it is
//! written: a line break would add lines of the writer's choice.

/// Why a text is refused; the value is shown escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// Not a name of a host.
    #[error("invalid host name {0:?}")]
    HostName(String),
    /// Not a search domain.
    #[error("invalid DNS search domain {0:?}")]
    SearchDomain(String),
    /// Not an option of resolv.conf.
    #[error("invalid DNS option {0:?}")]
    Option(String),
}

/// A name that may stand in a hosts file: of a container, an alias, an extra host, a link.
pub fn host_name(name: &str) -> Result<(), GrammarError> {
    if one_word(name) && name.len() <= 255 {
        return Ok(());
    }
    Err(GrammarError::HostName(name.to_owned()))
}

/// A search domain; "." stands for none (`--dns-search .`).
pub fn search_domain(domain: &str) -> Result<(), GrammarError> {
    let labels = |domain: &str| {
        domain
            .split('.')
            .all(|label| !label.is_empty() && label.len() <= 63)
    };
    let plain = domain.trim_end_matches('.');
    let fits = plain.len() <= 253 && (domain == "." || labels(plain));
    if one_word(domain) && fits {
        return Ok(());
    }
    Err(GrammarError::SearchDomain(domain.to_owned()))
}

/// An option such as `ndots:2`.
pub fn option(option: &str) -> Result<(), GrammarError> {
    if one_word(option) && option.len() <= 255 {
        return Ok(());
    }
    Err(GrammarError::Option(option.to_owned()))
}

/// Printable, without anything that a reader of the file takes for the end of the word or the line.
fn one_word(text: &str) -> bool {
    let stops = |letter: char| {
        letter.is_control()
            || letter.is_whitespace()
            || matches!(letter, '#' | ';' | '\u{2028}' | '\u{2029}' | '\u{feff}')
    };
    !text.is_empty() && !text.contains(stops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_begin_a_new_line_or_word() {
        let bad = [
            "a\nb",
            "a\rb",
            "a\0b",
            "a\tb",
            "a b",
            "a\u{2028}b",
            "a\u{85}b",
            "a\u{b}b",
            "a#b",
            "a;b",
            "",
            "\n",
            "a\u{a0}b",
        ];
        for text in bad {
            assert!(host_name(text).is_err(), "{text:?}");
            assert!(search_domain(text).is_err(), "{text:?}");
            assert!(option(text).is_err(), "{text:?}");
        }
        assert_eq!(
            host_name("a\nb").map_err(|error| error.to_string()),
            Err("invalid host name \"a\\nb\"".to_owned())
        );
    }

    #[test]
    fn what_people_write_passes() {
        for name in ["db", "db-1", "_dmarc", "db.shop", "a:b", "caf\u{e9}"] {
            assert_eq!(host_name(name), Ok(()));
        }
        for domain in [
            ".",
            "example.com",
            "example.com.",
            "corp",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(search_domain(domain), Ok(()));
        }
        assert!(search_domain("a..b").is_err());
        assert!(search_domain(&"a".repeat(64)).is_err());
        for word in ["ndots:0", "edns0", "timeout:3"] {
            assert_eq!(option(word), Ok(()));
        }
    }
}
