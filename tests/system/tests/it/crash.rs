//! The engine killed with -9 while containers run and end: nothing is lost, nothing is left.

use crate::support::{SLEEPING_BOX, engine, inspect, nothing_is_left, until};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
use havre_testkit::http::Body;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

const CONTAINERS: usize = 50;
const KILLS: usize = 20;
const LINES: usize = 200;

/// A small generator: the seed is printed, so that a failing order of kills can be had again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn fifty_containers_outlive_twenty_kills() -> Result<()> {
    let mut engine = engine()?;
    let seed = u64::from(
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .subsec_nanos(),
    ) | 1;
    println!("seed {seed}");
    let mut chance = Chance(seed);
    let mut expected = BTreeMap::new();
    let mut kills = 0;
    for number in 0..CONTAINERS {
        let name = format!("box-{number}");
        let status = number % 100;
        // Some end at once, some go on for a few seconds while the engine comes and goes.
        let script = format!(
            "i=0; while [ $i -lt {LINES} ]; do echo {name} $i; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.{}; done; exit {status}",
            chance.below(10)
        );
        engine.docker(&[
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            &script,
        ])?;
        expected.insert(name, status);
        // Kills fall between the starts too, not only after them.
        if number >= CONTAINERS - 2 * KILLS && number % 4 == 0 {
            kill_and_restart(&mut engine, &mut chance)?;
            kills += 1;
        }
    }
    while kills < KILLS {
        kill_and_restart(&mut engine, &mut chance)?;
        kills += 1;
    }
    for (name, status) in &expected {
        let waited = engine.docker(&["wait", name])?;
        ensure!(
            waited == status.to_string(),
            "{name} ended with {waited}, not {status}"
        );
        let logs = engine.docker(&["logs", name])?;
        let wanted: Vec<String> = (0..LINES).map(|line| format!("{name} {line}")).collect();
        let seen: Vec<&str> = logs.lines().collect();
        ensure!(
            seen == wanted,
            "{name}: {} of {LINES} lines, or out of order",
            seen.len()
        );
    }
    let listed = engine.docker(&["ps", "-aq"])?;
    ensure!(
        listed.lines().count() == CONTAINERS,
        "{} containers are known",
        listed.lines().count()
    );
    for name in expected.keys() {
        engine.docker(&["rm", name])?;
    }
    nothing_is_left(&engine)
}

