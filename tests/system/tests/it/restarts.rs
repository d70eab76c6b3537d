//! Restart policies through the docker command line: counts, the user's word, the engine's and the host's restart.

use crate::support::{engine, inspect, nothing_is_left, until};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
use std::time::Instant;

fn run(engine: &Engine, name: &str, policy: &str, script: &str) -> Result<String> {
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        name,
        "--restart",
        policy,
    ];
    engine.docker(&[&words[..], &["busybox", "sh", "-c", script]].concat())
}

fn status(engine: &Engine, name: &str) -> Result<String> {
    inspect(engine, name, "{{.State.Status}}")
}

fn count(engine: &Engine, name: &str) -> Result<u32> {
    Ok(inspect(engine, name, "{{.RestartCount}}")?.parse()?)
}

#[test]
fn failures_are_counted_and_the_delays_double() -> Result<()> {
    let engine = engine()?;
    let began = Instant::now();
    run(&engine, "box", "on-failure:3", "exit 4")?;
    until(&("exited".to_owned(), 3), || {
        Ok((status(&engine, "box")?, count(&engine, "box")?))
    })?;
    // 100, 200 and 400 ms.
    ensure!(began.elapsed().as_millis() >= 700, "{:?}", began.elapsed());
    assert_eq!(inspect(&engine, "box", "{{.State.ExitCode}}")?, "4");
    run(&engine, "good", "on-failure", "exit 0")?;
    until(&"exited".to_owned(), || status(&engine, "good"))?;
    assert_eq!(count(&engine, "good")?, 0);
    // Another policy takes effect without a start, and a start begins to count anew.
    engine.docker(&["update", "--restart", "on-failure:1", "box"])?;
    engine.docker(&["start", "box"])?;
    until(&("exited".to_owned(), 1), || {
        Ok((status(&engine, "box")?, count(&engine, "box")?))
    })
}

#[test]
fn the_user_ends_what_restarts() -> Result<()> {
    let engine = engine()?;
    for end in [
        ["stop", "box"].as_slice(),
        &["kill", "box"],
        &["rm", "-f", "box"],
    ] {
        engine.docker_output(&["rm", "-f", "box"])?;
        run(&engine, "box", "always", "exit 1")?;
        // Long enough in the back-off to be met there.
        until(&true, || {
            Ok(count(&engine, "box")? >= 4 && status(&engine, "box")? == "restarting")
        })?;
        engine.docker(end)?;
        if end[0] != "rm" {
            assert_eq!(status(&engine, "box")?, "exited");
        }
    }
    run(&engine, "box", "always", "exit 1")?;
    until(&true, || Ok(count(&engine, "box")? >= 3))?;
    engine.docker(&["update", "--restart", "no", "box"])?;
    until(&"exited".to_owned(), || status(&engine, "box"))
}

/// Ends engine, shims and containers and forgets what is lost with the memory of a host.
fn power_cycle(engine: &mut Engine) -> Result<()> {
    let containers = engine.exec_root().join("containers");
    let mut shims = Vec::new();
    for entry in fs_err::read_dir(&containers)? {
        let pid = fs_err::read_to_string(entry?.path().join("shim.pid"))?;
        shims.push(rustix::process::Pid::from_raw(pid.trim().parse()?).context("no pid")?);
    }
    engine.kill9()?;
    for shim in shims {
        let handle = rustix::process::pidfd_open(shim, rustix::process::PidfdFlags::empty())?;
        rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL)?;
        let mut ended = [rustix::event::PollFd::new(
            &handle,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut ended, None)?;
    }
    fs_err::remove_dir_all(engine.exec_root())?;
    engine.restart()
}

