//! A bundle with busybox, and a way to run it that reports by file, because the container is made
//! from a forked child.

use std::fmt::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use fs_err as fs;
use havre_cgroup::Host;
use havre_runtime_core::{
    Create, Created, Delete, Exec, Gate, RootfsMount, StdioSpec, create, delete, exec,
};
use havre_sys::testing::in_child;
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};
use tempfile::TempDir;

static COUNTER: AtomicU32 = AtomicU32::new(0);

const APPLETS: [&str; 14] = [
    "sh", "cat", "ls", "id", "true", "sleep", "grep", "stat", "touch", "mount", "wc", "env", "pwd",
    "readlink",
];

/// A bundle and what is to be done with it.
pub(crate) struct Bundle {
    dir: TempDir,
    pub(crate) id: String,
    pub(crate) spec: Value,
    pub(crate) rootfs_mounts: Vec<RootfsMount>,
    pub(crate) preserve_fds: u32,
}

/// One copy, complete before the first child is forked: a child that inherited a descriptor for
/// writing it would make its execution fail (ETXTBSY).
fn busybox() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
        let next = path.with_extension(std::process::id().to_string());
        fs::copy("/bin/busybox", &next).unwrap();
        fs::rename(next, &path).unwrap();
        path
    })
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit status, or the error with its causes.
    pub(crate) result: Result<i32, String>,
    pub(crate) output: String,
    /// Where the descriptors of the process led while it waited to be started.
    pub(crate) at_gate: String,
    /// Of each process that entered, in order.
    pub(crate) execs: Vec<Result<(i32, String), String>>,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.result, Ok(0), "output: {}", self.output);
        &self.output
    }

    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        self.result.as_ref().expect_err("the container was made")
    }
}

