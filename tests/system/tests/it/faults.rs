//! Faults from outside: shims that die or hang, disks that are full, clients that leave, races of many clients.

use crate::support::{LIMIT, engine, inspect, nothing_is_left, nothing_runs, text, until};
use anyhow::{Context as _, Result, ensure};
use fs_err::os::unix::fs::FileExt as _;
use havre_testkit::{Engine, EngineOptions, image};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// Starts a container in the background and returns its id.
fn run_detached(engine: &Engine, flags: &[&str], command: &[&str]) -> Result<String> {
    let words = [
        &["run", "-d", "--network", "none"],
        flags,
        &["busybox"],
        command,
    ]
    .concat();
    engine.docker(&words)
}

fn signal_shim(engine: &Engine, id: &str, signal: Signal) -> Result<()> {
    let file = engine
        .exec_root()
        .join("containers")
        .join(id)
        .join("shim.pid");
    let pid = Pid::from_raw(fs_err::read_to_string(file)?.parse()?).context("no pid")?;
    Ok(kill_process(pid, signal)?)
}

fn state(engine: &Engine, name: &str) -> Result<String> {
    inspect(engine, name, "{{.State.Status}} {{.State.ExitCode}}")
}

#[test]
fn a_killed_shim_takes_its_container_along() -> Result<()> {
    let engine = engine()?;
    // With the host's processes visible, nothing ends the child when its parent does.
    let flags: [&[&str]; 2] = [&["--name", "own"], &["--name", "host", "--pid", "host"]];
    for flags in flags {
        let name = flags[1];
        let id = run_detached(&engine, flags, &["sh", "-c", "sleep 1000 & sleep 999"])?;
        signal_shim(&engine, &id, Signal::KILL)?;
        until(&"exited 137".to_owned(), || state(&engine, name))?;
        nothing_runs(&engine)?;
        engine.docker(&["rm", name])?;
    }
    Ok(())
}

#[test]
fn a_shim_that_hangs_holds_up_nobody_else() -> Result<()> {
    let mut engine = engine()?;
    let hung = run_detached(&engine, &["--name", "hung"], &["sleep", "1000"])?;
    run_detached(&engine, &["--name", "good"], &["sleep", "1000"])?;
    signal_shim(&engine, &hung, Signal::STOP)?;
    let began = Instant::now();
    ensure!(engine.docker(&["ps", "-q"])?.lines().count() == 2);
    ensure!(engine.docker(&["exec", "good", "echo", "here"])? == "here");
    ensure!(state(&engine, "hung")? == "running 0");
    engine.kill9()?;
    engine.restart()?;
    ensure!(engine.docker(&["exec", "good", "echo", "here"])? == "here");
    let took = began.elapsed();
    ensure!(took < LIMIT, "others waited {took:?}");
    // Found again by a new engine, it can be ended all the same.
    engine.docker(&["rm", "-f", "hung", "good"])?;
    nothing_is_left(&engine)
}

/// Runs a command that talks to a container whose shim hangs, which must not take longer.
fn bounded(engine: &Engine, words: &[&str], limit: Duration) -> Result<std::process::Output> {
    let began = Instant::now();
    let output = engine.docker_output(words)?;
    let took = began.elapsed();
    ensure!(took < limit, "{words:?} took {took:?}");
    Ok(output)
}

#[test]
fn what_a_hung_shim_does_not_do_the_engine_does() -> Result<()> {
    let engine = engine()?;
    let trap = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    // With the host's processes visible, nothing ends the child when its parent does.
    let cases: [(&[&str], &[&str]); 4] = [
        (&["stop"], &["sh", "-c", trap]),
        (&["stop", "-t", "1"], &["sleep", "1000"]),
        (&["kill"], &["sleep", "1000"]),
        (&["rm", "-f"], &["sh", "-c", "sleep 1000 & sleep 999"]),
    ];
    for (end, command) in cases {
        let id = run_detached(&engine, &["--name", "hung", "--pid", "host"], command)?;
        signal_shim(&engine, &id, Signal::STOP)?;
        let words = [end, &["hung"]].concat();
        let ended = bounded(&engine, &words, Duration::from_secs(9))?;
        ensure!(ended.status.success(), "{words:?}: {}", text(&ended.stderr));
        nothing_runs(&engine)?;
        engine.docker_output(&["rm", "-f", "hung"])?;
    }
    nothing_is_left(&engine)
}

