//! state, list, ps, events, features, spec: what can be known without changing anything.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use havre_cgroup::{Host, Stats};
use havre_runtime_core::OCI_VERSION;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::arguments::Invocation;
use crate::commands::{cgroup_of, named};
use crate::output::print;
use crate::store::{Record, Store};

pub(super) const HELP: &str = "\
havre-runtime: OCI runtime

usage: havre-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND [FLAGS] [ID] …

  create [-b BUNDLE] [--console-socket S] [--pid-file F] [--preserve-fds N] ID
  run    [-b BUNDLE] [-d] [--console-socket S] [--pid-file F] [--preserve-fds N] [--keep] ID
  start ID | state ID | pause ID | resume ID | delete [-f] ID
  kill [-a] ID [SIGNAL]
  exec [-t] [-d] [-u UID[:GID]] [-e K=V] [--cwd DIR] [-p FILE] [--pid-file F] ID COMMAND [ARG…]
  list [-f table|json] [-q] | ps [-f table|json] ID [PS OPTION…] | events [--stats] ID
  update [-r FILE] [--memory N] [--cpu-quota N] … ID
  spec [-b DIR] | features
  checkpoint [--image-path DIR] [--leave-running] [--tcp-established] [--file-locks] … ID
  restore    [-b BUNDLE] [-d] [--image-path DIR] [--console-socket S] [--pid-file F] … ID
";

pub(super) fn version() -> String {
    format!(
        "havre-runtime version {}\nspec: {OCI_VERSION}\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn pretty(value: &Value) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// As runc prints it: the state of the specification and a little more.
fn state_of(record: &Record) -> Value {
    let state = &record.state;
    json!({
        "ociVersion": state.version,
        "id": state.id,
        "pid": state.pid,
        "status": state.status,
        "bundle": state.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "annotations": state.annotations,
        "owner": "",
    })
}

pub(super) fn state(store: &Store, invocation: &Invocation) -> Result<()> {
    let (_, record) = named(store, invocation)?;
    print(&pretty(&state_of(&record))?);
    Ok(())
}

pub(super) fn list(store: &Store, invocation: &Invocation) -> Result<()> {
    let mut records = Vec::new();
    for entry in store.list()? {
        // One that is deleted at this moment is not there any more.
        if let Ok(record) = entry.look() {
            records.push(record);
        }
    }
    if invocation.has("quiet") {
        let ids: String = records
            .iter()
            .map(|record| format!("{}\n", record.state.id))
            .collect();
        print(&ids);
        return Ok(());
    }
    match invocation.text("format")?.unwrap_or("table") {
        "json" => {
            let states: Vec<_> = records.iter().map(state_of).collect();
            print(&format!("{}\n", serde_json::to_string(&states)?));
        }
        "table" => print(&table(&records)),
        other => bail!("invalid format option {other:?}"),
    }
    Ok(())
}

fn table(records: &[Record]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED"].map(str::to_owned)];
    for record in records {
        rows.push([
            record.state.id.clone(),
            record.state.pid.to_string(),
            format!("{:?}", record.state.status).to_lowercase(),
            record.state.bundle.display().to_string(),
            record.created.clone(),
        ]);
    }
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..5).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        out.push_str(cells.join("   ").trim_end());
        out.push('\n');
    }
    out
}

pub(super) fn ps(store: &Store, invocation: &Invocation) -> Result<()> {
    let (_, record) = named(store, invocation)?;
    let pids = cgroup_of(&record)?.procs()?;
    if invocation.text("format")?.unwrap_or("table") == "json" {
        print(&format!("{}\n", serde_json::to_string(&pids)?));
        return Ok(());
    }
    let mut out = String::from("PID        PPID       CMD\n");
    for pid in pids {
        // One that has ended meanwhile is not listed.
        if let Ok(line) = process_line(pid) {
            out.push_str(&line);
        }
    }
    print(&out);
    Ok(())
}

