//! The binary format and compressed files, read like any other log; damage of every kind; sizes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use havre_logs::compress::{Compression, compress};
use havre_logs::{
    Entry, FileOptions, FileWriter, Format, PARTIAL_SIZE, ReadOptions, Reader, Stream, remove_all,
};

use crate::{at, read, texts};

fn open(path: &Path, format: Format, max_size: u64, max_file: u32) -> FileWriter {
    FileWriter::open(FileOptions {
        path: path.to_owned(),
        format,
        max_size,
        max_file,
        attrs: BTreeMap::from([("tag".to_owned(), "x".to_owned())]),
    })
    .expect("log opens")
}

fn options(format: Format) -> ReadOptions {
    ReadOptions {
        format,
        ..ReadOptions::default()
    }
}

fn numbers(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|number| format!("line {number}\n")).collect()
}

/// Compresses everything that can be, as the shim and the helper do between them.
fn compress_all(path: &Path) -> u32 {
    let mut done = 0;
    while let Some(compression) = Compression::next(path).expect("next") {
        compress(&compression.input, &compression.output).expect("compressed");
        compression.finish().expect("placed");
        done += 1;
    }
    done
}

#[test]
fn every_choice_is_the_same_in_every_form() {
    for format in [Format::Json, Format::Local] {
        for packed in [false, true] {
            let dir = tempfile::tempdir().expect("tempdir");
            let path = dir.path().join("log");
            let mut log = open(&path, format, 2000, 100);
            for number in 0..1000 {
                let line = format!("line {number}\n");
                log.write(Stream::Stdout, line.as_bytes(), at(number))
                    .expect("written");
            }
            assert!(log.take_rotated() && !log.take_rotated());
            if packed {
                assert!(compress_all(&path) > 10);
                assert!(dir.path().join("log.1.gz").exists() && !dir.path().join("log.1").exists());
            }
            let all = options(format);
            for count in [0_u64, 1, 7, 30, 500, 999, 1000, 5000] {
                let tail = Some(count);
                let first = 1000 - i64::try_from(count).expect("small").min(1000);
                let seen = read(&path, ReadOptions { tail, ..all });
                assert_eq!(
                    texts(&seen),
                    numbers(first..1000),
                    "{format:?} {packed} {count}"
                );
            }
            for since in [0_i64, 1, 29, 500, 999] {
                let seen = read(
                    &path,
                    ReadOptions {
                        since: Some(at(since)),
                        ..all
                    },
                );
                assert_eq!(
                    texts(&seen),
                    numbers(since..1000),
                    "{format:?} {packed} {since}"
                );
            }
            let window = ReadOptions {
                since: Some(at(100)),
                until: Some(at(120)),
                tail: Some(950),
                ..all
            };
            let seen = read(&path, window);
            assert_eq!(texts(&seen), numbers(100..121));
            assert_eq!(seen[0].attrs.get("tag").map(String::as_str), Some("x"));
            remove_all(&path).expect("removed");
            assert_eq!(fs_err::read_dir(dir.path()).expect("dir").count(), 0);
        }
    }
}

#[test]
fn bytes_and_pieces_survive_the_binary_format() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = open(&path, Format::Local, 0, 1);
    let mut wild: Vec<u8> = (0..=255).cycle().take(3 * PARTIAL_SIZE).collect();
    wild.extend_from_slice(b"\nshort\n\nno end");
    for piece in wild.chunks(1000) {
        log.write(Stream::Stderr, piece, at(1)).expect("written");
    }
    log.finish(Stream::Stderr, at(2)).expect("written");
    let entries = read(&path, options(Format::Local));
    let back: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.bytes.clone())
        .collect();
    assert_eq!(back, wild);
    assert!(entries.iter().all(|entry| entry.stream == Stream::Stderr));
    assert!(entries.last().is_some_and(|last| last.partial));
    let mode = fs_err::metadata(&path).expect("log").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_follower_misses_and_repeats_nothing_while_files_are_compressed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = open(&path, Format::Local, 3000, 500);
    let mut follower = Reader::open(
        &path,
        ReadOptions {
            follow: true,
            ..options(Format::Local)
        },
    )
    .expect("opens");
    let (mut written, mut seen) = (0, 0);
    // Between two looks of the follower: nothing, a part of a file, several files; some of them compressed.
    for round in 0..60 {
        for _ in 0..(round % 7) * 40 {
            let line = format!("line {written}\n");
            log.write(Stream::Stdout, line.as_bytes(), at(written))
                .expect("written");
            written += 1;
        }
        if round % 3 > 0 {
            compress_all(&path);
        }
        while let Some(entry) = follower.next_entry().expect("reads") {
            assert_eq!(entry.bytes, format!("line {seen}\n").as_bytes());
            seen += 1;
        }
        assert_eq!(seen, written, "round {round}");
    }
    assert!(dir.path().join("log.9.gz").exists());
    // Inode numbers of originals that are gone came back meanwhile: still nothing is taken for something else.
    assert_eq!(
        texts(&read(&path, options(Format::Local))),
        numbers(0..written)
    );
}

