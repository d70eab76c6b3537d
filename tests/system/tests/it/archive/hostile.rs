//! Archives and containers that mean harm: C02, C03, C05, C07, C11 of the catalogue of weaknesses. Each has a
//! legitimate twin that works.

use super::tar::{self, Entry, archive, directory, file, hard_link, symlink};
use super::{listed, put};
use crate::support::{LIMIT, SLEEPING_BOX, engine, text};
use anyhow::Result;
use havre_testkit::Engine;
use havre_testkit::command::command;
use havre_testkit::http::Body;
use std::time::Instant;

/// The path of a file on the host that no container has anything to do with.
fn sentinel(engine: &Engine) -> Result<String> {
    let path = engine.directory().join("sentinel");
    fs_err::write(&path, "untouched")?;
    Ok(path.to_string_lossy().into_owned())
}

/// Archives that try to reach a file of the host, or one of the container outside of the directory.
fn attempts(sentinel: &str, folder: &str) -> Vec<(&'static str, Vec<Entry>)> {
    let up = format!("../../../../../../../..{sentinel}");
    let evil = |name: &str| file(name, b"evil");
    vec![
        ("dots", vec![evil(&up)]),
        ("dots inside", vec![evil("a/../../../../etc/passwd")]),
        (
            "link out, file through it",
            vec![symlink("l", "/"), evil(&format!("l{sentinel}"))],
        ),
        (
            "relative link out",
            vec![
                symlink("l", "../../../../../../.."),
                evil(&format!("l{sentinel}")),
            ],
        ),
        (
            "link to the folder",
            vec![symlink("l", folder), evil("l/sentinel")],
        ),
        (
            "link to the file, then the file",
            vec![symlink("l", sentinel), evil("l")],
        ),
        (
            "link replaced by a directory",
            vec![symlink("l", folder), directory("l"), evil("l/sentinel")],
        ),
        ("hard link out", vec![hard_link("h", sentinel), evil("h")]),
        ("hard link by dots", vec![hard_link("h", &up), evil("h")]),
        (
            "hard link through a link",
            vec![
                symlink("l", folder),
                hard_link("h", "l/sentinel"),
                evil("h"),
            ],
        ),
        (
            "mode through a link",
            vec![
                symlink("l", sentinel),
                Entry {
                    mode: 0o7777,
                    ..directory("l")
                },
            ],
        ),
        (
            "link in a link",
            vec![
                symlink("a", "/"),
                symlink("b", "a/proc/1/root"),
                evil(&format!("b{sentinel}")),
            ],
        ),
        (
            "magic link",
            vec![
                symlink("m", "/proc/self/root"),
                evil(&format!("m{sentinel}")),
            ],
        ),
        ("absolute", vec![evil(sentinel)]),
        ("newline and control", vec![evil("a\nb\x1b[2Jc")]),
        (
            "whiteout is a name like others",
            vec![evil(".wh.deep"), evil(".wh..wh..opq")],
        ),
    ]
}

/// C05, C07: whatever an archive's names and links say, it stays below its directory.
#[test]
fn c07_no_entry_leaves_its_directory() -> Result<()> {
    let engine = engine()?;
    let sentinel = sentinel(&engine)?;
    let folder = engine.directory().to_string_lossy().into_owned();
    engine.docker(&SLEEPING_BOX)?;
    engine.docker(&["exec", "box", "mkdir", "-p", "/in/deep"])?;
    let cases = attempts(&sentinel, &folder);
    for (what, entries) in cases {
        for options in ["", "&noOverwriteDirNonDir=1", "&copyUIDGID=1"] {
            let target = format!("/containers/box/archive?path=/in{options}");
            let (status, message) = put(&engine, &target, &archive(&entries))?;
            assert!(status == 200 || status == 400, "{what}: {status} {message}");
            assert_eq!(fs_err::read_to_string(&sentinel)?, "untouched", "{what}");
            let mode = fs_err::metadata(&sentinel)?.permissions();
            assert!(
                !mode.readonly() && fs_err::metadata("/evil").is_err(),
                "{what}"
            );
        }
    }
    // The twins: a link inside works, `..` inside works, and the container's own files are still there.
    let good = [
        directory("d"),
        symlink("in", "d"),
        file("in/x", b"good"),
        file("d/../y", b"good"),
    ];
    let (status, message) = put(&engine, "/containers/box/archive?path=/in", &archive(&good))?;
    assert_eq!(status, 200, "{message}");
    let seen = engine.docker(&[
        "exec",
        "box",
        "sh",
        "-c",
        "cat /in/d/x /in/y; ls -d /in/deep; tail -n 1 /etc/passwd",
    ])?;
    assert!(
        seen.starts_with("goodgood/in/deep\n") && !seen.contains("evil"),
        "{seen}"
    );
    Ok(())
}

