//! `docker run`: output, exit status, streams, terminal, and what the process finds around itself.

use crate::support::{assert_fails, engine, run_rm, stdout_of, text};
use anyhow::Result;
use havre_testkit::command::command;
use std::io::Write as _;
use std::process::Stdio;

#[test]
fn output_streams_and_status_come_back() -> Result<()> {
    let engine = engine()?;
    let output = run_rm(
        &engine,
        &["busybox", "sh", "-c", "echo out; echo err >&2; exit 42"],
    )?;
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(text(&output.stdout), "out\n");
    assert_eq!(text(&output.stderr), "err\n");
    Ok(())
}

#[test]
fn large_output_arrives_whole() -> Result<()> {
    let engine = engine()?;
    let script = "i=0; while [ $i -lt 20000 ]; do echo line-$i-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done";
    let output = run_rm(&engine, &["busybox", "sh", "-c", script])?;
    let lines = text(&output.stdout);
    assert_eq!(lines.lines().count(), 20_000);
    let last = lines.lines().last().unwrap_or_default();
    assert!(last.starts_with("line-19999-"), "{last}");
    Ok(())
}

#[test]
fn standard_input_reaches_the_process_and_its_end_too() -> Result<()> {
    let engine = engine()?;
    let words = ["run", "--rm", "-i", "--network", "none", "busybox", "sort"];
    let mut child = engine
        .docker_command(&words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().expect("the input was piped");
    input.write_all(b"b\nc\na\n")?;
    drop(input);
    let output = child.wait_with_output()?;
    assert_eq!(text(&output.stdout), "a\nb\nc\n");
    assert!(output.status.success());
    Ok(())
}

#[test]
fn a_terminal_is_a_terminal() -> Result<()> {
    let engine = engine()?;
    let inner = format!(
        "docker -H {} run --rm -it --network none busybox sh -c 'tty; stty size; echo $TERM'",
        engine.host()
    );
    let output = command("script")
        .args([
            "-qec",
            &format!("stty rows 33 cols 77; {inner}"),
            "/dev/null",
        ])
        .stdin(Stdio::null())
        .output()?;
    let seen = text(&output.stdout);
    assert!(seen.contains("/dev/pts/0"), "{seen}");
    assert!(seen.contains("33 77"), "{seen}");
    assert!(seen.contains("xterm"), "{seen}");
    assert_eq!(output.status.code(), Some(0));
    Ok(())
}

#[test]
fn start_errors_have_dockers_codes() -> Result<()> {
    let engine = engine()?;
    let missing = run_rm(&engine, &["busybox", "nope"])?;
    assert_fails(
        &missing,
        127,
        "exec: \"nope\": executable file not found in $PATH",
    );
    let directory = run_rm(&engine, &["busybox", "/etc"])?;
    assert_fails(&directory, 126, "/etc");
    let plain = run_rm(&engine, &["busybox", "/etc/passwd"])?;
    assert_fails(&plain, 126, "exec: \"/etc/passwd\": permission denied");
    Ok(())
}

#[test]
fn the_process_finds_what_docker_gives() -> Result<()> {
    let engine = engine()?;
    let seen = stdout_of(
        &engine,
        &[
            "--hostname",
            "harbour",
            "-e",
            "COLOUR=blue",
            "-w",
            "/made/on/the/way",
            "busybox",
            "sh",
            "-c",
            "hostname; echo $COLOUR; pwd; echo $HOME; echo $$; cat /etc/hostname; ls /sys/class/net",
        ],
    )?;
    assert_eq!(
        seen,
        "harbour\nblue\n/made/on/the/way\n/root\n1\nharbour\nlo"
    );
    let ids = stdout_of(
        &engine,
        &[
            "-u",
            "1234:4321",
            "--group-add",
            "77",
            "busybox",
            "sh",
            "-c",
            "id -u; id -g; id -G",
        ],
    )?;
    assert_eq!(ids, "1234\n4321\n4321 77");
    Ok(())
}

#[test]
fn limits_reach_the_kernel() -> Result<()> {
    let engine = engine()?;
    let name = "limited";
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        name,
        "-m",
        "64m",
        "--pids-limit",
        "50",
        "--cpus",
        "0.5",
        "--ulimit",
        "nofile=100:200",
        "busybox",
        "sleep",
        "600",
    ];
    engine.docker(&words)?;
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", name])?;
    let groups = fs_err::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let file = |controller: &str, file: &str| -> Result<String> {
        let path = groups
            .lines()
            .find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let names = parts.next()?;
                names
                    .split(',')
                    .any(|name| name == controller)
                    .then(|| parts.next())
                    .flatten()
            })
            .unwrap_or_else(|| panic!("no {controller} in {groups}"));
        let path = format!("/sys/fs/cgroup/{controller}{path}/{file}");
        Ok(fs_err::read_to_string(path)?.trim().to_owned())
    };
    if fs_err::metadata("/sys/fs/cgroup/cgroup.controllers").is_err() {
        assert_eq!(
            file("memory", "memory.limit_in_bytes")?,
            (64 << 20).to_string()
        );
        assert_eq!(file("pids", "pids.max")?, "50");
        assert_eq!(file("cpu", "cpu.cfs_quota_us")?, "50000");
    }
    let limits = fs_err::read_to_string(format!("/proc/{pid}/limits"))?;
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap_or_default();
    assert_eq!(
        files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(),
        ["100", "200"]
    );
    engine.docker(&["rm", "-f", name])?;
    Ok(())
}

#[test]
fn a_container_out_of_memory_says_so() -> Result<()> {
    let engine = engine()?;
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "greedy",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        "x=$(tail -c 100000000 /dev/zero | tr '\\0' a)",
    ];
    engine.docker(&words)?;
    engine.docker(&["wait", "greedy"])?;
    assert_eq!(
        engine.docker(&["inspect", "-f", "{{.State.OOMKilled}}", "greedy"])?,
        "true"
    );
    Ok(())
}

#[test]
fn a_bind_mount_and_a_tmpfs_are_there() -> Result<()> {
    let engine = engine()?;
    let host = engine.directory().join("shared");
    fs_err::create_dir(&host)?;
    fs_err::write(host.join("from-host"), "hello")?;
    let volume = format!("{}:/inside", host.display());
    let seen = stdout_of(
        &engine,
        &[
            "-v",
            &volume,
            "--tmpfs",
            "/scratch:size=1m",
            "busybox",
            "sh",
            "-c",
            "cat /inside/from-host; echo back >/inside/from-container; df -m /scratch | tail -1 | awk '{print $2}'",
        ],
    )?;
    assert_eq!(seen, "hello1");
    assert_eq!(
        fs_err::read_to_string(host.join("from-container"))?,
        "back\n"
    );
    let volume = format!("{}:/inside:ro", host.display());
    let refused = run_rm(&engine, &["-v", &volume, "busybox", "touch", "/inside/x"])?;
    assert_fails(&refused, 1, "Read-only file system");
    Ok(())
}
