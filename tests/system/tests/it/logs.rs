//! Logs: every driver against a receiver of our own, what is kept when a server is slow or away, what is refused.

mod files;
mod receivers;
mod remote;
mod syslog;

use anyhow::{Result, ensure};
use havre_testkit::Engine;
use std::process::Output;

use crate::support::text;

/// `docker run --network none --name NAME FLAGS… busybox sh -c SCRIPT`.
fn run(engine: &Engine, name: &str, flags: &[&str], script: &str) -> Result<Output> {
    let head = ["run", "--network", "none", "--name", name];
    engine.docker_output(&[&head[..], flags, &["busybox", "sh", "-c", script]].concat())
}

/// As [`run`], which must succeed.
fn run_well(engine: &Engine, name: &str, flags: &[&str], script: &str) -> Result<()> {
    let output = run(engine, name, flags, script)?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(())
}

/// A script that prints so many numbered lines.
fn counting(lines: usize) -> String {
    format!("i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); done")
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

/// `docker logs ARGS… NAME`, standard output by lines.
fn logs(engine: &Engine, args: &[&str]) -> Result<Vec<String>> {
    let words = [&["logs"], args].concat();
    let output = engine.docker(&words)?;
    Ok(output.lines().map(str::to_owned).collect())
}
