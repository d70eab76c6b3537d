//! Flags of `docker run`: what each makes of the container, and the words in which a senseless value is refused.

use crate::support::{SLEEPING_BOX, assert_fails, engine, load_busybox, run_rm, stdout_of, text};
use anyhow::Result;
use havre_testkit::engine::EngineOptions;
use havre_testkit::http::Body;
use havre_testkit::{Engine, ensure_packages};
use std::process::Stdio;

/// Whether the host's controllers are on cgroup version 1, where the files below are.
fn version_1() -> bool {
    fs_err::metadata("/sys/fs/cgroup/cgroup.controllers").is_err()
}

/// The number of the disk that holds `/`, as the cgroup's files name it, and its path.
fn some_disk() -> Option<(String, String)> {
    let disks = fs_err::read_dir("/sys/block").ok()?.flatten();
    let mut disks = disks.map(|disk| disk.file_name().to_string_lossy().into_owned());
    let name = disks.find(|name| name.starts_with("vd") || name.starts_with("sd"))?;
    let number = fs_err::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
    Some((number.trim().to_owned(), format!("/dev/{name}")))
}

#[test]
fn every_limit_is_in_the_cgroup() -> Result<()> {
    if !version_1() {
        return Ok(());
    }
    let engine = engine()?;
    let flags = "-m 64m --memory-swap 96m --memory-reservation 32m --memory-swappiness 30 \
                 --oom-kill-disable --cpu-shares 512 --cpu-period 50000 --cpu-quota 25000 \
                 --cpuset-cpus 0 --cpuset-mems 0 --pids-limit 33 --shm-size 2m --oom-score-adj 77 \
                 --ulimit nofile=100:200 --ulimit core=0 busybox sh -c";
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes \
                  memory/memory.soft_limit_in_bytes memory/memory.swappiness; head -1 memory/memory.oom_control; \
                  cat cpu/cpu.shares cpu/cpu.cfs_period_us cpu/cpu.cfs_quota_us cpuset/cpuset.cpus \
                  cpuset/cpuset.mems pids/pids.max; df -k /dev/shm | tail -1 | awk '{print $2}'; \
                  cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; ulimit -c";
    let mut words: Vec<&str> = flags.split_whitespace().collect();
    words.push(script);
    assert_eq!(
        stdout_of(&engine, &words)?.replace('\n', " "),
        "67108864 100663296 33554432 30 oom_kill_disable 1 512 50000 25000 0 0 33 2048 77 100 200 0"
    );
    Ok(())
}

#[test]
fn rates_of_a_disk_are_in_the_cgroup() -> Result<()> {
    let Some((number, disk)) = some_disk().filter(|_| version_1()) else {
        return Ok(());
    };
    let engine = engine()?;
    let rate = |value: &str| format!("{disk}:{value}");
    let (a, b, c, d) = (rate("1mb"), rate("2mb"), rate("100"), rate("200"));
    let words = [
        "--device-read-bps",
        &a,
        "--device-write-bps",
        &b,
        "--device-read-iops",
        &c,
        "--device-write-iops",
        &d,
        "busybox",
        "sh",
        "-c",
        "cd /sys/fs/cgroup/blkio; for f in read_bps write_bps read_iops write_iops; do cat blkio.throttle.${f}_device; done",
    ];
    let expected = format!("{number} 1048576\n{number} 2097152\n{number} 100\n{number} 200");
    assert_eq!(stdout_of(&engine, &words)?, expected);
    Ok(())
}

