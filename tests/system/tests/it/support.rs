//! What every test begins with: an engine that has the busybox image, and short forms for asking it.

use anyhow::{Context as _, Result, ensure};
use havre_testkit::http::Body;
use havre_testkit::{Engine, EngineOptions, image};
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

/// What happens at all happens within this.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A container called `box` that stays.
pub(crate) const SLEEPING_BOX: [&str; 9] = [
    "run",
    "-d",
    "--network",
    "none",
    "--name",
    "box",
    "busybox",
    "sleep",
    "600",
];

/// An engine that has `busybox:latest`.
pub(crate) fn engine() -> Result<Engine> {
    havre_testkit::ensure_packages()?;
    let engine = Engine::start()?;
    load_busybox(&engine)?;
    Ok(engine)
}

/// The same with a network namespace for itself: for tests of networks other than `none` and `host`.
pub(crate) fn networked_engine() -> Result<Engine> {
    havre_testkit::ensure_packages()?;
    let engine = Engine::start_with(EngineOptions {
        own_network: true,
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    Ok(engine)
}

/// Loads the busybox image from its archive.
pub(crate) fn load_busybox(engine: &Engine) -> Result<()> {
    let archive = image("busybox")?.archive;
    engine.docker(&["load", "--input", &archive.to_string_lossy()])?;
    Ok(())
}

/// `docker run --rm --network none ARGS…`: its status and output.
pub(crate) fn run_rm(engine: &Engine, args: &[&str]) -> Result<Output> {
    let words = [&["run", "--rm", "--network", "none"], args].concat();
    engine.docker_output(&words)
}

/// The standard output of `docker run --rm --network none ARGS…`, which must succeed.
pub(crate) fn stdout_of(engine: &Engine, args: &[&str]) -> Result<String> {
    let output = run_rm(engine, args)?;
    ensure!(
        output.status.success(),
        "docker run {args:?}: {}\n{}",
        text(&output.stderr),
        engine.log()
    );
    Ok(text(&output.stdout).trim_end().to_owned())
}

/// Asserts a command's exit status and that its standard error says something.
#[track_caller]
pub(crate) fn assert_fails(output: &Output, status: i32, message: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "stderr: {stderr}");
    assert!(stderr.contains(message), "`{message}` is not in: {stderr}");
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One field of `docker inspect`, by a template.
pub(crate) fn inspect(engine: &Engine, name: &str, template: &str) -> Result<String> {
    engine
        .docker(&["inspect", "--format", template, name])
        .with_context(|| format!("inspecting {name}"))
}

/// The actions of a container's events so far, oldest first.
pub(crate) fn actions(engine: &Engine, name: &str) -> Result<Vec<String>> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?;
    let filters = format!("%7B%22container%22%3A%5B%22{name}%22%5D%7D");
    let (secs, nanos) = (now.as_secs(), now.subsec_nanos());
    let target = format!("/events?since=1&until={secs}.{nanos:09}&filters={filters}");
    let answer = engine.api("GET", &target, &Body::Empty)?;
    let body = text(&answer.body);
    let action = |line: &str| -> Result<String> {
        let event: serde_json::Value = serde_json::from_str(line).with_context(|| body.clone())?;
        Ok(event["Action"].as_str().unwrap_or_default().to_owned())
    };
    body.lines().map(action).collect()
}

/// Asks until the answer is the wanted one.
pub(crate) fn until<T: PartialEq + std::fmt::Debug>(
    wanted: &T,
    mut ask: impl FnMut() -> Result<T>,
) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen = ask()?;
        if seen == *wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{seen:?}, not {wanted:?}");
    }
}

/// No kernel object is there when no container runs. What has ended goes in the background, so this waits for it.
pub(crate) fn nothing_runs(engine: &Engine) -> Result<()> {
    until(&true, || Ok(engine.census()?.is_empty()))
        .with_context(|| format!("left: {:?}", engine.census()))
}

/// Neither kernel objects nor files of containers are there when no container is. What `--rm` removes goes in the
/// background, so this waits for it.
pub(crate) fn nothing_is_left(engine: &Engine) -> Result<()> {
    nothing_runs(engine)?;
    until(&Vec::new(), || container_folders(engine)).context("files are left")
}

fn container_folders(engine: &Engine) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for root in [engine.exec_root(), engine.data_root()] {
        let Ok(entries) = fs_err::read_dir(root.join("containers")) else {
            continue;
        };
        for entry in entries {
            found.push(entry?.path());
        }
    }
    Ok(found)
}
