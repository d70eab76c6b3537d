//! Groups on this machine's hierarchies, whatever they are. Each test has a parent directory of
//! its own and removes it.
#![expect(
    clippy::disallowed_methods,
    reason = "std::fs on files of the test's own group"
)]

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use havre_cgroup::{Birth, Cgroup, CgroupError, Host, Mode};
use havre_sys::mounts::mountinfo;
use havre_sys::process::{Child, CloneArgs, CloneFlags, Exit, clone3};
use havre_sys::testing::in_child;
use havre_types::{Classify as _, ErrorKind};
use oci_spec::runtime::LinuxResources;
use rustix::fs::{FileType, Mode as FileMode, OFlags, makedev, mknodat, open};

/// A parent directory that goes away with the test.
struct Parent {
    host: Host,
    path: PathBuf,
}

/// This machine as it is, and as if it had one version only. Here the second of these has no
/// controllers beyond the core, which has all that freezing, killing and devices need.
fn hosts() -> Vec<Host> {
    let all = mountinfo().expect("mounts");
    let only = |kind: &str| {
        let mounts: Vec<_> = all.iter().filter(|m| m.fs_type == kind).cloned().collect();
        Host::from_mounts(&mounts, "").ok()
    };
    let own = Host::detect().expect("cgroups are mounted");
    [Some(own), only("cgroup"), only("cgroup2")]
        .into_iter()
        .flatten()
        .collect()
}

impl Parent {
    fn new(name: &str) -> Self {
        Self::on(Host::detect().expect("cgroups are mounted"), name)
    }

    fn on(host: Host, name: &str) -> Self {
        let path = PathBuf::from(format!("havre-test-{}-{name}", std::process::id()));
        Self { host, path }
    }

    fn create(&self, json: &str) -> Result<Cgroup, CgroupError> {
        let resources: LinuxResources = serde_json::from_str(json).expect("valid resources");
        Cgroup::create(&self.host, &self.path.join("group"), Some(&resources))
    }

    /// What is left of the group and its parent.
    fn left(&self) -> Vec<PathBuf> {
        let every = Cgroup::open(&self.host, &self.path.join("group"));
        every
            .map(|g| g.directories().into_iter().map(|(_, dir)| dir).collect())
            .unwrap_or_default()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        if let Ok(group) = Cgroup::open(&self.host, &self.path) {
            drop(group.kill_all());
            group
                .delete()
                .expect("the test's parent directory can be removed");
        }
    }
}

fn child(group: &Cgroup, body: impl FnOnce() -> i32) -> Child {
    let joiner = group.joiner(Birth::InGroup).expect("the files open");
    let args = CloneArgs {
        cgroup: group.fd(),
        ..CloneArgs::new(CloneFlags::NONE)
    };
    clone3(&args, || {
        joiner.join_current().expect("it joins");
        body()
    })
    .expect("clone3 works")
}

/// A child that stays until it is killed or the returned pipe is dropped.
fn waiting_child(group: &Cgroup) -> (Child, std::io::PipeWriter) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let (mut ready, done) = std::io::pipe().expect("a pipe");
    let inherited = writer.try_clone().expect("a copy");
    let child = child(group, || {
        let memory = std::hint::black_box(vec![1_u8; 1 << 20]);
        drop(done);
        drop(inherited);
        let mut end = Vec::new();
        // The parent's copy in this process keeps it open; KILL is what ends it.
        reader
            .read_to_end(&mut end)
            .map_or(1, |_| i32::from(memory.is_empty()))
    });
    // The child has dropped its end, so it has joined.
    drop(ready.read(&mut [0; 1]));
    (child, writer)
}

fn read(group: &Cgroup, controller: &str, file: &str) -> String {
    let dir = group
        .directories()
        .into_iter()
        .find(|(mount, _)| mount.ends_with(controller))
        .expect("a directory for the controller")
        .1;
    fs::read_to_string(dir.join(file)).expect("a file of the group")
}

fn is_v1(host: &Host) -> bool {
    host.mode() != Mode::V2
}

