//! What changes a container that exists, through the docker command line: pause, rename, update, prune, removal.

use crate::support::{SLEEPING_BOX, assert_fails, engine, inspect, nothing_is_left, text, until};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;

fn fails(engine: &Engine, words: &[&str], message: &str) -> Result<()> {
    assert_fails(&engine.docker_output(words)?, 1, message);
    Ok(())
}

/// What happened so far, of these actions.
fn events(engine: &Engine, actions: &[&str], format: &str) -> Result<String> {
    let now = engine.docker(&["info", "--format", "{{.SystemTime}}"])?;
    let mut command = vec![
        "events", "--since", "1h", "--until", &now, "--format", format,
    ];
    let filters: Vec<String> = actions
        .iter()
        .map(|action| format!("event={action}"))
        .collect();
    for filter in &filters {
        command.extend(["--filter", filter]);
    }
    engine.docker(&command)
}

fn flags(engine: &Engine, name: &str) -> Result<String> {
    inspect(
        engine,
        name,
        "{{.State.Status}} {{.State.Running}} {{.State.Paused}}",
    )
}

/// The value of a limit as the kernel has it for the container, whichever version of cgroups it is.
fn limit(engine: &Engine, name: &str, controller: &str, file: &str) -> Result<String> {
    let pid = inspect(engine, name, "{{.State.Pid}}")?;
    let groups = fs_err::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = groups
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .find(|(names, _)| names.split(',').any(|name| name == controller))
        .map(|(_, path)| path.to_owned())
        .with_context(|| format!("{controller} is not in {groups}"))?;
    let value = fs_err::read_to_string(format!("/sys/fs/cgroup/{controller}{path}/{file}"))?;
    Ok(value.trim().to_owned())
}

#[test]
fn a_paused_container_stands_still_and_refuses_in_dockers_words() -> Result<()> {
    let mut engine = engine()?;
    let id = engine.docker(&SLEEPING_BOX)?;
    assert_eq!(engine.docker(&["pause", "box"])?, "box");
    assert_eq!(flags(&engine, "box")?, "paused true true");
    let row = engine.docker(&["ps", "--filter", "status=paused", "--format", "{{.Status}}"])?;
    ensure!(
        row.starts_with("Up ") && row.ends_with(" (Paused)"),
        "{row}"
    );
    fails(
        &engine,
        &["pause", "box"],
        &format!("Container {id} is already paused"),
    )?;
    fails(
        &engine,
        &["exec", "box", "true"],
        "Container box is paused, unpause the container before exec",
    )?;
    fails(
        &engine,
        &["start", "box"],
        "cannot start a paused container, try unpause instead",
    )?;
    fails(
        &engine,
        &["rm", "box"],
        "cannot remove container \"box\": container is paused and must be unpaused first",
    )?;
    // It is found paused by the next engine, and the same.
    let pid = inspect(&engine, "box", "{{.State.Pid}}")?;
    engine.kill9()?;
    engine.restart()?;
    assert_eq!(flags(&engine, "box")?, "paused true true");
    assert_eq!(inspect(&engine, "box", "{{.State.Pid}}")?, pid);
    engine.docker(&["unpause", "box"])?;
    assert_eq!(flags(&engine, "box")?, "running true false");
    assert_eq!(engine.docker(&["exec", "box", "echo", "here"])?, "here");
    fails(
        &engine,
        &["unpause", "box"],
        &format!("Container {id} is not paused"),
    )?;
    let events = events(
        &engine,
        &["pause", "unpause"],
        "{{.Action}} {{.Actor.Attributes.name}}",
    )?;
    assert_eq!(events, "pause box\nunpause box");
    Ok(())
}

