//! Paths that try to leave their root, creation through links, removal of trees.
#![expect(
    clippy::disallowed_methods,
    reason = "std::fs on the test's own directories"
)]

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use havre_sys::fsroot::Root;
use rustix::fs::{FileType, Mode, OFlags, makedev};
use tempfile::TempDir;

const MODE: Mode = Mode::from_raw_mode(0o755);

/// A root directory with a sentinel outside of it.
struct Cage {
    temp: TempDir,
    root: Root,
}

impl Cage {
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("a directory");
        fs::create_dir(temp.path().join("root")).expect("root");
        fs::create_dir(temp.path().join("outside")).expect("outside");
        fs::write(temp.path().join("outside/secret"), "sentinel").expect("sentinel");
        let root = Root::open(&temp.path().join("root")).expect("root");
        Self { temp, root }
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.temp.path().join("root").join(path)
    }

    fn outside_is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.temp.path().join("outside"))
            .expect("outside")
            .map(|e| e.expect("entry").file_name())
            .collect();
        assert_eq!(names, ["secret"]);
        let text = fs::read_to_string(self.temp.path().join("outside/secret")).expect("sentinel");
        assert_eq!(text, "sentinel");
        assert_eq!(fs::read_dir(self.temp.path()).expect("temp").count(), 2);
    }
}

#[test]
fn nothing_outside_can_be_read() {
    let cage = Cage::new();
    let outside = cage.temp.path().join("outside");
    symlink(&outside, cage.inside("absolute")).expect("link");
    symlink("../outside", cage.inside("relative")).expect("link");
    symlink("/proc/self/root", cage.inside("magic")).expect("link");
    let tries = [
        "absolute/secret",
        "relative/secret",
        "../outside/secret",
        "magic/etc/passwd",
    ];
    for path in tries {
        let error = cage
            .root
            .read_limited(Path::new(path), 100)
            .expect_err(path);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
    }
    let absolute = outside.join("secret");
    let error = cage.root.open_path(&absolute).expect_err("outside");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn links_mean_what_they_mean_after_chroot() {
    let cage = Cage::new();
    fs::create_dir_all(cage.inside("etc")).expect("etc");
    fs::write(cage.inside("etc/real"), "inside").expect("file");
    symlink("/etc/real", cage.inside("link")).expect("link");
    symlink("../../../etc/real", cage.inside("up")).expect("link");
    for path in ["link", "up", "/etc/real", "../etc/../etc/real"] {
        assert_eq!(
            cage.root.read_limited(Path::new(path), 6).expect(path),
            b"inside"
        );
    }
    let target = cage.root.read_link(Path::new("link")).expect("a link");
    assert_eq!(target, Path::new("/etc/real"));
}

#[test]
fn magic_links_are_refused() {
    let root = Root::open(Path::new("/")).expect("root");
    let error = root
        .open_path(Path::new("proc/self/root/etc"))
        .expect_err("a magic link");
    assert_eq!(error.raw_os_error(), Some(40), "ELOOP");
}

#[test]
fn only_regular_files_are_read_and_only_up_to_the_limit() {
    let cage = Cage::new();
    fs::write(cage.inside("big"), "0123456789").expect("file");
    let error = cage
        .root
        .read_limited(Path::new("big"), 9)
        .expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    assert_eq!(
        cage.root
            .read_limited(Path::new("big"), 10)
            .expect("it fits")
            .len(),
        10
    );
    let fifo = Path::new("fifo");
    cage.root
        .mknod(fifo, FileType::Fifo, MODE, 0)
        .expect("a fifo");
    let zero = Path::new("zero");
    cage.root
        .mknod(zero, FileType::CharacterDevice, MODE, makedev(1, 5))
        .expect("a device");
    assert!(
        fs::metadata(cage.inside("zero"))
            .expect("stat")
            .file_type()
            .is_char_device()
    );
    for path in [fifo, zero, Path::new("/")] {
        let error = cage.root.read_limited(path, 10).expect_err("not regular");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", path.display());
    }
}

#[test]
fn directories_are_made_through_links_but_inside() {
    let cage = Cage::new();
    symlink("/new/target", cage.inside("dangling")).expect("link");
    symlink("../../../outside", cage.inside("escape")).expect("link");
    cage.root
        .mkdir_all(Path::new("dangling/a/b"), MODE)
        .expect("mkdir");
    assert!(cage.inside("new/target/a/b").is_dir());
    cage.root
        .mkdir_all(Path::new("escape/c"), MODE)
        .expect("mkdir");
    assert!(cage.inside("outside/c").is_dir());
    cage.root
        .mkdir_all(Path::new("../../x/../y"), MODE)
        .expect("mkdir");
    assert!(cage.inside("y").is_dir());
    let again = cage.root.mkdir_all(Path::new("dangling/a/b"), MODE);
    again.expect("what exists is opened");
    cage.root
        .mkdir_all(Path::new(""), MODE)
        .expect("the root itself");
    cage.outside_is_untouched();
}

#[test]
fn loops_and_files_on_the_way_are_errors() {
    let cage = Cage::new();
    symlink("loop", cage.inside("loop")).expect("link");
    fs::write(cage.inside("file"), "").expect("file");
    let error = cage
        .root
        .mkdir_all(Path::new("loop/x"), MODE)
        .expect_err("a loop");
    assert_eq!(error.raw_os_error(), Some(40), "ELOOP");
    let error = cage
        .root
        .mkdir_all(Path::new("file/x"), MODE)
        .expect_err("a file");
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
    let error = cage
        .root
        .mkdir_all(Path::new("file"), MODE)
        .expect_err("a file");
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
}

#[test]
fn files_to_mount_on_are_made_through_links() {
    let cage = Cage::new();
    symlink("/run/resolv.conf", cage.inside("resolv.conf")).expect("link");
    let fd = cage
        .root
        .ensure_file(Path::new("resolv.conf"), Mode::from_raw_mode(0o644));
    drop(fd.expect("the target is made"));
    assert!(cage.inside("run/resolv.conf").is_file());
    cage.root
        .ensure_file(Path::new("resolv.conf"), MODE)
        .expect("it exists");
    let error = cage
        .root
        .ensure_file(Path::new("run"), MODE)
        .expect_err("a directory");
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
    symlink("../../outside/new", cage.inside("escape")).expect("link");
    cage.root
        .ensure_file(Path::new("escape"), MODE)
        .expect("made inside");
    assert!(cage.inside("outside/new").is_file());
    cage.outside_is_untouched();
}

#[test]
fn names_are_made_linked_renamed_and_removed() {
    let cage = Cage::new();
    let (file, link, hard) = (Path::new("file"), Path::new("link"), Path::new("hard"));
    drop(cage.root.create_file(file, MODE).expect("a file"));
    let error = cage.root.create_file(file, MODE).expect_err("it exists");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    cage.root
        .symlink(OsStr::new("../outside/secret"), link)
        .expect("a link");
    let error = cage
        .root
        .create_file(link, MODE)
        .expect_err("a dangling link");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    cage.root.hard_link(file, hard).expect("a second name");
    assert_eq!(fs::metadata(cage.inside("hard")).expect("stat").nlink(), 2);
    cage.root
        .hard_link(link, Path::new("hard-of-link"))
        .expect("the link itself");
    assert!(cage.inside("hard-of-link").is_symlink());
    cage.root
        .rename(hard, Path::new("renamed"))
        .expect("rename");
    assert!(!cage.root.exists(hard).expect("exists"));
    assert!(
        cage.root.exists(link).expect("exists"),
        "dangling, but there"
    );
    assert!(!cage.root.exists(Path::new("no/such")).expect("exists"));
    cage.root.remove(link).expect("remove");
    cage.root.remove(Path::new("renamed")).expect("remove");
    cage.root.mkdir_all(Path::new("dir"), MODE).expect("mkdir");
    cage.root
        .remove(Path::new("dir"))
        .expect("an empty directory");
    for path in ["/", "..", "a/.."] {
        let error = cage.root.remove(Path::new(path)).expect_err(path);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path}");
    }
    cage.outside_is_untouched();
}

