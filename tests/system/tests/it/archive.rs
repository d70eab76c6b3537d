//! The files of containers from outside: cp, diff, export, commit.

mod client;
mod hostile;
mod marks;
mod races;
mod tar;

use crate::support::{SLEEPING_BOX, assert_fails, engine, inspect, stdout_of, text, until};
use anyhow::{Context as _, Result};
use fs_err::os::unix::fs::symlink;
use havre_testkit::Engine;
use havre_testkit::command::command;
use havre_testkit::http::Body;
use std::path::{Path, PathBuf};

/// An archive for `PUT /containers/{id}/archive`.
fn put(engine: &Engine, target: &str, archive: &[u8]) -> Result<(u16, String)> {
    let body = Body::Bytes(archive, "application/x-tar");
    let response = engine.api("PUT", target, &body)?;
    Ok((response.status, text(&response.body)))
}

/// The names and types in an archive, as GNU tar lists them.
fn listed(archive: &Path) -> Result<Vec<String>> {
    let output = command("tar").arg("tvf").arg(archive).output()?;
    let lines = text(&output.stdout);
    Ok(lines
        .lines()
        .map(|line| {
            let mut fields = line.split_whitespace();
            let mode = fields.next().unwrap_or_default();
            let rest: Vec<&str> = fields.skip(4).collect();
            format!("{mode} {}", rest.join(" "))
        })
        .collect())
}

/// A directory of this machine with a file, a directory and a link in it.
fn source(engine: &Engine) -> Result<PathBuf> {
    let source = engine.directory().join("src");
    fs_err::create_dir_all(source.join("sub"))?;
    fs_err::write(source.join("f"), "one\n")?;
    fs_err::write(source.join("sub/g"), "two\n")?;
    symlink("f", source.join("l"))?;
    Ok(source)
}

/// The files of the container's own directory `/made`.
fn made(engine: &Engine, name: &str) -> Result<String> {
    let archive = engine.directory().join("made.tar");
    let file = archive.to_string_lossy().into_owned();
    engine.docker(&["export", "-o", &file, name])?;
    let output = command("tar").args(["tf", &file]).output()?;
    let names = text(&output.stdout);
    let names = names.lines().filter_map(|name| name.strip_prefix("made/"));
    let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    Ok(names.join(" "))
}

/// Copies into a container go where cp would put them, whether it runs or not, and by either command line.
#[test]
fn copies_in_follow_the_rules_of_cp() -> Result<()> {
    let engine = engine()?;
    let source = source(&engine)?;
    let (dir, file) = (
        source.to_string_lossy().into_owned(),
        source.join("f").to_string_lossy().into_owned(),
    );
    let content = format!("{dir}/.");
    let setup = "mkdir -p /made/d; echo old > /made/old; ln -s /made/d /made/link; sleep 600";
    for (name, runs) in [("alive", true), ("dead", false)] {
        let script = if runs {
            setup.to_owned()
        } else {
            setup.replace("sleep 600", "true")
        };
        let words = [
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            &script,
        ];
        engine.docker(&words)?;
        until(&runs.to_string(), || {
            inspect(&engine, name, "{{.State.Running}}")
        })?;
        until(&true, || Ok(made(&engine, name)?.contains("link")))?;
        let to = |path: &str| format!("{name}:{path}");
        for (from, path) in [
            (&dir, "/made/new"),
            (&dir, "/made/d"),
            (&content, "/made/d"),
            (&file, "/made/copy"),
            (&file, "/made/old"),
            (&file, "/made/link"),
        ] {
            engine.docker(&["cp", from, &to(path)])?;
            engine.havre(&["cp", from, &to(path)])?;
        }
        assert_eq!(
            made(&engine, name)?,
            "copy d/ d/f d/l d/src/ d/src/f d/src/l d/src/sub/ d/src/sub/g d/sub/ d/sub/g link \
             new/ new/f new/l new/src/ new/src/f new/src/l new/src/sub/ new/src/sub/g new/sub/ \
             new/sub/g old"
        );
        for (from, path, message) in [
            (&dir, "/made/old", "cannot copy directory"),
            (&file, "/nowhere/", "no such directory"),
            (
                &file,
                "/no/where",
                "Could not find the file /no in container",
            ),
            (&file, "/made/old/x", "extraction point is not a directory"),
        ] {
            assert_fails(&engine.docker_output(&["cp", from, &to(path)])?, 1, message);
            assert_fails(&engine.havre_output(&["cp", from, &to(path)])?, 1, message);
        }
        engine.docker(&["cp", &to("/made/old"), &format!("{dir}/back-{name}")])?;
        assert_eq!(
            fs_err::read_to_string(source.join(format!("back-{name}")))?,
            "one\n"
        );
        fs_err::remove_file(source.join(format!("back-{name}")))?;
    }
    Ok(())
}

