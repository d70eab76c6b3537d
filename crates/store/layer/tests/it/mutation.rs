//! Thousands of damaged archives from fixed seeds: nothing may panic, hang or touch what is outside,
//! and the reader and the unpacker must agree on what is an archive.

use havre_layer::{ApplyOptions, Entry, Kind, Limits, TarReader, TarWriter, apply};

use crate::tree::{Place, archive, directory, file, hard_link, symlink};

const SEEDS: u64 = 6000;

/// A small generator (xorshift64*), so that a seed means the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let mut sparse = file("sparse", 0o644);
    sparse.size = 100_000;
    sparse.sparse = Some(vec![(0, 3), (50_000, 3), (100_000, 0)]);
    let mut writer = TarWriter::new(Vec::new());
    writer.append_bytes(&sparse, b"abcdef").unwrap();
    let sparse = writer.finish().unwrap();
    let mut attributes = file("attributes", 0o4755);
    attributes.xattrs = vec![(b"user.x".to_vec(), b"1\n2".to_vec())];
    attributes.mtime.nanos = 5;
    vec![
        archive(&[
            (directory("d", 0o755), ""),
            (file("d/f", 0o644), "content of some length"),
            (symlink("l", "../outside"), ""),
            (file("l/sentinel", 0o644), "through the link"),
            (hard_link("h", "d/f"), ""),
            (file("d/.wh.gone", 0o600), ""),
            (file("d/.wh..wh..opq", 0o600), ""),
            (Entry::new("p", Kind::Fifo, 0o600), ""),
        ]),
        archive(&[(attributes, "x"), (file(&"long/".repeat(60), 0o644), "y")]),
        sparse,
    ]
}

/// Most changes keep the checksum right: otherwise nothing behind it would ever be reached.
fn mutate(tar: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let blocks = tar.len() / 512;
        let block = random.below(blocks) * 512;
        match random.below(6) {
            0 => tar[block + random.below(512)] = random.next().to_le_bytes()[0],
            1 => tar[block + random.below(512)] ^= 1 << random.below(8),
            2 => tar[block + 156] = b"0123457xgLKS\0D"[random.below(14)],
            3 => {
                let field = [100, 108, 116, 124, 136, 329][random.below(6)];
                let bytes = random.next().to_le_bytes();
                tar[block + field..block + field + 8].copy_from_slice(&bytes);
            }
            4 => {
                let names = [
                    "../x", "/", "a/../..", ".wh...", "l/x", "..", "d/f/g", ".wh.d",
                ];
                let name = names[random.below(names.len())];
                let at = block + [0, 157][random.below(2)];
                tar[at..at + 100].fill(0);
                tar[at..at + name.len()].copy_from_slice(name.as_bytes());
            }
            _ => {
                let from = random.below(blocks) * 512;
                let copy = tar[from..from + 512].to_vec();
                tar.splice(block..block, copy);
            }
        }
        if random.below(8) != 0 {
            let at = tar.len().min(block + 512) - 512;
            fix_checksum(&mut tar[at..at + 512]);
        }
    }
    if random.below(10) == 0 {
        tar.truncate(random.below(tar.len()) + 1);
    }
}

fn fix_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn is_readable(tar: &[u8]) -> bool {
    let mut reader = TarReader::new(tar);
    loop {
        match reader.next_entry() {
            Ok(Some(_)) => assert!(reader.offset() <= tar.len() as u64),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

#[test]
fn damaged_archives_do_no_harm() {
    let corpus = corpus();
    let place = Place::new();
    let before = place.outside();
    let limits = Limits {
        size: 4 << 20,
        file: 8 << 20,
        ..Limits::default()
    };
    let ways = [
        ApplyOptions::layer(),
        ApplyOptions::on_parents(),
        ApplyOptions::archive(),
    ];
    let (mut accepted, mut refused) = (0, 0);
    for seed in 1..=SEEDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut tar = corpus[random.below(corpus.len())].clone();
        mutate(&mut tar, &mut random);
        let readable = is_readable(&tar);
        let way = random.below(ways.len());
        let options = ApplyOptions {
            limits: limits.clone(),
            ..ways[way].clone()
        };
        match apply(tar.as_slice(), &place.root(), &options) {
            Ok(_) => {
                assert!(readable, "seed {seed}: unpacked what the reader refuses");
                accepted += 1;
            }
            Err(error) => {
                assert!(!havre_types::chain(&error).is_empty());
                refused += 1;
            }
        }
        if seed % 50 == 0 {
            assert_eq!(
                place.outside(),
                before,
                "seed {seed} or one of the 50 before it"
            );
            fs_err::remove_dir_all(place.path()).unwrap();
            fs_err::create_dir(place.path()).unwrap();
        }
    }
    assert_eq!(place.outside(), before);
    // Neither the mutations nor the unpacker has become toothless.
    assert!(accepted > SEEDS / 20, "{accepted} accepted");
    assert!(refused > SEEDS / 20, "{refused} refused");
}
