//! `--init`: the init process of containers, through the docker command line.

use crate::support::{assert_fails, engine, inspect, load_busybox, run_rm, stdout_of, until};
use anyhow::Result;
use havre_testkit::{Engine, EngineOptions};

fn run(engine: &Engine, name: &str, more: &[&str]) -> Result<String> {
    let words = [&["run", "-d", "--network", "none", "--name", name], more].concat();
    engine.docker(&words)
}

#[test]
fn an_init_process_runs_the_command() -> Result<()> {
    let engine = engine()?;
    let processes = stdout_of(&engine, &["--init", "busybox", "ps", "-o", "pid,args"])?;
    let rows: Vec<&str> = processes.lines().map(str::trim).collect();
    assert_eq!(
        rows.get(1),
        Some(&"1 /sbin/docker-init -- ps -o pid,args"),
        "{processes}"
    );
    assert_eq!(
        run_rm(&engine, &["--init", "busybox", "sh", "-c", "exit 7"])?
            .status
            .code(),
        Some(7)
    );
    assert_eq!(
        run_rm(&engine, &["--init", "busybox", "sh", "-c", "kill -9 $$"])?
            .status
            .code(),
        Some(137)
    );
    assert_fails(
        &run_rm(&engine, &["--init", "busybox", "nosuch"])?,
        127,
        "docker-init: exec nosuch failed: No such file",
    );
    let denied = run_rm(
        &engine,
        &[
            "--init",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "echo x > /sbin/docker-init",
        ],
    )?;
    assert_fails(&denied, 1, "Read-only file system");
    Ok(())
}

#[test]
fn the_init_process_passes_signals_on_and_collects_orphans() -> Result<()> {
    let engine = engine()?;
    let orphans = "for i in 1 2 3 4 5; do (sleep 0.3 &); done; exec sleep 600";
    // The kernel does not count them among a cgroup's processes, so that only a look from inside finds them.
    let zombies = |name: &str| -> Result<usize> {
        let processes = engine.docker(&["exec", name, "ps", "-o", "stat"])?;
        Ok(processes
            .lines()
            .filter(|line| line.starts_with('Z'))
            .count())
    };
    run(&engine, "bare", &["busybox", "sh", "-c", orphans])?;
    until(&5, || zombies("bare"))?;
    run(&engine, "with", &["--init", "busybox", "sh", "-c", orphans])?;
    until(&true, || {
        let names = engine.docker(&["top", "with", "-o", "pid,comm"])?;
        Ok(names.contains("sleep"))
    })?;
    until(&0, || zombies("with"))?;
    // `sleep` as process 1 ignores SIGTERM; under an init process it does not.
    engine.docker(&["kill", "-s", "TERM", "with"])?;
    assert_eq!(engine.docker(&["wait", "with"])?, "143");
    engine.docker(&["kill", "-s", "TERM", "bare"])?;
    assert_eq!(inspect(&engine, "bare", "{{.State.Running}}")?, "true");
    engine.docker(&["rm", "-f", "bare", "with"])?;
    Ok(())
}

#[test]
fn the_command_has_the_terminal() -> Result<()> {
    let engine = engine()?;
    run(
        &engine,
        "term",
        &["-t", "--init", "busybox", "cat", "/proc/self/stat"],
    )?;
    assert_eq!(engine.docker(&["wait", "term"])?, "0");
    let line = engine.docker(&["logs", "term"])?;
    let columns: Vec<&str> = line.split_whitespace().collect();
    // Process group and the terminal's foreground group.
    assert_eq!(columns[4], columns[7], "{line}");
    assert_ne!(columns[0], "1");
    Ok(())
}

#[test]
fn the_engine_can_give_every_container_an_init_process() -> Result<()> {
    let options = |args: &[&str]| EngineOptions {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..EngineOptions::default()
    };
    let engine = Engine::start_with(options(&["--init"]))?;
    load_busybox(&engine)?;
    assert!(stdout_of(&engine, &["busybox", "ps"])?.contains("/sbin/docker-init"));
    assert!(!stdout_of(&engine, &["--init=false", "busybox", "ps"])?.contains("docker-init"));
    assert_eq!(
        engine.docker(&["info", "--format", "{{.InitBinary}}"])?,
        "havre-init"
    );
    drop(engine);
    let without = Engine::start_with(options(&["--init-path", "/nowhere/init"]))?;
    load_busybox(&without)?;
    assert_fails(
        &run_rm(&without, &["--init", "busybox", "true"])?,
        125,
        "failed to find the init program `/nowhere/init`",
    );
    assert_eq!(stdout_of(&without, &["busybox", "echo", "fine"])?, "fine");
    Ok(())
}
