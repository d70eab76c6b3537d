//! R20, R25, R27, R31, R32, R34: devices, limits, and what must not come from the engine's own state.

use super::fixture::{field, probe, sleeping_box};
use crate::support::{engine, load_busybox, run_rm, stdout_of, text, until};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::command::{command, run};
use havre_testkit::http::Body;
use havre_testkit::{Engine, EngineOptions};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Opens nodes that are not for a container, and those that are; prints what went wrong.
const DEVICES: &str = "cd /tmp; for n in 'b 8 0' 'b 7 0' 'c 1 1' 'c 1 4' 'c 10 232' 'c 10 229' 'c 10 237' 'c 10 200'; do \
    rm -f node; mknod node $n 2>/dev/null || continue; \
    for how in 0\\<node 0\\>\\>node; do (eval \"true $how\") 2>/dev/null && echo open $n $how; done; done; \
    for d in null zero full random urandom tty ptmx; do test -c /dev/$d || echo no $d; done; \
    head -c1 /dev/zero | od -An -tx1 | tr -d ' \\n'; head -c9 /dev/urandom | wc -c; echo x >/dev/null; (echo x >/dev/full) 2>/dev/null && echo not full; true";

/// R20: only the default devices can be opened, and it stays so after an update, after the engine's
/// death, and after a restart of the container.
#[test]
fn r20_devices_stay_closed() -> Result<()> {
    let mut engine = engine()?;
    sleeping_box(&engine, &[])?;
    let look = |engine: &Engine| engine.docker(&["exec", "box", "sh", "-c", DEVICES]);
    let wanted = "009";
    assert_eq!(look(&engine)?, wanted);
    engine.docker(&[
        "update",
        "--memory",
        "64m",
        "--memory-swap",
        "64m",
        "--cpu-shares",
        "512",
        "box",
    ])?;
    assert_eq!(look(&engine)?, wanted, "after an update");
    engine.kill9()?;
    engine.restart()?;
    assert_eq!(look(&engine)?, wanted, "after the engine's death");
    engine.docker(&["update", "--pids-limit", "100", "box"])?;
    assert_eq!(look(&engine)?, wanted, "after a second update");
    engine.docker(&["restart", "-t", "0", "box"])?;
    assert_eq!(look(&engine)?, wanted, "after a restart");
    // The twin: the same nodes open for a privileged container, so the look can tell.
    let open = stdout_of(&engine, &["--privileged", "busybox", "sh", "-c", DEVICES])?;
    assert!(open.contains("open c 10 237"), "{open}");
    Ok(())
}

/// R20: of a device that was asked for exactly the asked rights are there.
#[test]
fn r20_rights_of_a_device() -> Result<()> {
    let engine = engine()?;
    let script = "(true </dev/node) 2>/dev/null && printf r; (true >>/dev/node) 2>/dev/null && printf w; \
                  (true <>/dev/node) 2>/dev/null && printf b; true";
    for (rights, wanted) in [("r", "r"), ("w", "w"), ("rw", "rwb"), ("m", "")] {
        let device = format!("/dev/loop-control:/dev/node:{rights}");
        let seen = stdout_of(
            &engine,
            &["--device", &device, "busybox", "sh", "-c", script],
        )?;
        assert_eq!(seen, wanted, "{rights}");
    }
    Ok(())
}

fn create(engine: &Engine, body: &Value) -> Result<(u16, String)> {
    let bytes = body.to_string();
    let body = Body::Bytes(bytes.as_bytes(), "application/json");
    let answer = engine.api("POST", "/containers/create", &body)?;
    Ok((answer.status, text(&answer.body)))
}

/// What create, or else start, answers: some things are looked up only when a container starts.
fn ask(engine: &Engine, body: &Value) -> Result<(u16, String)> {
    let (status, said) = create(engine, body)?;
    if status != 201 {
        return Ok((status, said));
    }
    let id: Value = serde_json::from_str(&said)?;
    let id = id["Id"].as_str().context("no id")?;
    let started = engine.api("POST", &format!("/containers/{id}/start"), &Body::Empty)?;
    Ok((started.status, text(&started.body)))
}

