//! Values of filters that Docker takes for regular expressions, and for what they are when they are none.

use regex::{Regex, RegexBuilder};

/// Memory that one compiled pattern may take: a counted repetition can ask for any amount.
const PATTERN_SIZE: usize = 1024 * 1024;

/// A value of a filter: a text as it stands, and a pattern when it is one.
#[derive(Debug)]
pub(crate) struct Pattern {
    text: String,
    pattern: Option<Regex>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        let pattern = RegexBuilder::new(text)
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .build();
        // Docker compares what is no pattern by its text and says nothing.
        Self {
            text: text.to_owned(),
            pattern: pattern.ok(),
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let pattern = self.pattern.as_ref();
        self.text == text || pattern.is_some_and(|pattern| pattern.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_patterns() {
        for (pattern, yes) in [
            ("web", true),
            ("^web", true),
            ("^/web-1$", false),
            ("^web-[0-9]+$", true),
            ("eb-1$", true),
            ("w.b", true),
            ("(a|web)-1", true),
            ("^eb", false),
            ("^web$", false),
            ("(", false),
            ("(((a{1000}){1000}){1000})", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches("web-1"), yes, "{pattern}");
        }
        assert!(Pattern::new("a(").matches("a("), "no pattern, but the text");
    }
}
