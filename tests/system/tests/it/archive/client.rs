//! C08: an engine that means harm to its client. What it sends is unpacked below the target and nowhere else.

use super::tar::{Entry, archive, directory, file, hard_link, symlink};
use crate::support::text;
use anyhow::{Context as _, Result};
use havre_testkit::command::command;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

/// `{"name":"d","size":0,"mode":2147484141,"mtime":"2026-01-01T00:00:00Z","linkTarget":""}`
const STAT: &str = "eyJuYW1lIjoiZCIsInNpemUiOjAsIm1vZGUiOjIxNDc0ODQxNDEsIm10aW1lIjoiMjAyNi0wMS0wMVQwMDowMDowMFoiLCJsaW5rVGFyZ2V0IjoiIn0=";

/// Answers each request for an archive with these bytes, until nobody asks any more.
fn answer(stream: &UnixStream, bytes: &[u8]) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let length = if first.contains("archive") {
            bytes.len()
        } else {
            0
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nX-Docker-Container-Path-Stat: {STAT}\r\n\
             Content-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
        );
        writer.write_all(head.as_bytes())?;
        if length > 0 && first.starts_with("GET") {
            writer.write_all(bytes)?;
        }
    }
}

fn copy(folder: &Path, bytes: Vec<u8>, target: &Path) -> Result<(bool, String)> {
    let socket = folder.join("evil.sock");
    let listener = UnixListener::bind(&socket)?;
    let server = thread::spawn(move || {
        // The client may leave at any moment.
        if let Ok((stream, _)) = listener.accept() {
            answer(&stream, &bytes).ok();
        }
    });
    let bin = std::env::var_os("HAVRE_BIN_DIR").map(std::path::PathBuf::from);
    let bin = match bin {
        Some(bin) => bin,
        None => std::env::current_exe()?
            .ancestors()
            .nth(2)
            .context("the test lies in a folder of its build")?
            .to_owned(),
    };
    let output = command(bin.join("havre"))
        .arg("-H")
        .arg(format!("unix://{}", socket.display()))
        .arg("cp")
        .arg("box:/d")
        .arg(target)
        .output()?;
    fs_err::remove_file(&socket)?;
    drop(server);
    Ok((output.status.success(), text(&output.stderr)))
}

#[test]
fn c08_an_engines_archive_stays_in_its_target() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sentinel = folder.path().join("sentinel");
    fs_err::write(&sentinel, "untouched")?;
    let there = sentinel.to_string_lossy().into_owned();
    let outside = folder.path().to_string_lossy().into_owned();
    let evil = |name: &str| file(name, b"evil");
    let cases: Vec<Vec<Entry>> = vec![
        vec![evil("../sentinel")],
        vec![directory("d"), evil("d/../../sentinel")],
        vec![evil(&there)],
        vec![symlink("d", &outside), evil("d/sentinel")],
        vec![directory("d"), symlink("d/l", &there), evil("d/l")],
        vec![
            directory("d"),
            symlink("d/l", ".."),
            evil("d/l/../sentinel"),
        ],
        vec![directory("d"), hard_link("d/h", &there), evil("d/h")],
        vec![directory("d"), hard_link("d/h", "../sentinel"), evil("d/h")],
    ];
    for (number, entries) in cases.into_iter().enumerate() {
        let target = folder.path().join(format!("target-{number}"));
        fs_err::create_dir(&target)?;
        copy(folder.path(), archive(&entries), &target)?;
        assert_eq!(
            fs_err::read_to_string(&sentinel)?,
            "untouched",
            "case {number}"
        );
    }
    let target = folder.path().join("good");
    let good = [directory("d"), file("d/f", b"good"), symlink("d/l", "f")];
    let (done, message) = copy(folder.path(), archive(&good), &target)?;
    assert!(done, "{message}");
    assert_eq!(fs_err::read_to_string(target.join("l"))?, "good");
    Ok(())
}
