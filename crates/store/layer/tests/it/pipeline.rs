//! Compression: every format in one piece and in several, damage, bombs, and digests to the last
//! byte.

use std::io::{Read, Write as _};

use flate2::write::GzEncoder;
use havre_layer::{ApplyError, ApplyOptions, Compression, Limits, apply, decompress};
use havre_types::Digest;

use crate::tree::{Place, archive, file};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Gives one byte at a time, as a slow network might.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match (self.0.split_first(), out.first_mut()) {
            (Some((first, rest)), Some(place)) => {
                *place = *first;
                self.0 = rest;
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

#[test]
fn every_format_is_recognised_and_read_in_one_part_or_several() {
    let text: Vec<u8> = (0..300_000_u32)
        .flat_map(|n| (n * 7).to_le_bytes())
        .collect();
    let (head, tail) = text.split_at(400_001);
    type Encode = fn(&[u8]) -> Vec<u8>;
    let cases: [(Compression, Encode); 4] = [
        (Compression::Gzip, gzip),
        (Compression::Zstd, zstandard),
        (Compression::Xz, xz),
        (Compression::None, <[u8]>::to_vec),
    ];
    for (format, encode) in cases {
        for bytes in [encode(&text), [encode(head), encode(tail)].concat()] {
            let mut decoder = decompress(bytes.as_slice()).unwrap();
            assert_eq!(decoder.compression(), format);
            let mut out = Vec::new();
            decoder.read_to_end(&mut out).unwrap();
            assert!(out == text, "{format:?}");
            let mut out = Vec::new();
            decompress(Slow(&bytes))
                .unwrap()
                .read_to_end(&mut out)
                .unwrap();
            assert!(out == text, "{format:?} slowly");
        }
    }
}

#[test]
fn cut_or_damaged_streams_are_errors() {
    let tar = archive(&[(file("a", 0o644), &"text ".repeat(50_000))]);
    for bytes in [gzip(&tar), zstandard(&tar), xz(&tar)] {
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x55;
        let cut = bytes[..bytes.len() - 5].to_vec();
        let garbage = [bytes.as_slice(), b"garbage after the end"].concat();
        for (name, bytes) in [("damaged", damaged), ("cut", cut), ("garbage", garbage)] {
            let place = Place::new();
            match apply(bytes.as_slice(), &place.root(), &ApplyOptions::layer()) {
                Err(ApplyError::Decompress { .. } | ApplyError::Tar { .. }) => {}
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    let bzip2 = b"BZh91AY&SY".as_slice();
    assert_eq!(Compression::detect(bzip2), Compression::Bzip2);
    assert_eq!(
        decompress(bzip2).unwrap_err().kind(),
        std::io::ErrorKind::Unsupported
    );
}

#[test]
fn a_bomb_stops_at_the_ratio_or_the_size() {
    let zeros = "\0".repeat(40 << 20);
    let tar = archive(&[(file("zeros", 0o644), &zeros)]);
    let bomb = zstandard(&tar);
    let limits = Limits {
        ratio: 100,
        ratio_from: 1 << 20,
        ..Limits::default()
    };
    let attempt = |limits: Limits| {
        let place = Place::new();
        let options = ApplyOptions {
            limits,
            ..ApplyOptions::layer()
        };
        apply(bomb.as_slice(), &place.root(), &options)
    };
    let Err(ApplyError::Ratio { limit: 100, .. }) = attempt(limits) else {
        panic!("ratio")
    };
    let limits = Limits {
        size: 5 << 20,
        ratio: u64::MAX,
        ..Limits::default()
    };
    let Err(ApplyError::TooLarge { .. }) = attempt(limits) else {
        panic!("size")
    };
    let limits = Limits {
        ratio: u64::MAX,
        ..Limits::default()
    };
    assert_eq!(attempt(limits).unwrap().content, 40 << 20);
}

#[test]
fn a_zstd_window_above_the_limit_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(30).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&vec![0; 1 << 20]).unwrap();
    let bytes = encoder.finish().unwrap();
    let mut out = Vec::new();
    decompress(bytes.as_slice())
        .unwrap()
        .read_to_end(&mut out)
        .expect_err("window was accepted");
}

#[test]
fn the_diff_id_covers_everything_after_the_end_mark_too() {
    let mut tar = archive(&[(file("a", 0o644), "a")]);
    tar.extend_from_slice(&[0; 10_240]);
    tar.extend_from_slice(b"trailing bytes");
    let place = Place::new();
    let applied = apply(gzip(&tar).as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    assert_eq!(
        (applied.diff_id.0, applied.size),
        (Digest::sha256_of(&tar), tar.len() as u64)
    );
}

#[test]
fn an_error_of_the_source_is_reported_and_ends_all_threads() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::Error::other("the line is cut"));
            }
            self.0.read(out)
        }
    }
    let tar = archive(&[(file("a", 0o644), &"x".repeat(3 << 20))]);
    let place = Place::new();
    let result = apply(
        Broken(&tar[..2 << 20]),
        &place.root(),
        &ApplyOptions::layer(),
    );
    let Err(error @ ApplyError::Decompress { .. }) = result else {
        panic!("{result:?}")
    };
    assert!(
        havre_types::chain(&error).ends_with("the line is cut"),
        "{error}"
    );
}

#[test]
fn an_empty_stream_is_an_empty_layer() {
    let place = Place::new();
    let applied = apply(&b""[..], &place.root(), &ApplyOptions::layer()).unwrap();
    assert_eq!((applied.entries, applied.size), (0, 0));
}
