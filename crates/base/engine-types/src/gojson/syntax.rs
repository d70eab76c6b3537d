//! Says of text that is no JSON what Go says of it (`json.SyntaxError`). It only looks for the first mistake and
//! builds nothing.

/// Nesting that is read; Go's bound is larger, and no document of the API comes near to either.
const MAX_DEPTH: usize = 10_000;

/// The first mistake of a document, or None when there is none that this finds.
pub(super) fn mistake(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.document().err()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Scan = Result<(), String>;

/// What stands around a value, from the outside in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    Object,
    Array,
}

impl Scanner<'_> {
    fn document(&mut self) -> Scan {
        let mut around: Vec<Around> = Vec::new();
        loop {
            if self.begin(&mut around)? {
                continue;
            }
            // A value has ended: close what ends with it, and go on with what follows.
            loop {
                let Some(&innermost) = around.last() else {
                    return Ok(());
                };
                let (close, what) = match innermost {
                    Around::Object => (b'}', "after object key:value pair"),
                    Around::Array => (b']', "after array element"),
                };
                self.space();
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        if innermost == Around::Object {
                            self.key()?;
                        }
                        break;
                    }
                    byte if byte == close => {
                        self.at += 1;
                        around.pop();
                    }
                    _ => return Err(self.invalid(what)),
                }
            }
        }
    }

    /// Reads a value that has no others inside, or the beginning of one that has: true when one is to follow.
    fn begin(&mut self, around: &mut Vec<Around>) -> Result<bool, String> {
        self.space();
        let (kind, close) = match self.peek()? {
            b'{' => (Around::Object, b'}'),
            b'[' => (Around::Array, b']'),
            b'"' => return self.string().map(|()| false),
            b'-' | b'0'..=b'9' => return self.number().map(|()| false),
            b't' => return self.literal("true").map(|()| false),
            b'f' => return self.literal("false").map(|()| false),
            b'n' => return self.literal("null").map(|()| false),
            _ => return Err(self.invalid("looking for beginning of value")),
        };
        self.at += 1;
        self.space();
        if self.peek()? == close {
            self.at += 1;
            return Ok(false);
        }
        if around.len() >= MAX_DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        around.push(kind);
        if kind == Around::Object {
            self.key()?;
        }
        Ok(true)
    }

    fn key(&mut self) -> Scan {
        self.space();
        if self.peek()? != b'"' {
            return Err(self.invalid("looking for beginning of object key string"));
        }
        self.string()?;
        self.space();
        if self.peek()? != b':' {
            return Err(self.invalid("after object key"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Scan {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                0..=0x1f => return Err(self.invalid("in string")),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Scan {
        let start = self.at;
        self.at += 1;
        let length = match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' => 6,
            _ => return Err(self.bad_escape(start, 2)),
        };
        for at in start + 2..start + length {
            let byte = self.bytes.get(at).copied().ok_or_else(end)?;
            if !byte.is_ascii_hexdigit() {
                return Err(self.bad_escape(start, at + 1 - start));
            }
        }
        self.at = start + length;
        Ok(())
    }

    fn bad_escape(&self, start: usize, length: usize) -> String {
        let shown = self.bytes.get(start..start + length).unwrap_or_default();
        let shown = String::from_utf8_lossy(shown);
        format!("invalid escape sequence `{shown}` in string")
    }

    fn number(&mut self) -> Scan {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scan {
        if !self.peek()?.is_ascii_digit() {
            return Err(self.invalid("in numeric literal"));
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Scan {
        for expected in word.bytes() {
            if self.peek()? != expected {
                let wanted = char::from(expected);
                let place = format!("in literal {word} (expecting '{wanted}')");
                return Err(self.invalid(&place));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8, String> {
        self.bytes.get(self.at).copied().ok_or_else(end)
    }

    fn invalid(&self, place: &str) -> String {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let piece = rest.get(..rest.len().min(4)).unwrap_or_default();
        let first = match std::str::from_utf8(piece) {
            Ok(text) => text.chars().next(),
            Err(error) => piece
                .get(..error.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok())
                .and_then(|text| text.chars().next()),
        };
        let shown = match (first, rest.first()) {
            (Some('\''), _) => "'\\''".to_owned(),
            (Some('"'), _) => "'\"'".to_owned(),
            (Some(c), _) if c.is_ascii_control() => format!("'\\x{:02x}'", u32::from(c)),
            (Some(c), _) => format!("'{c}'"),
            (None, Some(byte)) => format!("'\\x{byte:02x}'"),
            (None, None) => return end(),
        };
        format!("invalid character {shown} {place}")
    }
}

fn end() -> String {
    "unexpected EOF".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_in_gos_words() {
        for (text, expected) in [
            ("{", "unexpected EOF"),
            (r#"{"a""#, "unexpected EOF"),
            ("[1", "unexpected EOF"),
            (
                r#"{"a":}"#,
                "invalid character '}' looking for beginning of value",
            ),
            (
                r#"{"a":1,}"#,
                "invalid character '}' looking for beginning of object key string",
            ),
            (
                "{'a':1}",
                r"invalid character '\'' looking for beginning of object key string",
            ),
            (
                r#"{"a":tru}"#,
                "invalid character '}' in literal true (expecting 'e')",
            ),
            ("{\"a\":\"\u{1}\"}", r"invalid character '\x01' in string"),
            (r#"{"a":"\x"}"#, r"invalid escape sequence `\x` in string"),
            (
                r#"{"a":"b" "c"}"#,
                "invalid character '\"' after object key:value pair",
            ),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            ("[1 2]", "invalid character '2' after array element"),
            (
                r#"{"a":01}"#,
                "invalid character '1' after object key:value pair",
            ),
            (r#"{"a":1.}"#, "invalid character '}' in numeric literal"),
            (r#"{"a":-}"#, "invalid character '}' in numeric literal"),
            ("é", "invalid character 'é' looking for beginning of value"),
        ] {
            assert_eq!(
                mistake(text.as_bytes()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        assert_eq!(
            mistake(b"\xff").as_deref(),
            Some(r"invalid character '\xff' looking for beginning of value")
        );
        assert_eq!(
            mistake("[".repeat(20_000).as_bytes()).as_deref(),
            Some("exceeded max depth")
        );
        for text in [
            "{}",
            "[]",
            r#" {"a":[1,{"b":null}],"c":"\u00e9\n"} "#,
            "-1.5e+3",
            "true",
        ] {
            assert_eq!(mistake(text.as_bytes()), None, "{text}");
        }
    }
}