#[test]
fn what_ends_a_paused_container_lets_it_go_on_first() -> Result<()> {
    let engine = engine()?;
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    engine.docker(&words)?;
    until(&"ready".to_owned(), || engine.docker(&["logs", "box"]))?;
    engine.docker(&["pause", "box"])?;
    engine.docker(&["stop", "box"])?;
    assert_eq!(flags(&engine, "box")?, "exited false false");
    assert_eq!(inspect(&engine, "box", "{{.State.ExitCode}}")?, "3");
    for words in [
        ["kill", "box"].as_slice(),
        &["restart", "-t", "0", "box"],
        &["rm", "-f", "box"],
    ] {
        engine.docker_output(&["start", "box"])?;
        engine.docker(&["pause", "box"])?;
        engine.docker(words)?;
    }
    nothing_is_left(&engine)
}

#[test]
fn a_new_name_is_taken_and_the_old_one_is_free() -> Result<()> {
    let mut engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    engine.docker(&["create", "--network", "none", "--name", "other", "busybox"])?;
    engine.docker(&["rename", "box", "crate"])?;
    fails(&engine, &["inspect", "box"], "o such object: box")?;
    engine.docker(&["rename", "other", "box"])?;
    engine.kill9()?;
    engine.restart()?;
    let mut names: Vec<String> = engine
        .docker(&["ps", "-a", "--format", "{{.Names}}"])?
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    assert_eq!(names, ["box", "crate"]);
    fails(
        &engine,
        &["rename", "crate", "box"],
        "Error when allocating new name: Conflict. The container name \"/box\" is already in use by container",
    )?;
    fails(
        &engine,
        &["rename", "crate", "crate"],
        "Renaming a container with the same name as its current name",
    )?;
    fails(
        &engine,
        &["rename", "crate", "_x"],
        "Error when allocating new name: Invalid container name (/_x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
    )?;
    let events = events(
        &engine,
        &["rename"],
        "{{.Actor.Attributes.oldName}} {{.Actor.Attributes.name}}",
    )?;
    assert_eq!(events, "/box crate\n/other box");
    Ok(())
}

#[test]
fn limits_change_at_once_and_hold_at_the_next_start() -> Result<()> {
    let mut engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    let words = [
        "update",
        "--memory",
        "64m",
        "--memory-swap",
        "128m",
        "--cpu-shares",
        "512",
    ];
    engine.docker(
        &[
            &words[..],
            &["--pids-limit", "77", "--cpuset-cpus", "0", "box"],
        ]
        .concat(),
    )?;
    let check = |engine: &Engine| -> Result<()> {
        assert_eq!(
            limit(engine, "box", "memory", "memory.limit_in_bytes")?,
            "67108864"
        );
        assert_eq!(
            limit(engine, "box", "memory", "memory.memsw.limit_in_bytes")?,
            "134217728"
        );
        assert_eq!(limit(engine, "box", "cpu", "cpu.shares")?, "512");
        assert_eq!(limit(engine, "box", "pids", "pids.max")?, "77");
        assert_eq!(limit(engine, "box", "cpuset", "cpuset.cpus")?, "0");
        Ok(())
    };
    check(&engine)?;
    // Who enters later is under the new limits, too.
    let groups = engine.docker(&["exec", "box", "cat", "/proc/self/cgroup", "/proc/1/cgroup"])?;
    let (own, first) = groups.split_at(groups.len() / 2);
    assert_eq!(own.trim(), first.trim());
    engine.kill9()?;
    engine.restart()?;
    check(&engine)?;
    engine.docker(&["restart", "-t", "0", "box"])?;
    check(&engine)?;
    engine.docker(&["stop", "-t", "0", "box"])?;
    engine.docker(&["update", "--cpus", "1.5", "box"])?;
    engine.docker(&["start", "box"])?;
    assert_eq!(limit(&engine, "box", "cpu", "cpu.cfs_quota_us")?, "150000");
    let refused = [
        (["--memory", "1m"], "Minimum memory limit allowed is 6MB"),
        (
            ["--memory", "512m"],
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            ["--cpu-quota", "50000"],
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            ["--restart", "foo"],
            "invalid restart policy: unknown policy 'foo'",
        ),
    ];
    for (flag, message) in refused {
        fails(&engine, &["update", flag[0], flag[1], "box"], message)?;
    }
    engine.docker(&["rm", "-f", "box"])?;
    nothing_is_left(&engine)
}

