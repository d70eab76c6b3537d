//! Drivers with a server: what arrives there, what `docker logs` shows, and what happens when the server does not play.

use anyhow::{Context as _, Result, ensure};
use havre_testkit::{Engine, EngineOptions};
use rustix::fs::{Mode, OFlags, open};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Instant;

use super::receivers::{Stalled, Tcp, udp, unix};
use super::{counting, lines, logs, run, run_well};
use crate::support::{LIMIT, assert_fails, engine, inspect, load_busybox, text, until};

/// Answers each message that names a chunk.
fn acknowledge(bytes: &[u8]) -> Vec<u8> {
    let mark = b"\xa5chunk\xd9\x20";
    let mut reply = Vec::new();
    for at in 0..bytes.len() {
        let id = bytes[at..]
            .strip_prefix(mark)
            .and_then(|rest| rest.get(..32));
        if let Some(id) = id {
            reply.extend_from_slice(b"\x81\xa3ack\xd9\x20");
            reply.extend_from_slice(id);
        }
    }
    reply
}

#[test]
fn fluentd_gets_records_and_acknowledges_them() -> Result<()> {
    let engine = engine()?;
    let mut server = Tcp::listen(acknowledge)?;
    let address = format!("fluentd-address=127.0.0.1:{}", server.port);
    let flags = [
        "--log-driver",
        "fluentd",
        "--log-opt",
        &address,
        "--log-opt",
        "fluentd-request-ack=true",
        "--log-opt",
        "fluentd-sub-second-precision=true",
        "--log-opt",
        "tag=t.{{.Name}}",
        "--log-opt",
        "labels=who",
        "--label",
        "who=me",
    ];
    run_well(
        &engine,
        "ack",
        &flags,
        "echo out; echo err >&2; head -c 20000 /dev/zero | tr '\\0' x",
    )?;
    // In any order: the two streams are two pipes.
    for wanted in [
        "t.ack",
        "container_name",
        "/ack",
        "source",
        "stdout",
        "stderr",
        "log",
        "who",
        "partial_ordinal",
        "partial_last",
    ] {
        server.until(wanted)?;
    }
    // Asynchronous: nobody is there, and the container starts and ends all the same.
    let nobody = [
        "--log-driver",
        "fluentd",
        "--log-opt",
        "fluentd-address=127.0.0.1:1",
        "--log-opt",
        "fluentd-async=true",
    ];
    let began = Instant::now();
    run_well(&engine, "async", &nobody, "echo here")?;
    ensure!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
    ensure!(logs(&engine, &["async"])? == ["here"]);
    Ok(())
}

#[test]
fn gelf_messages_arrive_whole() -> Result<()> {
    let engine = engine()?;
    let mut server = Tcp::listen(|_| Vec::new())?;
    let address = format!("gelf-address=tcp://127.0.0.1:{}", server.port);
    let flags = [
        "--log-driver",
        "gelf",
        "--log-opt",
        &address,
        "--log-opt",
        "env=WHO",
        "--env",
        "WHO=me",
    ];
    run_well(&engine, "tcp", &flags, "echo out; echo; echo err >&2")?;
    let seen = server.until("\"err\"")?;
    let first = seen
        .split('\0')
        .find(|message| message.contains("\"out\""))
        .context("no message")?;
    let message: serde_json::Value = serde_json::from_str(first)?;
    ensure!(
        message["version"] == "1.1" && message["level"] == 6,
        "{message}"
    );
    ensure!(
        message["_container_name"] == "tcp"
            && message["_WHO"] == "me"
            && message["_image_name"] == "busybox",
        "{message}"
    );
    ensure!(
        message["timestamp"].as_f64().is_some_and(|time| time > 1e9),
        "{message}"
    );

    let (port, socket) = udp()?;
    let address = format!("gelf-address=udp://127.0.0.1:{port}");
    let flags = [
        "--log-driver",
        "gelf",
        "--log-opt",
        &address,
        "--log-opt",
        "gelf-compression-type=none",
    ];
    run_well(
        &engine,
        "udp",
        &flags,
        "head -c 5000 /dev/zero | tr '\\0' y",
    )?;
    let mut buffer = [0; 2048];
    let (mut whole, mut total) = (Vec::new(), 1);
    while total > 0 {
        let count = socket.recv(&mut buffer)?;
        let chunk = &buffer[..count];
        ensure!(chunk.starts_with(&[0x1e, 0x0f]) && count <= 1420);
        if whole.is_empty() {
            total = chunk[11];
        }
        whole.extend_from_slice(&chunk[12..]);
        total -= 1;
    }
    let message: serde_json::Value = serde_json::from_slice(&whole)?;
    ensure!(message["short_message"].as_str().map(str::len) == Some(5000));
    Ok(())
}

