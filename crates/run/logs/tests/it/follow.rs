//! Followers, while the writer writes and rotates.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use havre_logs::{Entry, ReadOptions, Reader, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{at, limited, writer};

/// Waits as an engine does: only when there was nothing, and only on the descriptor.
fn next(reader: &mut Reader) -> Entry {
    loop {
        if let Some(entry) = reader.next_entry().expect("log reads") {
            return entry;
        }
        let fd = reader.wake_fd().expect("follower");
        let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        assert_eq!(
            poll(&mut fds, Some(&limit)).expect("poll"),
            1,
            "nothing woke the follower"
        );
    }
}

fn follow(path: &Path) -> Reader {
    Reader::open(
        path,
        ReadOptions {
            follow: true,
            ..ReadOptions::default()
        },
    )
    .expect("opens")
}

#[test]
fn a_follower_sees_a_log_from_before_its_birth() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut reader = follow(&path);
    assert_eq!(reader.next_entry().expect("reads"), None);
    let mut log = writer(&path);
    for number in 0..5 {
        log.write(Stream::Stdout, format!("{number}\n").as_bytes(), at(number))
            .expect("written");
        assert_eq!(next(&mut reader).bytes, format!("{number}\n").as_bytes());
        assert_eq!(reader.next_entry().expect("reads"), None);
    }
}

#[test]
fn followers_get_every_line_once_through_rotations() {
    const LINES: i64 = 60_000;
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    // The first lines exist before the followers do. Enough files are kept for a follower that is never scheduled.
    let mut log = limited(&path, 64 << 10, 200);
    let mut write = move |range: std::ops::Range<i64>| {
        for number in range {
            log.write(Stream::Stdout, format!("{number}\n").as_bytes(), at(number))
                .expect("written");
        }
    };
    write(0..1000);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut reader = follow(&path);
                for number in 0..LINES {
                    assert_eq!(next(&mut reader).bytes, format!("{number}\n").as_bytes());
                }
                assert_eq!(reader.skipped(), 0);
            });
        }
        write(1000..LINES);
    });
    assert!(dir.path().join("log.20").exists(), "the log was rotated");
}

#[test]
fn with_a_single_file_the_end_of_the_old_one_still_arrives() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = limited(&path, 300, 1);
    let mut reader = follow(&path);
    for number in 0..100 {
        log.write(Stream::Stdout, format!("{number}\n").as_bytes(), at(number))
            .expect("written");
        assert_eq!(next(&mut reader).bytes, format!("{number}\n").as_bytes());
    }
}

#[test]
fn an_emptied_file_is_followed_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log");
    let mut log = writer(&path);
    let mut reader = follow(&path);
    log.write(Stream::Stdout, b"a long first line\nand another\n", at(1))
        .expect("written");
    assert_eq!(next(&mut reader).bytes, b"a long first line\n");
    assert_eq!(next(&mut reader).bytes, b"and another\n");
    fs_err::write(&path, "").expect("emptied");
    log.write(Stream::Stdout, b"new\n", at(2)).expect("written");
    assert_eq!(next(&mut reader).bytes, b"new\n");
}
