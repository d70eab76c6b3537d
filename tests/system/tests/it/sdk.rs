//! docker-py, an SDK we had no hand in, against the engine.

use crate::support::{engine, text};
use anyhow::Result;
use havre_testkit::command::command;

#[test]
fn docker_py_attaches_logs_executes_and_listens() -> Result<()> {
    let engine = engine()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/sdk.py");
    let output = command("/usr/bin/python3")
        .arg(script)
        .arg(engine.socket())
        .arg("busybox")
        .output()?;
    let seen = text(&output.stdout);
    assert!(
        output.status.success(),
        "{seen}{}\n{}",
        text(&output.stderr),
        engine.log()
    );
    assert_eq!(
        seen.lines().filter(|line| line.starts_with("ok ")).count(),
        9,
        "{seen}"
    );
    Ok(())
}