#[test]
fn the_journal_gets_dockers_fields_and_long_lines() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    let socket = unix(&path)?;
    let args = vec![
        "--journal-socket".to_owned(),
        path.display().to_string(),
        "--log-driver".to_owned(),
        "journald".to_owned(),
    ];
    let engine = Engine::start_with(EngineOptions {
        args,
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    ensure!(engine.docker(&["info", "--format", "{{.LoggingDriver}}"])? == "journald");
    run_well(
        &engine,
        "box",
        &["--label", "com.x=1", "--log-opt", "labels=com.x"],
        "echo out; sleep 1; head -c 20000 /dev/zero | tr '\\0' z",
    )?;
    let first = receive(&socket)?;
    let id = inspect(&engine, "box", "{{.Id}}")?;
    for wanted in [
        "MESSAGE=out\n",
        "PRIORITY=6\n",
        "CONTAINER_NAME=box\n",
        "IMAGE_NAME=busybox\n",
        "COM_X=1\n",
        &format!("CONTAINER_ID_FULL={id}\n"),
        &format!("CONTAINER_ID={}\n", &id[..12]),
        &format!("CONTAINER_TAG={}\n", &id[..12]),
        "CONTAINER_LOG_ORDINAL=1\n",
    ] {
        ensure!(first.contains(wanted), "`{wanted}` is not in {first}");
    }
    let second = receive(&socket)?;
    ensure!(
        second.contains("CONTAINER_PARTIAL_MESSAGE=true\n")
            && second.contains("CONTAINER_PARTIAL_ORDINAL=1\n")
    );
    ensure!(logs(&engine, &["box"])?.concat().len() == 20003);
    drop(socket);
    fs_err::remove_file(&path)?;
    let refused = run(&engine, "late", &[], "true")?;
    assert_fails(
        &refused,
        125,
        "failed to create task for container: failed to initialize logging driver: journald is not enabled on this host",
    );
    Ok(())
}

fn receive(socket: &UnixDatagram) -> Result<String> {
    let mut buffer = vec![0; 64 << 10];
    let count = socket.recv(&mut buffer)?;
    Ok(text(&buffer[..count]))
}

#[test]
fn a_start_fails_when_its_server_is_not_there() -> Result<()> {
    let engine = engine()?;
    let begin = "failed to create task for container: failed to initialize logging driver: ";
    let refused = "dial tcp 127.0.0.1:1: connect: connection refused";
    for (name, driver, option, text) in [
        (
            "syslog",
            "syslog",
            "syslog-address=tcp://127.0.0.1:1",
            refused.to_owned(),
        ),
        (
            "fluentd",
            "fluentd",
            "fluentd-address=127.0.0.1:1",
            refused.to_owned(),
        ),
        (
            "gelf",
            "gelf",
            "gelf-address=tcp://127.0.0.1:1",
            format!("gelf: cannot connect to GELF endpoint: 127.0.0.1:1 {refused}"),
        ),
    ] {
        let output = run(
            &engine,
            name,
            &["--log-driver", driver, "--log-opt", option],
            "true",
        )?;
        assert_fails(&output, 125, &format!("{begin}{text}"));
        ensure!(inspect(&engine, name, "{{.State.Status}}")? == "created");
    }
    let flags = [
        "--log-driver",
        "syslog",
        "--log-opt",
        "syslog-address=tcp+tls://127.0.0.1:1",
        "--log-opt",
        "syslog-tls-ca-cert=/nope",
    ];
    let output = run(&engine, "tls", &flags, "true")?;
    assert_fails(
        &output,
        127,
        "could not read CA certificate \"/nope\": open /nope: no such file or directory",
    );
    Ok(())
}

#[test]
fn blocking_mode_waits_for_its_server_and_for_nobody_else() -> Result<()> {
    let engine = engine()?;
    let server = Stalled::listen()?;
    let address = format!("syslog-address=tcp://127.0.0.1:{}", server.port);
    let head = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "slow",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
    ];
    // More than all buffers on the way hold.
    let script =
        "yes 'a line of some length that fills buffers soon enough' | head -n 400000; echo the end";
    engine.docker(&[&head[..], &["busybox", "sh", "-c", script]].concat())?;
    run_well(&engine, "quick", &[], "echo quick")?;
    ensure!(inspect(&engine, "slow", "{{.State.Status}}")? == "running");
    let seen = server.read_all()?;
    let (some, last) = (
        seen.matches("soon enough\n").count(),
        seen.trim_end().ends_with("the end"),
    );
    ensure!(some == 400_000 && last, "{some} lines, end: {last}");
    until(&"exited".to_owned(), || {
        inspect(&engine, "slow", "{{.State.Status}}")
    })?;
    ensure!(!engine.log().contains("were dropped"));
    Ok(())
}

