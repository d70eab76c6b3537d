//! Against other people's tar: GNU tar and Python's tarfile write what we read and read what we
//! write, and all three see the same entries.

#![expect(
    clippy::disallowed_methods,
    reason = "the system's tar and python are what is compared with, and get no descriptors of ours"
)]

use std::os::unix::fs::{FileExt as _, chown};
use std::path::Path;
use std::process::Command;

use fs_err::os::unix::fs::symlink;
use havre_layer::{ApplyOptions, ExportOptions, Kind, Stack, TarReader, Times, apply, export_tree};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use crate::tree::{Place, read};

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    output.stdout
}

/// A tree with something of everything.
fn build(root: &Path) {
    let at = |name: &str| root.join(name);
    fs_err::create_dir_all(at("dir/inner")).unwrap();
    fs_err::write(at("dir/file"), "content\n".repeat(1000)).unwrap();
    fs_err::hard_link(at("dir/file"), at("dir/link")).unwrap();
    symlink("../dir/file", at("symlink")).unwrap();
    symlink("t".repeat(300), at("longlink")).unwrap();
    fs_err::write(at(&"n".repeat(200)), "long name").unwrap();
    let deep = "deep/".repeat(40);
    fs_err::create_dir_all(at(&deep)).unwrap();
    fs_err::write(at(&deep).join("bottom"), "bottom").unwrap();
    fs_err::write(at("ünïcödé"), "").unwrap();
    fs_err::write(at("new\nline"), "").unwrap();
    mknodat(
        CWD,
        at("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(1, 3),
    )
    .unwrap();
    mknodat(
        CWD,
        at("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let program = at("program");
    fs_err::write(&program, "#!/bin/sh\n").unwrap();
    chown(&program, Some(1000), Some(70_000)).unwrap();
    rustix::fs::chmod(&program, Mode::from_raw_mode(0o4751)).unwrap();
    setxattr(&program, "user.test", b"a\nb\0c", XattrFlags::empty()).unwrap();
    let sparse = fs_err::File::create(at("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    sparse.file().write_all_at(b"middle", 20 << 20).unwrap();
    let old = rustix::fs::Timespec {
        tv_sec: -86_400,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: old,
        last_modification: old,
    };
    rustix::fs::utimensat(CWD, at("dir/inner"), &times, rustix::fs::AtFlags::empty()).unwrap();
}

fn gnu_tar(root: &Path, arguments: &[&str]) -> Vec<u8> {
    run(Command::new("tar")
        .args(["-C"])
        .arg(root)
        .args(arguments)
        .args(["-cf", "-", "."]))
}

#[test]
fn archives_of_gnu_tar_become_the_same_tree() {
    let source = Place::new();
    build(&source.path());
    let expected = read(&source.path());
    let formats: [(&[&str], bool); 5] = [
        (&["--format=posix", "--xattrs", "--xattrs-include=*"], true),
        (
            &[
                "--format=posix",
                "--xattrs",
                "--xattrs-include=*",
                "--sparse",
            ],
            true,
        ),
        (
            &["--format=posix", "--sparse", "--sparse-version=0.1"],
            false,
        ),
        (
            &["--format=posix", "--sparse", "--sparse-version=0.0"],
            false,
        ),
        (&["--format=gnu", "--sparse"], false),
    ];
    for (arguments, exact) in formats {
        let target = Place::new();
        let tar = gnu_tar(&source.path(), arguments);
        apply(tar.as_slice(), &target.root(), &ApplyOptions::layer()).unwrap();
        let mut found = read(&target.path());
        let mut expected = expected.clone();
        if !exact {
            for node in found.values_mut().chain(expected.values_mut()) {
                node.xattrs.clear();
                if arguments[0] == "--format=gnu" {
                    node.mtime.1 = 0;
                }
            }
        }
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>()
        );
        for (name, node) in &expected {
            let same = found[name] == *node;
            assert!(
                same,
                "{arguments:?}: {name}: {:?} {:?}",
                found[name].mtime, node.mtime
            );
        }
    }
}

#[test]
fn our_archives_become_the_same_tree_with_gnu_tar_and_are_the_same_when_repeated() {
    let source = Place::new();
    build(&source.path());
    let options = ExportOptions {
        times: Times::Full,
        ..ExportOptions::default()
    };
    let export = || {
        let stack = Stack::new(vec![source.root()]);
        let (tar, exported) = export_tree(&stack, Vec::new(), &options).unwrap();
        assert_eq!(exported.size, tar.len() as u64);
        tar
    };
    let tar = export();
    assert!(tar == export(), "two exports differ");
    assert!(tar.len() < 1 << 20, "the sparse file was written in full");
    let target = Place::new();
    let file = target.directory.path().join("archive.tar");
    fs_err::write(&file, &tar).unwrap();
    run(Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "-C"])
        .arg(target.path())
        .args(["--numeric-owner", "-xpf"])
        .arg(&file));
    let (mut found, mut expected) = (read(&target.path()), read(&source.path()));
    // The root itself is not in the archive.
    found.remove("");
    expected.remove("");
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, node) in &expected {
        assert!(found[name] == *node, "{name}");
    }
    assert!(fs_err::read_dir(target.path()).unwrap().count() > 10);
}

const LIST: &str = r#"
import sys, tarfile
for member in tarfile.open(sys.argv[1], "r:"):
    name = member.name.encode("utf-8", "surrogateescape").hex()
    link = member.linkname.encode("utf-8", "surrogateescape").hex()
    print(name, member.mode & 0o7777, member.uid, member.gid, member.size,
          int(member.mtime // 1), member.type.decode().replace("\0", "0"), "l" + link)
"#;

fn python_listing(tar: &[u8], place: &Place) -> Vec<String> {
    let file = place.directory.path().join("listed.tar");
    fs_err::write(&file, tar).unwrap();
    let out = run(Command::new("python3").args(["-c", LIST]).arg(&file));
    String::from_utf8(out)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn our_listing(tar: &[u8]) -> Vec<String> {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let mut reader = TarReader::new(tar);
    let mut lines = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let (kind, link) = match &entry.kind {
            Kind::File => (if entry.sparse.is_some() { "S" } else { "0" }, &b""[..]),
            Kind::HardLink { target } => ("1", target.as_slice()),
            Kind::Symlink { target } => ("2", target.as_slice()),
            Kind::Character { .. } => ("3", &b""[..]),
            Kind::Block { .. } => ("4", &b""[..]),
            Kind::Directory => ("5", &b""[..]),
            Kind::Fifo => ("6", &b""[..]),
        };
        let path = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
        lines.push(format!(
            "{} {} {} {} {} {} {} l{}",
            hex(path),
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.mtime.seconds,
            kind,
            hex(link),
        ));
    }
    lines
}

#[test]
fn python_sees_the_same_entries_in_all_formats() {
    let source = Place::new();
    build(&source.path());
    let stack = Stack::new(vec![source.root()]);
    let options = ExportOptions {
        sparse_from: u64::MAX,
        ..ExportOptions::default()
    };
    let (ours, _) = export_tree(&stack, Vec::new(), &options).unwrap();
    let mut archives = vec![("ours", ours)];
    for format in ["--format=posix", "--format=gnu", "--format=oldgnu"] {
        archives.push((format, gnu_tar(&source.path(), &[format])));
    }
    fs_err::remove_file(source.path().join("longlink")).unwrap();
    fs_err::remove_file(source.path().join("n".repeat(200))).unwrap();
    fs_err::remove_dir_all(source.path().join("deep")).unwrap();
    for format in ["--format=ustar", "--format=v7"] {
        let arguments = [format, "--exclude=./null", "--exclude=./pipe"];
        fs_err::remove_dir_all(source.path().join("dir/inner")).unwrap_or_default();
        archives.push((format, gnu_tar(&source.path(), &arguments)));
    }
    for (name, tar) in archives {
        let ours = our_listing(&tar);
        let python = python_listing(&tar, &source);
        assert!(ours.len() > 5);
        assert_eq!(ours, python, "{name}");
    }
}

#[test]
fn python_writes_what_we_read() {
    let place = Place::new();
    let script = r#"
import sys, tarfile, io
for name, form in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
    with tarfile.open(sys.argv[1] + "/" + name, "w", format=form) as out:
        for size, path in ((0, "empty"), (511, "a" * 150), (512, "b/" * 90 + "c"), (100000, "big")):
            member = tarfile.TarInfo(path)
            member.size = size
            member.mtime = 1234.5 if form == tarfile.PAX_FORMAT else 1234
            member.uid = 3000000
            member.uname = "ü"
            if form == tarfile.PAX_FORMAT:
                member.pax_headers = {"SCHILY.xattr.user.k": "v=\n1"}
            out.addfile(member, io.BytesIO(b"x" * size))
"#;
    run(Command::new("python3")
        .args(["-c", script])
        .arg(place.directory.path()));
    for name in ["pax", "gnu"] {
        let tar = fs_err::read(place.directory.path().join(name)).unwrap();
        assert_eq!(our_listing(&tar), python_listing(&tar, &place), "{name}");
        let target = Place::new();
        let applied = apply(tar.as_slice(), &target.root(), &ApplyOptions::layer()).unwrap();
        assert_eq!(applied.content, 511 + 512 + 100_000);
        let tree = read(&target.path());
        assert_eq!(tree["big"].owner, (3_000_000, 0));
        if name == "pax" {
            assert_eq!(tree["big"].mtime, (1234, 500_000_000));
            assert_eq!(tree["big"].xattrs["user.k"], b"v=\n1");
        }
    }
}