/// Flags, what is looked at inside, and what is seen.
const ISOLATION: [(&str, &str, &str); 18] = [
    ("", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    (
        "--sysctl net.ipv4.ip_unprivileged_port_start=5",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "5",
    ),
    (
        "--sysctl kernel.msgmax=65536",
        "cat /proc/sys/kernel/msgmax",
        "65536",
    ),
    (
        "--ipc none",
        "ls -d /dev/shm /dev/mqueue 2>/dev/null",
        "/dev/mqueue",
    ),
    ("--ipc host", "mount | grep -c ' /dev/shm '", "1"),
    ("--pid host", "test -d /proc/2 && echo host", "host"),
    (
        "--read-only",
        "touch /x /etc/hosts 2>/dev/null; touch /dev/shm/x && ls /x /dev/shm/x 2>/dev/null",
        "/dev/shm/x",
    ),
    (
        "--cap-drop ALL --cap-add kill",
        "grep CapEff /proc/self/status",
        "CapEff:\t0000000000000020",
    ),
    (
        "--cap-add ALL",
        "grep -c 'CapEff:.*ffff' /proc/self/status",
        "1",
    ),
    (
        "--security-opt no-new-privileges",
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t1",
    ),
    (
        "--security-opt no-new-privileges=false",
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t0",
    ),
    (
        "--security-opt seccomp=unconfined",
        "grep Seccomp: /proc/self/status",
        "Seccomp:\t0",
    ),
    (
        "--security-opt systempaths=unconfined",
        "mount | grep -c ' /proc/'",
        "0",
    ),
    (
        "--security-opt writable-cgroups=true",
        "d=$(ls -d /sys/fs/cgroup/memory /sys/fs/cgroup 2>/dev/null | head -1); mkdir $d/x && rmdir $d/x && echo made",
        "made",
    ),
    (
        "--device /dev/null:/dev/made:rw",
        "echo x >/dev/made && ls -l /dev/made | cut -c1",
        "c",
    ),
    (
        "--hostname box --domainname in.harbour",
        "hostname; cat /proc/sys/kernel/domainname",
        "box\nin.harbour",
    ),
    (
        "--tmpfs /t:size=1m,mode=1700,uid=5,exec",
        "mount | grep -o ' /t .*(.*'; ls -ldn /t | awk '{print $1, $3}'",
        " /t type tmpfs (rw,nosuid,nodev,relatime,size=1024k,mode=1700,uid=5)\ndrwx-----T 5",
    ),
    (
        "--isolation default --annotation a=b --label c=d",
        "echo ran",
        "ran",
    ),
];

#[test]
fn isolation_is_as_asked_for() -> Result<()> {
    let engine = engine()?;
    let host = fs_err::read_to_string("/proc/sys/kernel/hostname")?;
    let seen = stdout_of(&engine, &["--uts", "host", "busybox", "hostname"])?;
    assert_eq!(seen, host.trim());
    for (flags, script, expected) in ISOLATION {
        let words: Vec<&str> = flags
            .split_whitespace()
            .chain(["busybox", "sh", "-c", script])
            .collect();
        let output = run_rm(&engine, &words)?;
        assert_eq!(
            text(&output.stdout).trim_end(),
            expected,
            "{flags}: {}",
            text(&output.stderr)
        );
    }
    Ok(())
}

#[test]
fn a_privileged_container_has_it_all() -> Result<()> {
    let engine = engine()?;
    let script = "grep -h -e CapEff -e Seccomp: /proc/self/status; mount | grep -c ' /proc/'; \
                  grep ' /sys ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1; \
                  d=$(ls -d /sys/fs/cgroup/cpu /sys/fs/cgroup 2>/dev/null | head -1); mkdir $d/x && rmdir $d/x && echo made; \
                  ls /dev | wc -l";
    let seen = stdout_of(&engine, &["--privileged", "busybox", "sh", "-c", script])?;
    let lines: Vec<&str> = seen.lines().collect();
    let bounding = fs_err::read_to_string("/proc/self/status")?;
    let bounding = bounding
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap_or_default();
    assert_eq!(lines[0].trim_start_matches("CapEff:"), bounding);
    assert_eq!(lines[1..5], ["Seccomp:\t0", "0", "rw", "made"]);
    assert!(lines[5].parse::<u32>()? > 20, "{seen}");
    Ok(())
}

#[test]
fn namespaces_of_another_container_are_joined() -> Result<()> {
    let engine = engine()?;
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--ipc",
        "shareable",
        "--name",
        "donor",
        "busybox",
    ];
    engine.docker(
        &[
            &words[..],
            &["sh", "-c", "echo shared >/dev/shm/note; exec sleep 600"],
        ]
        .concat(),
    )?;
    engine.docker(&SLEEPING_BOX)?;
    let join = |mode: &str, script: &str| {
        stdout_of(
            &engine,
            &[mode, "container:donor", "busybox", "sh", "-c", script],
        )
    };
    // The donor writes its note soon after its start, not before it.
    let read = "until cat /dev/shm/note 2>/dev/null; do :; done; readlink /proc/self/ns/ipc";
    let ipc = engine.docker(&["exec", "donor", "readlink", "/proc/self/ns/ipc"])?;
    assert_eq!(join("--ipc", read)?, format!("shared\n{ipc}"));
    assert_eq!(join("--pid", "ps | grep -c '[s]leep 600$'")?, "1");
    let network = engine.docker(&["exec", "donor", "readlink", "/proc/self/ns/net"])?;
    let words = [
        "run",
        "--rm",
        "--network",
        "container:donor",
        "busybox",
        "readlink",
        "/proc/self/ns/net",
    ];
    assert_eq!(engine.docker(&words)?, network);
    let private = run_rm(&engine, &["--ipc", "container:box", "busybox", "true"])?;
    assert_fails(
        &private,
        125,
        "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
    );
    engine.docker(&["stop", "-t", "0", "donor"])?;
    for (mode, kind) in [("--pid", "PID"), ("--ipc", "IPC")] {
        let stopped = run_rm(&engine, &[mode, "container:donor", "busybox", "true"])?;
        assert_fails(
            &stopped,
            125,
            &format!("failed to join {kind} namespace: container "),
        );
        assert_fails(&stopped, 125, "is not running");
    }
    Ok(())
}

