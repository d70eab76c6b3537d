//! `kill -9` at random moments: what was acknowledged is there and whole, everything else is gone.

#![expect(
    clippy::disallowed_methods,
    reason = "the test kills a process of its own; the spawner of the project has no such child"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use havre_layer::{ApplyOptions, apply};
use havre_meta::Meta;
use havre_snapshot::{Kind, OverlayDriver, Snapshotter as _};

use crate::store::layer;

const ROOT: &str = "HAVRE_TEST_SNAPSHOT_CRASH_ROOT";

fn open(root: &Path) -> (Meta, OverlayDriver) {
    let meta = Meta::open(&root.join("meta.db")).unwrap();
    let driver = OverlayDriver::open(&root.join("snapshots"), &meta).unwrap();
    (meta, driver)
}

fn content(name: &str) -> String {
    format!("content of {name} ").repeat(500)
}

/// Run by the test below in a process of its own, and otherwise nothing: commits layers until it is
/// killed, and says so after each.
#[test]
fn child() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else {
        return;
    };
    let (_meta, driver) = open(&root);
    let mut parent = newest(&driver);
    let mut number = driver.walk().len();
    let mut out = std::io::stdout();
    loop {
        let name = format!("layer-{number}");
        let text = content(&name);
        let tar = layer(&[("dir/", "750"), ("dir/file", &text), (name.as_str(), &text)]);
        let unpacked = driver.prepare_detached("unpacking").unwrap();
        let applied = apply(tar.as_slice(), &unpacked, &ApplyOptions::layer()).unwrap();
        driver
            .commit_chain(&name, parent.as_deref(), "unpacking", &applied.fixups)
            .unwrap();
        writeln!(out, "committed {name}").unwrap();
        out.flush().unwrap();
        parent = Some(name);
        number += 1;
    }
}

fn newest(driver: &OverlayDriver) -> Option<String> {
    let all = driver.walk();
    all.iter()
        .find(|info| {
            !all.iter()
                .any(|other| other.parent.as_deref() == Some(&info.key))
        })
        .map(|info| info.key.clone())
}

#[test]
fn acknowledged_layers_survive_being_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(ROOT, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while seen <= round {
            let line = lines.next().unwrap().unwrap();
            seen += usize::from(line.contains("committed"));
        }
        child.kill().unwrap();
        seen += lines
            .map_while(Result::ok)
            .filter(|line| line.starts_with("committed"))
            .count();
        child.wait().unwrap();
        acknowledged += seen;

        let (_meta, driver) = open(directory.path());
        let found = driver.walk();
        assert!(driver.lost().is_empty(), "{:?}", driver.lost());
        // One may have been recorded and not yet reported.
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found.len()),
            "{}",
            found.len()
        );
        acknowledged = found.len();
        for info in found {
            assert_eq!(info.kind, Kind::Committed);
            let tree = driver.trees(&info.key).unwrap();
            for name in ["dir/file", info.key.as_str()] {
                let bytes = tree.own.read_limited(name.as_ref(), 1 << 20).unwrap();
                assert_eq!(
                    bytes,
                    content(&info.key).as_bytes(),
                    "{name} in {}",
                    info.key
                );
            }
        }
    }
}
