//! Checkpoints through the docker command line. Where this machine's CRIU works the container goes on from one;
//! elsewhere the error says so. The real thing is also checked in the virtual machine (`vm.rs`).

use crate::support::{
    SLEEPING_BOX, actions, assert_fails, engine, inspect, load_busybox, text, until,
};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::command::command;
use havre_testkit::http::Body;
use havre_testkit::{Engine, EngineOptions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";

fn counter(engine: &Engine) -> Result<()> {
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "counter",
        "busybox",
    ];
    engine.docker(&[&words[..], &["sh", "-c", COUNT]].concat())?;
    counts_beyond(engine, 3)
}

fn counted(engine: &Engine) -> Result<u64> {
    let log = engine.docker(&["logs", "counter"])?;
    let last = log.lines().last().unwrap_or("0");
    last.parse().with_context(|| log.clone())
}

fn counts_beyond(engine: &Engine, number: u64) -> Result<()> {
    until(&true, || Ok(counted(engine)? > number))
}

fn state(engine: &Engine) -> Result<String> {
    inspect(engine, "counter", "{{.State.Status}}")
}

fn json(body: &str) -> Body<'_> {
    Body::Bytes(body.as_bytes(), "application/json")
}

fn checkpoints_of(engine: &Engine, name: &str) -> Result<PathBuf> {
    let id = inspect(engine, name, "{{.Id}}")?;
    Ok(engine
        .data_root()
        .join("containers")
        .join(id)
        .join("checkpoints"))
}

#[test]
fn a_container_goes_on_from_a_checkpoint_or_says_why_not() -> Result<()> {
    let engine = engine()?;
    let works = command("criu").arg("check").output()?.status.success();
    counter(&engine)?;
    if works {
        return goes_on(&engine);
    }
    let output = engine.docker_output(&["checkpoint", "create", "counter", "one"])?;
    let told = "Cannot checkpoint container counter: CRIU failed: ";
    assert_fails(&output, 1, told);
    let said = text(&output.stderr);
    ensure!(said.trim_end().len() > told.len() + 40, "no reason: {said}");
    // It has lost nothing, and nothing is left of the attempt.
    counts_beyond(&engine, counted(&engine)?)?;
    assert_eq!(state(&engine)?, "running");
    assert_eq!(
        engine.docker(&["checkpoint", "ls", "counter"])?,
        "CHECKPOINT NAME"
    );
    assert_eq!(
        fs_err::read_dir(checkpoints_of(&engine, "counter")?)?.count(),
        0
    );
    ensure!(!actions(&engine, "counter")?.contains(&"checkpoint".to_owned()));
    engine.docker(&["rm", "-f", "counter"])?;
    Ok(())
}

fn goes_on(engine: &Engine) -> Result<()> {
    assert_eq!(
        engine.docker(&["checkpoint", "create", "counter", "one"])?,
        "one"
    );
    assert_eq!(state(engine)?, "exited");
    assert_eq!(
        engine.docker(&["checkpoint", "ls", "counter"])?,
        "CHECKPOINT NAME\none"
    );
    let files = checkpoints_of(engine, "counter")?.join("one");
    ensure!(files.join("config.json").is_file());
    assert_eq!(
        fs_err::metadata(&files)?.permissions().mode() & 0o777,
        0o700
    );
    let before = counted(engine)?;
    engine.docker(&["start", "--checkpoint", "one", "counter"])?;
    counts_beyond(engine, before + 3)?;
    engine.havre(&["checkpoint", "create", "--leave-running", "counter", "two"])?;
    assert_eq!(state(engine)?, "running");
    engine.docker(&["checkpoint", "create", "counter", "three"])?;
    assert_eq!(state(engine)?, "exited");
    engine.docker(&["checkpoint", "rm", "counter", "one"])?;
    assert_eq!(
        engine.havre(&["checkpoint", "ls", "counter"])?,
        "CHECKPOINT NAME\nthree\ntwo"
    );
    let before = counted(engine)?;
    engine.havre(&["start", "--checkpoint", "three", "counter"])?;
    counts_beyond(engine, before + 3)?;
    // It never began anew.
    let log = engine.docker(&["logs", "counter"])?;
    for (line, number) in log.lines().zip(1..) {
        assert_eq!(line, number.to_string(), "{log}");
    }
    let events = actions(engine, "counter")?;
    assert_eq!(
        events
            .iter()
            .filter(|action| *action == "checkpoint")
            .count(),
        3
    );
    engine.docker(&["rm", "-f", "counter"])?;
    Ok(())
}