#[test]
fn a_group_is_made_joined_and_removed() {
    in_child(|| {
        let parent = Parent::new("life");
        let group = parent.create(r#"{"pids": {"limit": 50}, "memory": {"limit": 67108864}}"#);
        let group = group.expect("it is made");
        let path = group.path().to_owned();
        let (process, _keep) = waiting_child(&group);
        let pid = process.pid.as_raw_nonzero().get();
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
        let inside = own
            .lines()
            .filter(|l| l.ends_with(path.to_str().expect("UTF-8")))
            .count();
        assert_eq!(inside, group.directories().len(), "{own}");
        assert_eq!(group.procs().expect("readable"), [pid.unsigned_abs()]);

        let stats = group.stats().expect("readable");
        assert_eq!(stats.pids.current, 1);
        assert_eq!(stats.pids.limit, 50);
        assert_eq!(stats.memory.limit, 67_108_864);
        assert!(stats.memory.usage > 0);
        assert!(stats.cpu.usage > 0);
        assert!(stats.memory.stats.len() > 10);
        assert_eq!(group.oom_kills().expect("readable"), 0);

        group.kill_all().expect("it can be killed");
        assert_eq!(process.wait().expect("it ends"), Exit::Signal(9));
        group.delete().expect("it is empty");
        assert_eq!(parent.left(), Vec::<PathBuf>::new());
        group.delete().expect("what is gone is fine");
    });
}

#[test]
fn another_process_can_be_put_into_the_group() {
    for host in hosts() {
        in_child(|| {
            let parent = Parent::on(host, "join");
            let group = parent.create("{}").expect("it is made");
            let (mut reader, writer) = std::io::pipe().expect("a pipe");
            let process = clone3(&CloneArgs::new(CloneFlags::NONE), || {
                reader.read(&mut [0; 1]).map_or(1, |_| 0)
            })
            .expect("clone3");
            group.join(process.pid).expect("it joins");
            let pid = process.pid.as_raw_nonzero().get().unsigned_abs();
            assert_eq!(group.procs().expect("readable"), [pid]);
            for (_, dir) in group.directories() {
                let procs = fs::read_to_string(dir.join("cgroup.procs")).expect("procs");
                assert_eq!(procs, format!("{pid}\n"), "{}", dir.display());
            }
            group.kill_all().expect("kill");
            assert_eq!(process.wait().expect("it ends"), Exit::Signal(9));
            drop(writer);
        });
    }
}

#[test]
fn a_frozen_group_stands_still() {
    for host in hosts() {
        in_child(|| {
            let parent = Parent::on(host, "freeze");
            let group = parent.create("{}").expect("it is made");
            let (mut ready, done) = std::io::pipe().expect("a pipe");
            let process = child(&group, || {
                drop(done);
                loop {
                    std::hint::spin_loop();
                }
            });
            // It has joined when it has dropped its end.
            drop(ready.read(&mut [0; 1]));

            group.freeze().expect("it freezes");
            assert!(group.is_frozen().expect("readable"));
            let before = group.stats().expect("readable").cpu.usage;
            for _ in 0..50 {
                assert_eq!(
                    group.stats().expect("readable").cpu.usage,
                    before,
                    "no time is used"
                );
            }
            group.thaw().expect("it thaws");
            assert!(!group.is_frozen().expect("readable"));
            group.freeze().expect("it freezes again");
            group.kill_all().expect("a frozen group can be killed");
            assert_eq!(process.wait().expect("it ends"), Exit::Signal(9));
        });
    }
}

#[test]
fn a_process_suspended_by_a_group_inside_is_killed_too() {
    for host in hosts() {
        in_child(|| {
            let parent = Parent::on(host, "inside");
            let group = parent.create("{}").expect("it is made");
            let inner = Cgroup::create(&parent.host, &group.path().join("inner"), None);
            let inner = inner.expect("a group inside");
            let (process, _keep) = waiting_child(&inner);
            inner.freeze().expect("it freezes");
            group.kill_all().expect("kill");
            assert_eq!(process.wait().expect("it ends"), Exit::Signal(9));
            group.delete().expect("both are empty");
        });
    }
}

#[test]
fn a_fork_bomb_is_limited_and_killed() {
    in_child(|| {
        let parent = Parent::new("bomb");
        let group = parent
            .create(r#"{"pids": {"limit": 30}}"#)
            .expect("it is made");
        havre_sys::prctl::set_subreaper(true).expect("orphans come here");
        let (mut ready, done) = std::io::pipe().expect("a pipe");
        let process = child(&group, || {
            drop(done);
            loop {
                // Each one goes on forking; failures at the limit are the point.
                let args = CloneArgs::new(CloneFlags::NONE);
                drop(clone3(&args, || {
                    loop {
                        drop(clone3(&args, || 0));
                    }
                }));
            }
        });
        drop(ready.read(&mut [0; 1]));
        while group.stats().expect("readable").pids.current < 30 {
            std::thread::yield_now();
        }
        group.kill_all().expect("all are killed");
        assert_eq!(process.wait().expect("it ends"), Exit::Signal(9));
        while let Ok(Some(_reaped)) = rustix::process::wait(rustix::process::WaitOptions::empty()) {
        }
        assert!(group.procs().expect("readable").is_empty());
        group.delete().expect("it is empty");
    });
}

#[test]
fn limits_can_be_changed_and_controllers_added_later() {
    in_child(|| {
        let parent = Parent::new("update");
        let memory = r#"{"memory": {"limit": 67108864}}"#;
        let mut group = parent.create(memory).expect("it is made");
        let (process, _keep) = waiting_child(&group);
        let update = r#"{"cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0"},
            "memory": {"limit": 33554432}}"#;
        let update: LinuxResources = serde_json::from_str(update).expect("valid");
        group.apply(&update).expect("it applies");
        assert_eq!(group.stats().expect("readable").memory.limit, 33_554_432);
        if is_v1(&parent.host) {
            assert_eq!(read(&group, "cpu", "cpu.shares"), "512\n");
            assert_eq!(read(&group, "cpu", "cpu.cfs_quota_us"), "20000\n");
            assert_eq!(read(&group, "cpuset", "cpuset.cpus"), "0\n");
            let pid = format!("{}\n", process.pid.as_raw_nonzero());
            assert_eq!(
                read(&group, "cpu", "cgroup.procs"),
                pid,
                "it was brought along"
            );
            assert_eq!(read(&group, "cpuset", "cgroup.procs"), pid);
        }
        let opened = Cgroup::open(&parent.host, group.path()).expect("it exists");
        assert_eq!(opened.directories().len(), group.directories().len());
        group.kill_all().expect("kill");
        process.wait().expect("it ends");
        group.delete().expect("it is empty");
    });
}

#[test]
fn memory_beyond_the_limit_is_an_oom_kill() {
    in_child(|| {
        let parent = Parent::new("oom");
        let limit = r#"{"memory": {"limit": 8388608, "swap": 8388608}}"#;
        let group = match parent.create(limit) {
            // Without swap accounting the second limit does not exist.
            Err(CgroupError::Write { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                parent.create(r#"{"memory": {"limit": 8388608}}"#)
            }
            other => other,
        };
        let group = group.expect("it is made");
        let process = child(&group, || {
            let mut hoard = Vec::new();
            for _ in 0..64 {
                hoard.push(vec![1_u8; 1 << 20]);
            }
            i32::try_from(hoard.len()).unwrap_or(0)
        });
        assert_eq!(process.wait().expect("it ends"), Exit::Signal(9));
        assert_eq!(group.oom_kills().expect("readable"), 1);
        group.delete().expect("it is empty");
    });
}

#[test]
fn only_allowed_devices_open() {
    for host in hosts() {
        in_child(|| {
            let parent = Parent::on(host, "devices");
            let devices = r#"{"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"}]}"#;
            let mut group = parent.create(devices).expect("it is made");
            let temp = tempfile::tempdir().expect("a directory");
            let dir = open(
                temp.path(),
                OFlags::DIRECTORY | OFlags::CLOEXEC,
                FileMode::empty(),
            );
            let dir = dir.expect("open");
            let try_all = || {
                let opens =
                    |path: &str, flags| open(path, flags | OFlags::CLOEXEC, FileMode::empty());
                let makes = |name: &str, minor| {
                    mknodat(
                        &dir,
                        name,
                        FileType::CharacterDevice,
                        FileMode::RWXU,
                        makedev(1, minor),
                    )
                };
                [
                    opens("/dev/null", OFlags::RDWR).is_ok(),
                    opens("/dev/zero", OFlags::RDONLY).is_ok(),
                    opens("/dev/zero", OFlags::RDWR).is_ok(),
                    opens("/dev/urandom", OFlags::RDONLY).is_ok(),
                    makes("null", 3).is_ok(),
                    makes("mem", 1).is_ok(),
                ]
            };
            let bits = |answers: [bool; 6]| answers.iter().fold(0, |n, a| n << 1 | i32::from(*a));
            let first = child(&group, || bits(try_all())).wait().expect("it ends");
            assert_eq!(first, Exit::Code(0b11_0010), "{first:?}");
            // A later change replaces the rules whole.
            let change = r#"{"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 9, "access": "rwm"}]}"#;
            group
                .apply(&serde_json::from_str(change).expect("valid"))
                .expect("it applies");
            let second = child(&group, || bits(try_all())).wait().expect("it ends");
            assert_eq!(second, Exit::Code(0b00_0100), "{second:?}");
            group.delete().expect("it is empty");
        });
    }
}

#[test]
fn a_group_with_processes_is_not_taken_over() {
    in_child(|| {
        let parent = Parent::new("taken");
        let group = parent.create("{}").expect("it is made");
        drop(parent.create("{}").expect("an empty one may be taken over"));
        let (process, _keep) = waiting_child(&group);
        let error = parent.create("{}").expect_err("a process is inside");
        assert!(matches!(error, CgroupError::NotEmpty { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let error = group.procs().expect("still there");
        assert_eq!(error.len(), 1, "the group of the other was left alone");
        group.kill_all().expect("kill");
        process.wait().expect("it ends");
    });
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let parent = Parent::new("undo");
    let error = parent
        .create(r#"{"cpu": {"cpus": "4000"}}"#)
        .expect_err("no such CPU");
    assert!(matches!(error, CgroupError::Write { .. }), "{error}");
    assert_eq!(parent.left(), Vec::<PathBuf>::new());
}

#[test]
fn groups_made_inside_go_with_the_group() {
    for host in hosts() {
        let parent = Parent::on(host, "nested");
        let group = parent.create("{}").expect("it is made");
        for (_, dir) in group.directories() {
            fs::create_dir_all(dir.join("inner/innermost")).expect("a group inside");
        }
        group.delete().expect("all of it goes");
        assert_eq!(parent.left(), Vec::<PathBuf>::new());
    }
}

#[test]
fn paths_cannot_leave_the_mount() {
    let host = Host::detect().expect("cgroups are mounted");
    for path in ["..", "a/../../b", "/", "", "."] {
        let error = Cgroup::create(&host, Path::new(path), None).expect_err(path);
        assert!(
            matches!(error, CgroupError::InvalidPath { .. }),
            "{path}: {error}"
        );
    }
    let error = Cgroup::open(&host, Path::new("havre-test-never-made")).expect_err("missing");
    assert_eq!(error.to_string(), "failed to read `havre-test-never-made`");
}

#[test]
fn a_joiner_works_from_elsewhere_too() {
    in_child(|| {
        let parent = Parent::new("joiner");
        let group = parent.create("{}").expect("it is made");
        let joiner = group.joiner(Birth::Elsewhere).expect("the files open");
        let args = CloneArgs::new(CloneFlags::NEWPID);
        let path = group.path().to_owned();
        let process = clone3(&args, || {
            joiner.join_current().expect("it joins");
            let own = fs::read_to_string("/proc/self/cgroup").expect("its groups");
            let path = path.to_str().expect("UTF-8");
            i32::try_from(own.lines().filter(|l| l.ends_with(path)).count()).unwrap_or(0)
        });
        let count = i32::try_from(group.directories().len()).expect("few");
        let exit = process.expect("clone3").wait().expect("it ends");
        assert_eq!(exit, Exit::Code(count));
        assert_eq!(group.fd().is_some(), parent.host.unified().is_some());
        drop(group.fd().map(|fd| fd.as_fd().try_clone_to_owned()));
        group.delete().expect("it is empty");
    });
}