/// Paths mean what they mean to Docker; the stat tells what is there.
#[test]
fn paths_and_names_are_dockers() -> Result<()> {
    let engine = engine()?;
    let script = "mkdir -p /a/b/c; echo hi > /a/b/f; ln /a/b/f /a/b/g; ln -s /a/b /l; ln -s f /a/b/rel; \
        mkfifo /a/b/p; chmod 4755 /a/b/f";
    let words = [
        "run",
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
    let archive = engine.directory().join("out.tar");
    let directory = |name: &str| {
        [
            format!("drwxr-xr-x {name}/"),
            format!("drwxr-xr-x {name}/c/"),
            format!("-rwsr-xr-x {name}/f"),
            format!("hrwsr-xr-x {name}/g link to {name}/f"),
            format!("prw-r--r-- {name}/p"),
            format!("lrwxrwxrwx {name}/rel -> f"),
        ]
        .to_vec()
    };
    let one = |line: &str| vec![line.to_owned()];
    for (path, expected) in [
        ("/a/b", directory("b")),
        ("a/b/", directory("b")),
        ("/a/b/.", directory(".")),
        ("/l/", directory("l")),
        ("/l", one("lrwxrwxrwx l -> /a/b")),
        ("/l/f", one("-rwsr-xr-x f")),
        ("/../a/b/c/../f", one("-rwsr-xr-x f")),
    ] {
        let target = format!("/containers/box/archive?path={path}");
        let response = engine.api("GET", &target, &Body::Empty)?;
        assert_eq!(response.status, 200, "{path}");
        fs_err::write(&archive, &response.body)?;
        assert_eq!(listed(&archive)?, expected, "{path}");
        let head = engine.api("HEAD", &target, &Body::Empty)?;
        let header = "x-docker-container-path-stat";
        assert_eq!(head.header(header), response.header(header), "{path}");
        assert!(head.header(header).is_some(), "{path}");
    }
    for (path, status, message) in [
        (
            "/nope",
            404,
            "Could not find the file /nope in container box",
        ),
        ("/a/b/f/", 400, "lstat /a/b/f/: not a directory"),
        ("", 400, "bad parameter: path cannot be empty"),
    ] {
        let target = format!("/containers/box/archive?path={path}");
        let response = engine.api("GET", &target, &Body::Empty)?;
        assert_eq!(response.status, status, "{path}");
        assert!(
            text(&response.body).contains(message),
            "{path}: {}",
            text(&response.body)
        );
    }
    Ok(())
}

/// All mounts of a container are there, read-only ones cannot be written to, and nothing of it shows in the
/// host's mount table.
#[test]
fn mounts_are_part_of_a_containers_files() -> Result<()> {
    let engine = engine()?;
    let (rw, ro) = (engine.directory().join("rw"), engine.directory().join("ro"));
    for directory in [&rw, &ro] {
        fs_err::create_dir(directory)?;
        fs_err::write(directory.join("here"), "of the host\n")?;
    }
    let (mount_rw, mount_ro) = (
        format!("{}:/rw", rw.display()),
        format!("{}:/ro:ro", ro.display()),
    );
    let words = [
        "create",
        "--network",
        "none",
        "--name",
        "box",
        "--read-only",
        "-v",
        &mount_rw,
        "-v",
        &mount_ro,
        "--tmpfs",
        "/tmpfs",
        "busybox",
        "sleep",
        "600",
    ];
    engine.docker(&words)?;
    let before = fs_err::read_to_string("/proc/self/mountinfo")?;
    let archive = tar::archive(&[tar::file("new", b"new\n")]);
    let into = |path: &str| {
        put(
            &engine,
            &format!("/containers/box/archive?path={path}"),
            &archive,
        )
    };
    for runs in [false, true] {
        if runs {
            engine.docker(&["start", "box"])?;
        }
        assert_eq!(
            into("/")?.1,
            "{\"message\":\"container rootfs is marked read-only\"}\n"
        );
        assert_eq!(
            into("/ro")?.1,
            "{\"message\":\"mounted volume is marked read-only\"}\n"
        );
        assert_eq!(into("/rw")?, (200, String::new()));
        assert_eq!(fs_err::read_to_string(rw.join("new"))?, "new\n");
        fs_err::remove_file(rw.join("new"))?;
        let out = engine.docker(&["cp", "box:/ro/here", "-"])?;
        assert!(out.contains("of the host"), "{out}");
        let hosts = engine.docker_output(&["cp", "box:/etc/hosts", "-"])?;
        assert_eq!(text(&hosts.stdout).contains("localhost"), runs);
    }
    assert_eq!(into("/tmpfs")?, (200, String::new()));
    assert_eq!(engine.docker(&["exec", "box", "cat", "/tmpfs/new"])?, "new");
    assert_eq!(fs_err::read_to_string("/proc/self/mountinfo")?, before);
    let inside = fs_err::read_to_string(format!("/proc/{}/mountinfo", engine.pid()?))?;
    assert_eq!(inside, before, "the engine has a mount of its own");
    // What the kernel makes up is no file: Docker shows the directory below.
    let proc = engine.api(
        "GET",
        "/containers/box/archive?path=/proc/version",
        &Body::Empty,
    )?;
    assert_eq!(proc.status, 404);
    let (status, message) = into("/proc/sys/kernel")?;
    assert_eq!(status, 400, "{message}");
    Ok(())
}

/// A file that something is mounted on is not replaced, and the mount stays; its neighbour is.
#[test]
fn what_is_mounted_on_stays() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    let hosts = engine.docker(&["exec", "box", "cat", "/etc/hosts"])?;
    let target = "/containers/box/archive?path=/etc";
    let (status, message) = put(
        &engine,
        target,
        &tar::archive(&[tar::file("hosts", b"evil\n")]),
    )?;
    assert_eq!(status, 409, "{message}");
    assert_eq!(engine.docker(&["exec", "box", "cat", "/etc/hosts"])?, hosts);
    let (status, message) = put(
        &engine,
        target,
        &tar::archive(&[tar::file("other", b"ok\n")]),
    )?;
    assert_eq!((status, message.as_str()), (200, ""));
    assert_eq!(engine.docker(&["exec", "box", "cat", "/etc/other"])?, "ok");
    Ok(())
}