#[test]
fn a_container_that_removes_itself_does_so_after_the_crash() -> Result<()> {
    let mut engine = engine()?;
    let words = [
        "run",
        "-d",
        "--rm",
        "--network",
        "none",
        "--name",
        "brief",
        "busybox",
        "sleep",
        "1",
    ];
    let id = engine.docker(&words)?;
    let init: i32 = engine
        .docker(&["inspect", "-f", "{{.State.Pid}}", &id])?
        .parse()?;
    let handle = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(init).context("a pid")?,
        rustix::process::PidfdFlags::empty(),
    )?;
    engine.kill9()?;
    let mut ended = [rustix::event::PollFd::new(
        &handle,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(
        &mut ended,
        Some(&rustix::event::Timespec {
            tv_sec: 30,
            tv_nsec: 0,
        }),
    )?;
    engine.restart()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !engine.docker(&["ps", "-aq"])?.is_empty() {
        ensure!(Instant::now() < deadline, "it is still there");
    }
    nothing_is_left(&engine)
}

#[test]
fn streams_work_again_after_a_restart() -> Result<()> {
    let mut engine = engine()?;
    let words = [
        "run",
        "-d",
        "-i",
        "--network",
        "none",
        "--name",
        "steady",
        "busybox",
        "cat",
    ];
    let id = engine.docker(&words)?;
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", &id])?;
    engine.kill9()?;
    engine.restart()?;
    ensure!(
        engine.docker(&["inspect", "-f", "{{.State.Pid}}", &id])? == pid,
        "another process"
    );
    ensure!(engine.docker(&["exec", "steady", "echo", "still here"])? == "still here");
    engine.docker(&["stop", "-t", "0", "steady"])?;
    ensure!(engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", "steady"])? == "137");
    Ok(())
}

#[test]
fn exec_processes_are_known_after_a_restart() -> Result<()> {
    let mut engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    let exec = |engine: &Engine, script: &str| -> Result<String> {
        let body = format!(r#"{{"Cmd":["sh","-c","{script}"]}}"#);
        let body = Body::Bytes(body.as_bytes(), "application/json");
        let made = engine.api("POST", "/containers/box/exec", &body)?;
        let made: serde_json::Value = serde_json::from_slice(&made.body)?;
        Ok(made["Id"].as_str().context("no id")?.to_owned())
    };
    let start = |engine: &Engine, id: &str| -> Result<u16> {
        let body = Body::Bytes(br#"{"Detach":true}"#, "application/json");
        Ok(engine
            .api("POST", &format!("/exec/{id}/start"), &body)?
            .status)
    };
    let look = |engine: &Engine, id: &str| -> Result<(bool, Option<i64>, i64)> {
        let seen = engine.api("GET", &format!("/exec/{id}/json"), &Body::Empty)?;
        let seen: serde_json::Value = serde_json::from_slice(&seen.body)?;
        let pid = seen["Pid"].as_i64().context("no pid")?;
        Ok((seen["Running"] == true, seen["ExitCode"].as_i64(), pid))
    };
    let ended = exec(&engine, "exit 4")?;
    let ends = exec(&engine, "while [ ! -e /go ]; do sleep 0.05; done; exit 6")?;
    let goes_on = exec(&engine, "exec sleep 1000")?;
    let waits = exec(&engine, "exit 9")?;
    for id in [&ended, &ends, &goes_on] {
        ensure!(start(&engine, id)? == 200);
    }
    until(&Some(4), || Ok(look(&engine, &ended)?.1))?;
    let (_, _, pid) = look(&engine, &goes_on)?;
    let (_, _, ending) = look(&engine, &ends)?;
    let handle = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(i32::try_from(ending)?).context("a pid")?,
        rustix::process::PidfdFlags::empty(),
    )?;
    let init = inspect(&engine, "box", "{{.State.Pid}}")?;
    engine.kill9()?;
    fs_err::write(format!("/proc/{init}/root/go"), "")?;
    let mut over = [rustix::event::PollFd::new(
        &handle,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut over, None)?;
    engine.restart()?;
    ensure!(
        look(&engine, &ended)?.1 == Some(4),
        "{:?}",
        look(&engine, &ended)?
    );
    until(&Some(6), || Ok(look(&engine, &ends)?.1))?;
    ensure!(
        look(&engine, &goes_on)? == (true, None, pid),
        "{:?}",
        look(&engine, &goes_on)?
    );
    let listed = inspect(&engine, "box", "{{json .ExecIDs}}")?;
    ensure!(
        listed.contains(&goes_on) && listed.contains(&waits) && !listed.contains(&ended),
        "{listed}"
    );
    // One that was made before is started after.
    ensure!(start(&engine, &waits)? == 200);
    until(&Some(9), || Ok(look(&engine, &waits)?.1))?;
    ensure!(start(&engine, &goes_on)? == 409, "it runs already");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?,
        rustix::process::Signal::KILL,
    )?;
    until(&Some(137), || Ok(look(&engine, &goes_on)?.1))
}

/// Kills the engine after a random moment, during which it is kept busy, and starts it again.
fn kill_and_restart(engine: &mut Engine, chance: &mut Chance) -> Result<()> {
    let moment = Instant::now() + Duration::from_millis(chance.below(120));
    while Instant::now() < moment {
        engine.docker(&["ps", "-a", "-q"])?;
    }
    engine.kill9()?;
    engine.restart()
}