#[test]
fn an_end_that_a_hung_shim_does_not_report_is_noticed() -> Result<()> {
    let mut engine = engine()?;
    let script = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.1; done";
    for (name, flags) in [("one", &["--pid", "host"][..]), ("two", &[])] {
        let flags = [&["--name", name], flags].concat();
        let id = run_detached(&engine, &flags, &["sh", "-c", script])?;
        until(&"ready".to_owned(), || engine.docker(&["logs", name]))?;
        let pid = inspect(&engine, name, "{{.State.Pid}}")?;
        signal_shim(&engine, &id, Signal::STOP)?;
        let process = Pid::from_raw(pid.parse()?).context("no pid")?;
        kill_process(process, Signal::USR1)?;
        until(&true, || {
            let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
            Ok(stat.contains(") Z "))
        })?;
        if name == "two" {
            // The next engine has not seen it start.
            engine.kill9()?;
            engine.restart()?;
        }
        // Nobody acts on it; it is only looked at.
        let began = Instant::now();
        while state(&engine, name)? != "exited 3" {
            let seen = state(&engine, name)?;
            ensure!(began.elapsed() < 3 * LIMIT, "{seen}");
        }
        let error = inspect(&engine, name, "{{.State.Error}}")?;
        ensure!(error.contains("did not answer when"), "{error}");
        let why = engine.havre(&["why", name])?;
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(why.contains("ended with exit code 3"), "{why}");
        ensure!(why.contains(&error), "{why}");
    }
    nothing_runs(&engine)?;
    // They can be used again.
    engine.docker(&["start", "one"])?;
    ensure!(inspect(&engine, "one", "{{.State.Error}}")?.is_empty());
    engine.docker(&["rm", "-f", "one", "two"])?;
    nothing_is_left(&engine)
}

#[test]
fn an_exec_says_that_the_shim_hangs() -> Result<()> {
    let engine = engine()?;
    let id = run_detached(&engine, &["--name", "hung"], &["sleep", "1000"])?;
    signal_shim(&engine, &id, Signal::STOP)?;
    let refused = bounded(&engine, &["exec", "hung", "true"], Duration::from_secs(10))?;
    let said = text(&refused.stdout) + &text(&refused.stderr);
    ensure!(!refused.status.success(), "{said}");
    let wanted = format!("the shim of container {id} does not answer");
    ensure!(said.contains(&wanted), "{said}");
    // Nothing is lost when it goes on.
    signal_shim(&engine, &id, Signal::CONT)?;
    ensure!(engine.docker(&["exec", "hung", "echo", "here"])? == "here");
    Ok(())
}

#[test]
fn a_removal_that_is_cut_off_leaves_no_shim() -> Result<()> {
    let mut engine = engine()?;
    for _ in 0..10 {
        let id = run_detached(&engine, &[], &["sleep", "1000"])?;
        let mut removal = engine.docker_command(&["rm", "-f", &id]);
        let mut removal = removal
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        until(&false, || {
            Ok(engine.docker(&["ps", "-aq", "--no-trunc"])?.contains(&id))
        })?;
        engine.kill9()?;
        removal.wait()?;
        engine.restart()?;
        nothing_is_left(&engine)?;
    }
    Ok(())
}

/// A small file system of its own, unmounted at the end.
pub(crate) struct Small(PathBuf);

impl Small {
    pub(crate) fn mount(path: &Path) -> Result<Self> {
        fs_err::create_dir_all(path)?;
        mount("none", path, "tmpfs", MountFlags::empty(), c"size=48m")?;
        Ok(Self(path.to_owned()))
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("filling");
        let file = fs_err::File::create(&path)?;
        let mut size = 0;
        let piece = [1; 4096];
        while file.write_all_at(&piece, size).is_ok() {
            size += 4096;
        }
        Ok(path)
    }

    fn used(&self) -> Result<u64> {
        let mut sum = 0;
        let mut pending = vec![self.0.clone()];
        while let Some(folder) = pending.pop() {
            for entry in fs_err::read_dir(folder)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                if meta.is_dir() {
                    pending.push(entry.path());
                } else {
                    sum += meta.blocks() * 512;
                }
            }
        }
        Ok(sum)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A test that failed may have left somebody in it.
        let _unmounted = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_fails_clearly_and_is_recovered_from() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let folder = tempfile::Builder::new().prefix("havre-test-").tempdir()?;
    let disk = Small::mount(&folder.path().join("data"))?;
    let root = disk.0.display().to_string();
    let args = vec!["--data-root".to_owned(), root];
    let engine = Engine::start_with(EngineOptions {
        args,
        ..EngineOptions::default()
    })?;
    crate::support::load_busybox(&engine)?;
    run_detached(&engine, &["--name", "alive"], &["sleep", "1000"])?;
    let before = disk.used()?;

