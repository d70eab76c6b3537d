//! What a container does and why it ended: top, stats and why, through the docker command line.

use crate::support::{SLEEPING_BOX, actions, assert_fails, engine, inspect, text, until};
use anyhow::{Context as _, Result};
use havre_testkit::Engine;
use havre_testkit::http::Body;
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::channel;

const MIB: u64 = 1 << 20;

fn json(engine: &Engine, target: &str) -> Result<Value> {
    let answer = engine.api("GET", target, &Body::Empty)?;
    serde_json::from_slice(&answer.body).with_context(|| text(&answer.body))
}

fn run(engine: &Engine, name: &str, more: &[&str]) -> Result<String> {
    let words = [&["run", "-d", "--network", "none", "--name", name], more].concat();
    engine.docker(&words)
}

// === top ===

#[test]
fn top_shows_the_processes_in_the_columns_of_ps() -> Result<()> {
    let engine = engine()?;
    run(
        &engine,
        "box",
        &["busybox", "sh", "-c", "sleep 601 & exec sleep 600"],
    )?;
    let pid = inspect(&engine, "box", "{{.State.Pid}}")?;
    until(&2, || {
        Ok(json(&engine, "/containers/box/top")?["Processes"]
            .as_array()
            .map_or(0, Vec::len))
    })?;
    until(&true, || {
        Ok(engine.docker(&["top", "box"])?.contains("sleep 601"))
    })?;
    let all = json(&engine, "/containers/box/top")?;
    assert_eq!(
        all["Titles"],
        serde_json::json!(["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"])
    );
    let first = &all["Processes"][0];
    assert_eq!(
        (&first[0], &first[1], &first[7]),
        (&"root".into(), &pid.as_str().into(), &"sleep 600".into())
    );
    let own = json(&engine, "/containers/box/top?ps_args=-eopid,user")?;
    assert_eq!(
        (&own["Titles"], &own["Processes"][0]),
        (
            &serde_json::json!(["PID", "USER"]),
            &serde_json::json!([pid, "root"])
        )
    );
    let bsd = engine.docker(&["top", "box", "aux"])?;
    let title: Vec<&str> = bsd
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        title.join(" "),
        "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"
    );
    engine.docker(&["pause", "box"])?;
    assert!(
        engine
            .docker(&["top", "box", "-o", "pid,comm"])?
            .contains("sleep")
    );
    engine.docker(&["unpause", "box"])?;
    assert!(
        actions(&engine, "box")?
            .iter()
            .any(|action| action == "top")
    );
    Ok(())
}

#[test]
fn top_refuses_what_it_does_not_know() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    for (arguments, message) in [
        (
            "-o nosuch",
            "ps: error: unknown user-defined format specifier \"nosuch\"",
        ),
        ("-Q", "ps: error: option \"-Q\" is not supported"),
        ("-o comm", "Couldn't find PID field in ps output"),
        (
            "-o pid -o ppid=PIDS",
            "specifying \"ppid=PIDS\" is not allowed",
        ),
    ] {
        let output = engine.docker_output(
            &[
                &["top", "box"],
                &arguments.split(' ').collect::<Vec<_>>()[..],
            ]
            .concat(),
        )?;
        assert_fails(&output, 1, message);
    }
    engine.docker(&["stop", "-t", "0", "box"])?;
    let id = inspect(&engine, "box", "{{.Id}}")?;
    let output = engine.docker_output(&["top", "box"])?;
    assert_fails(&output, 1, &format!("container {id} is not running"));
    Ok(())
}

// === stats ===

fn sample(engine: &Engine, name: &str, query: &str) -> Result<Value> {
    json(
        engine,
        &format!("/containers/{name}/stats?stream=false{query}"),
    )
}

#[test]
fn stats_show_memory_and_limits() -> Result<()> {
    let engine = engine()?;
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=20; echo done; exec sleep 600";
    run(
        &engine,
        "hog",
        &[
            "-m",
            "48m",
            "--pids-limit",
            "77",
            "busybox",
            "sh",
            "-c",
            script,
        ],
    )?;
    until(&"done".to_owned(), || {
        Ok(engine
            .docker(&["logs", "hog"])?
            .lines()
            .next_back()
            .unwrap_or_default()
            .to_owned())
    })?;
    let seen = sample(&engine, "hog", "&one-shot=1")?;
    let memory = &seen["memory_stats"];
    assert_eq!(memory["limit"], 48 * MIB, "{seen}");
    let usage = memory["usage"].as_u64().unwrap_or(0);
    assert!((20 * MIB..48 * MIB).contains(&usage), "{memory}");
    assert_eq!(
        seen["pids_stats"],
        serde_json::json!({"current": 1, "limit": 77}),
        "{seen}"
    );
    assert_eq!(
        (&seen["name"], &seen["os_type"]),
        (&"/hog".into(), &"linux".into())
    );
    assert_eq!(seen["preread"], "0001-01-01T00:00:00Z");
    assert!(
        seen.get("networks").is_none(),
        "there is no network: {seen}"
    );
    let row = engine.docker(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.MemUsage}} {{.PIDs}}",
        "hog",
    ])?;
    assert!(
        row.starts_with("hog 2") && row.ends_with("/ 48MiB 1"),
        "{row}"
    );
    Ok(())
}

