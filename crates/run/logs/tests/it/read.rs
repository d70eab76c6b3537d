//! Where reading begins and ends.

use std::io::Write as _;
use std::time::{Duration, Instant};

use havre_logs::{ReadOptions, Stream};

use crate::{at, limited, read, texts, writer};

fn numbers(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|number| format!("line {number}\n")).collect()
}

#[test]
fn tail_since_and_until_choose_across_rotated_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = limited(&path, 2000, 100);
    for number in 0..1000 {
        log.write(
            Stream::Stdout,
            format!("line {number}\n").as_bytes(),
            at(number),
        )
        .expect("written");
    }
    let all = ReadOptions::default();
    for count in [0_u64, 1, 7, 30, 500, 999, 1000, 5000] {
        let first = 1000 - i64::try_from(count).expect("small").min(1000);
        let tail = ReadOptions {
            tail: Some(count),
            ..all
        };
        assert_eq!(
            texts(&read(&path, tail)),
            numbers(first..1000),
            "tail {count}"
        );
    }
    for since in [0_i64, 1, 29, 500, 999] {
        let dated = ReadOptions {
            since: Some(at(since)),
            ..all
        };
        assert_eq!(
            texts(&read(&path, dated)),
            numbers(since..1000),
            "since {since}"
        );
    }
    let none = ReadOptions {
        since: Some(at(1000)),
        ..all
    };
    assert_eq!(texts(&read(&path, none)), numbers(0..0));
    let window = ReadOptions {
        since: Some(at(100)),
        until: Some(at(120)),
        ..all
    };
    assert_eq!(texts(&read(&path, window)), numbers(100..121));
    let both = ReadOptions {
        tail: Some(50),
        since: Some(at(990)),
        ..all
    };
    assert_eq!(texts(&read(&path, both)), numbers(990..1000));
}

/// 200 MB: reading it all takes far longer than what is allowed here.
#[test]
fn the_end_and_a_date_of_a_big_file_are_found_at_once() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = writer(&path);
    for second in 0..20 {
        log.write(Stream::Stdout, b"line\n", at(second))
            .expect("written");
    }
    drop(log);
    let mut file = fs_err::OpenOptions::new()
        .append(true)
        .open(&path)
        .expect("log");
    for second in 20..2020 {
        let record = format!(
            "{{\"log\":\"{second}\\n\",\"stream\":\"stdout\",\"time\":\"{}\"}}\n",
            at(second).rfc3339()
        );
        file.write_all(record.repeat(100_000 / record.len()).as_bytes())
            .expect("written");
    }
    let begun = Instant::now();
    let last = read(
        &path,
        ReadOptions {
            tail: Some(10),
            ..ReadOptions::default()
        },
    );
    let dated = read(
        &path,
        ReadOptions {
            since: Some(at(2019)),
            ..ReadOptions::default()
        },
    );
    let took = begun.elapsed();
    assert_eq!(texts(&last), vec!["2019\n"; 10]);
    assert!(dated.len() > 1000 && dated.iter().all(|entry| entry.timestamp == at(2019)));
    assert!(took < Duration::from_millis(250), "took {took:?}");
}

#[test]
fn damage_is_skipped_wherever_it_is() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = writer(&path);
    for number in 0..50 {
        log.write(
            Stream::Stdout,
            format!("line {number}\n").as_bytes(),
            at(number),
        )
        .expect("written");
    }
    let good = fs_err::read(&path).expect("log");
    for at_byte in (0..good.len()).step_by(13) {
        for byte in [0_u8, b'\n', b'"', 0xff, b'{'] {
            let mut bad = good.clone();
            bad[at_byte] = byte;
            fs_err::write(&path, &bad).expect("prepared");
            let kept = read(&path, ReadOptions::default()).len();
            assert!(
                (48..=50).contains(&kept),
                "{kept} records with {byte} at {at_byte}"
            );
            read(
                &path,
                ReadOptions {
                    tail: Some(5),
                    since: Some(at(3)),
                    ..ReadOptions::default()
                },
            );
        }
    }
    fs_err::write(&path, vec![b'x'; 3 << 20]).expect("prepared");
    assert_eq!(read(&path, ReadOptions::default()), []);
}

#[test]
fn a_log_that_does_not_exist_is_empty() {
    let dir = tempfile::tempdir().expect("tempdir");
    assert_eq!(read(&dir.path().join("log"), ReadOptions::default()), []);
}
