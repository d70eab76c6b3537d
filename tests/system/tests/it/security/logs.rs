//! L01 to L03, L06, L08: logs that cannot be bent to other files, forged or grow without end, and words that the
//! command line shows. L04, L05, L07: in the tests of the log crate and of the log drivers.

use super::fixture::{SECRET, Sentinel};
use crate::support::{engine, load_busybox, run_rm, text, until};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::command::command;
use havre_testkit::{Engine, EngineOptions};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn log_of(engine: &Engine, name: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(engine.docker(&[
        "inspect",
        "-f",
        "{{.LogPath}}",
        name,
    ])?))
}

/// L01: a log that was replaced by a link, a pipe or a device is not read, and nobody waits for it.
#[test]
fn l01_a_replaced_log_is_not_read() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    fs_err::write(
        sentinel.path().join("log"),
        format!(
            "{{\"log\":\"{SECRET}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}}\n"
        ),
    )?;
    engine.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "echo",
        "said",
    ])?;
    assert_eq!(engine.docker(&["logs", "box"])?, "said");
    let path = log_of(&engine, "box")?;
    let aside = path.with_extension("aside");
    fs_err::rename(&path, &aside)?;
    let link = sentinel.path().join("log");
    type Make<'a> = Box<dyn Fn(&Path) -> Result<()> + 'a>;
    let kinds: [(&str, Make<'_>); 3] = [
        ("link", Box::new(|path| Ok(symlink(&link, path)?))),
        (
            "pipe",
            Box::new(|path| Ok(mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0)?)),
        ),
        (
            "device",
            Box::new(|path| {
                Ok(mknodat(
                    CWD,
                    path,
                    FileType::CharacterDevice,
                    Mode::from(0o600),
                    makedev(1, 5),
                )?)
            }),
        ),
    ];
    for (kind, make) in &kinds {
        make(&path)?;
        for words in [&["logs", "box"][..], &["logs", "-f", "--tail", "3", "box"]] {
            let begun = Instant::now();
            let out = engine.docker_output(words)?;
            ensure!(
                begun.elapsed() < Duration::from_secs(5),
                "{kind}: {:?}",
                begun.elapsed()
            );
            ensure!(!text(&out.stdout).contains(SECRET), "{kind}: {out:?}");
            ensure!(
                !out.status.success() || out.stdout.is_empty(),
                "{kind}: {out:?}"
            );
        }
        fs_err::remove_file(&path)?;
    }
    // Nor written: the container starts again and says more.
    symlink(sentinel.file(), &path)?;
    engine.docker_output(&["start", "-a", "box"])?;
    assert_eq!(fs_err::read_to_string(sentinel.file())?, SECRET);
    fs_err::remove_file(&path)?;
    fs_err::rename(&aside, &path)?;
    assert!(engine.docker(&["logs", "box"])?.starts_with("said"));
    Ok(())
}

/// L02: what a container logs is bounded, and the end of it is there.
#[test]
fn l02_logs_are_bounded() -> Result<()> {
    let engine = engine()?;
    let script = "i=0; while [ $i -lt 30000 ]; do echo line number $i; i=$((i+1)); done";
    let options = ["--log-opt", "max-size=100k", "--log-opt", "max-file=3"];
    engine.docker(
        &[
            &["run", "--network", "none", "--name", "box"][..],
            &options,
            &["busybox", "sh", "-c", script],
        ]
        .concat(),
    )?;
    let folder = log_of(&engine, "box")?;
    let folder = folder.parent().context("the log has no folder")?;
    let mut used = 0;
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(".log") {
            used += entry.metadata()?.len();
        }
    }
    ensure!(used <= 4 * 100 * 1024, "{used} bytes of logs");
    assert!(
        engine
            .docker(&["logs", "--tail", "1", "box"])?
            .ends_with("line number 29999")
    );
    Ok(())
}