#[test]
fn stats_show_what_a_burner_burns() -> Result<()> {
    let engine = engine()?;
    run(
        &engine,
        "burner",
        &["busybox", "sh", "-c", "while :; do :; done"],
    )?;
    let seen = sample(&engine, "burner", "")?;
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (cpu, before) = (&seen["cpu_stats"], &seen["precpu_stats"]);
    let used =
        number(&cpu["cpu_usage"]["total_usage"]) - number(&before["cpu_usage"]["total_usage"]);
    let host = number(&cpu["system_cpu_usage"]) - number(&before["system_cpu_usage"]);
    // One second of all processors, more or less; the burner had a part of one of them.
    let cpus = number(&cpu["online_cpus"]);
    assert!(
        (cpus * 900_000_000..cpus * 3_000_000_000).contains(&host),
        "{host} of {cpus}: {seen}"
    );
    assert!(used > 20_000_000 && used <= host, "{used} of {host}");
    assert_ne!(seen["preread"], "0001-01-01T00:00:00Z");
    Ok(())
}

#[test]
fn stats_of_what_does_not_run_are_zeros() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "idle",
        "busybox",
        "true",
    ])?;
    let seen = sample(&engine, "idle", "")?;
    assert_eq!(
        (&seen["read"], &seen["memory_stats"], &seen["pids_stats"]),
        (
            &"0001-01-01T00:00:00Z".into(),
            &serde_json::json!({}),
            &serde_json::json!({})
        )
    );
    assert_eq!(seen["cpu_stats"]["cpu_usage"]["total_usage"], 0);
    let rows = engine.docker(&[
        "stats",
        "--no-stream",
        "--all",
        "--format",
        "{{.Name}} {{.CPUPerc}} {{.MemUsage}}",
    ])?;
    assert_eq!(rows, "idle 0.00% 0B / 0B");
    let missing = engine.docker_output(&["stats", "--no-stream", "nosuch"])?;
    assert_fails(&missing, 1, "No such container: nosuch");
    Ok(())
}

#[test]
fn a_stream_of_stats_ends_with_the_container() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    let (sent, first) = channel();
    std::thread::scope(|scope| -> Result<()> {
        let reader = scope.spawn(|| {
            sent.send(()).ok();
            engine.api("GET", "/containers/box/stats", &Body::Empty)
        });
        first.recv()?;
        // Whether it comes before or in the middle of the stream: the answer ends.
        engine.docker(&["rm", "-f", "box"])?;
        let answer = reader.join().expect("the reader does not panic")?;
        assert!(matches!(answer.status, 200 | 404), "{}", answer.status);
        Ok(())
    })
}

// === why ===

fn why(engine: &Engine, name: &str) -> Result<String> {
    let answer = json(engine, &format!("/containers/{name}/why"))?;
    Ok(answer["Summary"].as_str().unwrap_or_default().to_owned())
}

fn assert_says(engine: &Engine, name: &str, words: &[&str]) -> Result<()> {
    let said = why(engine, name)?;
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    Ok(())
}

