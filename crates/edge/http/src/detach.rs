//! The keys by which a client leaves a terminal without ending the process: parsing them and finding
//! them in a stream of input.

use bytes::{Bytes, BytesMut};
use havre_api_traits::ApiError;

/// Control characters 0 to 31 by the last character of their Docker name (`ctrl-@` … `ctrl-_`).
const CONTROL: &str = "@abcdefghijklmnopqrstuvwxyz[\\]^_";

/// ctrl-p ctrl-q, when nothing else is asked for.
const DEFAULT: [u8; 2] = [16, 17];

/// Finds a key sequence that may be spread over several reads.
#[derive(Debug)]
pub(crate) struct Detach {
    keys: Vec<u8>,
    matched: usize,
}

/// What became of a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// What the process gets.
    pub(crate) pass: Bytes,
    /// The keys are complete; what follows them is dropped.
    pub(crate) detached: bool,
}

impl Detach {
    /// Parses Docker's spelling (`ctrl-p,ctrl-q`, `a,b`, `DEL`); empty means the default.
    pub(crate) fn parse(spec: &str) -> Result<Self, ApiError> {
        let keys = if spec.is_empty() {
            DEFAULT.to_vec()
        } else {
            let keys: Option<Vec<u8>> = spec.split(',').map(key).collect();
            keys.ok_or_else(|| ApiError::invalid(format!("Invalid detach keys ({spec}) provided")))?
        };
        Ok(Self { keys, matched: 0 })
    }

    /// The keys themselves.
    pub(crate) fn keys(&self) -> &[u8] {
        &self.keys
    }

    /// Takes the next piece of input. A possible beginning of the keys is held back until it is decided.
    pub(crate) fn scan(&mut self, input: &[u8]) -> Scan {
        let mut pass = BytesMut::with_capacity(input.len() + self.matched);
        for &byte in input {
            // A mismatch releases what was held, and the byte itself may start the keys anew.
            if self.keys.get(self.matched) != Some(&byte) {
                pass.extend_from_slice(self.keys.get(..self.matched).unwrap_or_default());
                self.matched = 0;
            }
            if self.keys.get(self.matched) != Some(&byte) {
                pass.extend_from_slice(&[byte]);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return Scan {
                    pass: pass.freeze(),
                    detached: true,
                };
            }
        }
        Scan {
            pass: pass.freeze(),
            detached: false,
        }
    }
}

fn key(name: &str) -> Option<u8> {
    if let [single] = name.as_bytes() {
        return Some(*single);
    }
    if name == "DEL" {
        return Some(127);
    }
    let control = name.strip_prefix("ctrl-")?;
    let position = CONTROL.find(control).filter(|_| control.len() == 1)?;
    u8::try_from(position).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(spec: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detach = Detach::parse(spec).unwrap();
        let mut passed = Vec::new();
        for piece in pieces {
            let scan = detach.scan(piece);
            passed.extend_from_slice(&scan.pass);
            if scan.detached {
                return (passed, true);
            }
        }
        (passed, false)
    }

    #[test]
    fn keys_are_found_wherever_they_are_cut() {
        assert_eq!(run("", &[b"ls\n\x10\x11rest"]), (b"ls\n".to_vec(), true));
        assert_eq!(run("", &[b"ls\x10", b"\x11"]), (b"ls".to_vec(), true));
        assert_eq!(run("", &[b"\x10", b"x"]), (b"\x10x".to_vec(), false));
        assert_eq!(run("", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(run("ctrl-x,DEL,q", &[b"\x18\x7f", b"q"]), (vec![], true));
        assert_eq!(run("a,b,c", &[b"ab", b"abc"]), (b"ab".to_vec(), true));
    }

    #[test]
    fn spelling_is_dockers() {
        assert_eq!(
            Detach::parse("ctrl-@,ctrl-a,ctrl-z,ctrl-[,ctrl-_")
                .unwrap()
                .keys,
            [0, 1, 26, 27, 31]
        );
        for bad in ["ctrl-", "ctrl-ab", "ctrl-1", "foo", "ctrl-a,,b", "ctrl-A"] {
            assert_eq!(
                Detach::parse(bad).unwrap_err().message,
                format!("Invalid detach keys ({bad}) provided")
            );
        }
    }
}