/// Flags, and part of the words that they are refused with.
const SENSELESS: [(&str, &str); 32] = [
    (
        "--cpuset-cpus 0-2000000000",
        "Invalid value 0-2000000000 for cpuset cpus: value of out range, maximum is 8192",
    ),
    (
        "--cpuset-cpus 8000",
        "Requested CPUs are not available - requested 8000, available: ",
    ),
    (
        "--cpuset-mems 900",
        "Requested memory nodes are not available - requested 900, available: ",
    ),
    (
        "--cpus 1 --cpu-period 5000",
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    ),
    (
        "--cpu-period 500",
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    ),
    (
        "--cpu-shares -1",
        "invalid CPU shares (-1): value must be a positive integer",
    ),
    (
        "-m 64m --memory-swap 32m",
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    ),
    (
        "--oom-score-adj 1001",
        "Invalid value 1001, range for oom score adj is [-1000, 1000]",
    ),
    (
        "--isolation hyperv",
        "invalid isolation (hyperv): linux only supports 'default'",
    ),
    ("--ipc foo", "invalid IPC mode: foo"),
    ("--ipc container:nope", "No such container: nope"),
    ("--pid container:nope", "No such container: nope"),
    (
        "--uts host --hostname x",
        "conflicting options: hostname and the UTS mode",
    ),
    (
        "--hostname aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "is too long (maximum 64 bytes)",
    ),
    (
        "--cap-add foo",
        "invalid CapAdd: unknown capability: \"CAP_FOO\"",
    ),
    (
        "--security-opt foo=bar",
        "invalid --security-opt 2: \"foo=bar\"",
    ),
    (
        "--security-opt no-new-privileges=maybe",
        "invalid --security-opt 2: \"no-new-privileges=maybe\"",
    ),
    ("--security-opt apparmor=no-such-profile", "no-such-profile"),
    (
        "--device /etc/passwd",
        "error gathering device information while adding custom device \"/etc/passwd\": not a device node",
    ),
    (
        "--device no.such/device=x",
        "CDI device injection failed: unresolvable CDI devices no.such/device=x",
    ),
    (
        "--gpus all",
        "could not select device driver \"\" with capabilities: [[gpu]]",
    ),
    ("--runtime foo", "unknown or invalid runtime name: foo"),
    (
        "--annotation =b",
        "invalid Annotations: the empty string is not permitted as an annotation key",
    ),
    (
        "--storage-opt size=1G",
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    ),
    ("--storage-opt foo=1", "Unknown option foo"),
    ("--tmpfs /t:bogus", "invalid tmpfs option \"bogus\""),
    (
        "--tmpfs t",
        "invalid mount path: 't' mount path must be absolute",
    ),
    ("-v /etc:/t:ro,rw", "invalid mode: ro,rw"),
    (
        "-v /etc:/",
        "invalid specification: destination can't be '/'",
    ),
    (
        "--mount type=foo,target=/t",
        "invalid mount config for type \"foo\": mount type unknown",
    ),
    (
        "--mount type=bind,source=/etc,target=/t,bind-propagation=shared",
        "is not a shared mount",
    ),
    ("-v /etc:/t -v /root:/t", "Duplicate mount point: /t"),
];

#[test]
fn senseless_values_are_refused_in_dockers_words() -> Result<()> {
    let engine = engine()?;
    for (flags, message) in SENSELESS {
        let words: Vec<&str> = flags
            .split_whitespace()
            .chain(["busybox", "true"])
            .collect();
        assert_fails(&run_rm(&engine, &words)?, 125, message);
    }
    assert!(
        engine.docker(&["ps", "-aq"])?.is_empty(),
        "a refused container stayed"
    );
    Ok(())
}