#[test]
fn without_criu_the_error_names_it() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let engine = Engine::start_with(EngineOptions {
        args: vec!["--criu".to_owned(), "/nowhere/criu".to_owned()],
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    counter(&engine)?;
    let output = engine.docker_output(&["checkpoint", "create", "counter", "one"])?;
    let told = "checkpoints need CRIU (https://criu.org): `/nowhere/criu` cannot be executed";
    assert_fails(&output, 1, told);
    counts_beyond(&engine, counted(&engine)?)?;
    engine.docker(&["rm", "-f", "counter"])?;
    Ok(())
}

/// R23, D08: a name is one component of a path in a small alphabet; a directory is where it says it is.
#[test]
fn hostile_names_and_directories_reach_no_file() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    let own = checkpoints_of(&engine, "box")?;
    let names = [
        "..",
        ".",
        "../x",
        "..%2F..%2Fx",
        "%2Fetc",
        "a%2Fb",
        "x",
        ".a",
        "a.",
        "a%20b",
        "a%0Ab",
        "%C3%A91",
        "-a",
    ];
    for name in names {
        let body = format!(
            r#"{{"CheckpointID":"{}"}}"#,
            name.replace("%2F", "/").replace("%20", " ")
        );
        let requests = [
            (
                "POST",
                "/containers/box/checkpoints".to_owned(),
                json(&body),
            ),
            (
                "DELETE",
                format!("/containers/box/checkpoints/{name}"),
                Body::Empty,
            ),
            (
                "POST",
                format!("/containers/box/start?checkpoint={name}"),
                Body::Empty,
            ),
        ];
        for (method, target, body) in requests {
            let status = engine.api(method, &target, &body)?.status;
            ensure!(matches!(status, 400 | 404), "{method} {target}: {status}");
        }
    }
    ensure!(!own.exists(), "a directory was made");
    engine.docker(&["rm", "-f", "box"])?;
    Ok(())
}

#[test]
fn what_is_not_there_is_said_to_be_missing() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    for (method, target, body, wanted) in [
        (
            "POST",
            "/containers/box/checkpoints",
            r#"{"CheckpointID":"c1","CheckpointDir":"../x"}"#,
            400,
        ),
        ("POST", "/containers/box/checkpoints", "{}", 400),
        ("POST", "/containers/box/checkpoints", "[]", 400),
        (
            "POST",
            "/containers/nope/checkpoints",
            r#"{"CheckpointID":"c1"}"#,
            404,
        ),
        ("GET", "/containers/box/checkpoints?dir=relative", "", 400),
        (
            "GET",
            "/containers/box/checkpoints?dir=/nowhere/at/all",
            "",
            404,
        ),
        ("DELETE", "/containers/box/checkpoints/c1", "", 404),
        // Directories that hold no checkpoint are not removed.
        ("DELETE", "/containers/box/checkpoints/etc?dir=/", "", 404),
    ] {
        let body = if body.is_empty() {
            Body::Empty
        } else {
            json(body)
        };
        assert_eq!(
            engine.api(method, target, &body)?.status,
            wanted,
            "{method} {target}"
        );
    }
    assert_eq!(
        engine
            .api("GET", "/containers/box/checkpoints", &Body::Empty)?
            .body,
        b"[]\n"
    );
    engine.docker(&["kill", "box"])?;
    until(&"exited".to_owned(), || {
        inspect(&engine, "box", "{{.State.Status}}")
    })?;
    let output = engine.docker_output(&["checkpoint", "create", "box", "c1"])?;
    assert_fails(&output, 1, "is not running");
    engine.docker(&["rm", "-f", "box"])?;
    Ok(())
}

/// R23: what others could have written is not restored from, and no link is followed.
#[test]
fn files_of_others_are_no_checkpoint() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "true",
    ])?;
    let folder = engine.directory().join("elsewhere");
    let images = folder.join("c1");
    fs_err::create_dir_all(&images)?;
    fs_err::set_permissions(&images, PermissionsExt::from_mode(0o700))?;
    let inventory = images.join("inventory.img");
    fs_err::write(&inventory, "no image")?;
    let shown = folder.display().to_string();
    let start = |words: &str| -> Result<()> {
        let output = engine.docker_output(&[
            "start",
            "--checkpoint-dir",
            &shown,
            "--checkpoint",
            "c1",
            "box",
        ])?;
        assert_fails(&output, 1, words);
        Ok(())
    };
    fs_err::set_permissions(&inventory, PermissionsExt::from_mode(0o666))?;
    start("inventory.img`: others may write to it")?;
    fs_err::set_permissions(&inventory, PermissionsExt::from_mode(0o600))?;
    symlink("/etc/shadow", images.join("core-1.img"))?;
    start("core-1.img`: it is not a plain file")?;
    fs_err::remove_file(images.join("core-1.img"))?;
    fs_err::set_permissions(&images, PermissionsExt::from_mode(0o777))?;
    start("others may write to it")?;
    fs_err::set_permissions(&images, PermissionsExt::from_mode(0o700))?;
    // All is in order but for the filter that every process of the container must have.
    start("its seccomp filter is not the one of the container")?;
    fs_err::rename(&images, folder.join("real"))?;
    symlink("real", &images)?;
    start("exists and is not a directory")?;
    assert_eq!(inspect(&engine, "box", "{{.State.Running}}")?, "false");
    engine.docker(&["start", "box"])?;
    engine.docker(&["rm", "-f", "box"])?;
    Ok(())
}