/// Owners: the archive's, or with `-a` the container's user's.
#[test]
fn owners_are_the_archives_or_the_users() -> Result<()> {
    let engine = engine()?;
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "-u",
        "1000:1001",
        "busybox",
        "sleep",
        "600",
    ];
    engine.docker(&words)?;
    let entry = tar::Entry {
        uid: 7,
        gid: 8,
        ..tar::file("new", b"x")
    };
    let target = "/containers/box/archive?path=/tmp";
    let owner = || engine.docker(&["exec", "box", "stat", "-c", "%u:%g", "/tmp/new"]);
    assert_eq!(
        put(&engine, target, &tar::archive(std::slice::from_ref(&entry)))?.0,
        200
    );
    assert_eq!(owner()?, "7:8");
    let user = format!("{target}&copyUIDGID=1");
    assert_eq!(put(&engine, &user, &tar::archive(&[entry]))?.0, 200);
    assert_eq!(owner()?, "1000:1001");
    Ok(())
}

/// diff shows what changed and nothing of the engine's; an unchanged container gives an image without a layer.
#[test]
fn changes_are_the_containers_own() -> Result<()> {
    let engine = engine()?;
    let script =
        "touch /new; mkdir /root/q; rm -r /var/spool; echo x >> /etc/passwd; touch /etc/group-";
    let words = [
        "run",
        "--network",
        "none",
        "--name",
        "changed",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    engine.docker(&words)?;
    let diff = engine.docker(&["diff", "changed"])?;
    let mut lines: Vec<&str> = diff.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "A /etc/group-",
            "A /new",
            "A /root/q",
            "C /etc",
            "C /etc/passwd",
            "C /root",
            "C /var",
            "D /var/spool",
        ]
    );
    assert_eq!(engine.havre(&["diff", "changed"])?, diff);
    engine.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "same",
        "busybox",
        "true",
    ])?;
    assert_eq!(engine.docker(&["diff", "same"])?, "");
    let answer = engine.api("GET", "/containers/same/changes", &Body::Empty)?;
    assert_eq!(text(&answer.body), "null\n");
    engine.docker(&["commit", "same", "same"])?;
    let layers = |image: &str| {
        engine.docker(&[
            "image",
            "inspect",
            "--format",
            "{{len .RootFS.Layers}}",
            image,
        ])
    };
    assert_eq!(layers("same")?, layers("busybox")?);
    engine.docker(&["commit", "changed", "changed"])?;
    assert_ne!(layers("changed")?, layers("busybox")?);
    assert_eq!(
        stdout_of(
            &engine,
            &[
                "changed",
                "sh",
                "-c",
                "ls /root; ls -A /var; tail -n 1 /etc/passwd"
            ]
        )?,
        "q\nx"
    );
    Ok(())
}