impl Bundle {
    /// A container that runs the script in a shell.
    pub(crate) fn new(script: &str) -> Self {
        // Beside the program, so that it can be linked.
        let dir = TempDir::with_prefix_in("havre-runtime-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let id = format!("havre-test-{}-{number}", std::process::id());
        let rootfs = dir.path().join("rootfs");
        for name in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        fs::hard_link(busybox(), rootfs.join("bin/busybox")).unwrap();
        for name in APPLETS {
            fs::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        let spec = spec(script, &id);
        Self {
            dir,
            id,
            spec,
            rootfs_mounts: Vec::new(),
            preserve_fds: 0,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// Replaces the value at a JSON pointer.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = self.spec.pointer_mut(parent).unwrap();
        parent
            .as_object_mut()
            .unwrap()
            .insert(key.to_owned(), value);
        self
    }

    pub(crate) fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        self.spec
            .pointer_mut(pointer)
            .unwrap()
            .as_array_mut()
            .unwrap()
            .push(value);
        self
    }

    /// Mounts a file system besides the usual ones.
    pub(crate) fn mount(
        &mut self,
        target: &str,
        kind: &str,
        source: &str,
        options: &[&str],
    ) -> &mut Self {
        self.push(
            "/mounts",
            json!({"destination": target, "type": kind, "source": source, "options": options}),
        )
    }

    pub(crate) fn run(&self) -> Outcome {
        self.run_with(&[], &|| {})
    }

    /// Makes the container, runs the processes in it one after the other, and waits for its end.
    /// `before` is called in the process that makes it.
    pub(crate) fn run_with(&self, processes: &[Value], before: &dyn Fn()) -> Outcome {
        in_child(|| {
            before();
            let report = match self.all(processes) {
                Ok(status) => format!("ok {status}"),
                Err(error) => format!("error {error}"),
            };
            fs::write(self.path().join("result"), report).unwrap();
        });
        let read = |name: &str| fs::read_to_string(self.path().join(name)).unwrap_or_default();
        let result = parse(&read("result"));
        let execs = (0..processes.len())
            .map(|index| {
                let status = parse(&read(&format!("exec{index}.result")))?;
                Ok((status, read(&format!("exec{index}.out"))))
            })
            .collect();
        Outcome {
            result,
            output: read("out"),
            at_gate: read("gate"),
            execs,
        }
    }

    fn all(&self, processes: &[Value]) -> Result<i32, String> {
        let spec: Spec = serde_json::from_value(self.spec.clone()).map_err(|e| e.to_string())?;
        let host = Host::detect().map_err(|e| chain(&e))?;
        let mut container = create(&Create {
            id: &self.id,
            bundle: self.path(),
            spec: &spec,
            rootfs_mounts: &self.rootfs_mounts,
            stdio: self.stdio("out"),
            cgroup_host: &host,
            gate: Gate::Hold,
            preserve_fds: self.preserve_fds,
            die_with_parent: true,
        })
        .map_err(|e| chain(&e))?;
        fs::write(self.path().join("gate"), descriptors(container.pid())).unwrap();
        let started = container.start().map_err(|e| chain(&e));
        if started.is_ok() {
            for (index, process) in processes.iter().enumerate() {
                let report = match self.enter(&container, &spec, process, index) {
                    Ok(status) => format!("ok {status}"),
                    Err(error) => format!("error {error}"),
                };
                fs::write(self.path().join(format!("exec{index}.result")), report).unwrap();
            }
        }
        if !processes.is_empty() {
            container
                .child()
                .kill(rustix::process::Signal::KILL)
                .unwrap();
        }
        let status = container
            .child()
            .wait()
            .map_err(|e| e.to_string())?
            .status();
        let removed = delete(&Delete {
            id: &self.id,
            bundle: self.path(),
            spec: &spec,
            cgroup: Some(container.cgroup()),
        });
        started?;
        removed.map_err(|e| chain(&e))?;
        Ok(status)
    }

    fn enter(
        &self,
        container: &Created,
        spec: &Spec,
        process: &Value,
        index: usize,
    ) -> Result<i32, String> {
        let process: Process =
            serde_json::from_value(process.clone()).map_err(|e| e.to_string())?;
        let child = exec(&Exec {
            id: &self.id,
            init_pid: container.pid(),
            spec,
            process: &process,
            stdio: self.stdio(&format!("exec{index}.out")),
            cgroup: Some(container.cgroup()),
            gate: Gate::Open,
            preserve_fds: 0,
            die_with_parent: true,
        })
        .map_err(|e| chain(&e))?;
        Ok(child.child().wait().map_err(|e| e.to_string())?.status())
    }

    fn stdio(&self, name: &str) -> StdioSpec {
        let out = OwnedFd::from(
            fs::File::create(self.path().join(name))
                .unwrap()
                .into_parts()
                .0,
        );
        let null = fs::File::open("/dev/null").unwrap();
        let stderr = out.as_fd().try_clone_to_owned().unwrap();
        StdioSpec::Fds {
            stdin: OwnedFd::from(null.into_parts().0),
            stdout: out,
            stderr,
        }
    }

    /// True if a cgroup of this container is left anywhere.
    pub(crate) fn cgroup_left(&self) -> bool {
        fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .any(|entry| entry.unwrap().path().join(&self.id).exists())
    }
}

/// What the descriptors of a process are, one on each line.
fn descriptors(pid: rustix::process::Pid) -> String {
    let dir = format!("/proc/{}/fd", pid.as_raw_pid());
    let links = fs::read_dir(dir)
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    links.map(|link| format!("{}\n", link.display())).collect()
}

fn parse(report: &str) -> Result<i32, String> {
    match report.split_once(' ') {
        Some(("ok", status)) => Ok(status.parse().unwrap()),
        _ => Err(report
            .strip_prefix("error ")
            .unwrap_or("no report")
            .to_owned()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(out, ": {error}").unwrap();
        source = error.source();
    }
    out
}

/// A process as exec takes it.
pub(crate) fn process(script: &str) -> Value {
    let caps = json!(["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD"]);
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["sh", "-c", script],
        "env": ["PATH=/bin", "HOME=/"],
        "cwd": "/",
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
    })
}

fn spec(script: &str, id: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(script),
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [],
            "readonlyPaths": [],
        },
    })
}

/// The value of a `Name:\tvalue` line of `/proc/PID/status`.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim()
}
