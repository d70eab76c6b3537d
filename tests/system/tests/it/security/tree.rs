//! R03, R05 to R08, M01, M02, M06: trees of images in which every path that the engine uses leads elsewhere.

use super::fixture::{SECRET, Sentinel, image_of};
use crate::support::{engine, run_rm, stdout_of, text};
use anyhow::{Result, ensure};
use havre_testkit::command::{command, run};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::os::unix::fs::symlink;
use std::path::Path;

/// R03: links in the image's working directory lead nowhere but into the image.
#[test]
fn r03_a_working_directory_behind_links() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    let target = sentinel.text();
    for (link, workdir) in [
        (target.clone(), "/link/made/deep".to_owned()),
        (
            format!("../../../../../../../..{target}"),
            "/link/made".to_owned(),
        ),
        ("/proc/self/cwd".to_owned(), format!("/link{target}/made")),
    ] {
        image_of(&engine, "links", &[&format!("WORKDIR {workdir}")], |root| {
            Ok(symlink(&link, root.join("link"))?)
        })?;
        let out = run_rm(&engine, &["links", "sh", "-c", "pwd -P; touch here; ls"])?;
        sentinel.check()?;
        if out.status.success() {
            assert!(
                text(&out.stdout).ends_with("made\nhere\n")
                    || text(&out.stdout).ends_with("deep\nhere\n"),
                "{out:?}"
            );
        }
    }
    // The twin: a link to a directory of the image.
    image_of(&engine, "links", &["WORKDIR /link/made"], |root| {
        fs_err::create_dir(root.join("data"))?;
        Ok(symlink("/data", root.join("link"))?)
    })?;
    assert_eq!(stdout_of(&engine, &["links", "pwd"])?, "/data/made");
    Ok(())
}

type Make = fn(&Path) -> Result<()>;

fn link_null(dev: &Path) -> Result<()> {
    fs_err::write(dev.join("../etc/bait"), "bait")?;
    Ok(symlink("/etc/bait", dev.join("null"))?)
}

fn file_null(dev: &Path) -> Result<()> {
    Ok(fs_err::write(dev.join("null"), "bait")?)
}

fn other_null(dev: &Path) -> Result<()> {
    let zero = makedev(1, 5);
    Ok(mknodat(
        CWD,
        dev.join("null"),
        FileType::CharacterDevice,
        Mode::from(0o666),
        zero,
    )?)
}

/// R05: whatever the image has as `/dev/null`, masked paths read empty and cannot be written.
#[test]
fn r05_a_false_null_device_masks_nothing_away() -> Result<()> {
    let engine = engine()?;
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list; do test -e $f || continue; \
                  cat $f; (echo x >$f) 2>/dev/null && cat $f; done; ls /proc/acpi /sys/firmware 2>/dev/null; \
                  stat -c '%t:%T' /dev/null";
    for make in [link_null as Make, file_null, other_null] {
        image_of(&engine, "null", &[], |root| {
            fs_err::create_dir(root.join("dev"))?;
            make(&root.join("dev"))
        })?;
        let seen = stdout_of(&engine, &["null", "sh", "-c", script])?;
        let lines: Vec<&str> = seen
            .lines()
            .filter(|line| !line.is_empty() && !line.ends_with(':'))
            .collect();
        assert_eq!(lines, ["1:3"]);
    }
    // The twin: without the masks something is there to be read.
    let open = stdout_of(
        &engine,
        &[
            "--security-opt",
            "systempaths=unconfined",
            "busybox",
            "sh",
            "-c",
            "cat /proc/timer_list /proc/keys | head -c 5",
        ],
    )?;
    assert!(!open.is_empty());
    Ok(())
}

