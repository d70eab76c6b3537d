//! `kill -9`: every acknowledged write is there afterwards.

#![expect(
    clippy::disallowed_methods,
    reason = "the test kills a process of its own; the spawner of the project has no such child"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use havre_meta::{Batch, Meta};

const PATH: &str = "HAVRE_TEST_META_CRASH_PATH";

/// Run by the test below in a process of its own, and otherwise nothing.
#[test]
fn child() {
    let Some(path) = std::env::var_os(PATH).map(PathBuf::from) else {
        return;
    };
    let meta = Meta::open(&path).unwrap();
    let start = meta.list("one").unwrap().len();
    let mut out = std::io::stdout();
    for number in start.. {
        let id = format!("{number:08}");
        let batch = Batch::new()
            .put("one", &id, id.clone())
            .put("two", &id, id.clone());
        meta.write(batch).wait().unwrap();
        writeln!(out, "wrote {number}").unwrap();
    }
}

#[test]
fn acknowledged_writes_survive_and_batches_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    for round in 0..15 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = 0;
        let mut seen = 0;
        while seen < 20 + round * 7 {
            let line = lines.next().unwrap().unwrap();
            if let Some(number) = line.strip_prefix("wrote ") {
                last = number.parse().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line
                .strip_prefix("wrote ")
                .and_then(|text| text.parse().ok())
            {
                last = number;
            }
        }
        child.wait().unwrap();
        let meta = Meta::open(&path).unwrap();
        let (one, two) = (meta.list("one").unwrap(), meta.list("two").unwrap());
        assert_eq!(one, two);
        let last: usize = last;
        assert!(
            one.len() > last && one.len() <= last + 2,
            "{} after {last}",
            one.len()
        );
        assert!(meta.quarantined().is_empty());
    }
}
