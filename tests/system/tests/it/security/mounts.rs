//! M08 to M11, M15, M18: mounts that keep what their sources had, leave nothing behind, and are never walked into.

use super::fixture::{SECRET, Sentinel};
use crate::support::{engine, load_busybox, nothing_is_left, run_rm, stdout_of, text, until};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::command::{command, run};
use havre_testkit::{Engine, EngineOptions};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use std::path::Path;

/// M08: a request to relabel changes no attribute of a file of the host.
#[test]
fn m08_nothing_of_the_host_is_relabelled() -> Result<()> {
    let engine = engine()?;
    let attributes = |path: &str| -> Result<String> {
        let script = "import os, sys; print([(name, os.getxattr(sys.argv[1], name)) for name in os.listxattr(sys.argv[1])])";
        Ok(text(
            &run(command("/usr/bin/python3").args(["-I", "-S", "-c", script, path]))?.stdout,
        ))
    };
    let sentinel = Sentinel::new()?;
    let own = sentinel.text();
    for path in ["/", "/etc", "/usr", own.as_str()] {
        let before = attributes(path)?;
        for option in ["z", "Z"] {
            let bind = format!("{path}:/in:ro,{option}");
            run_rm(&engine, &["-v", &bind, "busybox", "true"])?;
        }
        assert_eq!(attributes(path)?, before, "{path}");
    }
    sentinel.check()?;
    // The twin: the option of a legitimate bind does no harm.
    let bind = format!("{own}:/in:ro,z");
    assert_eq!(
        stdout_of(&engine, &["-v", &bind, "busybox", "cat", "/in/file"])?,
        SECRET
    );
    Ok(())
}

/// M09: what is mounted below a read-only bind is read-only too, unless the request says otherwise.
#[test]
fn m09_read_only_goes_all_the_way_down() -> Result<()> {
    let engine = engine()?;
    // The host's /dev has a writable file system mounted below it.
    let probe = format!("/in/shm/havre-probe-{}", std::process::id());
    let script = format!("(touch {probe}) 2>/dev/null && rm {probe} && echo written; true");
    let write = ["busybox", "sh", "-c", &script];
    let long = "type=bind,src=/dev,dst=/in,readonly";
    for flags in [["-v", "/dev:/in:ro"], ["--mount", long]] {
        assert_eq!(
            stdout_of(&engine, &[&flags[..], &write].concat())?,
            "",
            "{flags:?}"
        );
    }
    let shallow = format!("{long},bind-recursive=writable");
    for flags in [["-v", "/dev:/in"], ["--mount", &shallow]] {
        assert_eq!(
            stdout_of(&engine, &[&flags[..], &write].concat())?,
            "written",
            "{flags:?}"
        );
    }
    Ok(())
}

/// M10: a bind keeps the flags of its source, read-only or not.
#[test]
fn m10_flags_of_the_source_stay() -> Result<()> {
    let engine = engine()?;
    let place = tempfile::tempdir()?;
    let all = [
        ("nosuid", MountFlags::NOSUID),
        ("nodev", MountFlags::NODEV),
        ("noexec", MountFlags::NOEXEC),
        ("noatime", MountFlags::NOATIME),
    ];
    for (name, flag) in all {
        mount("own", place.path(), "tmpfs", flag, None)?;
        let held = Mounted(place.path());
        for option in ["", ":ro"] {
            let bind = format!("{}:/in{option}", place.path().display());
            let look = [
                "-v",
                &bind,
                "busybox",
                "grep",
                " /in ",
                "/proc/self/mountinfo",
            ];
            let seen = stdout_of(&engine, &look)?;
            let options: Vec<&str> = seen
                .split(' ')
                .nth(5)
                .unwrap_or_default()
                .split(',')
                .collect();
            for (other, _flag) in all {
                assert_eq!(options.contains(&other), other == name, "{bind}: {seen}");
            }
            assert_eq!(options.contains(&"ro"), option == ":ro", "{seen}");
        }
        drop(held);
    }
    Ok(())
}