/// R06: `/dev/console` is the container's own terminal, whatever the image has in `/dev`.
#[test]
fn r06_the_console_is_a_terminal() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    let target = sentinel.file();
    for number in 0..3 {
        image_of(&engine, "console", &[], |root| {
            let dev = root.join("dev");
            fs_err::create_dir_all(&dev)?;
            match number {
                0 => symlink(&target, dev.join("console"))?,
                1 => symlink(sentinel.path(), dev.join("pts"))?,
                _ => {
                    fs_err::create_dir(dev.join("pts"))?;
                    symlink(&target, dev.join("pts/0"))?;
                    symlink(&target, dev.join("pts/ptmx"))?;
                    symlink(&target, dev.join("ptmx"))?;
                }
            }
            Ok(())
        })?;
        let script = "stat -c '%F %t' /dev/console /dev/pts/0; grep -c ' /dev/console ' /proc/self/mountinfo; \
                      echo said >/dev/console";
        let seen = stdout_of(&engine, &["-t", "console", "sh", "-c", script])?.replace('\r', "");
        assert_eq!(
            seen, "character special file 88\ncharacter special file 88\n1\nsaid",
            "{number}"
        );
        sentinel.check()?;
    }
    // Without a terminal nothing is mounted there.
    let seen = stdout_of(
        &engine,
        &[
            "console",
            "sh",
            "-c",
            "grep -c ' /dev/console ' /proc/self/mountinfo; true",
        ],
    )?;
    assert_eq!(seen, "0");
    Ok(())
}

/// R07: an image's `/proc` or `/sys` that is no directory stops the start by name, and nothing may
/// be mounted over parts of them.
#[test]
fn r07_proc_and_sys_are_the_kernels() -> Result<()> {
    let engine = engine()?;
    for name in ["proc", "sys"] {
        image_of(&engine, "system", &[], |root| {
            fs_err::remove_dir(root.join(name))?;
            Ok(symlink("/tmp", root.join(name))?)
        })?;
        let out = run_rm(&engine, &["system", "true"])?;
        ensure!(!out.status.success(), "{name}: {out:?}");
        ensure!(
            text(&out.stderr).contains(&format!("/{name}")),
            "{name}: {out:?}"
        );
    }
    let source = Sentinel::new()?;
    for target in ["/proc", "/proc/self/attr", "/proc/1", "/proc/sys"] {
        let bind = format!("{}:{target}", source.text());
        let out = run_rm(&engine, &["-v", &bind, "busybox", "true"])?;
        ensure!(!out.status.success(), "{target}: {out:?}");
        ensure!(
            text(&out.stderr).contains("inside /proc"),
            "{target}: {out:?}"
        );
    }
    source.check()?;
    // The twins: what LXCFS covers, and a bind beside.
    let file = format!("{}:/proc/uptime:ro", source.file().display());
    assert_eq!(
        stdout_of(&engine, &["-v", &file, "busybox", "cat", "/proc/uptime"])?,
        SECRET
    );
    Ok(())
}

/// R08: a `/dev` of the image that is a link is made inside or refused, never on the host.
#[test]
fn r08_a_dev_that_is_a_link() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    let folder = sentinel.path().join("folder");
    let up = format!("../../../../../../..{}", folder.display());
    for (number, link) in [folder.to_string_lossy().into_owned(), up, "hop".to_owned()]
        .iter()
        .enumerate()
    {
        image_of(&engine, "dev", &[], |root| {
            symlink(&folder, root.join("hop"))?;
            Ok(symlink(link, root.join("dev"))?)
        })?;
        let out = run_rm(&engine, &["dev", "/bin/true"])?;
        sentinel.check()?;
        ensure!(
            out.status.success() || !out.stderr.is_empty(),
            "{number}: {out:?}"
        );
    }
    // The twin: a link to a directory of the image carries the devices.
    image_of(&engine, "dev", &[], |root| {
        fs_err::create_dir(root.join("devices"))?;
        Ok(symlink("/devices", root.join("dev"))?)
    })?;
    let seen = stdout_of(
        &engine,
        &[
            "dev",
            "sh",
            "-c",
            "echo x >/dev/null && stat -c %F /devices/null",
        ],
    )?;
    assert_eq!(seen, "character special file");
    Ok(())
}

