//! The life of a container through the docker command line: create, start, look, stop, remove.

use crate::support::{assert_fails, engine, inspect, text, until};
use anyhow::Result;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

const SLEEPER: [&str; 4] = ["run", "-d", "--network", "none"];

#[test]
fn detached_listed_stopped_started_removed() -> Result<()> {
    let engine = engine()?;
    let id =
        engine.docker(&[&SLEEPER[..], &["--name", "box", "busybox", "sleep", "600"]].concat())?;
    assert_eq!(id.len(), 64);
    let row = engine.docker(&[
        "ps",
        "--format",
        "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.State}}",
    ])?;
    assert_eq!(
        row,
        format!("{} box busybox \"sleep 600\" running", &id[..12])
    );
    assert!(
        engine
            .docker(&["ps", "--format", "{{.Status}}"])?
            .starts_with("Up ")
    );
    engine.docker(&["stop", "-t", "0", "box"])?;
    assert_eq!(
        inspect(&engine, "box", "{{.State.Status}} {{.State.ExitCode}}")?,
        "exited 137"
    );
    assert!(engine.docker(&["ps", "-q"])?.is_empty());
    engine.docker(&["start", "box"])?;
    assert_eq!(inspect(&engine, "box", "{{.State.Running}}")?, "true");
    engine.docker(&["restart", "-t", "0", "box"])?;
    assert_eq!(inspect(&engine, &id[..10], "{{.State.Running}}")?, "true");
    engine.docker(&["kill", "box"])?;
    assert_eq!(engine.docker(&["wait", "box"])?, "137");
    assert_eq!(engine.docker(&["rm", "box"])?, "box");
    assert!(engine.docker(&["ps", "-aq"])?.is_empty());
    Ok(())
}

#[test]
fn the_stop_signal_is_delivered_first() -> Result<()> {
    let engine = engine()?;
    let script = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 1 & wait; done";
    engine.docker(
        &[
            &SLEEPER[..],
            &["--name", "polite", "busybox", "sh", "-c", script],
        ]
        .concat(),
    )?;
    wait_for_log(&engine, "polite", "ready")?;
    engine.docker(&["stop", "polite"])?;
    assert_eq!(inspect(&engine, "polite", "{{.State.ExitCode}}")?, "3");
    assert_eq!(engine.docker(&["logs", "polite"])?, "ready\ngot it");
    Ok(())
}

#[test]
fn logs_follow_until_the_end() -> Result<()> {
    let engine = engine()?;
    let script = "for i in 1 2 3; do echo line $i; sleep 0.2; done";
    engine.docker(
        &[
            &SLEEPER[..],
            &["--name", "talker", "busybox", "sh", "-c", script],
        ]
        .concat(),
    )?;
    assert_eq!(
        engine.docker(&["logs", "-f", "talker"])?,
        "line 1\nline 2\nline 3"
    );
    assert_eq!(engine.docker(&["logs", "--tail", "1", "talker"])?, "line 3");
    assert_eq!(
        engine.docker(&["logs", "--since", "1h", "--tail", "2", "talker"])?,
        "line 2\nline 3"
    );
    assert_eq!(engine.docker(&["logs", "--until", "1h", "talker"])?, "");
    let stamped = engine.docker(&["logs", "-t", "--tail", "1", "talker"])?;
    let (stamp, line) = stamped.split_once(' ').expect("a time and a line");
    assert_eq!((line, stamp.ends_with('Z')), ("line 3", true), "{stamp}");
    Ok(())
}