#[test]
fn a_limit_that_the_kernel_refuses_is_not_recorded() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    engine.docker(&["update", "--memory", "64m", "--memory-swap", "128m", "box"])?;
    // Less swap than memory: only the kernel knows the memory limit that is set.
    fails(
        &engine,
        &["update", "--memory-swap", "32m", "box"],
        "Cannot update container",
    )?;
    assert_eq!(
        inspect(&engine, "box", "{{.HostConfig.MemorySwap}}")?,
        "134217728"
    );
    Ok(())
}

#[test]
fn prune_removes_what_does_not_run_and_passes_the_filters() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    for (name, label) in [("one", "a=1"), ("two", "a=2"), ("three", "b=1")] {
        let words = [
            "create",
            "--network",
            "none",
            "--name",
            name,
            "--label",
            label,
            "busybox",
        ];
        engine.docker(&words)?;
    }
    let prune = |filter: &str| engine.docker(&["container", "prune", "-f", "--filter", filter]);
    let left = || -> Result<String> {
        let names = engine.docker(&["ps", "-a", "--format", "{{.Names}}"])?;
        let mut names: Vec<&str> = names.lines().collect();
        names.sort_unstable();
        Ok(names.join(" "))
    };
    assert_eq!(prune("until=1h")?, "Total reclaimed space: 0B");
    prune("label=a=1")?;
    assert_eq!(left()?, "box three two");
    prune("label!=a=2")?;
    assert_eq!(left()?, "box two");
    fails(
        &engine,
        &["container", "prune", "-f", "--filter", "x=y"],
        "invalid filter 'x'",
    )?;
    // What a stopped container wrote is what its removal gives back.
    let write = "dd if=/dev/zero of=/file bs=1M count=3";
    engine.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "big",
        "busybox",
        "sh",
        "-c",
        write,
    ])?;
    let said = engine.docker(&["container", "prune", "-f"])?;
    ensure!(said.starts_with("Deleted Containers:\n"), "{said}");
    ensure!(said.contains("Total reclaimed space: 3.1"), "{said}");
    assert_eq!(left()?, "box");
    let reclaimed = events(
        &engine,
        &["prune"],
        "{{.Type}} {{.Actor.Attributes.reclaimed}}",
    )?;
    let last = reclaimed.lines().last().context("no event")?;
    ensure!(last.starts_with("container 31"), "{last}");
    Ok(())
}

#[test]
fn a_removal_ends_when_the_files_are_gone() -> Result<()> {
    let engine = engine()?;
    for words in [
        ["rm", "-f", "-v", "box"].as_slice(),
        &["rm", "--force", "box"],
    ] {
        let id = engine.docker(&SLEEPING_BOX)?;
        engine.docker(&[
            "exec",
            "box",
            "dd",
            "if=/dev/zero",
            "of=/f",
            "bs=1M",
            "count=8",
        ])?;
        engine.docker(words)?;
        for root in [engine.data_root(), engine.exec_root()] {
            let folder = root.join("containers").join(&id);
            ensure!(!folder.exists(), "{} is there", folder.display());
        }
        let layers = engine.data_root().join("snapshots");
        let output = havre_testkit::command::run(
            havre_testkit::command::command("find")
                .arg(&layers)
                .args(["-name", "f", "-size", "+1M"]),
        )?;
        ensure!(output.stdout.is_empty(), "{}", text(&output.stdout));
    }
    engine.docker(&SLEEPING_BOX)?;
    fails(
        &engine,
        &["rm", "--link", "box"],
        "Conflict, cannot remove the default link name of the container",
    )?;
    fails(
        &engine,
        &["rm", "box"],
        "cannot remove container \"box\": container is running: stop the container before removing or force remove",
    )
}