/// M11: mounts of containers are not the host's, however often they come and go.
#[test]
fn m11_mounts_do_not_leak() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    let bind = format!("{}:/in", sentinel.text());
    // Other tests have mounts too.
    let places = [
        engine.directory().to_path_buf(),
        sentinel.path().to_path_buf(),
    ];
    let ours = || -> Result<Vec<String>> {
        let all = fs_err::read_to_string("/proc/self/mountinfo")?;
        let ours = |line: &&str| {
            places
                .iter()
                .any(|place| line.contains(&*place.to_string_lossy()))
        };
        Ok(all.lines().filter(ours).map(str::to_owned).collect())
    };
    let flags = [
        "-v",
        bind.as_str(),
        "-v",
        "/dev:/in/folder/dev",
        "--tmpfs",
        "/in/folder/tmp",
        "--privileged",
    ];
    let inside = [
        "busybox",
        "sh",
        "-c",
        "mkdir /x && mount -t tmpfs own /x && mount --make-rshared /x && grep -c own /proc/self/mountinfo",
    ];
    for _ in 0..40 {
        assert_eq!(stdout_of(&engine, &[&flags[..], &inside].concat())?, "1");
    }
    // While they run neither: the engine removes one beside another that has everything mounted.
    engine.docker(
        &[
            &["run", "-d", "--network", "none", "--name", "one"][..],
            &flags,
            &["busybox", "sleep", "600"],
        ]
        .concat(),
    )?;
    engine.docker(
        &[
            &["run", "-d", "--network", "none", "--name", "two"][..],
            &flags,
            &["busybox", "sleep", "600"],
        ]
        .concat(),
    )?;
    assert_eq!(ours()?, Vec::<String>::new());
    engine.docker(&["rm", "-f", "one"])?;
    engine.docker(&["rm", "-f", "two"])?;
    nothing_is_left(&engine)?;
    assert_eq!(ours()?, Vec::<String>::new());
    Ok(())
}

/// M11: on a host whose mounts are shared, as systemd makes them, nothing that is mounted for a container or in it
/// comes back.
#[test]
fn m11_a_shared_host_gets_no_mounts() -> Result<()> {
    havre_testkit::ensure_packages()?;
    // First a table of its own, whatever that of the machine is like.
    let share = "mount --make-rshared / && exec \"$@\"";
    let wrapper = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        share,
        "sh",
    ];
    let engine = Engine::start_with(EngineOptions {
        wrapper: wrapper.map(str::to_owned).to_vec(),
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    let host = format!("/proc/{}/mountinfo", engine.pid()?);
    // Places; other columns of a host's table may change at any time, and so may mounts of others.
    let ours = || -> Result<Vec<String>> {
        let all = fs_err::read_to_string(&host)?;
        let places = all.lines().filter_map(|line| line.split(' ').nth(4));
        let directory = engine.directory().to_string_lossy().into_owned();
        let ours = places.filter(|place| place.starts_with(&directory) || place.contains("m11-"));
        Ok(ours.map(str::to_owned).collect())
    };
    let table = fs_err::read_to_string(&host)?;
    let root = table
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"));
    let root = root.context("no root")?;
    ensure!(
        root.contains(" shared:"),
        "the test's host is not shared: {root}"
    );
    let source = tempfile::Builder::new().prefix("m11-").tempdir()?;
    let bind = format!("{}:/in", source.path().display());
    let script = "mkdir -p /in/m11-inside && mount -t tmpfs own /in/m11-inside && mkdir /x && \
                  mount -t tmpfs own /x && echo mounted; exec sleep 600";
    let flags = ["-v", &bind, "--tmpfs", "/in/m11-tmpfs", "--privileged"];
    let head = ["run", "-d", "--network", "none", "--name", "box"];
    engine.docker(&[&head[..], &flags, &["busybox", "sh", "-c", script]].concat())?;
    until(&"mounted".to_owned(), || engine.docker(&["logs", "box"]))?;
    assert_eq!(ours()?, Vec::<String>::new());
    // A copy puts the mounts of a stopped container together again.
    engine.docker(&["kill", "box"])?;
    engine.docker(&["cp", "box:/etc/passwd", &source.path().to_string_lossy()])?;
    assert_eq!(ours()?, Vec::<String>::new());
    engine.docker(&["rm", "box"])?;
    // The twin: what is asked to come back does.
    let shared = format!("{bind}:rshared");
    let flags = ["-v", &shared, "--privileged"];
    engine.docker(&[&head[..], &flags, &["busybox", "sh", "-c", script]].concat())?;
    until(&"mounted".to_owned(), || engine.docker(&["logs", "box"]))?;
    let inside = source.path().join("m11-inside");
    assert_eq!(ours()?, [inside.to_string_lossy()]);
    Ok(())
}

/// Mounts of the test's own below a path, which go when the test ends, however it ends and wherever
/// they have been moved.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let all = fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = all.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(self.0)) {
            // It may be gone already.
            let _gone = unmount(point, UnmountFlags::DETACH);
        }
    }
}

