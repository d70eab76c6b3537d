//! Havre's own command line in everyday use; beside docker's it is in `cli.rs`.

use crate::support::{engine, text};
use anyhow::Result;

#[test]
fn the_everyday_commands() -> Result<()> {
    let engine = engine()?;
    let output = engine.havre_output(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo o; echo e >&2; exit 6",
    ])?;
    assert_eq!(
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr)
        ),
        (Some(6), "o\n".into(), "e\n".into())
    );
    assert_eq!(
        engine
            .havre(&[
                "create",
                "--network",
                "none",
                "--name",
                "cc",
                "busybox",
                "echo",
                "hi"
            ])?
            .len(),
        64
    );
    assert_eq!(engine.havre(&["start", "-a", "cc"])?, "hi");
    assert_eq!(engine.havre(&["wait", "cc"])?, "0");
    assert_eq!(engine.havre(&["logs", "cc"])?, "hi");
    assert_eq!(engine.havre(&["rm", "cc"])?, "cc");
    engine.havre(&["tag", "busybox", "t:1"])?;
    assert_eq!(engine.havre(&["rmi", "t:1"])?, "Untagged: t:1");
    engine.havre(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "dd",
        "busybox",
        "sleep",
        "600",
    ])?;
    assert_eq!(engine.havre(&["exec", "dd", "echo", "in"])?, "in");
    assert_eq!(engine.havre(&["stop", "-t", "0", "dd"])?, "dd");
    assert_eq!(engine.havre(&["restart", "-t", "0", "dd"])?, "dd");
    assert_eq!(engine.havre(&["kill", "dd"])?, "dd");
    assert!(engine.havre(&["version"])?.contains("Server"));
    assert!(engine.havre(&["info"])?.contains("Containers: 1"));
    Ok(())
}

#[test]
fn an_engine_that_is_not_there_is_named() -> Result<()> {
    let engine = engine()?;
    let words = ["-H", "unix:///nowhere/havre.sock", "ps"];
    let mut command = engine.havre_command(&words);
    let output = command
        .env_remove("HAVRE_HOST")
        .env_remove("DOCKER_HOST")
        .output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("unix:///nowhere/havre.sock"),
        "{}",
        text(&output.stderr)
    );
    Ok(())
}