    // Larger than the disk: nothing of it may stay.
    let archive = image("redis")?.archive;
    let loaded = engine.docker_output(&["load", "--input", &archive.to_string_lossy()])?;
    let said = text(&loaded.stderr);
    ensure!(
        !loaded.status.success() && said.contains("No space left on device"),
        "{said}"
    );
    let kept = disk.used()?.saturating_sub(before);
    ensure!(kept < 1 << 20, "a failed load keeps {kept} bytes");

    let filling = disk.fill()?;
    let refused = engine.docker_output(&[
        "create",
        "--network",
        "none",
        "--name",
        "late",
        "busybox",
        "true",
    ])?;
    let said = text(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("full"), "{said}");
    ensure!(engine.docker(&["exec", "alive", "echo", "here"])? == "here");
    engine.docker(&["stop", "-t", "0", "alive"])?;
    ensure!(state(&engine, "alive")? == "exited 137");
    nothing_runs(&engine)?;

    fs_err::remove_file(filling)?;
    engine.docker(&["start", "alive"])?;
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "late",
        "busybox",
        "true",
    ])?;
    engine.docker(&["rm", "-f", "alive", "late"])?;
    drop(engine);
    Ok(())
}

#[test]
fn clients_that_leave_cost_nothing() -> Result<()> {
    let engine = engine()?;
    let words = ["sh", "-c", "while echo line; do sleep 0.1; done"];
    run_detached(&engine, &["--name", "talks"], &words)?;
    let folder = format!("/proc/{}/fd", engine.pid()?);
    let descriptors = || -> Result<usize> { Ok(fs_err::read_dir(&folder)?.count()) };
    let calls: [&[&str]; 5] = [
        &["attach", "talks"],
        &["logs", "-f", "talks"],
        &["events"],
        &["wait", "talks"],
        &["exec", "talks", "cat", "/dev/zero"],
    ];
    let before = descriptors()?;
    for _ in 0..8 {
        let mut clients = Vec::new();
        for call in calls {
            let mut command = engine.docker_command(call);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            clients.push(command.spawn()?);
        }
        until(&true, || Ok(descriptors()? >= before + calls.len()))?;
        for client in &mut clients {
            client.kill()?;
            client.wait()?;
        }
    }
    // Programs that nobody reads may go on, as with Docker; the container's end takes them along.
    engine.docker(&["kill", "talks"])?;
    engine.docker(&["rm", "talks"])?;
    until(&true, || Ok(descriptors()? <= before))
}

#[test]
fn a_stalled_client_costs_bounded_memory() -> Result<()> {
    let engine = engine()?;
    let create = [
        "create",
        "--network",
        "none",
        "--name",
        "spam",
        "busybox",
        "cat",
        "/dev/zero",
    ];
    engine.docker(&create)?;
    let mut command = engine.docker_command(&["attach", "--no-stdin", "spam"]);
    // Nobody reads the pipe.
    let mut stalled = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    engine.docker(&["start", "spam"])?;
    let resident = || -> Result<u64> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", engine.pid()?))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let before = resident()?;
    for _ in 0..20 {
        engine.docker(&["ps"])?;
    }
    let grown = resident()?.saturating_sub(before);
    ensure!(grown < 32 << 10, "the engine grew by {grown} KiB");
    engine.docker(&["stop", "-t", "0", "spam"])?;
    ensure!(state(&engine, "spam")? == "exited 137");
    stalled.kill()?;
    stalled.wait()?;
    Ok(())
}

#[test]
fn many_clients_at_once_have_one_winner() -> Result<()> {
    let engine = engine()?;
    let create = [
        "create",
        "--network",
        "none",
        "--name",
        "wanted",
        "busybox",
        "sleep",
        "1000",
    ];
    let won: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| engine.docker_output(&create)))
            .collect();
        let ended = clients
            .into_iter()
            .flat_map(thread::ScopedJoinHandle::join)
            .flatten();
        ended.filter(|output| output.status.success()).count()
    });
    ensure!(won == 1, "{won} have the name");
    thread::scope(|scope| {
        for number in 0..20 {
            let (engine, call) = (&engine, ["start", "stop"][number % 2]);
            let words = if call == "stop" {
                vec!["stop", "-t", "0", "wanted"]
            } else {
                vec![call, "wanted"]
            };
            scope.spawn(move || engine.docker_output(&words).map(drop));
        }
    });
    engine.docker(&["rm", "-f", "wanted"])?;
    nothing_is_left(&engine)
}
