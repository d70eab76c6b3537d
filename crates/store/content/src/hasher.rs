//! The hash of a digest's algorithm, fed in pieces.

use std::io::Read;

use havre_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Computes a [`Digest`] over bytes that come in pieces.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    Sha384(Box<Sha384>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha384 => State::Sha384(Box::new(Sha384::new())),
            Algorithm::Sha512 => State::Sha512(Box::new(Sha512::new())),
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha384(hash) => hash.update(bytes),
            State::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Takes in all that is left in `source`; the number of bytes.
    pub fn update_from(&mut self, source: &mut impl Read) -> std::io::Result<u64> {
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(read) => {
                    self.update(&buffer[..read]);
                    total += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hash) => Digest::from_sha256_bytes(hash.finalize().into()),
            State::Sha384(hash) => spelled(Algorithm::Sha384, &hash.finalize()),
            State::Sha512(hash) => spelled(Algorithm::Sha512, &hash.finalize()),
        }
    }
}

fn spelled(algorithm: Algorithm, hash: &[u8]) -> Digest {
    use std::fmt::Write as _;
    let mut text = format!("{algorithm}:");
    for byte in hash {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    Digest::parse(&text).expect("the hex digits of a whole hash are a digest")
}