/// L08: logs are for their owner and group alone, rotated and compressed ones too, whatever the engine's umask is.
#[test]
fn l08_logs_are_closed_to_others() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let wrapper = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
    let engine = Engine::start_with(EngineOptions {
        wrapper: wrapper.map(str::to_owned).to_vec(),
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    let script = "i=0; while [ $i -lt 2000 ]; do echo line number $i; i=$((i+1)); done";
    for (driver, compress) in [
        ("json-file", "false"),
        ("json-file", "true"),
        ("local", "true"),
    ] {
        let compress = format!("compress={compress}");
        let options = ["--log-opt", "max-size=10k", "--log-opt", "max-file=4"];
        let head = [
            "run",
            "--network",
            "none",
            "--name",
            "box",
            "--log-driver",
            driver,
        ];
        let tail = ["--log-opt", &compress, "busybox", "sh", "-c", script];
        engine.docker(&[&head[..], &options, &tail].concat())?;
        // The last one is compressed in the background.
        until(&true, || {
            let modes = modes_of_logs(&engine)?;
            let wrong = modes.iter().any(|(_, mode)| mode != "100640");
            ensure!(!wrong, "{driver}: {modes:?}");
            Ok(modes.len() >= 4)
        })?;
        engine.docker(&["rm", "box"])?;
    }
    Ok(())
}

/// The files of the containers' logs, and their modes.
fn modes_of_logs(engine: &Engine) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut pending = vec![engine.data_root().join("containers")];
    while let Some(folder) = pending.pop() {
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => pending.push(entry.path()),
                Ok(meta) if name.contains(".log") => {
                    found.push((name, format!("{:o}", meta.mode())));
                }
                // Replaced by its compressed form meanwhile.
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(found)
}

/// L03: any bytes come back as they were, each stream by itself.
#[test]
fn l03_any_bytes_come_back() -> Result<()> {
    let engine = engine()?;
    let script = "head -c 700001 /dev/urandom >/bytes; cat /bytes; (md5sum /bytes; printf '{\"log\":\"x\\\\n\"}\\n\\000\\377\\n') >&2";
    engine.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        script,
    ])?;
    let copy = tempfile::tempdir()?;
    let out = engine.docker_output(&["logs", "box"])?;
    fs_err::write(copy.path().join("bytes"), &out.stdout)?;
    let sum = command("md5sum").arg(copy.path().join("bytes")).output()?;
    let wanted = text(&sum.stdout)
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (first, rest) = out.stderr.split_at(
        out.stderr
            .iter()
            .position(|byte| *byte == b'\n')
            .context("no line")?
            + 1,
    );
    assert!(text(first).starts_with(&wanted), "{}", text(first));
    assert_eq!(rest, b"{\"log\":\"x\\n\"}\n\0\xff\n");
    Ok(())
}

/// L06: tables and errors of `havre` show no control sequence of what they print; what a container says
/// itself goes through as it is.
#[test]
fn l06_tables_show_no_control_sequences() -> Result<()> {
    let engine = engine()?;
    let evil = "a\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\u{202e}right\rback";
    let label = format!("label={evil}");
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "--label",
        &label,
        "-e",
        &label,
        "--hostname",
        "box",
        "busybox",
        "sh",
        "-c",
        "echo \"$1\"; exec sleep 600",
        "sh",
        evil,
    ])?;
    let clean = |words: &[&str]| -> Result<()> {
        let out = engine.havre_output(words)?;
        let all = text(&[out.stdout, out.stderr].concat());
        let bad = all.chars().find(|c| {
            (c.is_control() && !matches!(c, '\n' | '\t'))
                || ('\u{202a}'..='\u{202e}').contains(c)
                || ('\u{2066}'..='\u{2069}').contains(c)
        });
        ensure!(bad.is_none(), "{words:?}: {bad:?} in {all:?}");
        ensure!(!all.is_empty(), "{words:?} says nothing");
        Ok(())
    };
    clean(&["ps", "--no-trunc"])?;
    clean(&["ps"])?;
    clean(&["images"])?;
    clean(&["inspect", evil])?;
    clean(&["stop", evil])?;
    clean(&["logs", evil])?;
    clean(&["run", "--name", evil, "busybox"])?;
    clean(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--workdir",
        evil,
        "busybox",
        "true",
    ])?;
    // The twin: the log is the container's own words, to the last byte.
    until(&format!("{evil}\n"), || {
        Ok(text(&engine.havre_output(&["logs", "box"])?.stdout))
    })?;
    let out = run_rm(&engine, &["busybox", "echo", evil])?;
    assert_eq!(text(&out.stdout), format!("{evil}\n"));
    Ok(())
}
