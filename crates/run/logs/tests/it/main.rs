//! The log files as writer, reader and a third party see them.
#![expect(clippy::tests_outside_test_module, reason = "this is the test binary")]

mod follow;
mod formats;
mod read;
mod write;

use std::path::Path;

use havre_logs::{Entry, FileOptions, FileWriter, ReadOptions, Reader};
use havre_types::Timestamp;

/// A writer without limits.
fn writer(path: &Path) -> FileWriter {
    limited(path, 0, 0)
}

fn limited(path: &Path, max_size: u64, max_file: u32) -> FileWriter {
    let options = FileOptions {
        path: path.to_owned(),
        max_size,
        max_file,
        ..FileOptions::default()
    };
    FileWriter::open(options).expect("log opens")
}

const fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

fn read(path: &Path, options: ReadOptions) -> Vec<Entry> {
    let mut reader = Reader::open(path, options).expect("log opens");
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().expect("log reads") {
        entries.push(entry);
    }
    entries
}

fn texts(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.bytes).into_owned())
        .collect()
}