/// R25: lengths and numbers that do not fit are refused; what fits arrives whole.
#[test]
fn r25_lengths_and_numbers() -> Result<()> {
    let engine = engine()?;
    let long = "x".repeat(64 << 10);
    let name = "h".repeat(300);
    for (field, value) in [
        ("Hostname", json!(name)),
        ("Hostname", json!(long)),
        ("User", json!(long)),
        ("User", json!("99999999999999999999")),
        ("StopSignal", json!(long)),
    ] {
        let (status, said) = ask(
            &engine,
            &json!({ "Image": "busybox", field: value, "HostConfig": {"NetworkMode": "none"} }),
        )?;
        assert_eq!(status, 400, "{field}: {said}");
    }
    for rule in [
        "c 4294967296:0 rwm",
        "c 1:4294967296 rwm",
        "c -1:0 rwm",
        "c 99999999999999999999:0 r",
        "c 1:3:5 r",
        "x 1:3 r",
        "c 1:3 rwx",
    ] {
        let (status, said) = ask(
            &engine,
            &json!({ "Image": "busybox", "HostConfig": {"NetworkMode": "none", "DeviceCgroupRules": [rule]} }),
        )?;
        assert_eq!(status, 400, "{rule}: {said}");
    }
    // The twins: 64 characters of name, and 64 KiB of environment to the last byte.
    let name = "h".repeat(63);
    assert_eq!(
        stdout_of(&engine, &["--hostname", &name, "busybox", "hostname"])?,
        name
    );
    let variable = format!("LONG={long}");
    let seen = stdout_of(
        &engine,
        &["-e", &variable, "busybox", "sh", "-c", "echo ${#LONG}"],
    )?;
    assert_eq!(seen, long.len().to_string());
    let rule = ["--device-cgroup-rule", "c 10:237 rw", "busybox", "true"];
    assert_eq!(stdout_of(&engine, &rule)?, "");
    Ok(())
}

/// Makes a process of the host that has this number, by forking until it comes round.
fn sentinel_of(pid: i32) -> Result<std::process::Child> {
    for _ in 0..200 {
        fs_err::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
        let mut child = command("sleep").arg("600").spawn()?;
        if i32::try_from(child.id())? == pid {
            return Ok(child);
        }
        child.kill()?;
        child.wait()?;
    }
    anyhow::bail!("no process got the number {pid}")
}

/// R27: neither the engine after a crash nor an operation on a container that has ended signals a
/// process that got the number of one of theirs.
#[test]
fn r27_a_number_that_was_reused() -> Result<()> {
    let mut engine = engine()?;
    sleeping_box(&engine, &["--stop-timeout", "0"])?;
    let init: i32 = engine
        .docker(&["inspect", "-f", "{{.State.Pid}}", "box"])?
        .parse()?;
    let shim = engine
        .census()?
        .processes
        .into_iter()
        .find(|process| process.command.contains("containerd-shim-havre-v2"));
    let shim = shim.context("no shim")?.pid;
    engine.kill9()?;
    kill_process(Pid::from_raw(shim).context("no shim")?, Signal::KILL)?;
    let gone = |pid: i32| {
        until(&true, || {
            Ok(fs_err::metadata(format!("/proc/{pid}")).is_err())
        })
    };
    gone(shim)?;
    gone(init)?;
    let mut sentinels = vec![sentinel_of(shim)?, sentinel_of(init)?];
    engine.restart()?;
    assert_eq!(
        engine.docker(&["inspect", "-f", "{{.State.Running}}", "box"])?,
        "false"
    );
    for words in [
        &["kill", "box"][..],
        &["stop", "box"],
        &["exec", "box", "true"],
        &["pause", "box"],
        &["rm", "-f", "box"],
    ] {
        // Most of them are errors, of a container that does not run.
        engine.docker_output(words)?;
    }
    let alive = sentinels
        .iter_mut()
        .map(|child| Ok(child.try_wait()?.is_none()))
        .collect::<Result<Vec<_>>>()?;
    for mut child in sentinels {
        child.kill()?;
        child.wait()?;
    }
    assert_eq!(alive, [true, true], "a process of somebody else was ended");
    // The twin: a container whose processes are its own ends.
    sleeping_box(&engine, &[])?;
    engine.docker(&["kill", "box"])?;
    until(&"false".to_owned(), || {
        engine.docker(&["inspect", "-f", "{{.State.Running}}", "box"])
    })
}

