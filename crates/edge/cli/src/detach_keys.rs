//! The keys that end an interactive session but not the container (`ctrl-p,ctrl-q`).

/// What is pressed when the user says nothing else.
const DEFAULT: [u8; 2] = [16, 17];

/// Watches typed bytes for the sequence. Bytes that may begin it are held back until it is clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self {
            keys: DEFAULT.to_vec(),
            matched: 0,
        }
    }
}

impl DetachKeys {
    /// Parses `ctrl-x,y`; empty is the default.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let unknown =
            |key: &str| format!("invalid detach keys ({text}): Unknown character: '{key}'");
        let code = |key: &str| match key.as_bytes() {
            [single] => Ok(*single),
            [b'c', b't', b'r', b'l', b'-', letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
            b"ctrl-@" => Ok(0),
            [b'c', b't', b'r', b'l', b'-', mark @ b'['..=b'_'] => Ok(mark - b'[' + 27),
            _ => Err(unknown(key)),
        };
        Ok(Self {
            keys: text.split(',').map(code).collect::<Result<_, _>>()?,
            matched: 0,
        })
    }

    /// Appends to `out` what may be passed on; whether the sequence is complete.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in input {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(byte));
            if self.matched == 0 {
                out.push(*byte);
            } else if self.keys.len() == 1 {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed() {
        assert_eq!(
            DetachKeys::parse("ctrl-p,ctrl-q"),
            Ok(DetachKeys::default())
        );
        assert_eq!(
            DetachKeys::parse("a,ctrl-@,ctrl-[,ctrl-_").map(|keys| keys.keys),
            Ok(vec![b'a', 0, 27, 31])
        );
        let error = DetachKeys::parse("ctrl-P").unwrap_err();
        assert_eq!(
            error,
            "invalid detach keys (ctrl-P): Unknown character: 'ctrl-P'"
        );
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        let run = |chunks: &[&[u8]]| {
            let mut keys = DetachKeys::default();
            let mut out = Vec::new();
            let detached = chunks.iter().any(|chunk| keys.feed(chunk, &mut out));
            (detached, out)
        };
        assert_eq!(run(&[b"ab\x10\x11cd"]), (true, b"ab".to_vec()));
        assert_eq!(run(&[b"ab\x10", b"\x11"]), (true, b"ab".to_vec()));
        assert_eq!(run(&[b"\x10x\x10\x10\x11"]), (true, b"\x10x\x10".to_vec()));
        assert_eq!(run(&[b"\x11\x10"]), (false, b"\x11".to_vec()));
    }
}
