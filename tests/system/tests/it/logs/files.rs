//! Drivers with files: options, bounds, compression, what is refused, and files that are not what they should be.

use anyhow::{Context as _, Result, ensure};
use fs_err::os::unix::fs::symlink;
use havre_testkit::{Engine, EngineOptions};
use rustix::fs::{CWD, Mode, mkfifoat};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use super::{counting, lines, logs, run, run_well};
use crate::faults::Small;
use crate::support::{LIMIT, assert_fails, engine, inspect, load_busybox, text, until};

/// The files of a container's log.
fn log_files(engine: &Engine, name: &str) -> Result<Vec<PathBuf>> {
    let id = inspect(engine, name, "{{.Id}}")?;
    let mut found = Vec::new();
    for entry in fs_err::read_dir(engine.data_root().join("containers").join(id))? {
        let path = entry?.path();
        if path.to_string_lossy().contains("log") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn wrong_options_are_refused_in_dockers_words() -> Result<()> {
    let engine = engine()?;
    for (flags, text) in [
        (
            vec!["--log-driver", "nope"],
            "error looking up logging plugin nope: plugin \"nope\" not found",
        ),
        (
            vec!["--log-opt", "foo=bar"],
            "unknown log opt 'foo' for json-file log driver",
        ),
        (
            vec!["--log-opt", "max-size=abc"],
            "failed to initialize logging driver: invalid size: 'abc'",
        ),
        (
            vec!["--log-opt", "compress=true"],
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        (
            vec!["--log-opt", "mode=foo"],
            "logger: logging mode not supported: foo",
        ),
        (
            vec!["--log-opt", "tag={{.Foo}}"],
            "can't evaluate field Foo in type *logger.Info",
        ),
        (
            vec!["--log-driver", "gelf"],
            "gelf-address is a required parameter",
        ),
        (
            vec![
                "--log-driver",
                "syslog",
                "--log-opt",
                "syslog-address=unix:///nonexist",
            ],
            "stat /nonexist: no such file or directory",
        ),
    ] {
        // The command line makes 127 of every text that says so.
        let status = if text.contains("no such file") {
            127
        } else {
            125
        };
        assert_fails(&run(&engine, "wrong", &flags, "true")?, status, text);
        // Nothing was made.
        ensure!(engine.docker(&["ps", "-aq"])?.is_empty());
    }
    Ok(())
}

#[test]
fn both_file_drivers_keep_compress_and_show_everything() -> Result<()> {
    let engine = engine()?;
    for driver in ["json-file", "local"] {
        let flags = [
            "--log-driver",
            driver,
            "--log-opt",
            "max-size=20k",
            "--log-opt",
            "max-file=50",
            "--log-opt",
            "compress=true",
            "--log-opt",
            "tag={{.Name}}",
            "--log-opt",
            "env=WHO",
            "--env",
            "WHO=me",
        ];
        let head = ["run", "-d", "--network", "none", "--name", driver];
        let script = format!("{}; sleep 600", counting(3000));
        engine.docker(&[&head[..], &flags, &["busybox", "sh", "-c", &script]].concat())?;
        until(&3000, || Ok(logs(&engine, &[driver])?.len()))?;
        // Compressed one after another, while the container runs.
        until(&true, || {
            let files = log_files(&engine, driver)?;
            let done = |path: &PathBuf| {
                path.extension()
                    .is_some_and(|end| end == "gz" || end == "log")
            };
            Ok(files.len() > 3 && files.iter().all(done))
        })?;
        ensure!(logs(&engine, &[driver])? == lines(3000));
        ensure!(logs(&engine, &["--tail", "2500", driver])? == lines(3000)[500..]);
        ensure!(
            logs(&engine, &["--details", "--tail", "1", driver])?
                == [format!("WHO=me,tag={driver} line 2999")]
        );
        for path in log_files(&engine, driver)? {
            let mode = fs_err::metadata(&path)?.permissions().mode();
            ensure!(
                mode & 0o777 == 0o640,
                "{} has mode {mode:o}",
                path.display()
            );
        }
        engine.docker(&["rm", "-f", driver])?;
    }
    Ok(())
}

#[test]
fn logs_are_bounded_by_default_and_the_daemon_sets_defaults() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let args = ["--log-opt", "max-size=30k", "--log-opt", "max-file=3"];
    let engine = Engine::start_with(EngineOptions {
        args: args.map(str::to_owned).to_vec(),
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    run_well(&engine, "box", &[], &counting(5000))?;
    ensure!(
        inspect(&engine, "box", "{{json .HostConfig.LogConfig}}")?
            == r#"{"Type":"json-file","Config":{"max-file":"3","max-size":"30k"}}"#
    );
    let files = log_files(&engine, "box")?;
    let mut sum = 0;
    for path in &files {
        sum += fs_err::metadata(path)?.len();
    }
    ensure!(
        files.len() == 3 && sum < 3 * 31_000,
        "{} files, {sum} bytes",
        files.len()
    );
    let last = logs(&engine, &["--tail", "1", "box"])?;
    ensure!(last == ["line 4999"], "{last:?}");
    let none = engine.docker_output(&[
        "run",
        "--network",
        "none",
        "--name",
        "none",
        "--log-driver",
        "none",
        "busybox",
        "true",
    ])?;
    ensure!(none.status.success());
    let refused = engine.docker_output(&["logs", "none"])?;
    assert_fails(
        &refused,
        1,
        "configured logging driver does not support reading",
    );
    // What the administrator writes is checked as what users write.
    let wrong = havre_testkit::command::command(engine.program("havred"))
        .args(["--validate", "--log-opt", "foo=1"])
        .output()?;
    ensure!(
        text(&wrong.stderr)
            .contains("failed to set log opts: unknown log opt 'foo' for json-file log driver"),
        "{}",
        text(&wrong.stderr)
    );
    Ok(())
}

#[test]
fn what_stands_in_place_of_a_log_is_never_read() -> Result<()> {
    let engine = engine()?;
    run_well(&engine, "box", &[], "echo secret of nobody")?;
    let path = PathBuf::from(inspect(&engine, "box", "{{.LogPath}}")?);
    let sentinel = engine.directory().join("sentinel");
    let record = fs_err::read_to_string(&path)?.replace("secret of nobody", "SENTINEL");
    fs_err::write(&sentinel, record)?;
    let began = Instant::now();
    for kind in ["link", "pipe", "device"] {
        fs_err::remove_file(&path)?;
        match kind {
            "link" => symlink(&sentinel, &path)?,
            "pipe" => mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?,
            _ => rustix::fs::mknodat(
                CWD,
                &path,
                rustix::fs::FileType::CharacterDevice,
                Mode::RUSR,
                rustix::fs::makedev(1, 5),
            )?,
        }
        let output = engine.docker_output(&["logs", "box"])?;
        assert_fails(&output, 1, "is not a regular file");
        ensure!(!text(&output.stdout).contains("SENTINEL"));
        // Nor written: the next start fails instead.
        let started = engine.docker_output(&["start", "box"])?;
        ensure!(!started.status.success(), "{kind}");
    }
    ensure!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    ensure!(fs_err::read_to_string(&sentinel)?.lines().count() == 1);
    Ok(())
}

#[test]
fn logs_are_complete_under_kill_9_rotation_and_followers() -> Result<()> {
    const LINES: usize = 20_000;
    const BOXES: usize = 4;
    let mut engine = engine()?;
    let names: Vec<String> = (0..BOXES).map(|number| format!("box{number}")).collect();
    for name in &names {
        let driver = if name.ends_with(['1', '3']) {
            "local"
        } else {
            "json-file"
        };
        let head = [
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            name,
            "--log-driver",
            driver,
        ];
        let flags = [
            "--log-opt",
            "max-size=100k",
            "--log-opt",
            "max-file=100",
            "--log-opt",
            "compress=true",
        ];
        let script = format!("{}; echo the end", counting(LINES));
        engine.docker(&[&head[..], &flags, &["busybox", "sh", "-c", &script]].concat())?;
    }
    for _ in 0..5 {
        let name = names.last().context("a name")?;
        let mut follower = engine
            .docker_command(&["logs", "-f", name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        engine.kill9()?;
        follower.wait()?;
        engine.restart()?;
    }
    let mut expected = lines(LINES);
    expected.push("the end".to_owned());
    for name in &names {
        // A follower sees the end of the container, wherever it begins.
        let followed = logs(&engine, &["-f", name])?;
        ensure!(followed == expected, "{name}: {} lines", followed.len());
        ensure!(logs(&engine, &[name])? == expected, "{name}");
    }
    Ok(())
}

#[test]
fn a_full_disk_costs_the_log_only_and_is_counted() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let folder = tempfile::Builder::new().prefix("havre-test-").tempdir()?;
    let root = folder.path().join("data");
    let disk = Small::mount(&root)?;
    let args = vec!["--data-root".to_owned(), root.display().to_string()];
    let engine = Engine::start_with(EngineOptions {
        args,
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    for driver in ["json-file", "local"] {
        let head = [
            "run",
            "-d",
            "-i",
            "--network",
            "none",
            "--name",
            driver,
            "--log-driver",
            driver,
        ];
        let script = format!("read word; {}; read word; echo the end", counting(3000));
        engine.docker(&[&head[..], &["busybox", "sh", "-c", &script]].concat())?;
        let id = inspect(&engine, driver, "{{.Id}}")?;
        let mut attached = engine
            .docker_command(&["attach", driver])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = attached.stdin.take().context("no stdin")?;
        let stdout = attached.stdout.take().context("no stdout")?;
        let filling = disk.fill()?;
        writeln!(stdin, "go")?;
        // Whoever is attached gets everything: the container is not held up.
        let mut output = BufReader::new(stdout).lines();
        for line in lines(3000) {
            ensure!(output.next().transpose()? == Some(line));
        }
        fs_err::remove_file(filling)?;
        writeln!(stdin, "on")?;
        ensure!(output.next().transpose()?.as_deref() == Some("the end"));
        attached.wait()?;
        until(&"exited 0".to_owned(), || {
            inspect(&engine, driver, "{{.State.Status}} {{.State.ExitCode}}")
        })?;
        let kept = logs(&engine, &[driver])?;
        ensure!(
            kept.last().is_some_and(|last| last == "the end"),
            "{driver}: {:?}",
            kept.last()
        );
        let log = engine.log();
        let note = log
            .lines()
            .find(|line| line.contains("log were dropped") && line.contains(&id));
        let dropped: usize = note
            .and_then(|line| {
                line.split("records=")
                    .nth(1)?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .with_context(|| format!("nothing is said of it: {log}"))?;
        ensure!(
            kept.len() + dropped == 3001,
            "{driver}: {} + {dropped}",
            kept.len()
        );
    }
    engine.docker(&["rm", "-f", "json-file", "local"])?;
    drop(engine);
    Ok(())
}
