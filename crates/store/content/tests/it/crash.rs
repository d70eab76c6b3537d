//! `kill -9` in the middle of an arrival.

#![expect(
    clippy::disallowed_methods,
    reason = "the test kills a process of its own; the spawner of the project has no such child"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use havre_content::{ContentStore, IngestError};
use havre_types::Digest;

const ROOT: &str = "HAVRE_TEST_CONTENT_CRASH_ROOT";
const SIZE: usize = 64 << 20;

fn content() -> Vec<u8> {
    (0..SIZE / 8)
        .flat_map(|n| (n as u64).to_le_bytes())
        .collect()
}

/// Run by the test below in a process of its own, and otherwise nothing.
#[test]
fn child() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else {
        return;
    };
    let store = ContentStore::open(&root).unwrap();
    let mut ingest = store.ingest("key", None, None).unwrap();
    let mut out = std::io::stdout();
    for piece in content()[usize::try_from(ingest.offset()).unwrap()..].chunks(64 << 10) {
        ingest.write(piece).unwrap();
        writeln!(out, "wrote {}", ingest.offset()).unwrap();
    }
    // Waits to be killed with everything written and nothing committed.
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_killed_arrival_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let store = ContentStore::open(directory.path()).unwrap();
    let mut before = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(ROOT, directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut reported = 0;
        for _ in 0..round * 10 {
            let line = lines.next().unwrap().unwrap();
            if let Some(offset) = line.strip_prefix("wrote ") {
                reported = offset.parse().unwrap();
            }
        }
        let busy = store.ingest("key", None, None).unwrap_err();
        assert!(matches!(busy, IngestError::Busy { .. }));
        child.kill().unwrap();
        child.wait().unwrap();
        let offset = store.ingest("key", None, None).unwrap().offset();
        assert!(
            offset >= reported && reported > before,
            "{offset} {reported} {before}"
        );
        before = offset;
    }
    let content = content();
    let digest = Digest::sha256_of(&content);
    let mut ingest = store
        .ingest("key", Some(&digest), Some(SIZE as u64))
        .unwrap();
    assert!(ingest.offset() > 0);
    ingest
        .write(&content[usize::try_from(ingest.offset()).unwrap()..])
        .unwrap();
    assert_eq!(ingest.commit().unwrap(), digest);
    assert_eq!(store.size(&digest).unwrap(), SIZE as u64);
}
