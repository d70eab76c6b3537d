//! Havre's own command line beside docker's: the same words, the same answers.

use crate::support::{SLEEPING_BOX, engine, text};
use anyhow::Result;

#[test]
fn both_command_lines_print_the_same() -> Result<()> {
    let engine = engine()?;
    engine.havre(&SLEEPING_BOX)?;
    let questions: [&[&str]; 11] = [
        &["ps"],
        &["ps", "-a", "--no-trunc"],
        &["ps", "-q"],
        &[
            "ps",
            "--format",
            "{{.Names}}\t{{.Image}}\t{{.Command}}\t{{.Ports}}",
        ],
        &["ps", "--format", "table {{.Names}}\t{{.State}}"],
        &["images"],
        &["images", "--digests"],
        &["images", "-q", "--no-trunc"],
        &["inspect", "box"],
        &[
            "inspect",
            "-f",
            "{{.Config.Cmd}} {{json .Config.Env}} {{.HostConfig.NetworkMode}}",
            "box",
        ],
        &["logs", "box"],
    ];
    for words in questions {
        assert_eq!(engine.havre(words)?, engine.docker(words)?, "{words:?}");
    }
    let failures: [&[&str]; 7] = [
        &["inspect", "nope"],
        &["start", "nope"],
        &["logs", "nope"],
        &["rm", "nope"],
        &["rm", "box"],
        &["exec", "box", "nope"],
        &["run", "--rm", "--network", "none", "busybox", "nope"],
    ];
    for words in failures {
        let (ours, theirs) = (engine.havre_output(words)?, engine.docker_output(words)?);
        assert_eq!(
            ours.status.code(),
            theirs.status.code(),
            "{words:?}: {}",
            text(&ours.stderr)
        );
        let same = |output: &[u8]| text(output).replace("docker", "havre");
        assert_eq!(same(&ours.stderr), same(&theirs.stderr), "{words:?}");
        assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{words:?}");
    }
    Ok(())
}

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