/// M02: parents of a mount that lead elsewhere are followed inside the image only.
#[test]
fn m02_parents_of_mounts_are_made_inside() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    let source = Sentinel::new()?;
    let up = format!("../../../../../../..{}", sentinel.path().display());
    for link in [sentinel.text(), up] {
        image_of(&engine, "parents", &[], |root| {
            Ok(symlink(&link, root.join("link"))?)
        })?;
        for target in ["/link/new/place", "/link/folder", "/link/file"] {
            let bind = format!(
                "{}:{target}:ro",
                if target.ends_with("file") {
                    source.file()
                } else {
                    source.path().to_owned()
                }
                .display()
            );
            let out = run_rm(&engine, &["-v", &bind, "parents", "ls", target])?;
            sentinel.check()?;
            source.check()?;
            ensure!(out.status.success(), "{target}: {out:?}");
        }
        let out = run_rm(
            &engine,
            &[
                "--tmpfs",
                "/link/fresh",
                "parents",
                "touch",
                "/link/fresh/x",
            ],
        )?;
        sentinel.check()?;
        ensure!(out.status.success(), "{out:?}");
    }
    Ok(())
}

/// M06: the files that the engine puts into `/etc` are neither written nor read through links of the image.
#[test]
fn m06_engine_files_behind_links() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    image_of(&engine, "files", &[], |root| {
        for name in ["hosts", "hostname", "resolv.conf", "mtab"] {
            symlink(sentinel.file(), root.join("etc").join(name))?;
        }
        Ok(())
    })?;
    let script = "cat /etc/hostname; grep -c localhost /etc/hosts; cat /etc/resolv.conf >/dev/null && echo read";
    let out = run_rm(
        &engine,
        &[
            "--hostname",
            "inside",
            "--add-host",
            "other:10.0.0.1",
            "files",
            "sh",
            "-c",
            script,
        ],
    )?;
    sentinel.check()?;
    ensure!(!text(&out.stdout).contains(SECRET), "{out:?}");
    // The twin: links within the image, each to a file of its own, and the names show the engine's.
    image_of(&engine, "files", &[], |root| {
        for name in ["hosts", "hostname", "resolv.conf"] {
            symlink(format!("/own/{name}"), root.join("etc").join(name))?;
        }
        Ok(fs_err::create_dir(root.join("own"))?)
    })?;
    let seen = stdout_of(
        &engine,
        &["--hostname", "inside", "files", "sh", "-c", script],
    )?;
    assert!(seen.starts_with("inside\n"), "{seen}");
    assert!(seen.ends_with("read"), "{seen}");
    Ok(())
}

/// M01: a directory shared by containers, in which one exchanges a mount's target for a link without end,
/// never lets a mount land outside.
#[test]
fn m01_a_target_exchanged_while_it_is_mounted_on() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    let shared = tempfile::tempdir()?;
    let share = format!("{}:/shared", shared.path().display());
    let secret = format!(
        "{}:/shared/target/deep:ro",
        sentinel.path().join("folder").display()
    );
    let places = [
        engine.directory().to_path_buf(),
        shared.path().to_path_buf(),
        sentinel.path().to_path_buf(),
    ];
    let mounts = || -> Result<Vec<String>> {
        let all = fs_err::read_to_string("/proc/self/mountinfo")?;
        let ours = |line: &&str| {
            places
                .iter()
                .any(|place| line.contains(&*place.to_string_lossy()))
        };
        Ok(all.lines().filter(ours).map(str::to_owned).collect())
    };
    let racer = "cd /shared; mkdir -p real/deep; i=0; while :; do \
                 rm -rf target; ln -s $SENTINEL target; rm target; mkdir -p target/deep; done";
    let variable = format!("SENTINEL={}", sentinel.path().display());
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "racer",
        "-e",
        &variable,
        "-v",
        &share,
        "busybox",
        "sh",
        "-c",
        racer,
    ])?;
    let mut started = 0;
    for _ in 0..60 {
        let out = run_rm(&engine, &["-v", &share, "-v", &secret, "busybox", "true"])?;
        started += u32::from(out.status.success());
        sentinel.check()?;
    }
    ensure!(started > 0, "none of the starts came through the race");
    engine.docker(&["rm", "-f", "racer"])?;
    assert_eq!(
        mounts()?,
        Vec::<String>::new(),
        "a mount appeared on the host"
    );
    // The twin: where nobody races the mount is there.
    run(command("rm").arg("-rf").arg(shared.path().join("target")))?;
    let seen = stdout_of(
        &engine,
        &[
            "-v",
            &share,
            "-v",
            &secret,
            "busybox",
            "grep",
            "-c",
            "/shared/target/deep",
            "/proc/self/mountinfo",
        ],
    )?;
    assert_eq!(seen, "1");
    Ok(())
}
