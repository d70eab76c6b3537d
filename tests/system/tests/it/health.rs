//! Health checks through the docker command line.

use crate::support::{LIMIT, actions, engine, inspect, text, until};
use anyhow::{Result, ensure};
use havre_testkit::Engine;
use havre_testkit::http::Body;
use serde_json::Value;
use std::time::Instant;

/// Starts `box` with a check each tenth of a second.
fn start(engine: &Engine, check: &str, more: &[&str]) -> Result<()> {
    let mut words = vec!["run", "-d", "--network", "none", "--name", "box"];
    words.extend(["--health-cmd", check, "--health-interval", "100ms"]);
    words.extend(more);
    words.extend(["busybox", "sleep", "600"]);
    engine.docker(&words)?;
    Ok(())
}

fn status(engine: &Engine) -> Result<String> {
    inspect(engine, "box", "{{.State.Health.Status}}")
}

fn health(engine: &Engine) -> Result<Value> {
    let text = inspect(engine, "box", "{{json .State.Health}}")?;
    Ok(serde_json::from_str(&text)?)
}

/// Waits for a health that fits, and answers with it.
fn wait_health(engine: &Engine, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen = health(engine)?;
        if fits(&seen) {
            return Ok(seen);
        }
        ensure!(Instant::now() < deadline, "{seen}\n{}", engine.log());
    }
}

fn results(health: &Value) -> &[Value] {
    health["Log"].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn a_container_becomes_healthy_and_unhealthy() -> Result<()> {
    let engine = engine()?;
    start(
        &engine,
        "echo looked; test -e /ok",
        &[
            "--health-retries",
            "2",
            "--health-start-period",
            "1h",
            "--health-start-interval",
            "100ms",
        ],
    )?;
    let early = wait_health(&engine, |health| results(health).len() >= 3)?;
    assert_eq!(
        (&early["Status"], &early["FailingStreak"]),
        (&"starting".into(), &0.into())
    );
    assert_eq!(
        (
            &results(&early)[0]["ExitCode"],
            &results(&early)[0]["Output"]
        ),
        (&1.into(), &"looked\n".into())
    );
    let row = engine.docker(&[
        "ps",
        "--filter",
        "health=starting",
        "--format",
        "{{.Status}}",
    ])?;
    assert!(row.ends_with(" (health: starting)"), "{row}");

    engine.docker(&["exec", "box", "touch", "/ok"])?;
    until(&"healthy".to_owned(), || status(&engine))?;
    let row = engine.docker(&[
        "ps",
        "--filter",
        "health=healthy",
        "--format",
        "{{.Status}}",
    ])?;
    assert!(row.ends_with(" (healthy)"), "{row}");
    assert_eq!(engine.docker(&["ps", "-q", "--filter", "health=none"])?, "");

    engine.docker(&["exec", "box", "rm", "/ok"])?;
    let sick = wait_health(&engine, |health| health["Status"] == "unhealthy")?;
    assert!(sick["FailingStreak"].as_i64() >= Some(2), "{sick}");
    assert!(results(&sick).len() <= 5, "{sick}");
    let list = engine.api(
        "GET",
        "/containers/json?filters=%7B%22health%22%3A%5B%22unhealthy%22%5D%7D",
        &Body::Empty,
    )?;
    let list: Value = serde_json::from_slice(&list.body)?;
    assert_eq!(list[0]["Health"]["Status"], "unhealthy", "{list}");
    Ok(())
}

#[test]
fn events_tell_of_checks_and_of_changes() -> Result<()> {
    let engine = engine()?;
    start(&engine, "true", &[])?;
    until(&"healthy".to_owned(), || status(&engine))?;
    engine.docker(&["rm", "-f", "box"])?;
    let actions = actions(&engine, "box")?;
    let position = |action: &str| actions.iter().position(|seen| *seen == action);
    let wanted = [
        "start",
        "exec_create: /bin/sh -c true",
        "exec_start: /bin/sh -c true",
        "exec_die",
        "health_status: healthy",
    ];
    let found: Vec<Option<usize>> = wanted.iter().map(|action| position(action)).collect();
    assert!(
        found.iter().all(Option::is_some) && found.is_sorted(),
        "{actions:?}"
    );
    let changes = actions
        .iter()
        .filter(|action| action.starts_with("health_status"))
        .count();
    assert_eq!(changes, 1, "only changes are told: {actions:?}");
    Ok(())
}

#[test]
fn a_check_that_takes_too_long_is_ended_with_all_it_started() -> Result<()> {
    let engine = engine()?;
    let check = "echo began; sleep 333 & (sleep 334 &); setsid sleep 335 & sleep 336";
    start(
        &engine,
        check,
        &["--health-timeout", "300ms", "--health-retries", "1"],
    )?;
    // Three of them, so that what one left behind would be seen besides the one that runs.
    let sick = wait_health(&engine, |health| results(health).len() >= 3)?;
    assert_eq!(sick["Status"], "unhealthy");
    assert_eq!(
        (&results(&sick)[0]["ExitCode"], &results(&sick)[0]["Output"]),
        (
            &(-1).into(),
            &"Health check exceeded timeout (300ms): began\n".into()
        )
    );
    // A paused container is not checked, so that what is there now is all that was left.
    engine.docker(&["pause", "box"])?;
    let processes = engine.docker(&["top", "box", "-o", "pid,args"])?;
    engine.docker(&["unpause", "box"])?;
    let left = processes.lines().filter(|line| line.contains("sleep 33"));
    // At most the one check that ran when the pause came.
    assert!(left.count() <= 4, "{processes}");
    engine.docker(&["rm", "-f", "box"])?;
    Ok(())
}

#[test]
fn what_is_paused_or_stopped_is_not_checked() -> Result<()> {
    let engine = engine()?;
    start(&engine, "date +%s%N >> /looked", &[])?;
    until(&"healthy".to_owned(), || status(&engine))?;
    engine.docker(&["pause", "box"])?;
    assert_eq!(
        status(&engine)?,
        "unhealthy",
        "as Docker says of what it does not check"
    );
    let before = health(&engine)?;
    // Were it checked, ten results would come in the time that another container needs for ten.
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "clock",
        "--health-cmd",
        "exit 1",
        "--health-interval",
        "100ms",
        "--health-retries",
        "10",
        "busybox",
        "sleep",
        "600",
    ])?;
    until(&"unhealthy".to_owned(), || {
        inspect(&engine, "clock", "{{.State.Health.Status}}")
    })?;
    assert_eq!(health(&engine)?, before);
    engine.docker(&["unpause", "box"])?;
    until(&"healthy".to_owned(), || status(&engine))?;
    engine.docker(&["stop", "-t", "0", "box"])?;
    let stopped = health(&engine)?;
    assert_eq!(stopped["Status"], "unhealthy");
    engine.docker(&["start", "box"])?;
    until(&"healthy".to_owned(), || status(&engine))?;
    Ok(())
}

