//! Words of a Dockerfile line: quotes, escapes and `$NAME` of the environment. `None`: a quote has no end.

use std::iter::Peekable;
use std::str::Chars;

/// The environment that variables come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Env<'a>(pub Option<&'a [String]>);

impl<'a> Env<'a> {
    fn get(self, name: &str) -> Option<&'a str> {
        let entries = self.0.unwrap_or_default().iter();
        entries
            .filter_map(|entry| entry.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// The words, parted by white space outside of quotes.
pub(super) fn split(text: &str, env: Env<'_>) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(words);
        }
        words.push(word(&mut chars, env, true)?);
    }
}

/// The text as one word.
pub(super) fn whole(text: &str, env: Env<'_>) -> Option<String> {
    word(&mut text.chars().peekable(), env, false)
}

fn word(chars: &mut Peekable<Chars<'_>>, env: Env<'_>, ends_at_space: bool) -> Option<String> {
    let mut out = String::new();
    let mut quoted = false;
    while let Some(c) = chars.peek().copied() {
        if c.is_whitespace() && ends_at_space && !quoted {
            break;
        }
        chars.next();
        match c {
            '\'' if !quoted => loop {
                match chars.next()? {
                    '\'' => break,
                    c => out.push(c),
                }
            },
            '"' => quoted = !quoted,
            '\\' => match chars.next() {
                Some(next) if !quoted || matches!(next, '"' | '$' | '\\') => out.push(next),
                Some(next) => out.extend(['\\', next]),
                None => out.push('\\'),
            },
            '$' => variable(chars, env, &mut out)?,
            c => out.push(c),
        }
    }
    (!quoted).then_some(out)
}

/// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+instead}`.
fn variable(chars: &mut Peekable<Chars<'_>>, env: Env<'_>, out: &mut String) -> Option<()> {
    if chars.next_if_eq(&'{').is_some() {
        let mut body = String::new();
        loop {
            match chars.next()? {
                '}' => break,
                c => body.push(c),
            }
        }
        let set = |name| env.get(name).filter(|value: &&str| !value.is_empty());
        if let Some((name, default)) = body.split_once(":-") {
            out.push_str(set(name).unwrap_or(default));
        } else if let Some((name, instead)) = body.split_once(":+") {
            out.push_str(set(name).map_or("", |_| instead));
        } else {
            out.push_str(env.get(&body).unwrap_or_default());
        }
        return Some(());
    }
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    if name.is_empty() {
        out.push('$');
    } else {
        out.push_str(env.get(&name).unwrap_or_default());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_apart_as_a_shell_would() {
        let entries = ["A=1".to_owned(), "E=".to_owned()];
        let env = Env(Some(&entries));
        for (text, expected) in [
            ("a b", Some(&["a", "b"][..])),
            (r#"a="b c" 'd $A'"#, Some(&["a=b c", "d $A"])),
            (r#"$A ${A}x "$A" \$A"#, Some(&["1", "1x", "1", "$A"])),
            ("${E:-d} ${A:+y} $NONE. $", Some(&["d", "y", ".", "$"])),
            (r"a\ b", Some(&["a b"])),
            ("'a", None),
            ("\"a", None),
            ("${a", None),
            ("", Some(&[])),
        ] {
            let found = split(text, env);
            let found = found
                .as_ref()
                .map(|w| w.iter().map(String::as_str).collect());
            assert_eq!(found, expected.map(<[&str]>::to_vec), "{text}");
        }
    }
}
