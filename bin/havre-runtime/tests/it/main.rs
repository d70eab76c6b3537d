//! The command as its callers use it: containerd, a script, a person at a terminal. Needs root.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    clippy::absolute_paths,
    reason = "a test binary: a failed assumption is a failed test"
)]

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use fs_err as fs;
use havre_sys::net::recv_fds;
use serde_json::{Value, json};
use tempfile::TempDir;

static COUNTER: AtomicU32 = AtomicU32::new(0);

struct Bundle {
    dir: TempDir,
    id: String,
}

/// One copy, complete before anything is started: see `harness.rs` of the runtime's own tests.
fn busybox() -> &'static std::path::Path {
    static COPY: OnceLock<std::path::PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
        let next = path.with_extension(std::process::id().to_string());
        fs::copy("/bin/busybox", &next).unwrap();
        fs::rename(next, &path).unwrap();
        path
    })
}

impl Bundle {
    fn new(script: &str, terminal: bool) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let bundle = Self {
            dir,
            id: format!("havre-cli-{}-{number}", std::process::id()),
        };
        let rootfs = bundle.dir.path().join("rootfs");
        fs::create_dir_all(rootfs.join("bin")).unwrap();
        fs::hard_link(busybox(), rootfs.join("bin/busybox")).unwrap();
        fs::os::unix::fs::symlink("busybox", rootfs.join("bin/sh")).unwrap();
        assert!(bundle.run(&["spec", "-b", bundle.path()]).status.success());
        bundle.edit(|spec| {
            spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
            spec["process"]["terminal"] = json!(terminal);
            spec["process"]["env"] = json!(["PATH=/bin"]);
            spec["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id));
        });
        bundle
    }

    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.dir.path().join("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut spec);
        fs::write(path, spec.to_string()).unwrap();
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        self.run_as(OsStr::new(env!("CARGO_BIN_EXE_havre-runtime")), words)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the command is started as its callers do"
    )]
    fn run_as(&self, program: &OsStr, words: &[&str]) -> Output {
        let root = self.dir.path().join("state");
        let mut command = Command::new(program);
        command
            .arg("--root")
            .arg(root)
            .args(words)
            .stdin(Stdio::null());
        // A container that goes on would hold a pipe open, and the caller would wait for its end.
        let out = self.dir.path().join("out");
        let err = self.dir.path().join("err");
        command.stdout(fs::File::create(&out).unwrap().into_parts().0);
        command.stderr(fs::File::create(&err).unwrap().into_parts().0);
        let status = match command.status() {
            Err(error) => return failed(&error),
            Ok(status) => status,
        };
        Output {
            status,
            stdout: fs::read(out).unwrap(),
            stderr: fs::read(err).unwrap(),
        }
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.ok(&["state", &self.id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.run(&["delete", "--force", &self.id]);
    }
}

/// A program that could not be executed, as a shell would say it.
fn failed(error: &std::io::Error) -> Output {
    use std::os::unix::process::ExitStatusExt as _;
    let status = std::process::ExitStatus::from_raw(126 << 8);
    Output {
        status,
        stdout: Vec::new(),
        stderr: error.to_string().into_bytes(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_container_goes_through_its_life() {
    let bundle = Bundle::new(
        "trap 'exit 0' TERM; while :; do busybox sleep 1; done",
        false,
    );
    let pid_file = bundle.dir.path().join("pid");
    let id = bundle.id.as_str();
    bundle.ok(&[
        "create",
        "-b",
        bundle.path(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        id,
    ]);
    let pid: i32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    assert_eq!(bundle.status(), "created");
    assert!(
        text(&bundle.run(&["create", "-b", bundle.path(), id]).stderr).contains("already exists")
    );
    bundle.ok(&["start", id]);
    assert_eq!(bundle.status(), "running");
    assert!(!bundle.run(&["start", id]).status.success());
    assert!(!bundle.run(&["delete", id]).status.success());
    let exec = bundle.run(&["exec", id, "sh", "-c", "echo in; exit 4"]);
    assert_eq!(
        (exec.status.code(), text(&exec.stdout)),
        (Some(4), "in\n".to_owned())
    );
    bundle.ok(&["pause", id]);
    assert_eq!(bundle.status(), "paused");
    assert!(!bundle.run(&["exec", id, "sh"]).status.success());
    bundle.ok(&["resume", id]);
    assert!(bundle.ok(&["ps", id]).contains(&pid.to_string()));
    assert!(bundle.ok(&["list"]).contains(id));
    bundle.ok(&["update", "--pids-limit", "77", id]);
    bundle.ok(&["kill", id, "KILL"]);
    bundle.ok(&["delete", "--force", id]);
    assert!(
        !fs::exists(format!("/proc/{pid}")).unwrap()
            || !bundle.run(&["state", id]).status.success()
    );
    assert!(!fs::exists(format!("/sys/fs/cgroup/pids/{id}")).unwrap());
}

#[test]
fn run_ends_with_the_programs_status_and_leaves_nothing() {
    let bundle = Bundle::new("echo hello; exit 3", false);
    let output = bundle.run(&["run", "-b", bundle.path(), &bundle.id]);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(3), "hello\n".to_owned())
    );
    assert!(!bundle.run(&["state", &bundle.id]).status.success());
    assert!(!fs::exists(format!("/sys/fs/cgroup/memory/{}", bundle.id)).unwrap());
}

#[test]
fn errors_keep_dockers_words_and_runcs_codes() {
    let bundle = Bundle::new("", false);
    bundle.edit(|spec| spec["process"]["args"] = json!(["nope"]));
    let output = bundle.run(&["run", "-b", bundle.path(), &bundle.id]);
    assert_eq!(output.status.code(), Some(1));
    let wanted = "exec: \\\"nope\\\": executable file not found in $PATH";
    assert!(text(&output.stderr).contains(wanted), "{output:?}");
    assert!(
        !bundle.run(&["state", &bundle.id]).status.success(),
        "a failed run left its state"
    );

    let running = Bundle::new("exec busybox sleep 60", false);
    running.ok(&["run", "-d", "-b", running.path(), &running.id]);
    let log = running.dir.path().join("log");
    let log = log.to_str().unwrap();
    let output = running.run(&[
        "--log",
        log,
        "--log-format",
        "json",
        "exec",
        &running.id,
        "/etc/nope",
    ]);
    assert_eq!(output.status.code(), Some(255));
    let line: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    let wanted = "exec: \"/etc/nope\": stat /etc/nope: no such file or directory";
    assert!(line["msg"].as_str().unwrap().ends_with(wanted), "{line}");
}

#[test]
fn the_terminal_is_handed_over_and_is_the_containers_own() {
    let script = "busybox stat -c '%F %t' /dev/console; busybox tty; busybox ls /proc/self/fd | busybox wc -l";
    let bundle = Bundle::new(script, true);
    let path = bundle.dir.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.ok(&[
        "create",
        "-b",
        bundle.path(),
        "--console-socket",
        path.to_str().unwrap(),
        &bundle.id,
    ]);
    let (socket, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let (count, fds) = recv_fds(socket.as_fd(), &mut name, 1).unwrap();
    assert_eq!(&name[..count], b"/dev/ptmx");
    bundle.ok(&["start", &bundle.id]);
    let mut seen = String::new();
    let mut buffer = [0; 512];
    // The end of the last process that has the terminal open is an I/O error.
    while let Ok(count) = rustix::io::read(&fds[0], &mut buffer) {
        seen.push_str(&text(&buffer[..count]));
    }
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(
        lines,
        ["character special file 88", "/dev/pts/0", "4"],
        "{seen}"
    );
}

#[test]
fn a_false_terminal_multiplexer_is_refused() {
    let bundle = Bundle::new("true", true);
    let pts = bundle.dir.path().join("rootfs/dev/pts");
    fs::create_dir_all(&pts).unwrap();
    fs::write(pts.join("ptmx"), "").unwrap();
    bundle.edit(|spec| spec["mounts"] = json!([{"destination": "/proc", "type": "proc"}]));
    let path = bundle.dir.path().join("console.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let words = [
        "create",
        "-b",
        bundle.path(),
        "--console-socket",
        path.to_str().unwrap(),
        &bundle.id,
    ];
    let output = bundle.run(&words);
    assert!(
        text(&output.stderr).contains("/dev/pts is not devpts"),
        "{output:?}"
    );
}

#[test]
fn the_executable_inside_cannot_be_written_through() {
    // CVE-2019-5736: until its program is executed, the process is this command, and whoever
    // keeps a reference to its executable may write to it when nobody executes it any more.
    let bundle = Bundle::new("true", false);
    let exe = bundle.dir.path().join("runtime");
    fs::copy(env!("CARGO_BIN_EXE_havre-runtime"), &exe).unwrap();
    let pid_file = bundle.dir.path().join("pid");
    let words = [
        "create",
        "-b",
        bundle.path(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        &bundle.id,
    ];
    // A process that another test has just forked may still hold the copy open for writing.
    while text(&bundle.run_as(exe.as_os_str(), &words).stderr).contains("Text file busy") {}
    let pid = fs::read_to_string(pid_file).unwrap();
    let reference = rustix::fs::open(
        format!("/proc/{pid}/exe"),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    bundle.ok(&["delete", "--force", &bundle.id]);
    let mut options = fs::OpenOptions::new();
    let through = format!("/proc/self/fd/{}", reference.as_raw_fd());
    let error = options.write(true).open(through).unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ReadOnlyFilesystem,
        "{error}"
    );
}

#[test]
fn a_container_may_execute_what_entered_it_but_not_reach_the_host() {
    let bundle = Bundle::new("", false);
    bundle.edit(|spec| spec["process"]["args"] = json!(["/proc/self/exe", "--version"]));
    let output = bundle.run(&["run", "-b", bundle.path(), &bundle.id]);
    assert!(
        text(&output.stdout).contains("havre-runtime version"),
        "{output:?}"
    );
}

#[test]
fn checkpoints_without_criu_fail_and_change_nothing() {
    let bundle = Bundle::new("sleep 600", false);
    let refused = |words: &[&str], why: &str| {
        let output = bundle.run(&[&["--criu", "/nowhere/criu"], words].concat());
        assert!(!output.status.success(), "{words:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(why), "{words:?}: {said}");
    };
    let images = bundle.dir.path().join("images");
    let images = images.to_str().unwrap();
    let missing = "`/nowhere/criu` cannot be executed";
    refused(
        &[
            "restore",
            "-d",
            "-b",
            bundle.path(),
            "--image-path",
            images,
            &bundle.id,
        ],
        missing,
    );
    refused(&["state", &bundle.id], "does not exist");
    bundle.ok(&["run", "-d", "-b", bundle.path(), &bundle.id]);
    refused(&["checkpoint", "--image-path", images, &bundle.id], missing);
    refused(
        &["checkpoint", "--lazy-pages", &bundle.id],
        "--lazy-pages is not supported",
    );
    refused(
        &["checkpoint", "--parent-path", "/abs", &bundle.id],
        "--parent-path must be relative",
    );
    refused(
        &["checkpoint", "--manage-cgroups-mode", "all", &bundle.id],
        "invalid manage-cgroups-mode value",
    );
    assert_eq!(bundle.status(), "running");
}