#[test]
fn why_tells_how_it_ended() -> Result<()> {
    let engine = engine()?;
    run(
        &engine,
        "wordy",
        &[
            "busybox",
            "sh",
            "-c",
            "echo starting; echo 'open /data: Permission denied' >&2; exit 3",
        ],
    )?;
    engine.docker(&["wait", "wordy"])?;
    assert_says(
        &engine,
        "wordy",
        &[
            "wordy ended with exit code 3",
            "open /data: Permission denied",
            "lacks a right to a file",
        ],
    )?;
    run(
        &engine,
        "greedy",
        &[
            "-m",
            "16m",
            "--memory-swap",
            "16m",
            "busybox",
            "tail",
            "/dev/zero",
        ],
    )?;
    assert_eq!(engine.docker(&["wait", "greedy"])?, "137");
    assert_says(
        &engine,
        "greedy",
        &[
            "reached its memory limit of 16MiB",
            "at most it used 1",
            "update --memory",
        ],
    )?;
    run(&engine, "stopped", &["busybox", "sleep", "600"])?;
    assert_says(&engine, "stopped", &["stopped runs"])?;
    engine.docker(&["stop", "-t", "0", "stopped"])?;
    assert_says(&engine, "stopped", &["it was killed on request", "SIGTERM"])?;
    run(
        &engine,
        "shot",
        &["busybox", "sh", "-c", "sh -c 'kill -11 $$'; exit 139"],
    )?;
    engine.docker(&["wait", "shot"])?;
    assert_says(&engine, "shot", &["signal 11 (SIGSEGV)"])?;
    run(
        &engine,
        "loop",
        &["--restart", "always", "busybox", "false"],
    )?;
    until(&true, || {
        Ok(inspect(&engine, "loop", "{{.RestartCount}}")?.parse::<u32>()? >= 3)
    })?;
    until(&true, || {
        Ok(why(&engine, "loop")?.contains("the restart policy `always` starts it again"))
    })?;
    engine.docker(&["rm", "-f", "loop"])?;
    assert_eq!(
        engine
            .api("GET", "/containers/nosuch/why", &Body::Empty)?
            .status,
        404
    );
    Ok(())
}

/// A file that cannot be run: its name, content, mode (0: it is not there at all), and what is said of it.
type BadProgram = (&'static str, Vec<u8>, u32, &'static [&'static str]);

fn programs() -> Vec<BadProgram> {
    let mut foreign = vec![0_u8; 64];
    foreign[..6].copy_from_slice(b"\x7fELF\x02\x01");
    // A program (2) for arm64 (183), or for amd64 (62) where the host is arm64.
    let machine: u8 = if cfg!(target_arch = "aarch64") {
        62
    } else {
        183
    };
    (foreign[16], foreign[18]) = (2, machine);
    vec![
        (
            "script",
            b"#!/usr/bin/python9\n".to_vec(),
            0o755,
            &["is a script for `/usr/bin/python9`", "not in the image"],
        ),
        (
            "windows",
            b"#!/bin/sh\r\necho\r\n".to_vec(),
            0o755,
            &["carriage return"],
        ),
        (
            "text",
            b"#!/bin/sh\necho\n".to_vec(),
            0o644,
            &["`/text` is not executable", "chmod +x"],
        ),
        (
            "foreign",
            foreign,
            0o755,
            &["exec format error", "--platform linux/"],
        ),
        ("absent", b"".to_vec(), 0, &["`/absent` does not exist"]),
    ]
}

#[test]
fn why_tells_why_it_did_not_start() -> Result<()> {
    let engine = engine()?;
    let folder = tempfile::tempdir()?;
    for (name, content, mode, words) in programs() {
        engine.docker(&[
            "create",
            "--network",
            "none",
            "--name",
            name,
            "busybox",
            &format!("/{name}"),
        ])?;
        if mode != 0 {
            let file = folder.path().join(name);
            fs_err::write(&file, content)?;
            fs_err::set_permissions(&file, Permissions::from_mode(mode))?;
            engine.docker(&["cp", &file.to_string_lossy(), &format!("{name}:/{name}")])?;
        }
        assert!(
            !engine.docker_output(&["start", name])?.status.success(),
            "{name} starts"
        );
        assert_says(&engine, name, &[&format!("{name} could not be started")])?;
        assert_says(&engine, name, words)?;
    }
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "lost",
        "-e",
        "PATH=/opt:/bin",
        "busybox",
        "nosuch",
    ])?;
    assert!(!engine.docker_output(&["start", "lost"])?.status.success());
    assert_says(
        &engine,
        "lost",
        &["`nosuch` is in none of the directories of $PATH (/opt:/bin)"],
    )?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "fresh",
        "busybox",
        "true",
    ])?;
    assert_says(&engine, "fresh", &["fresh has never been started"])?;
    Ok(())
}

/// The command prints what the engine says, not only the engine's own clients can read it.
#[test]
fn the_command_tells_why() -> Result<()> {
    let engine = engine()?;
    let words = ["run", "--name", "big", "--network", "none", "-m", "16m"];
    engine.docker_output(&[&words[..], &["busybox", "tail", "/dev/zero"]].concat())?;
    let told = engine.havre(&["why", "big"])?;
    assert!(told.contains("16MiB"), "{told}");
    Ok(())
}
