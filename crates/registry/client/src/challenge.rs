//! The `WWW-Authenticate` header (<https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1>).

use std::collections::BTreeMap;

/// One way to authenticate that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case.
    pub(crate) scheme: String,
    /// Names in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// Reads all challenges of one header line; stops at what it cannot read.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((word, after)) = token(rest) else {
            return challenges;
        };
        let Some(value) = after.trim_start().strip_prefix('=') else {
            let (scheme, parameters) = (word.to_ascii_lowercase(), BTreeMap::new());
            challenges.push(Challenge { scheme, parameters });
            rest = after;
            continue;
        };
        let Some((value, after)) = value_of(value.trim_start()) else {
            return challenges;
        };
        let Some(challenge) = challenges.last_mut() else {
            return challenges;
        };
        challenge
            .parameters
            .insert(word.to_ascii_lowercase(), value);
        rest = after;
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let other = |c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(other).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(header: &str) -> String {
        let one =
            |challenge: &Challenge| format!("{} {:?}", challenge.scheme, challenge.parameters);
        parse(header).iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn challenges_have_a_scheme_and_parameters() {
        assert_eq!(
            show(r#"Bearer realm="https://a/t",service="r",scope="repository:x:pull,push""#),
            r#"bearer {"realm": "https://a/t", "scope": "repository:x:pull,push", "service": "r"}"#
        );
        assert_eq!(
            show("Basic realm=Registry, Bearer realm=\"a\\\"b\""),
            r#"basic {"realm": "Registry"}; bearer {"realm": "a\"b"}"#
        );
        assert_eq!(show("Negotiate"), "negotiate {}");
        for broken in ["", "=", "realm=x", "Bearer realm=\"open", "\u{1}"] {
            assert!(
                parse(broken)
                    .iter()
                    .all(|challenge| challenge.parameters.is_empty()),
                "{broken}"
            );
        }
    }
}
