//! The engine killed with -9 while containers run and end: nothing is lost, nothing is left.

use crate::support::{engine, nothing_is_left};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
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

/// Kills the engine after a random moment, during which it is kept busy, and starts it again.
fn kill_and_restart(engine: &mut Engine, chance: &mut Chance) -> Result<()> {
    let moment = Instant::now() + Duration::from_millis(chance.below(120));
    while Instant::now() < moment {
        engine.docker(&["ps", "-a", "-q"])?;
    }
    engine.kill9()?;
    engine.restart()
}