#[test]
fn exec_joins_the_container() -> Result<()> {
    let engine = engine()?;
    engine.docker(
        &[
            &SLEEPER[..],
            &[
                "--name",
                "host",
                "--hostname",
                "inner",
                "busybox",
                "sleep",
                "600",
            ],
        ]
        .concat(),
    )?;
    assert_eq!(
        engine.docker(&[
            "exec",
            "host",
            "sh",
            "-c",
            "hostname; ls /proc/1/exe >/dev/null && echo same"
        ])?,
        "inner\nsame"
    );
    let output =
        engine.docker_output(&["exec", "host", "sh", "-c", "echo o; echo e >&2; exit 9"])?;
    assert_eq!(
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr)
        ),
        (Some(9), "o\n".into(), "e\n".into())
    );
    let seen = engine.docker(&[
        "exec",
        "-w",
        "/tmp",
        "-e",
        "A=b",
        "-u",
        "7:8",
        "host",
        "sh",
        "-c",
        "pwd; echo $A; id -u; id -g",
    ])?;
    assert_eq!(seen, "/tmp\nb\n7\n8");
    let missing = engine.docker_output(&["exec", "host", "nope"])?;
    // The stream is open by then, so the message comes as output, as with Docker.
    assert_eq!(missing.status.code(), Some(127));
    assert!(text(&missing.stdout).contains("executable file not found in $PATH"));
    engine.docker(&["kill", "host"])?;
    engine.docker(&["wait", "host"])?;
    assert_fails(
        &engine.docker_output(&["exec", "host", "true"])?,
        1,
        "is not running",
    );
    Ok(())
}

#[test]
fn attach_joins_a_running_container() -> Result<()> {
    let engine = engine()?;
    let script = "read line; echo heard $line";
    engine.docker(&[
        "run",
        "-d",
        "-i",
        "--network",
        "none",
        "--name",
        "listener",
        "busybox",
        "sh",
        "-c",
        script,
    ])?;
    let mut child = engine
        .docker_command(&["attach", "listener"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    std::io::Write::write_all(child.stdin.as_mut().expect("piped"), b"you\n")?;
    let mut heard = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut heard)?;
    assert_eq!(heard, "heard you\n");
    assert!(child.wait()?.success());
    Ok(())
}

/// A client that sends its last words and hangs up is heard, however fast it leaves.
#[test]
fn what_a_leaving_client_has_said_arrives() -> Result<()> {
    const CLIENTS: usize = 200;
    let engine = engine()?;
    let args = ["run", "-d", "-i", "--network", "none", "--name", "box"];
    engine.docker(&[&args[..], &["busybox", "cat"]].concat())?;
    for number in 0..CLIENTS {
        let mut client = UnixStream::connect(engine.socket())?;
        let head = "POST /containers/box/attach?stdin=1&stream=1 HTTP/1.1\r\nHost: x\r\n\
                    Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n";
        client.write_all(format!("{head}client {number}\n").as_bytes())?;
        client.shutdown(Shutdown::Write)?;
        client.read_to_end(&mut Vec::new())?;
    }
    until(&CLIENTS, || {
        Ok(engine.docker(&["logs", "box"])?.lines().count())
    })?;
    engine.docker(&["rm", "-f", "box"])?;
    Ok(())
}

#[test]
fn create_then_start_attached() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "later",
        "busybox",
        "echo",
        "now",
    ])?;
    assert_eq!(inspect(&engine, "later", "{{.State.Status}}")?, "created");
    assert_eq!(
        engine
            .docker(&["ps", "-aq", "--filter", "status=created"])?
            .len(),
        12
    );
    assert_eq!(engine.docker(&["start", "-a", "later"])?, "now");
    assert_eq!(engine.docker(&["logs", "later"])?, "now");
    Ok(())
}

#[test]
fn events_tell_the_story() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--name",
        "story",
        "busybox",
        "true",
    ])?;
    let until = engine.docker(&["info", "--format", "{{.SystemTime}}"])?;
    let words = [
        "events",
        "--since",
        "1h",
        "--until",
        &until,
        "--filter",
        "container=story",
        "--format",
        "{{.Action}}",
    ];
    let told = engine.docker(&words)?;
    assert_eq!(told, "create\nattach\nstart\ndie\ndestroy");
    Ok(())
}

/// Follows the container's log until it has a line.
fn wait_for_log(engine: &havre_testkit::Engine, name: &str, wanted: &str) -> Result<()> {
    let mut child = engine
        .docker_command(&["logs", "-f", name])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let found = output
        .lines()
        .map_while(Result::ok)
        .any(|line| line == wanted);
    child.kill()?;
    child.wait()?;
    anyhow::ensure!(found, "{name} never said {wanted}");
    Ok(())
}