/// R31: a container has a limit of processes from the start, a fork bomb stays in it, and the engine is
/// the last to be ended when memory runs out.
#[test]
fn r31_limits_from_the_start() -> Result<()> {
    let engine = engine()?;
    let read = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true";
    let most: i64 = fs_err::read_to_string("/proc/sys/kernel/pid_max")?
        .trim()
        .parse()?;
    let wanted = (most / 4).min(32_768).to_string();
    assert_eq!(stdout_of(&engine, &["busybox", "sh", "-c", read])?, wanted);
    sleeping_box(&engine, &["--pids-limit", "30"])?;
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 600";
    engine.docker(&["exec", "-d", "box", "sh", "-c", bomb])?;
    let begun = Instant::now();
    assert_eq!(
        stdout_of(&engine, &["busybox", "echo", "another"])?,
        "another"
    );
    ensure!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let events = "cat /sys/fs/cgroup/pids.events /sys/fs/cgroup/pids/pids.events 2>/dev/null; true";
    let hits = || -> Result<bool> {
        let id = engine.docker(&["inspect", "-f", "{{.Id}}", "box"])?;
        let found = run(command("find").args([
            "/sys/fs/cgroup",
            "-name",
            "pids.events",
            "-path",
            &format!("*{id}*"),
        ]))?;
        let path = text(&found.stdout)
            .lines()
            .next()
            .context(events)?
            .to_owned();
        let all = fs_err::read_to_string(path)?;
        Ok(all
            .lines()
            .filter_map(|line| line.strip_prefix("max "))
            .any(|count| count != "0"))
    };
    until(&true, hits)?;
    let score = |pid: &str| -> Result<String> {
        Ok(
            fs_err::read_to_string(format!("/proc/{pid}/oom_score_adj"))?
                .trim()
                .to_owned(),
        )
    };
    // Without CAP_SYS_RESOURCE nobody spares himself, but says so.
    let wanted = if engine.log().contains("is not spared") {
        score("self")?
    } else {
        "-500".to_owned()
    };
    assert_eq!(score(&engine.pid()?.to_string())?, wanted, "the engine");
    engine.docker(&["rm", "-f", "box"])?;
    let own = ["busybox", "cat", "/proc/self/oom_score_adj"];
    assert_eq!(stdout_of(&engine, &own)?, "0");
    assert_eq!(
        stdout_of(&engine, &[&["--oom-score-adj", "300"][..], &own].concat())?,
        "300"
    );
    sleeping_box(&engine, &["--oom-score-adj", "300"])?;
    assert_eq!(
        engine.docker(&["exec", "box", "cat", "/proc/self/oom_score_adj"])?,
        "300"
    );
    for process in engine.census()?.processes {
        if process.command.contains("containerd-shim") {
            assert_eq!(score(&process.pid.to_string())?, wanted, "the shim");
        }
    }
    Ok(())
}

/// R32: numbers that would cost the engine time or memory are refused at once.
#[test]
fn r32_costly_parameters() -> Result<()> {
    let engine = engine()?;
    let memory = || -> Result<u64> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", engine.pid()?))?;
        Ok(field(&status, "VmRSS")?.trim_end_matches(" kB").parse()?)
    };
    let many = vec!["0"; 60_000].join(",");
    let dashes = "0-".repeat(30_000);
    let before = memory()?;
    for (name, value) in [
        ("CpusetCpus", json!("0-2000000000")),
        ("CpusetCpus", json!("0-18446744073709551615")),
        ("CpusetCpus", json!("2000000000")),
        ("CpusetCpus", json!("0-1-2")),
        ("CpusetCpus", json!("1-0")),
        ("CpusetCpus", json!("-1")),
        ("CpusetCpus", json!("0x0")),
        ("CpusetCpus", json!(",,,,")),
        ("CpusetCpus", json!(dashes)),
        ("CpusetMems", json!("0-2000000000")),
        ("CpusetMems", json!(dashes)),
        ("NanoCpus", json!(i64::MAX)),
        ("NanoCpus", json!(-1)),
        ("CpuPeriod", json!(i64::MAX)),
        ("CpuQuota", json!(1)),
        ("Memory", json!(1)),
        ("MemorySwappiness", json!(101)),
        ("OomScoreAdj", json!(2000)),
        ("ShmSize", json!(-1)),
        ("Memory", json!(-1)),
    ] {
        let begun = Instant::now();
        let (status, said) = create(
            &engine,
            &json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none", name: value } }),
        )?;
        let shown: String = value.to_string().chars().take(40).collect();
        assert_eq!(status, 400, "{name}={shown}: {said}");
        ensure!(
            begun.elapsed() < Duration::from_secs(1),
            "{name}={shown}: {:?}",
            begun.elapsed()
        );
    }
    let grown = memory()?.saturating_sub(before);
    ensure!(grown < 16 << 10, "{grown} KiB more memory");
    // The twins, one of them long but meaningful.
    for cpus in ["0", "0-0", many.as_str()] {
        let (status, said) = create(
            &engine,
            &json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none", "CpusetCpus": cpus } }),
        )?;
        assert_eq!(status, 201, "{said}");
    }
    Ok(())
}