/// What the command line would not let through.
#[test]
fn senseless_requests_are_refused_in_dockers_words() -> Result<()> {
    let engine = engine()?;
    let cases = [
        (
            r#""MemorySwappiness":101"#,
            "Invalid value: 101, valid memory swappiness range is 0-100",
        ),
        (
            r#""IOMaximumBandwidth":1"#,
            "invalid option: QoS maximum bandwidth configuration is not supported on linux",
        ),
        (
            r#""IOMaximumIOps":1"#,
            "invalid option: QoS maximum IOPs configuration is not supported on linux",
        ),
        (r#""ShmSize":-1"#, "SHM size can not be less than 0"),
        (
            r#""Ulimits":[{"Name":"foo","Soft":1,"Hard":1}]"#,
            "invalid ulimit type: foo",
        ),
        (r#""PidMode":"container:""#, "invalid PID mode: container:"),
        (r#""UTSMode":"foo""#, "invalid UTS mode: foo"),
        (
            r#""CgroupnsMode":"foo""#,
            "invalid cgroup namespace mode: foo",
        ),
        (
            r#""NetworkMode":"container:""#,
            "invalid network mode: invalid container format container:<name|id>",
        ),
        (
            r#""Sysctls":{"kernel.core_pattern":"|/x"}"#,
            "sysctl \"kernel.core_pattern\" is not allowed",
        ),
        (r#""CgroupParent":"a\u0000b""#, "invalid cgroup parent"),
        (
            r#""Dns":["1.1.1.1","x"]"#,
            r#"IP address is not correctly formatted: "x""#,
        ),
        (r#""DnsSearch":["a b"]"#, r#""a b" is not a valid domain"#),
        (
            r#""DnsOptions":["a\nb"]"#,
            r#""a\nb" is not a valid DNS option"#,
        ),
        (
            r#""DeviceCgroupRules":["x 1:2 r"]"#,
            "invalid device cgroup rule format: 'x 1:2 r'",
        ),
        (r#""CpuCount":"x""#, ""),
    ];
    for (fields, message) in cases {
        let body = format!("{{\"Image\":\"busybox\",\"HostConfig\":{{{fields}}}}}");
        let body = Body::Bytes(body.as_bytes(), "application/json");
        let answer = engine.api("POST", "/containers/create", &body)?;
        let said = text(&answer.body);
        assert_eq!(answer.status, 400, "{fields}: {said}");
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let said = said["message"].as_str().unwrap_or_default();
        assert!(said.contains(message), "{fields}: {said}");
    }
    Ok(())
}

#[test]
fn warnings_tell_what_does_not_hold() -> Result<()> {
    let engine = engine()?;
    let label = run_rm(
        &engine,
        &["--security-opt", "label=type:x_t", "busybox", "true"],
    )?;
    assert!(label.status.success());
    assert!(
        text(&label.stderr).contains("SELinux is not enabled"),
        "{label:?}"
    );
    if version_1() {
        let output = run_rm(&engine, &["--oom-kill-disable", "busybox", "true"])?;
        assert!(
            text(&output.stderr).contains("no memory limit is set"),
            "{output:?}"
        );
    }
    Ok(())
}

/// With runc. crun refuses hosts with both versions of cgroups in use.
#[test]
fn other_runtimes_run_containers_too() -> Result<()> {
    ensure_packages()?;
    let engine = Engine::start_with(EngineOptions {
        args: ["--add-runtime", "other=runc", "--default-runtime", "other"]
            .map(str::to_owned)
            .to_vec(),
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    a_life_under(&engine)
}

fn a_life_under(engine: &Engine) -> Result<()> {
    let script = "echo out; echo err >&2; cat; id -u; grep Seccomp: /proc/self/status; exit 7";
    let words = [
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "-m",
        "64m",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let output = engine
        .docker_command(&words)
        .stdin(Stdio::null())
        .output()?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{out}{err}");
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("out\n0\nSeccomp:\t2\n", "err\n")
    );
    engine.docker(&SLEEPING_BOX)?;
    assert_eq!(engine.docker(&["exec", "box", "echo", "inside"])?, "inside");
    assert_eq!(
        engine.docker(&["exec", "-t", "box", "tty"])?.trim(),
        "/dev/pts/0"
    );
    let runtime = engine.docker(&["inspect", "-f", "{{.HostConfig.Runtime}}", "box"])?;
    assert_eq!(runtime, "other");
    engine.docker(&["pause", "box"])?;
    engine.docker(&["unpause", "box"])?;
    engine.docker(&["logs", "box"])?;
    engine.docker(&["stop", "-t", "0", "box"])?;
    let code = engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", "box"])?;
    assert_eq!(code, "137");
    engine.docker(&["start", "box"])?;
    engine.docker(&["rm", "-f", "box"])?;
    let missing = run_rm(engine, &["busybox", "nope"])?;
    assert_fails(&missing, 127, "nope");
    let own = stdout_of(engine, &["--runtime", "havre", "busybox", "echo", "own"])?;
    assert_eq!(own, "own");
    let shim = run_rm(
        engine,
        &["--runtime", "io.containerd.nothing.v9", "busybox", "true"],
    )?;
    assert_fails(
        &shim,
        125,
        "binary not installed \"containerd-shim-nothing-v9\"",
    );
    assert!(
        engine
            .docker(&["info", "-f", "{{json .Runtimes}}"])?
            .contains("\"other\"")
    );
    Ok(())
}