#[test]
fn a_removed_tree_takes_nothing_from_outside() {
    let cage = Cage::new();
    fs::create_dir_all(cage.inside("tree/a/b")).expect("tree");
    fs::write(cage.inside("tree/a/file"), "x").expect("file");
    symlink(
        cage.temp.path().join("outside"),
        cage.inside("tree/a/b/link"),
    )
    .expect("link");
    symlink("../outside", cage.inside("top-link")).expect("link");
    cage.root.remove_all(Path::new("tree")).expect("removal");
    cage.root
        .remove_all(Path::new("top-link"))
        .expect("removal");
    cage.root
        .remove_all(Path::new("never-was"))
        .expect("nothing to do");
    assert_eq!(fs::read_dir(cage.inside("")).expect("root").count(), 0);
    cage.outside_is_untouched();
}

#[test]
fn a_very_deep_tree_is_removed() {
    let cage = Cage::new();
    let mut dir = cage.root.try_clone().expect("clone");
    let top = cage.root.mkdir_all(Path::new("deep"), MODE).expect("mkdir");
    drop(std::mem::replace(&mut dir, Root::from_fd(top)));
    for _ in 0..1000 {
        let next = dir.mkdir_all(Path::new("a-name-long-enough-to-pass-PATH_MAX"), MODE);
        drop(
            dir.open_at(Path::new("file"), OFlags::CREATE | OFlags::WRONLY, MODE)
                .expect("file"),
        );
        dir = Root::from_fd(next.expect("mkdir"));
    }
    drop(dir);
    cage.root.remove_all(Path::new("deep")).expect("removal");
    assert!(!cage.root.exists(Path::new("deep")).expect("exists"));
}