fn process_line(pid: u32) -> Result<String> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
    let (before, after) = stat.rsplit_once(')').context("odd stat")?;
    let name = before.split_once('(').map_or("", |(_, name)| name);
    let parent = after.split_ascii_whitespace().nth(1).unwrap_or("0");
    let words = fs_err::read(format!("/proc/{pid}/cmdline"))?;
    let command = String::from_utf8_lossy(&words).replace('\0', " ");
    let command = if command.is_empty() {
        format!("[{name}]")
    } else {
        command
    };
    Ok(format!("{pid:<10} {parent:<10} {}\n", command.trim_end()))
}

/// Prints figures now, or again and again until the container ends.
pub(super) fn events(store: &Store, invocation: &Invocation) -> Result<()> {
    let (_, record) = named(store, invocation)?;
    let cgroup = cgroup_of(&record)?;
    let one = || -> Result<()> {
        let stats = cgroup.stats()?;
        let event = json!({"type": "stats", "id": record.state.id, "data": figures(&stats)});
        print(&format!("{event}\n"));
        Ok(())
    };
    if invocation.has("stats") {
        return one();
    }
    let text = invocation.text("interval")?.unwrap_or("5s");
    let seconds: i64 = text
        .trim_end_matches('s')
        .parse()
        .context("bad value of --interval")?;
    let pid = Pid::from_raw(record.state.pid).context("container not running")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("container not running")?;
    loop {
        one()?;
        let limit = Timespec {
            tv_sec: seconds.max(1),
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        if poll(&mut fds, Some(&limit)).context("failed to wait")? != 0 {
            return Ok(());
        }
    }
}

/// runc's form (its types/events.go).
fn figures(stats: &Stats) -> Value {
    let memory = &stats.memory;
    json!({
        "cpu": {
            "usage": {
                "total": stats.cpu.usage,
                "percpu": stats.cpu.percpu,
                "kernel": stats.cpu.system,
                "user": stats.cpu.user,
            },
            "throttling": {
                "periods": stats.cpu.periods,
                "throttledPeriods": stats.cpu.throttled_periods,
                "throttledTime": stats.cpu.throttled,
            },
        },
        "memory": {
            "usage": {
                "limit": memory.limit,
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.failcnt,
            },
            "raw": memory.stats,
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
    })
}

pub(super) fn features() -> Result<()> {
    let host = Host::detect()?;
    let v1 = !matches!(host.mode(), havre_cgroup::Mode::V2);
    let v2 = !matches!(host.mode(), havre_cgroup::Mode::V1);
    print(&pretty(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "cgroup": {"v1": v1, "v2": v2, "systemd": false, "systemdUser": false},
            "seccomp": {"enabled": true},
            "apparmor": {"enabled": Path::new("/sys/module/apparmor").exists()},
            "selinux": {"enabled": Path::new("/sys/fs/selinux/enforce").exists()},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}},
        },
    }))?);
    Ok(())
}

pub(super) fn spec(invocation: &Invocation) -> Result<()> {
    let dir = Path::new(invocation.value("bundle").unwrap_or(".".as_ref()));
    let path = dir.join("config.json");
    if path.exists() {
        bail!("file {} exists. Remove it first", path.display());
    }
    let text = pretty(&example(invocation.has("rootless")))?;
    Ok(fs_err::write(path, text)?)
}

fn mount(destination: &str, kind: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": kind, "options": options})
}

/// A configuration to start from: a shell with few rights.
fn example(rootless: bool) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut namespaces: Vec<_> = ["pid", "ipc", "uts", "mount", "cgroup"]
        .map(|kind| json!({"type": kind}))
        .into();
    namespaces.push(json!({"type": if rootless { "user" } else { "network" }}));
    let mut linux = json!({
        "namespaces": namespaces,
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
            "/proc/scsi"
        ],
        "readonlyPaths": [
            "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
        ],
    });
    if rootless {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
        linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    } else {
        linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    }
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "havre",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": linux,
    })
}