/// M15: a removal never goes into a mount that somebody left in a container's files, and comes to its end
/// once that is gone.
#[test]
fn m15_removal_stops_at_mounts() -> Result<()> {
    let mut engine = engine()?;
    let sentinel = Sentinel::new()?;
    engine.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "mkdir",
        "-p",
        "/deep/place",
    ])?;
    let found =
        run(command("find")
            .arg(engine.data_root())
            .args(["-type", "d", "-path", "*/deep/place"]))?;
    let found = text(&found.stdout);
    let place = Path::new(
        found
            .lines()
            .next()
            .context("the container's files are not found")?,
    );
    let data = engine.data_root();
    let held = Mounted(&data);
    mount_bind(sentinel.path(), place)?;
    let out = engine.docker_output(&["rm", "-f", "box"])?;
    if out.status.success() {
        // The rest goes on in the background, from another place.
        until(&false, || Ok(place.exists()))?;
    }
    engine.restart()?;
    sentinel.check()?;
    drop(held);
    engine.docker_output(&["rm", "-f", "box"])?;
    engine.restart()?;
    let data = engine.data_root();
    let left = || -> Result<String> {
        let found = command("find")
            .arg(&data)
            .args(["-type", "d", "-path", "*/deep/place"])
            .output()?;
        Ok(text(&found.stdout))
    };
    until(&String::new(), left)?;
    assert_eq!(engine.docker(&["ps", "-aq"])?, "");
    sentinel.check()?;
    // The twin: without a mount a removal is whole at once.
    engine.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "box",
        "busybox",
        "mkdir",
        "-p",
        "/deep/place",
    ])?;
    engine.docker(&["rm", "box"])?;
    until(&String::new(), left)
}

/// Writes an archive of `docker save`'s form with so many layers above busybox.
const LAYERS: &str = r"
import hashlib, io, json, sys, tarfile
source, target, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with tarfile.open(source) as old, tarfile.open(target, 'w') as new:
    manifest = json.load(old.extractfile(next(m for m in old if m.name.endswith('manifest.json'))))[0]
    find = lambda name: old.extractfile(next(m for m in old if m.name.removeprefix('./') == name)).read()
    config = json.loads(find(manifest['Config']))
    def add(name, data):
        info = tarfile.TarInfo(name); info.size = len(data); new.addfile(info, io.BytesIO(data))
    layers = []
    for name in manifest['Layers']:
        add(name, find(name)); layers.append(name)
    for number in range(count - len(layers)):
        blob = io.BytesIO()
        with tarfile.open(fileobj=blob, mode='w') as layer:
            for name in (f'n/{number}', 'last'):
                data = str(number).encode(); info = tarfile.TarInfo(name); info.size = len(data); layer.addfile(info, io.BytesIO(data))
        name = f'{number}/layer.tar'; add(name, blob.getvalue()); layers.append(name)
        config['rootfs']['diff_ids'].append('sha256:' + hashlib.sha256(blob.getvalue()).hexdigest())
    config['history'] = []
    add('config.json', json.dumps(config).encode())
    add('manifest.json', json.dumps([{'Config': 'config.json', 'RepoTags': [f'layers:{count}'], 'Layers': layers}]).encode())
";

/// M18: many layers are all there, or the image is refused; never is the stack cut.
#[test]
fn m18_many_layers() -> Result<()> {
    let engine = engine()?;
    let place = tempfile::tempdir()?;
    let base = havre_testkit::image("busybox")?.archive;
    for count in [129, 500] {
        let archive = place.path().join(format!("{count}.tar"));
        run(command("/usr/bin/python3")
            .args(["-I", "-S", "-c", LAYERS])
            .arg(&base)
            .arg(&archive)
            .arg(count.to_string()))?;
        let loaded = engine.docker_output(&["load", "-i", &archive.to_string_lossy()])?;
        let name = format!("layers:{count}");
        if !loaded.status.success() {
            ensure!(
                count > 128 && text(&loaded.stderr).contains("layers"),
                "{count}: {loaded:?}"
            );
            continue;
        }
        let out = run_rm(&engine, &[&name, "sh", "-c", "ls /n | wc -l; cat /last"])?;
        if out.status.success() {
            assert_eq!(
                text(&out.stdout),
                format!("{}\n{}", count - 2, count - 3),
                "{count}"
            );
        } else {
            ensure!(count > 128 && !out.stderr.is_empty(), "{count}: {out:?}");
        }
    }
    Ok(())
}
