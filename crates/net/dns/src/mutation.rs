//! Packets that were good once, for tests of whoever reads them. The same each time; `HAVRE_FUZZ_PACKETS` makes more.

use std::env::var;

/// Makes bad packets of good ones.
pub(crate) struct Mutations(u64);

impl Mutations {
    pub(crate) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// How many a test looks at.
    pub(crate) fn rounds() -> u32 {
        let asked = var("HAVRE_FUZZ_PACKETS").ok();
        asked.map_or(200_000, |count| count.parse().expect("a number"))
    }

    fn random(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits")
    }

    /// One of the good ones, changed in one to four places.
    pub(crate) fn of(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut packet = seeds[self.random() % seeds.len()].clone();
        for _ in 0..1 + self.random() % 4 {
            let at = self.random() % packet.len();
            match self.random() % 4 {
                0 => packet[at] = [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff][self.random() % 7],
                1 => packet[at] ^= 1 << (self.random() % 8),
                2 => packet.truncate(at.max(1)),
                _ => packet.insert(at, u8::try_from(self.random() % 256).expect("a byte")),
            }
        }
        packet
    }
}