/// A running container with a file of its own, and a variable.
fn a_box_with_content(engine: &Engine) -> Result<()> {
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "-e",
        "KEEP=1",
        "busybox",
        "sh",
        "-c",
        "echo content > /file; sleep 600",
    ];
    engine.docker(&words)?;
    until(&true, || {
        Ok(engine.docker(&["diff", "box"])?.contains("/file"))
    })
}

/// An image of a running container: it runs, and says where it comes from.
#[test]
fn a_commit_is_an_image() -> Result<()> {
    let engine = engine()?;
    a_box_with_content(&engine)?;
    let id = engine.docker(&[
        "commit",
        "-a",
        "somebody",
        "-m",
        "a step",
        "-c",
        "CMD [\"cat\", \"/file\"]",
        "-c",
        "ENV MORE=\"a b\" KEEP=$KEEP-2",
        "-c",
        "EXPOSE 80",
        "-c",
        "LABEL l=1",
        "box",
        "made:1",
    ])?;
    assert_eq!(inspect(&engine, "box", "{{.State.Status}}")?, "running");
    assert_eq!(stdout_of(&engine, &["made:1"])?, "content");
    let environment = stdout_of(&engine, &["made:1", "sh", "-c", "echo $KEEP; echo $MORE"])?;
    assert_eq!(environment, "1-2\na b");
    let parent = inspect(&engine, "busybox", "{{.Id}}")?;
    let format =
        "{{.Id}} {{.Parent}} {{.Author}} {{.Comment}} {{.Config.Labels}} {{.Config.ExposedPorts}}";
    assert_eq!(
        inspect(&engine, "made:1", format)?,
        format!("{id} {parent} somebody a step map[l:1] map[80/tcp:map[]]")
    );
    let history = engine.docker(&[
        "history",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.CreatedBy}} {{.Comment}}",
        "made:1",
    ])?;
    let mut steps = history.lines();
    let newest = format!("{id} sh -c echo content > /file; sleep 600 a step");
    assert_eq!(steps.next(), Some(newest.as_str()));
    assert!(
        steps.next().unwrap_or_default().starts_with(&parent),
        "{history}"
    );
    let events = engine.docker(&[
        "events",
        "--since",
        "5m",
        "--until",
        &engine.docker(&["info", "--format", "{{.SystemTime}}"])?,
        "--filter",
        "event=commit",
        "--format",
        "{{.Actor.Attributes.imageID}} {{.Actor.Attributes.imageRef}}",
    ])?;
    assert_eq!(events, format!("{id} made:1"));
    assert_fails(
        &engine.docker_output(&["commit", "-c", "RUN x", "box"])?,
        1,
        "RUN is not a valid change command",
    );
    engine.havre(&["commit", "-q", "box"]).unwrap_err();
    let plain = engine.havre(&["commit", "--no-pause", "box", "other"])?;
    assert!(plain.starts_with("sha256:"), "{plain}");
    engine.docker(&["rm", "-f", "box"])?;
    engine
        .docker(&["rmi", "made:1", "other"])
        .context("the images go with their names")?;
    Ok(())
}

/// An export is the tree without what is mounted in it, and its size is no matter to the engine.
#[test]
fn exports_are_whole_and_take_no_memory() -> Result<()> {
    let engine = engine()?;
    let words = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "--tmpfs",
        "/mounted",
        "busybox",
        "sh",
        "-c",
        "touch /mounted/inside; dd if=/dev/urandom of=/big bs=1M count=200 2>/dev/null; touch /done; sleep 600",
    ];
    engine.docker(&words)?;
    until(&true, || {
        Ok(engine.docker(&["diff", "box"])?.contains("/done"))
    })?;
    let file = engine.directory().join("all.tar");
    engine.docker(&["export", "-o", &file.to_string_lossy(), "box"])?;
    let copy = engine.directory().join("copied");
    engine.docker(&["cp", "box:/big", &copy.to_string_lossy()])?;
    engine.docker(&["cp", &copy.to_string_lossy(), "box:/again"])?;
    let sums = engine.docker(&["exec", "box", "sha256sum", "/big", "/again"])?;
    let sums: Vec<&str> = sums
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(sums[0], sums[1]);
    let names = listed(&file)?;
    let has = |name: &str| names.iter().any(|line| line.ends_with(&format!(" {name}")));
    assert!(
        has("big") && has("mounted/") && has("etc/passwd") && has("proc/"),
        "{names:?}"
    );
    assert!(!has("mounted/inside") && !has("proc/self"), "{names:?}");
    let status = fs_err::read_to_string(format!("/proc/{}/status", engine.pid()?))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    assert!(
        peak < 150 << 10,
        "the engine took {peak} kB for an archive of 200 MiB"
    );
    Ok(())
}