#[test]
fn non_blocking_mode_counts_exactly_what_it_drops() -> Result<()> {
    let engine = engine()?;
    let server = Stalled::listen()?;
    let address = format!("syslog-address=tcp://127.0.0.1:{}", server.port);
    let flags = [
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "mode=non-blocking",
        "--log-opt",
        "max-buffer-size=64k",
        "--log-opt",
        "cache-disabled=true",
    ];
    let script = "yes 'a line of some length that fills buffers soon enough' | head -n 400000";
    let began = Instant::now();
    // Nobody reads, and the container ends all the same.
    let head = ["run", "-d", "--network", "none", "--name", "lossy"];
    engine.docker(&[&head[..], &flags, &["busybox", "sh", "-c", script]].concat())?;
    engine.docker(&["wait", "lossy"])?;
    ensure!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let seen = server.read_all()?.matches("soon enough\n").count();
    let dropped = || -> Result<usize> {
        let log = engine.log();
        let line = log.lines().find(|line| line.contains("log were dropped"));
        let number = line.and_then(|line| line.split("records=").nth(1));
        Ok(number
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0))
    };
    until(&true, || Ok(dropped()? > 0))?;
    ensure!(
        seen + dropped()? == 400_000,
        "{seen} + {} records",
        dropped()?
    );
    let refused = engine.docker_output(&["logs", "lossy"])?;
    assert_fails(
        &refused,
        1,
        "configured logging driver does not support reading",
    );
    Ok(())
}

#[test]
fn a_server_that_comes_back_gets_everything() -> Result<()> {
    let engine = engine()?;
    let first = Stalled::listen()?;
    let port = first.port;
    let address = format!("syslog-address=tcp://127.0.0.1:{port}");
    let head = [
        "run",
        "-d",
        "-i",
        "--network",
        "none",
        "--name",
        "box",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
    ];
    engine.docker(&[&head[..], &["busybox", "cat"]].concat())?;
    // The server ends; what is written meanwhile waits.
    drop(first);
    let mut attached = engine
        .docker_command(&["attach", "box"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    {
        use std::io::Write as _;
        let mut stdin = attached.stdin.take().context("no stdin")?;
        for line in lines(500) {
            writeln!(stdin, "{line}")?;
        }
    }
    until(&500, || Ok(logs(&engine, &["box"])?.len()))?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("line 499\n") {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "{seen}");
        seen.push_str(&text(&buffer[..count]));
    }
    for line in lines(500) {
        ensure!(seen.contains(&format!(": {line}\n")), "{line}");
    }
    engine.docker(&["rm", "-f", "box"])?;
    attached.wait()?;
    Ok(())
}

/// The descriptor of the journal's socket is not ours to keep: the helper has nothing of the engine.
#[test]
fn the_helper_ends_with_its_container_and_holds_nothing() -> Result<()> {
    let engine = engine()?;
    let mut server = Tcp::listen(|_| Vec::new())?;
    let address = format!("syslog-address=tcp://127.0.0.1:{}", server.port);
    let head = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
    ];
    engine.docker(&[&head[..], &["busybox", "sh", "-c", "echo up; sleep 600"]].concat())?;
    server.until("up\n")?;
    let id = inspect(&engine, "box", "{{.Id}}")?;
    let shim = fs_err::read_to_string(
        engine
            .exec_root()
            .join("containers")
            .join(id)
            .join("shim.pid"),
    )?;
    let children = fs_err::read_to_string(format!("/proc/{shim}/task/{shim}/children"))?;
    let helper = children
        .split_whitespace()
        .find(|pid| {
            fs_err::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim() == "havre-log")
        })
        .context("no helper")?
        .to_owned();
    let environment = open(
        format!("/proc/{helper}/environ"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut byte = [0];
    ensure!(
        rustix::io::read(environment.as_fd(), &mut byte)? == 0,
        "the helper has an environment"
    );
    let mut open_files = fs_err::read_dir(format!("/proc/{helper}/fd"))?.count();
    open_files -= 3;
    ensure!(
        open_files <= 6,
        "{open_files} descriptors besides the standard ones"
    );
    engine.docker(&["rm", "-f", "box"])?;
    until(&false, || {
        Ok(std::path::Path::new(&format!("/proc/{helper}")).exists())
    })?;
    run_well(&engine, "after", &[], &counting(1))
}