#[test]
fn checks_go_on_with_the_next_engine() -> Result<()> {
    let mut engine = engine()?;
    let check = "test ! -e /hang || sleep 555; test ! -e /sick";
    start(&engine, check, &["--health-retries", "1"])?;
    until(&"healthy".to_owned(), || status(&engine))?;
    let pid = inspect(&engine, "box", "{{.State.Pid}}")?;
    let hangs = |engine: &Engine| -> Result<bool> {
        let processes = engine.docker(&["top", "box", "-o", "pid,args"])?;
        Ok(processes.lines().any(|line| line.ends_with(" sleep 555")))
    };
    engine.docker(&["exec", "box", "touch", "/hang"])?;
    until(&true, || hangs(&engine))?;
    engine.kill9()?;
    fs_err::remove_file(format!("/proc/{pid}/root/hang"))?;
    engine.restart()?;
    assert_eq!(status(&engine)?, "healthy", "what was known is known again");
    // The check that the killed engine left is ended, and the next ones run.
    until(&false, || hangs(&engine))?;
    engine.docker(&["exec", "box", "touch", "/sick"])?;
    until(&"unhealthy".to_owned(), || status(&engine))?;
    engine.kill9()?;
    engine.restart()?;
    assert_eq!(status(&engine)?, "unhealthy");
    engine.docker(&["exec", "box", "rm", "/sick"])?;
    until(&"healthy".to_owned(), || status(&engine))?;
    Ok(())
}