#[test]
fn a_compression_finds_its_file_wherever_rotations_took_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = open(&path, Format::Json, 1000, 3);
    let mut number = 0;
    let mut rotate = |log: &mut FileWriter| {
        log.take_rotated();
        while !log.take_rotated() {
            let line = format!("line {number}\n");
            log.write(Stream::Stdout, line.as_bytes(), at(number))
                .expect("written");
            number += 1;
        }
    };
    rotate(&mut log);
    let slow = Compression::next(&path).expect("next").expect("one");
    compress(&slow.input, &slow.output).expect("compressed");
    rotate(&mut log);
    slow.finish().expect("placed");
    let exists = |name: &str| dir.path().join(name).exists();
    assert!(exists("log.2.gz") && exists("log.1") && !exists("log.2"));
    // The next one is rotated out before it is done: nothing of it stays.
    let slow = Compression::next(&path).expect("next").expect("one");
    rotate(&mut log);
    rotate(&mut log);
    slow.finish().expect("nothing to do");
    let mut names: Vec<_> = fs_err::read_dir(dir.path())
        .expect("dir")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    let cancelled = Compression::next(&path).expect("next").expect("one");
    cancelled.cancel();
    assert!(!exists("log.compressing") && exists("log.1"));
    // A file that a crash left in both forms is given once.
    let last = read(&path, options(Format::Json)).len();
    let twice = Compression::next(&path).expect("next").expect("one");
    compress(&twice.input, &twice.output).expect("compressed");
    fs_err::rename(
        dir.path().join("log.compressing"),
        dir.path().join("log.1.gz"),
    )
    .expect("moved");
    assert_eq!(read(&path, options(Format::Json)).len(), last);
}

/// A small generator: the same damage each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % below.max(1)
    }
}

#[test]
fn damaged_files_are_read_past_the_damage() {
    let mut dice = Dice(7);
    for format in [Format::Json, Format::Local] {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("log");
        let mut log = open(&path, format, 0, 1);
        for number in 0..40 {
            let line = format!("line {number}\n");
            log.write(Stream::Stdout, line.as_bytes(), at(number))
                .expect("written");
        }
        let whole = fs_err::read(&path).expect("log");
        let began = Instant::now();
        for round in 0..1000 {
            let mut bytes = whole.clone();
            let hit = dice.roll(bytes.len());
            match round % 3 {
                0 => bytes.truncate(hit),
                1 => bytes[hit] ^= 1 << dice.roll(8),
                _ => drop(bytes.drain(hit..(hit + dice.roll(100)).min(whole.len()))),
            }
            fs_err::write(&path, &bytes).expect("damaged");
            let tail = (round % 2 == 0).then_some(1000);
            let seen: Vec<Entry> = read(
                &path,
                ReadOptions {
                    tail,
                    ..options(format)
                },
            );
            // One place is damaged: what lies away from it is all there.
            let known = numbers(0..40);
            let kept = texts(&seen)
                .iter()
                .filter(|text| known.contains(text))
                .count();
            if round % 3 > 0 {
                assert!(kept >= 36, "{format:?} round {round}: {kept}");
            }
            let before = whole.len() / 40;
            assert!(
                kept + 2 >= hit / (before + 8),
                "{format:?} round {round}: {kept}"
            );
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?}",
            began.elapsed()
        );
    }
}

#[test]
fn damaged_compressed_files_give_what_they_can() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = open(&path, Format::Json, 50_000, 5);
    let mut number = 0;
    log.take_rotated();
    while !log.take_rotated() {
        let line = format!("line {number}\n");
        log.write(Stream::Stdout, line.as_bytes(), at(number))
            .expect("written");
        number += 1;
    }
    compress_all(&path);
    let packed = dir.path().join("log.1.gz");
    let whole = fs_err::read(&packed).expect("packed");
    let mut dice = Dice(3);
    for round in 0..200 {
        let mut bytes = whole.clone();
        let hit = dice.roll(bytes.len());
        if round % 2 == 0 {
            bytes.truncate(hit);
        } else {
            bytes[hit] ^= 0xff;
        }
        fs_err::write(&packed, &bytes).expect("damaged");
        let tail = (round % 4 < 2).then_some(10);
        let seen = read(
            &path,
            ReadOptions {
                tail,
                ..options(Format::Json)
            },
        );
        let last = seen.last().map(|entry| entry.bytes.clone());
        // The current file is whole.
        assert_eq!(last, Some(format!("line {}\n", number - 1).into_bytes()));
    }
}