const ATTRIBUTES: &str = r"
import os, resource, time
old = os.umask(0); os.umask(old)
print('cpus', len(os.sched_getaffinity(0)), 'nice', os.getpriority(0, 0), 'umask', oct(old), 'policy', os.sched_getscheduler(0))
print('persona', open('/proc/self/personality').read().strip(), 'oom', open('/proc/self/oom_score_adj').read().strip())
import ctypes
print('io', ctypes.CDLL(None).syscall(252, 1, 0) >> 13)
for name in ('AS', 'CORE', 'CPU', 'DATA', 'FSIZE', 'MEMLOCK', 'NICE', 'NOFILE', 'NPROC', 'RSS', 'RTPRIO', 'STACK'):
    print(name, *resource.getrlimit(getattr(resource, 'RLIMIT_' + name)))
print(*sorted(entry.split(b'=')[0].decode() for entry in open('/proc/self/environ', 'rb').read().split(b'\0') if entry))
";

/// Soft and hard limits of a container. An engine without CAP_SYS_RESOURCE (24) cannot raise its own hard ones.
fn documented_limits() -> Result<String> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let may_raise = u64::from_str_radix(&field(&status, "CapBnd")?, 16)? & (1 << 24) != 0;
    let all = [
        ("AS", Resource::As, None, None),
        ("CORE", Resource::Core, Some(0), None),
        ("CPU", Resource::Cpu, None, None),
        ("DATA", Resource::Data, None, None),
        ("FSIZE", Resource::Fsize, None, None),
        ("MEMLOCK", Resource::Memlock, Some(8 << 20), Some(8 << 20)),
        ("NICE", Resource::Nice, Some(0), Some(0)),
        ("NOFILE", Resource::Nofile, Some(1024), Some(524_288)),
        ("NPROC", Resource::Nproc, None, None),
        ("RSS", Resource::Rss, None, None),
        ("RTPRIO", Resource::Rtprio, Some(0), Some(0)),
        ("STACK", Resource::Stack, Some(8 << 20), None),
    ];
    let least = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let show = |value: Option<u64>| value.map_or("-1".to_owned(), |value| value.to_string());
    let mut text = String::new();
    for (name, resource, soft, hard) in all {
        let own = if may_raise {
            None
        } else {
            getrlimit(resource).maximum
        };
        let hard = least(hard, own);
        text += &format!("{name} {} {}\n", show(least(soft, hard)), show(hard));
    }
    Ok(text)
}

/// A way to start an engine that nobody would choose.
const ODD: &str = "nice -n 5 taskset -c 0 ionice -c 3 setarch -R prlimit --stack=1048576: --cpu=7200: \
                   --nofile=5000: --memlock=65536: --data=9000000000: --";

/// R34: what the engine was started with does not reach containers, nor processes that enter.
#[test]
fn r34_nothing_comes_from_the_engine() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let words =
        "umask 000; i=0; while [ $i -lt 200 ]; do export ODD_$i=$i; i=$((i+1)); done; exec \"$@\"";
    let mut wrapper = vec!["sh", "-c", words, "sh"];
    wrapper.extend(ODD.split(' '));
    let engine = Engine::start_with(EngineOptions {
        wrapper: wrapper.into_iter().map(str::to_owned).collect(),
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    let cpus = std::thread::available_parallelism()?;
    let wanted = format!(
        "cpus {cpus} nice 0 umask 0o22 policy 0\npersona 00000000 oom 0\nio 0\n{}HOME HOSTNAME PATH",
        documented_limits()?
    );
    assert_eq!(probe(&engine, &[], ATTRIBUTES)?, wanted, "run");
    sleeping_box(
        &engine,
        &[
            "-v",
            "/usr:/usr:ro",
            "-v",
            "/lib:/lib:ro",
            "-v",
            "/lib64:/lib64:ro",
        ],
    )?;
    let entered = engine.docker(&[
        "exec",
        "box",
        "/usr/bin/python3",
        "-I",
        "-S",
        "-c",
        ATTRIBUTES,
    ])?;
    assert_eq!(entered, wanted, "exec");
    // The twin: what is asked for is given.
    let asked = probe(
        &engine,
        &["--ulimit", "stack=1048576:2097152", "--ulimit", "core=5:5"],
        ATTRIBUTES,
    )?;
    assert!(
        asked.contains("STACK 1048576 2097152\n") && asked.contains("CORE 5 5\n"),
        "{asked}"
    );
    let out = run_rm(
        &engine,
        &[
            "--cpuset-cpus",
            "0",
            "busybox",
            "grep",
            "Cpus_allowed_list",
            "/proc/self/status",
        ],
    )?;
    assert_eq!(
        text(&out.stdout).split_whitespace().last(),
        Some("0"),
        "{out:?}"
    );
    Ok(())
}