#[test]
fn output_is_bounded_and_failures_to_run_are_told() -> Result<()> {
    let engine = engine()?;
    start(&engine, "yes | head -c 10000000", &[])?;
    let seen = wait_health(&engine, |health| !results(health).is_empty())?;
    let output = results(&seen)[0]["Output"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(output.len(), 4096 + 3);
    assert!(output.starts_with("y\ny\n") && output.ends_with("..."));
    engine.docker(&["rm", "-f", "box"])?;
    let body = r#"{"Image":"busybox","Cmd":["sleep","600"],"HostConfig":{"NetworkMode":"none"},"Healthcheck":{"Test":["CMD","nosuchprogram"],"Interval":100000000,"Retries":1}}"#;
    let made = engine.api(
        "POST",
        "/containers/create?name=box",
        &Body::Bytes(body.as_bytes(), "application/json"),
    )?;
    assert_eq!(made.status, 201, "{}", text(&made.body));
    engine.docker(&["start", "box"])?;
    let sick = wait_health(&engine, |health| health["Status"] == "unhealthy")?;
    let result = &results(&sick)[0];
    assert_eq!(result["ExitCode"], -1);
    assert!(
        result["Output"]
            .as_str()
            .is_some_and(|o| o.contains("executable file not found")),
        "{result}"
    );
    Ok(())
}

#[test]
fn checks_that_make_no_sense_are_refused() -> Result<()> {
    let engine = engine()?;
    for (field, value, message) in [
        (
            "Interval",
            -5,
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (
            "Timeout",
            10,
            "Timeout in Healthcheck cannot be less than 1ms",
        ),
        ("Retries", -1, "Retries in Healthcheck cannot be negative"),
        (
            "StartPeriod",
            10,
            "StartPeriod in Healthcheck cannot be less than 1ms",
        ),
        (
            "StartInterval",
            10,
            "StartInterval in Healthcheck cannot be less than 1ms",
        ),
    ] {
        let body = format!(
            r#"{{"Image":"busybox","Healthcheck":{{"Test":["CMD","true"],"{field}":{value}}}}}"#
        );
        let answer = engine.api(
            "POST",
            "/containers/create",
            &Body::Bytes(body.as_bytes(), "application/json"),
        )?;
        let answered: Value = serde_json::from_slice(&answer.body)?;
        assert_eq!(
            (answer.status, &answered["message"]),
            (400, &message.into())
        );
    }
    let off = engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "--no-healthcheck",
        "busybox",
        "sleep",
        "600",
    ])?;
    assert_eq!(inspect(&engine, &off, "{{.State.Health}}")?, "<nil>");
    assert_eq!(
        engine.docker(&["ps", "-q", "--no-trunc", "--filter", "health=none"])?,
        off
    );
    Ok(())
}

#[test]
fn an_unhealthy_container_is_started_again() -> Result<()> {
    let engine = engine()?;
    start(
        &engine,
        "exit 1",
        &[
            "--health-retries",
            "2",
            "--restart",
            "on-unhealthy:1",
            "--stop-timeout",
            "0",
        ],
    )?;
    until(&"1".to_owned(), || {
        inspect(&engine, "box", "{{.RestartCount}}")
    })?;
    Ok(())
}

#[test]
fn the_images_check_is_used_unless_it_is_switched_off() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "made",
        "busybox",
        "true",
    ])?;
    let change = "HEALTHCHECK --interval=100ms --retries=1 CMD test ! -e /sick";
    engine.docker(&["commit", "--change", change, "made", "checked"])?;
    let run = |name: &str, more: &[&str]| -> Result<String> {
        let words = [&["run", "-d", "--network", "none", "--name", name], more].concat();
        engine.docker(&[&words[..], &["checked", "sleep", "600"]].concat())
    };
    run("box", &[])?;
    until(&"healthy".to_owned(), || status(&engine))?;
    engine.docker(&["exec", "box", "touch", "/sick"])?;
    until(&"unhealthy".to_owned(), || status(&engine))?;
    run("off", &["--no-healthcheck"])?;
    assert_eq!(inspect(&engine, "off", "{{.State.Health}}")?, "<nil>");
    // What is given replaces only what is given.
    run("mixed", &["--health-cmd", "exit 7"])?;
    assert_eq!(
        inspect(&engine, "mixed", "{{json .Config.Healthcheck}}")?,
        r#"{"Test":["CMD-SHELL","exit 7"],"Interval":100000000,"Retries":1}"#
    );
    until(&"unhealthy".to_owned(), || {
        inspect(&engine, "mixed", "{{.State.Health.Status}}")
    })?;
    Ok(())
}

#[test]
fn a_pause_ends_the_check_that_runs() -> Result<()> {
    let engine = engine()?;
    start(
        &engine,
        "test ! -e /hang || sleep 556",
        &["--health-retries", "1"],
    )?;
    until(&"healthy".to_owned(), || status(&engine))?;
    let hangs = |engine: &Engine| -> Result<bool> {
        let processes = engine.docker(&["top", "box", "-o", "pid,args"])?;
        Ok(processes.lines().any(|line| line.ends_with(" sleep 556")))
    };
    engine.docker(&["exec", "box", "touch", "/hang"])?;
    until(&true, || hangs(&engine))?;
    engine.docker(&["pause", "box"])?;
    let pid = inspect(&engine, "box", "{{.State.Pid}}")?;
    fs_err::remove_file(format!("/proc/{pid}/root/hang"))?;
    engine.docker(&["unpause", "box"])?;
    // Frozen processes may die only when they thaw.
    until(&false, || hangs(&engine))?;
    until(&"healthy".to_owned(), || status(&engine))?;
    Ok(())
}