#[test]
fn containers_come_back_after_the_host_was_down() -> Result<()> {
    let mut engine = engine()?;
    for policy in ["no", "always", "unless-stopped", "on-failure"] {
        run(&engine, policy, policy, "exec sleep 1000")?;
        run(
            &engine,
            &format!("{policy}-stopped"),
            policy,
            "exec sleep 1000",
        )?;
        engine.docker(&["stop", "-t", "0", &format!("{policy}-stopped")])?;
    }
    run(&engine, "paused", "always", "exec sleep 1000")?;
    engine.docker(&["pause", "paused"])?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--restart",
        "always",
        "--name",
        "new",
        "busybox",
    ])?;
    power_cycle(&mut engine)?;
    for (name, wanted) in [
        ("no", "exited"),
        ("no-stopped", "exited"),
        ("always", "running"),
        // Docker's difference between the two: the first comes back with the engine, whoever stopped it.
        ("always-stopped", "running"),
        ("unless-stopped", "running"),
        ("unless-stopped-stopped", "exited"),
        ("on-failure", "running"),
        ("on-failure-stopped", "exited"),
        ("paused", "running"),
        ("new", "created"),
    ] {
        until(&wanted.to_owned(), || status(&engine, name)).with_context(|| name.to_owned())?;
    }
    assert_eq!(inspect(&engine, "no", "{{.State.ExitCode}}")?, "255");
    let names = engine.docker(&["ps", "-aq"])?;
    let mut words = vec!["rm", "-f"];
    words.extend(names.lines());
    engine.docker(&words)?;
    nothing_is_left(&engine)
}

#[test]
fn the_engine_alone_changes_nothing() -> Result<()> {
    let mut engine = engine()?;
    for policy in ["always", "unless-stopped"] {
        run(&engine, policy, policy, "exec sleep 1000")?;
    }
    engine.docker(&["stop", "-t", "0", "always", "unless-stopped"])?;
    run(&engine, "goes-on", "unless-stopped", "exec sleep 1000")?;
    let pid = inspect(&engine, "goes-on", "{{.State.Pid}}")?;
    engine.restart()?;
    assert_eq!(inspect(&engine, "goes-on", "{{.State.Pid}}")?, pid);
    until(&"running".to_owned(), || status(&engine, "always"))?;
    assert_eq!(status(&engine, "unless-stopped")?, "exited");
    Ok(())
}

#[test]
fn an_unhealthy_container_is_restarted_when_asked_for() -> Result<()> {
    let engine = engine()?;
    let script = "echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let start = |name: &str, policy: &str| {
        let words = [
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            name,
            "--restart",
            policy,
            "--health-cmd",
            "test ! -e /bad",
            "--health-interval",
            "100ms",
            "--health-retries",
            "1",
            "busybox",
            "sh",
            "-c",
            script,
        ];
        engine.docker(&words)
    };
    let health = |name: &str| inspect(&engine, name, "{{.State.Health.Status}}");
    start("box", "on-unhealthy:2")?;
    start("plain", "on-failure")?;
    for name in ["box", "plain"] {
        until(&"healthy".to_owned(), || health(name))?;
        engine.docker(&["exec", name, "touch", "/bad"])?;
    }
    // It is bad after each start, so that it is started as often as allowed, and then left alone.
    let left_alone = "2 running unhealthy".to_owned();
    until(&left_alone, || {
        let template = "{{.RestartCount}} {{.State.Status}} {{.State.Health.Status}}";
        inspect(&engine, "box", template)
    })?;
    assert_eq!(engine.docker(&["logs", "box"])?, "up\nup\nup");
    // Docker's own policies leave it to others.
    until(&"unhealthy".to_owned(), || health("plain"))?;
    assert_eq!(
        (status(&engine, "plain")?, count(&engine, "plain")?),
        ("running".to_owned(), 0)
    );
    // The user's word counts more than its health.
    engine.docker(&["update", "--restart", "on-unhealthy", "plain"])?;
    until(&true, || Ok(count(&engine, "plain")? > 0))?;
    engine.docker(&["stop", "-t", "0", "plain"])?;
    assert_eq!(status(&engine, "plain")?, "exited");
    Ok(())
}
