//! The shim under Debian's containerd, driven by its `ctr`: another engine, the same containers.

use crate::support::until;
use anyhow::{Context as _, Result, ensure};
use havre_testkit::command::{command, stdout};
use havre_testkit::{Engine, image};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The container that goes on until it is killed.
const LONG: &str = "long";

/// containerd on directories of its own, with our shim on its path; ended with the test.
struct Containerd {
    process: Child,
    directory: TempDir,
    /// Also the name of the cgroup that containerd puts its containers below.
    namespace: String,
}

impl Containerd {
    fn start(programs: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("havre-ctr-").tempdir()?;
        let place = directory.path().display();
        let config = format!(
            "version = 2\nroot = \"{place}/root\"\nstate = \"{place}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{place}/c.sock\"\n[ttrpc]\naddress = \"{place}/c.ttrpc\"\n"
        );
        fs_err::write(directory.path().join("config.toml"), config)?;
        let log = fs_err::File::create(directory.path().join("log"))?
            .into_parts()
            .0;
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
        let process = command("containerd")
            .arg("--config")
            .arg(directory.path().join("config.toml"))
            .env("PATH", path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("failed to start containerd")?;
        let namespace = format!("havre-test-{}", std::process::id());
        let mut started = Self {
            process,
            directory,
            namespace,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !started.ctr(&["version"]).output()?.status.success() {
            ensure!(
                started.process.try_wait()?.is_none(),
                "containerd ended: {}",
                started.log()
            );
            ensure!(
                Instant::now() < deadline,
                "containerd does not answer: {}",
                started.log()
            );
        }
        Ok(started)
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut ctr = command("ctr");
        ctr.arg("--address")
            .arg(self.directory.path().join("c.sock"));
        ctr.args(["--namespace", &self.namespace]).args(args);
        ctr.stdin(Stdio::null());
        ctr
    }

    fn log(&self) -> String {
        fs_err::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // A test that failed may have left its container; a shim would outlive containerd.
        let _ended = self.ctr(&["tasks", "delete", "--force", LONG]).output();
        // It may have ended by itself.
        let _killed = self.process.kill();
        let _status = self.process.wait();
        let hierarchies = fs_err::read_dir("/sys/fs/cgroup").into_iter().flatten();
        for hierarchy in hierarchies.filter_map(Result::ok) {
            // Not every hierarchy has one; a group with a process left in it stays to be seen.
            let _removed = fs_err::remove_dir(hierarchy.path().join(&self.namespace));
        }
    }
}

#[test]
fn containerd_runs_our_shim() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let engine = Engine::start()?;
    let program = engine.program("containerd-shim-havre-v2");
    let containerd = Containerd::start(program.parent().unwrap_or(&program))?;
    let archive = image("busybox")?.archive;
    // The plain copying snapshotter: what containerd mounts is not the subject here.
    let native = ["--snapshotter", "native"];
    let archive = archive.to_string_lossy();
    let import = [&["images", "import"][..], &native, &[&archive]].concat();
    stdout(&mut containerd.ctr(&import))?;
    let name = "docker.io/library/busybox:latest";
    let run = [&["run", "--runtime", "io.containerd.havre.v2"][..], &native].concat();

    // When ctr hears of the end of a program before it has come to read, it drops what is in the pipe: then it is asked again.
    let brief = ["--rm", name, "brief", "sh", "-c", "echo out; exit 5"];
    until(&"out\n".to_owned(), || {
        let output = containerd.ctr(&[&run[..], &brief].concat()).output()?;
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.code() == Some(5),
            "{output:?}\n{}",
            containerd.log()
        );
        Ok(seen)
    })?;

    stdout(&mut containerd.ctr(&[&run[..], &["--detach", name, LONG, "sleep", "600"]].concat()))?;
    let mut number = 0;
    until(&"inside".to_owned(), || {
        number += 1;
        let id = format!("e{number}");
        let words = ["tasks", "exec", "--exec-id", &id, LONG, "echo", "inside"];
        stdout(&mut containerd.ctr(&words))
    })?;
    let listed = stdout(&mut containerd.ctr(&["tasks", "ls"]))?;
    ensure!(listed.contains("RUNNING"), "{listed}");
    stdout(&mut containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", LONG]))?;
    // `kill` does not wait for the end, and `delete` refuses what has not ended yet.
    let mut said = String::new();
    until(&false, || {
        let ended = containerd.ctr(&["tasks", "delete", LONG]).output()?;
        said = String::from_utf8_lossy(&ended.stderr).into_owned();
        Ok(said.contains("must be stopped before deletion"))
    })?;
    ensure!(said.contains("exit code 137"), "{said}");
    stdout(&mut containerd.ctr(&["containers", "delete", LONG]))?;
    Ok(())
}