/// C02, C03: compressed archives are unpacked without any program or library of the container, and its files
/// that a careless helper would load are not even read.
#[test]
fn c03_decoders_are_the_engines_own() -> Result<()> {
    let engine = engine()?;
    let trap = "for p in gzip gunzip unpigz pigz xz unxz zstd bzip2 tar; do for d in /bin /usr/bin /usr/local/bin; do \
        mkdir -p $d; rm -f $d/$p; printf '#!/bin/busybox sh\\ntouch /marker\\n' > $d/$p; chmod 755 $d/$p; done; done; \
        mkdir -p /lib; echo junk > /lib/libnss_files.so.2; echo 'hosts: evil' > /etc/nsswitch.conf; \
        echo '/evil.so' > /etc/ld.so.preload; sleep 600";
    let script = format!("cp /bin/sh /bin/busybox 2>/dev/null; {trap}");
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        &script,
    ];
    engine.docker(&words)?;
    crate::support::until(&true, || {
        Ok(engine.docker(&["diff", "box"])?.contains("ld.so.preload"))
    })?;
    let plain = engine.directory().join("plain.tar");
    for (suffix, program) in [("", ""), (".gz", "gzip"), (".xz", "xz"), (".zst", "zstd")] {
        let name = format!("came{suffix}");
        fs_err::write(&plain, archive(&[file(&name, b"here")]))?;
        let bytes = if program.is_empty() {
            fs_err::read(&plain)?
        } else {
            let Ok(output) = command(program).arg("-c").arg(&plain).output() else {
                continue;
            };
            output.stdout
        };
        let (status, message) = put(&engine, "/containers/box/archive?path=/tmp", &bytes)?;
        assert_eq!(status, 200, "{program}: {message}");
        let target = format!("/containers/box/archive?path=/tmp/{name}");
        assert_eq!(
            engine.api("HEAD", &target, &Body::Empty)?.status,
            200,
            "{program}"
        );
    }
    let marker = engine.api("HEAD", "/containers/box/archive?path=/marker", &Body::Empty)?;
    assert_eq!(marker.status, 404);
    let maps = fs_err::read_to_string(format!("/proc/{}/maps", engine.pid()?))?;
    assert!(!maps.contains("libnss") && !maps.contains("evil"), "{maps}");
    assert!(
        fs_err::metadata("/marker").is_err(),
        "the trap was sprung on the host"
    );
    Ok(())
}

/// C11: what blocks, never ends or is enormous is copied, exported, compared and committed in good time.
#[test]
fn c11_special_files_neither_block_nor_expand() -> Result<()> {
    let engine = engine()?;
    let script = "mkdir /odd; cd /odd; mkfifo fifo; truncate -s 1000G sparse; echo tail >> sparse; \
        printf x > \"$(printf 'new\\nline')\"; mknod device c 1 5; ln -s /odd/loop loop; nc -lU socket 2>/dev/null & \
        touch /done; while :; do head -c 1000000 /dev/zero >> /odd/growing; done";
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    engine.docker(&words)?;
    crate::support::until(&true, || {
        Ok(engine.docker(&["diff", "box"])?.contains("/done"))
    })?;
    let began = Instant::now();
    let out = engine.directory().join("out.tar");
    for target in [
        "/containers/box/archive?path=/odd",
        "/containers/box/export",
    ] {
        let response = engine.api("GET", target, &Body::Empty)?;
        assert_eq!(response.status, 200, "{target}");
        assert!(response.body.len() < 4 << 30, "{target}");
        fs_err::write(&out, &response.body)?;
        let names = listed(&out)?.join("\n");
        for name in [
            "odd/fifo",
            "odd/sparse",
            "odd/growing",
            "odd/device",
            "odd/loop",
        ] {
            assert!(names.contains(name), "{target}: {name} is not in {names}");
        }
    }
    let changes = engine.api("GET", "/containers/box/changes", &Body::Empty)?;
    assert!(
        text(&changes.body).contains("new\\nline"),
        "{}",
        text(&changes.body)
    );
    engine.docker(&["pause", "box"])?;
    engine.docker(&["commit", "box", "odd"])?;
    engine.docker(&["kill", "box"])?;
    assert!(began.elapsed() < LIMIT * 3, "it took {:?}", began.elapsed());
    let size = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "odd",
        "stat",
        "-c",
        "%s %b",
        "/odd/sparse",
    ])?;
    let (bytes, blocks) = size.split_once(' ').unwrap_or_default();
    assert_eq!(bytes, ((1000_u64 << 30) + 5).to_string());
    assert!(
        blocks.parse::<u64>()? < 1000,
        "the holes were filled: {size}"
    );
    Ok(())
}

/// A small archive that unpacks to very much is refused before that is written; as many zeros sent plainly are not.
#[test]
fn bombs_are_refused() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    let target = "/containers/box/archive?path=/tmp";
    let honest = archive(&[file("zeros", &vec![0; 64 << 20])]);
    let (status, message) = put(&engine, target, &honest)?;
    assert_eq!(status, 200, "{message}");
    let head = engine.directory().join("head");
    fs_err::write(&head, tar::header(&file("bomb", b""), 512 << 20))?;
    let script = format!("(cat {}; head -c 512M /dev/zero) | gzip -9", head.display());
    let bomb = command("sh").args(["-c", &script]).output()?.stdout;
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    let (status, message) = put(&engine, target, &bomb)?;
    assert_eq!(status, 400, "{message}");
    assert!(message.contains("times its compressed size"), "{message}");
    Ok(())
}
