//! What the writer leaves on disk.

use std::os::unix::fs::PermissionsExt as _;

use fs_err::os::unix::fs::symlink;
use havre_logs::{
    FileOptions, FileWriter, LogError, PARTIAL_SIZE, ReadOptions, Reader, Stream, remove_all,
};
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::{at, limited, read, texts, writer};

#[test]
fn lines_are_records_and_begun_ones_wait() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("c-json.log");
    let mut log = writer(&path);
    log.write(Stream::Stdout, b"one\ntw", at(1))
        .expect("written");
    assert_eq!(
        fs_err::read_to_string(&path).expect("log"),
        "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01Z\"}\n"
    );
    log.write(Stream::Stderr, b"err\n", at(2)).expect("written");
    log.write(Stream::Stdout, b"o\nrest", at(3))
        .expect("written");
    log.finish(Stream::Stdout, at(4)).expect("written");
    log.finish(Stream::Stdout, at(5)).expect("nothing left");
    let entries = read(&path, ReadOptions::default());
    assert_eq!(texts(&entries), ["one\n", "err\n", "two\n", "rest"]);
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry.partial)
            .collect::<Vec<_>>(),
        [false, false, false, true]
    );
    assert_eq!(
        fs_err::metadata(&path).expect("log").permissions().mode() & 0o777,
        0o640
    );
}

#[test]
fn long_lines_are_cut_as_docker_does() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = writer(&path);
    let mut line = vec![b'x'; 2 * PARTIAL_SIZE + 5];
    line.push(b'\n');
    for piece in line.chunks(777) {
        log.write(Stream::Stdout, piece, at(1)).expect("written");
    }
    // A character across the cut stays whole.
    let mut text = "y".repeat(PARTIAL_SIZE - 1);
    text.push_str("é\n");
    log.write(Stream::Stdout, text.as_bytes(), at(1))
        .expect("written");
    let entries = read(&path, ReadOptions::default());
    let lengths: Vec<_> = entries
        .iter()
        .map(|entry| (entry.bytes.len(), entry.partial))
        .collect();
    assert_eq!(
        lengths,
        [
            (PARTIAL_SIZE, true),
            (PARTIAL_SIZE, true),
            (6, false),
            (PARTIAL_SIZE - 1, true),
            (3, false)
        ]
    );
    let file = fs_err::read_to_string(&path).expect("log");
    assert!(!file.contains("base64"), "valid text needs no second copy");
}

#[test]
fn arbitrary_bytes_come_back_per_stream() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = writer(&path);
    let mut seed = 1_u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    })
    .take(300_000)
    .collect();
    for (index, piece) in bytes.chunks(1000).enumerate() {
        let stream = if index % 2 == 0 {
            Stream::Stdout
        } else {
            Stream::Stderr
        };
        log.write(stream, piece, at(1)).expect("written");
    }
    log.finish(Stream::Stdout, at(1)).expect("written");
    log.finish(Stream::Stderr, at(1)).expect("written");
    let entries = read(&path, ReadOptions::default());
    for (parity, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
        let sent: Vec<u8> = bytes
            .chunks(1000)
            .skip(parity)
            .step_by(2)
            .flatten()
            .copied()
            .collect();
        let got: Vec<u8> = entries
            .iter()
            .filter(|entry| entry.stream == stream)
            .flat_map(|entry| entry.bytes.iter().copied())
            .collect();
        assert!(sent == got, "{stream:?} differs");
    }
}

#[test]
fn rotation_keeps_the_newest_files_within_the_limit() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = limited(&path, 1000, 3);
    for number in 0..200 {
        log.write(
            Stream::Stdout,
            format!("line {number}\n").as_bytes(),
            at(number),
        )
        .expect("written");
    }
    let mut names: Vec<_> = fs_err::read_dir(dir.path())
        .expect("dir")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("name")
        })
        .collect();
    names.sort();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    for name in &names {
        let size = fs_err::metadata(dir.path().join(name)).expect("file").len();
        assert!(size < 1100, "{name} has {size} bytes");
    }
    let lines = texts(&read(&path, ReadOptions::default()));
    let first: usize = lines[0]
        .trim_start_matches("line ")
        .trim_end()
        .parse()
        .expect("number");
    let expected: Vec<_> = (first..200)
        .map(|number| format!("line {number}\n"))
        .collect();
    assert_eq!(lines, expected);
    assert!(
        first > 100 && lines.len() >= 24,
        "{} lines from {first}",
        lines.len()
    );
    remove_all(&path).expect("removed");
    assert_eq!(fs_err::read_dir(dir.path()).expect("dir").count(), 0);
}

#[test]
fn a_torn_end_costs_one_record() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    fs_err::write(&path, "{\"log\":\"lost\\n\",\"str").expect("prepared");
    writer(&path)
        .write(Stream::Stdout, b"kept\n", at(1))
        .expect("written");
    let mut reader = Reader::open(&path, ReadOptions::default()).expect("opens");
    let entry = reader.next_entry().expect("reads").expect("one record");
    assert_eq!(
        (entry.bytes.as_slice(), reader.skipped()),
        (b"kept\n".as_slice(), 1)
    );
}

#[test]
fn a_link_or_pipe_is_no_log() {
    let dir = tempfile::tempdir().expect("tempdir");
    let secret = dir.path().join("secret");
    fs_err::write(&secret, "secret").expect("prepared");
    let (link, pipe) = (dir.path().join("link"), dir.path().join("pipe"));
    symlink(&secret, &link).expect("prepared");
    mkfifoat(CWD, &pipe, Mode::RWXU).expect("prepared");
    for path in [link, pipe] {
        let error = Reader::open(&path, ReadOptions::default()).expect_err("refused");
        assert!(matches!(error, LogError::NotRegular { .. }), "{error:?}");
        let options = FileOptions {
            path,
            ..FileOptions::default()
        };
        let error = FileWriter::open(options).expect_err("refused");
        // Opening a pipe without a reader for writing fails by itself.
        assert!(
            matches!(error, LogError::NotRegular { .. } | LogError::Open { .. }),
            "{error:?}"
        );
    }
    assert_eq!(fs_err::read(&secret).expect("still there"), b"secret");
}
