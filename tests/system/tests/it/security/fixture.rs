//! What the tests of weaknesses share: hostile images, a sentinel on the host, a prober inside.

use crate::support::stdout_of;
use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
use havre_testkit::command::{command, run};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Gives a container of any image the host's Python, read-only.
const HOST_PYTHON: [&str; 6] = [
    "-v",
    "/usr:/usr:ro",
    "-v",
    "/lib:/lib:ro",
    "-v",
    "/lib64:/lib64:ro",
];

/// How the prober is called; the script follows.
const PYTHON: [&str; 4] = ["/usr/bin/python3", "-I", "-S", "-c"];

/// The arguments of `docker run` for a Python script in the busybox image.
pub(crate) fn python<'a>(flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&HOST_PYTHON, flags, &["busybox"], &PYTHON, &[script]].concat()
}

/// What a script prints that runs as the program of a container.
pub(crate) fn probe(engine: &Engine, flags: &[&str], script: &str) -> Result<String> {
    stdout_of(engine, &python(flags, script))
}

/// Starts a container that runs a script for as long as it likes.
pub(crate) fn start_probe(engine: &Engine, name: &str, flags: &[&str], script: &str) -> Result<()> {
    let words = python(flags, script);
    let head = ["run", "-d", "--network", "none", "--name", name];
    engine.docker(&[&head, words.as_slice()].concat())?;
    Ok(())
}

/// A container called `box` that stays, with more flags.
pub(crate) fn sleeping_box(engine: &Engine, flags: &[&str]) -> Result<()> {
    let head = ["run", "-d", "--network", "none", "--name", "box"];
    engine.docker(&[&head, flags, &["busybox", "sleep", "600"]].concat())?;
    Ok(())
}

/// The value of a `Name:\tvalue` line of `/proc/PID/status`.
pub(crate) fn field(status: &str, name: &str) -> Result<String> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line
        .with_context(|| format!("no {name} in {status}"))?
        .trim()
        .to_owned())
}

// === hostile images ===

const APPLETS: [&str; 16] = [
    "sh", "cat", "ls", "id", "true", "sleep", "grep", "stat", "touch", "mount", "env", "pwd",
    "readlink", "echo", "mknod", "chown",
];

/// Makes an image from a tree that `make` completes, with changes as of a build file.
pub(crate) fn image_of(
    engine: &Engine,
    name: &str,
    changes: &[&str],
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let place = tempfile::tempdir()?;
    let root = place.path().join("root");
    for folder in ["bin", "etc", "proc", "sys", "tmp"] {
        fs_err::create_dir_all(root.join(folder))?;
    }
    fs_err::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let accounts = "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n";
    fs_err::write(root.join("etc/passwd"), accounts)?;
    fs_err::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
    make(&root)?;
    let archive = place.path().join("root.tar");
    run(command("tar")
        .args(["--create", "--numeric-owner", "--xattrs", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(&root)
        .arg("."))?;
    let mut words = vec!["import"];
    for change in changes {
        words.extend(["-c", change]);
    }
    let archive = archive.to_string_lossy().into_owned();
    words.extend([archive.as_str(), name]);
    engine.docker(&words)?;
    Ok(())
}

// === the sentinel ===

/// A directory of the host that no container may reach, and what it was like.
#[derive(Debug)]
pub(crate) struct Sentinel {
    place: TempDir,
    before: Vec<String>,
}

/// What the sentinel's file holds.
pub(crate) const SECRET: &str = "a secret of the host";

impl Sentinel {
    pub(crate) fn new() -> Result<Self> {
        let place = TempDir::with_prefix("havre-sentinel-")?;
        fs_err::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755))?;
        fs_err::write(place.path().join("file"), SECRET)?;
        fs_err::create_dir(place.path().join("folder"))?;
        let mut sentinel = Self {
            place,
            before: Vec::new(),
        };
        sentinel.before = sentinel.look()?;
        Ok(sentinel)
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path().join("file")
    }

    /// The path as text, for arguments.
    pub(crate) fn text(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }

    /// Fails when anything in it has changed: names, kinds, modes, owners, times, content.
    pub(crate) fn check(&self) -> Result<()> {
        let now = self.look()?;
        ensure!(now == self.before, "{now:?}, not {:?}", self.before);
        ensure!(
            fs_err::read_to_string(self.file())? == SECRET,
            "overwritten"
        );
        Ok(())
    }

    fn look(&self) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        let mut pending = vec![self.path().to_owned()];
        while let Some(path) = pending.pop() {
            let meta = fs_err::symlink_metadata(&path)?;
            seen.push(format!(
                "{} {:o} {}:{} {} {}.{}",
                path.display(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec()
            ));
            if meta.is_dir() {
                for entry in fs_err::read_dir(&path)? {
                    pending.push(entry?.path());
                }
            }
        }
        seen.sort();
        Ok(seen)
    }
}
