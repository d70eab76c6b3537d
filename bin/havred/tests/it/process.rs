//! The program as an administrator meets it: its answers before it starts, and what it leaves behind.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use fs_err::os::unix::fs::symlink;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

#[expect(
    clippy::disallowed_methods,
    reason = "the test starts the program as a user does"
)]
fn havred(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_havred"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A program on directories of its own.
struct Daemon {
    dir: TempDir,
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Daemon {
    fn start(dir: TempDir, more: &[&str]) -> Self {
        let mut command = havred(
            &arguments(dir.path())
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        let mut child = command.args(more).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut daemon = Self { dir, child, log };
        daemon.until("API listen on unix://");
        daemon
    }

    fn until(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            assert!(
                self.log.read_line(&mut seen).unwrap() > 0,
                "{text:?} never came: {seen}"
            );
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Asks it to end and returns its directories.
    fn end(mut self) -> TempDir {
        self.signal(Signal::TERM);
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        assert!(rest.contains("Daemon shutdown complete"), "{rest}");
        self.dir
    }
}

fn arguments(dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    let config = path("daemon.json");
    fs_err::write(&config, "").unwrap();
    let socket = format!("unix://{}", path("api.sock"));
    [
        "--data-root",
        &path("data"),
        "--exec-root",
        &path("exec"),
        "--config-file",
        &config,
        "--shim",
        "/bin/true",
        // The host gets no bridge of a test.
        "--bridge",
        "none",
        "-H",
        &socket,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = havred(arguments).output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn it_answers_without_starting() {
    let (code, out, _) = output(&["--version"]);
    assert_eq!((code, out.starts_with("Havre version ")), (Some(0), true));
    let (code, out, _) = output(&["--help"]);
    assert!(
        code == Some(0)
            && out.starts_with("Usage:  havred [OPTIONS]")
            && out.contains("-H, --host list")
    );
    assert_eq!(
        output(&["--nope"]),
        (
            Some(1),
            String::new(),
            "unknown flag: --nope\nSee 'havred --help'.\n".to_owned()
        )
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daemon.json").display().to_string();
    let (code, _, err) = output(&["--validate", "--config-file", &file]);
    assert_eq!(code, Some(1));
    assert!(
        err.starts_with(&format!(
            "unable to configure the Docker daemon with file {file}: "
        )),
        "{err}"
    );
    fs_err::write(&file, r#"{"debug": true}"#).unwrap();
    assert_eq!(
        output(&["--validate", "--config-file", &file]),
        (Some(0), String::new(), "configuration OK\n".to_owned())
    );
    let (code, _, err) = output(&["--validate", "-D", "--config-file", &file]);
    assert_eq!(code, Some(1));
    assert!(err.ends_with("specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)\n"), "{err}");
}

#[test]
fn it_serves_and_leaves_nothing_that_blocks_the_next_one() {
    let daemon = Daemon::start(tempfile::tempdir().unwrap(), &[]);
    let dir = daemon.dir.path().to_owned();
    let mut client = UnixStream::connect(dir.join("api.sock")).unwrap();
    client
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nOK"),
        "{answer}"
    );
    let mode = |name: &str| {
        fs_err::metadata(dir.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (
            mode("api.sock"),
            mode("data"),
            mode("exec"),
            mode("exec/havred.pid")
        ),
        (0o660, 0o700, 0o711, 0o644)
    );
    let pid = fs_err::read_to_string(dir.join("exec/havred.pid")).unwrap();
    assert_eq!(pid, daemon.child.id().to_string());

    // A second one on the same directories says why it does not start.
    let mut second = havred(
        &arguments(&dir)
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    let refused = second.output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text.contains(&format!(
            "another engine is using `{}`",
            dir.join("data").display()
        )),
        "{text}"
    );

    let dir = daemon.end();
    assert!(!dir.path().join("api.sock").exists() && !dir.path().join("exec/havred.pid").exists());

    // Killed at once, it leaves its socket and pid file; the next one takes them over.
    let mut killed = Daemon::start(dir, &[]);
    killed.signal(Signal::KILL);
    killed.child.wait().unwrap();
    assert!(killed.dir.path().join("api.sock").exists());
    Daemon::start(killed.dir, &[]).end();
}

#[test]
fn it_reloads_its_log_level() {
    let mut daemon = Daemon::start(tempfile::tempdir().unwrap(), &[]);
    fs_err::write(daemon.dir.path().join("daemon.json"), r#"{"debug": true}"#).unwrap();
    daemon.signal(Signal::HUP);
    daemon.until("Reloaded configuration");
    daemon.signal(Signal::USR1);
    daemon.until("SIGUSR1 is ignored");
    fs_err::write(daemon.dir.path().join("daemon.json"), "{").unwrap();
    daemon.signal(Signal::HUP);
    daemon.until("failed to reload the configuration: unable to configure");
    daemon.end();
}

#[test]
fn it_refuses_what_it_cannot_do_safely() {
    let dir = tempfile::tempdir().unwrap();
    let base = arguments(dir.path());
    let base: Vec<&str> = base.iter().map(String::as_str).collect();
    for (more, text) in [
        (
            ["-H", "tcp://0.0.0.0:0"],
            "failed to load listeners: tcp://0.0.0.0:0 is not a loopback address",
        ),
        (
            ["--shim", "/nowhere/shim"],
            "the shim `/nowhere/shim` does not exist",
        ),
        (
            ["--group", "no-such-group-here"],
            "failed to load listeners: group no-such-group-here not found",
        ),
    ] {
        let (code, _, err) = output(&[&base[..], &more[..]].concat());
        assert_eq!(code, Some(1));
        assert!(err.contains(text), "{err}");
    }
    // A pid file of an engine that lives, which is not ours.
    let other = Daemon::start(tempfile::tempdir().unwrap(), &[]);
    let pid = fs_err::read_to_string(other.dir.path().join("exec/havred.pid")).unwrap();
    fs_err::write(dir.path().join("exec/havred.pid"), &pid).unwrap();
    let (_, _, err) = output(&base);
    assert!(
        err.contains("ensure havred is not running or delete")
            && err.contains(&format!("process with PID {pid} is still running")),
        "{err}"
    );
    other.end();
    // The number may have gone to another program since, which refuses nothing.
    fs_err::write(dir.path().join("exec/havred.pid"), "1").unwrap();
    let (_, _, err) = output(&[&base[..], &["-H", "tcp://0.0.0.0:0"]].concat());
    assert!(err.contains("failed to load listeners"), "{err}");
    // A link where the pid file should be is not followed.
    let target = dir.path().join("target");
    fs_err::write(&target, "kept").unwrap();
    symlink(&target, dir.path().join("exec/havred.pid")).unwrap();
    assert_eq!(output(&base).0, Some(1));
    assert_eq!(fs_err::read_to_string(&target).unwrap(), "kept");
}
