//! `/.dockerenv` and `/etc/mtab`: in every container, in no image, and no change of the container's.

use crate::security::fixture::{Sentinel, image_of};
use crate::support::{engine, inspect, run_rm, stdout_of, text};
use anyhow::{Result, ensure};
use havre_testkit::Engine;
use havre_testkit::command::{command, run};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

const LOOK: &str =
    "stat -c '%F %a %s' /.dockerenv; readlink /etc/mtab; grep -c ' /proc proc ' /etc/mtab";
const SEEN: &str = "regular empty file 755 0\n/proc/mounts\n1";

/// How many trees of the engine have the mark.
fn marked(engine: &Engine) -> Result<usize> {
    let found = run(command("find")
        .arg(engine.data_root())
        .args(["-name", ".dockerenv"]))?;
    Ok(text(&found.stdout).lines().count())
}

#[test]
fn marks_are_in_containers_and_in_nothing_else() -> Result<()> {
    let engine = engine()?;
    let base = ["--network", "none", "--name", "box", "busybox"];
    let script = format!("{LOOK}; echo changed > /etc/new");
    engine.docker(&[&["create"], &base[..], &["sh", "-c", &script]].concat())?;
    assert_eq!(engine.docker(&["diff", "box"])?, "");
    assert_eq!(engine.docker(&["start", "--attach", "box"])?, SEEN);
    assert_eq!(engine.docker(&["diff", "box"])?, "C /etc\nA /etc/new");
    let size = ["inspect", "--size", "--format", "{{.SizeRw}}", "box"];
    let size: u64 = engine.docker(&size)?.parse()?;
    ensure!(size <= 4096, "{size} bytes for one small file");
    let tree = engine.directory().join("tree.tar");
    engine.docker(&["export", "--output", &tree.to_string_lossy(), "box"])?;
    let listed = text(&run(command("tar").arg("tf").arg(&tree))?.stdout);
    for name in [".dockerenv", "etc/mtab", "etc/new"] {
        ensure!(listed.lines().any(|line| line == name), "{name}: {listed}");
    }
    assert_eq!(marked(&engine)?, 1);
    engine.docker(&["commit", "box", "made"])?;
    engine.docker(&["rm", "box"])?;
    assert_eq!(marked(&engine)?, 0, "the image has the mark");
    // Its containers have their own, and the link of the image is no change of theirs either.
    let look = format!("{LOOK}; cat /etc/new");
    let seen = stdout_of(&engine, &["made", "sh", "-c", &look])?;
    assert_eq!(seen, format!("{SEEN}\nchanged"));
    Ok(())
}

#[test]
fn what_a_container_makes_of_the_marks_is_a_change() -> Result<()> {
    let engine = engine()?;
    let script = "echo x > /.dockerenv; rm /etc/mtab; echo own > /etc/mtab";
    let base = ["run", "--network", "none", "--name", "box", "busybox"];
    engine.docker(&[&base[..], &["sh", "-c", script]].concat())?;
    let changes = engine.docker(&["diff", "box"])?;
    for change in ["A /.dockerenv", "A /etc/mtab"] {
        ensure!(changes.lines().any(|line| line == change), "{changes}");
    }
    engine.docker(&["commit", "box", "made"])?;
    assert_eq!(marked(&engine)?, 2);
    // As dockerd: the next container begins with marks as they must be.
    assert_eq!(stdout_of(&engine, &["made", "sh", "-c", LOOK])?, SEEN);
    Ok(())
}

#[test]
fn marks_are_made_in_the_container_whatever_the_image_has_in_their_place() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    let target = sentinel.file();
    image_of(&engine, "links", &[], |root| {
        symlink(&target, root.join(".dockerenv"))?;
        symlink(&target, root.join("etc/mtab"))?;
        chown(root.join("etc"), Some(7), Some(8))?;
        let mode = std::fs::Permissions::from_mode(0o711);
        Ok(fs_err::set_permissions(root.join("etc"), mode)?)
    })?;
    let script = format!("{LOOK}; stat -c %a:%u:%g /etc; id -un");
    let seen = stdout_of(&engine, &["links", "sh", "-c", &script])?;
    assert_eq!(seen, format!("{SEEN}\n711:7:8\nroot"));
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "box",
        "links",
        "true",
    ])?;
    assert_eq!(engine.docker(&["diff", "box"])?, "");
    image_of(&engine, "folders", &[], |root| {
        fs_err::create_dir(root.join(".dockerenv"))?;
        Ok(fs_err::create_dir(root.join("etc/mtab"))?)
    })?;
    let script = "stat -c %F /.dockerenv /etc/mtab";
    let seen = stdout_of(&engine, &["folders", "sh", "-c", script])?;
    assert_eq!(seen, "directory\ndirectory");
    // A folder that is a link is left alone, wherever it leads.
    for link in [sentinel.text(), "/tmp".to_owned()] {
        image_of(&engine, "etc", &[], |root| {
            fs_err::rename(root.join("etc"), root.join("other"))?;
            Ok(symlink(&link, root.join("etc"))?)
        })?;
        let out = run_rm(&engine, &["etc", "sh", "-c", "readlink /etc; ls /tmp"])?;
        ensure!(text(&out.stdout).starts_with(&link), "{out:?}");
        ensure!(!text(&out.stdout).contains("mtab"), "{out:?}");
    }
    sentinel.check()?;
    assert_eq!(inspect(&engine, "box", "{{.State.Status}}")?, "created");
    Ok(())
}
