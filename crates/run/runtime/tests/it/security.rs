//! Known weaknesses of container runtimes, each as an attack that must fail.

use std::os::fd::IntoRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use fs_err as fs;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Bundle, field, process};

/// A host directory that an attack tries to reach, and its state.
struct Sentinel(TempDir);

impl Sentinel {
    fn new() -> Self {
        let dir = TempDir::with_prefix("havre-sentinel-").unwrap();
        fs::write(dir.path().join("file"), "untouched").unwrap();
        Self(dir)
    }

    #[track_caller]
    fn check(&self) {
        let names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["file"], "something was made on the host");
        assert_eq!(
            fs::read_to_string(self.0.path().join("file")).unwrap(),
            "untouched"
        );
    }
}

// === R02: descriptors of the host ===

#[test]
fn no_descriptor_of_the_host_reaches_the_program() {
    let bundle = Bundle::new("ls /proc/self/fd | wc -l; touch /tmp/done; exec sleep 60");
    let leak = || {
        // A directory of the host without close-on-exec, as a careless caller may have it.
        let dir = rustix::fs::open(c"/", rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
        assert!(dir.into_raw_fd() > 2);
    };
    let list = "while ! test -e /tmp/done; do :; done; ls -l /proc/self/fd/";
    let outcome = bundle.run_with(&[process(list)], &leak);
    assert_eq!(outcome.result, Ok(137), "{outcome:?}");
    let (status, listing) = outcome.execs[0].as_ref().unwrap();
    assert_eq!(*status, 0, "{listing}");
    // 0, 1, 2, and the directory that ls itself reads.
    let lines = listing
        .lines()
        .filter(|line| line.contains(" -> ") || line.contains("fd/3"))
        .count();
    assert!((3..=4).contains(&lines), "{listing}");
    assert!(!listing.contains("-> /\n"), "{listing}");
    assert_eq!(outcome.output.trim(), "4", "{outcome:?}");
}

#[test]
fn a_working_directory_through_a_magic_link_is_refused() {
    for number in 3..20 {
        let mut bundle = Bundle::new("pwd");
        bundle.set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
        let outcome = bundle.run_with(&[], &|| {
            let dir = rustix::fs::open(c"/", rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
            assert!(dir.into_raw_fd() > 2);
        });
        let refused = outcome
            .result
            .as_ref()
            .is_err_and(|e| e.contains("working directory"));
        assert!(refused, "{number}: {outcome:?}");
    }
}

// === R03: working directory behind links ===

#[test]
fn a_missing_working_directory_is_made_inside() {
    let sentinel = Sentinel::new();
    let mut bundle = Bundle::new("pwd");
    let host = sentinel.0.path();
    fs::os::unix::fs::symlink(host, bundle.rootfs().join("absolute")).unwrap();
    fs::os::unix::fs::symlink("../../../../../../..", bundle.rootfs().join("tmp/up")).unwrap();
    bundle.set("/process/cwd", json!("/absolute/work"));
    let inside = bundle
        .rootfs()
        .join(host.strip_prefix("/").unwrap())
        .join("work");
    assert_eq!(
        bundle.run().ok().trim(),
        host.join("work").to_str().unwrap()
    );
    assert!(inside.is_dir());
    bundle.set("/process/cwd", json!("/tmp/up/escape"));
    assert_eq!(bundle.run().ok().trim(), "/escape");
    assert!(bundle.rootfs().join("escape").is_dir());
    sentinel.check();
}

// === R05: the mask's source ===

#[test]
fn a_false_null_device_of_the_image_masks_nothing_away() {
    for kind in ["link", "file"] {
        let mut bundle =
            Bundle::new("cat /etc/secret; echo x > /etc/secret; cat /etc/secret; ls /etc/dir");
        bundle.set(
            "/mounts",
            json!([{"destination": "/proc", "type": "proc", "source": "proc"}]),
        );
        let root = bundle.rootfs();
        fs::write(root.join("etc/secret"), "secret").unwrap();
        fs::create_dir(root.join("etc/dir")).unwrap();
        fs::write(root.join("etc/dir/inner"), "").unwrap();
        fs::write(root.join("etc/bait"), "bait").unwrap();
        match kind {
            "link" => fs::os::unix::fs::symlink("/etc/bait", root.join("dev/null")).unwrap(),
            _ => fs::write(root.join("dev/null"), "bait").unwrap(),
        }
        bundle.set(
            "/linux/maskedPaths",
            json!(["/etc/secret", "/etc/dir", "/etc/missing"]),
        );
        let outcome = bundle.run();
        assert_eq!(outcome.ok(), "", "{kind}");
        assert_eq!(
            fs::read_to_string(root.join("etc/secret")).unwrap(),
            "secret"
        );
    }
}

#[test]
fn a_mask_does_not_give_the_hosts_null_device_away() {
    let before = fs::metadata("/dev/null").unwrap();
    let mut bundle =
        Bundle::new("busybox chmod 600 /etc/secret; busybox chown 7 /etc/secret; true");
    fs::write(bundle.rootfs().join("etc/secret"), "secret").unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
    let outcome = bundle.run();
    assert!(
        outcome.ok().contains("Read-only file system"),
        "{outcome:?}"
    );
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
}

// === R07: proc and sys ===

#[test]
fn proc_and_sys_go_on_ordinary_directories_only() {
    for name in ["proc", "sys"] {
        let bundle = Bundle::new("true");
        fs::remove_dir(bundle.rootfs().join(name)).unwrap();
        fs::os::unix::fs::symlink("/tmp", bundle.rootfs().join(name)).unwrap();
        let outcome = bundle.run();
        assert!(
            outcome.error().contains("ordinary directory"),
            "{outcome:?}"
        );
        assert!(!bundle.cgroup_left());
    }
}

#[test]
fn nothing_is_mounted_over_parts_of_proc() {
    let source = Sentinel::new();
    let host = source.0.path().to_str().unwrap();
    for target in [
        "/proc",
        "/proc/self/attr",
        "/proc/1",
        "/proc/sys",
        "/link/sys",
    ] {
        let mut bundle = Bundle::new("true");
        fs::os::unix::fs::symlink("/proc", bundle.rootfs().join("link")).unwrap();
        bundle.mount(target, "bind", host, &["rbind"]);
        let outcome = bundle.run();
        assert!(
            outcome.error().contains("inside /proc"),
            "{target}: {outcome:?}"
        );
    }
    source.check();
}

// === R08: /dev of the image ===

#[test]
fn a_dev_that_is_a_link_stays_inside() {
    for chained in [false, true] {
        let sentinel = Sentinel::new();
        let mut bundle = Bundle::new("ls -ld /dev/null /dev/pts");
        let root = bundle.rootfs();
        fs::remove_dir(root.join("dev")).unwrap();
        let mut target = sentinel.0.path().to_owned();
        if chained {
            fs::os::unix::fs::symlink(&target, root.join("hop")).unwrap();
            target = "hop".into();
        }
        fs::os::unix::fs::symlink(&target, root.join("dev")).unwrap();
        bundle.set("/process/args", json!(["/bin/true"]));
        bundle.run().ok();
        sentinel.check();
    }
}

// === R09, R10, R33: rights of the processes ===

#[test]
fn inheritable_and_ambient_capabilities_are_empty() {
    let bundle = Bundle::new("exec sleep 60");
    let read = "grep -E '^(Cap|Seccomp|NoNew|Uid|Gid|Groups)' /proc/self/status";
    let mut user = process(read);
    user["user"] = json!({"uid": 1000, "gid": 50, "additionalGids": [7, 8]});
    let outcome = bundle.run_with(&[process(read), user], &|| {});
    for (index, entered) in outcome.execs.iter().enumerate() {
        let (_, status) = entered.as_ref().unwrap();
        assert_eq!(field(status, "CapInh"), "0000000000000000");
        assert_eq!(field(status, "CapAmb"), "0000000000000000");
        // CHOWN, KILL, MKNOD; a user other than root has none after the execution.
        let effective = if index == 0 {
            "0000000008000021"
        } else {
            "0000000000000000"
        };
        assert_eq!(field(status, "CapEff"), effective);
        assert_eq!(field(status, "CapBnd"), "0000000008000021");
    }
    let (_, status) = outcome.execs[1].as_ref().unwrap();
    assert_eq!(field(status, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(status, "Gid"), "50\t50\t50\t50");
    assert_eq!(field(status, "Groups"), "7 8");
}

#[test]
fn the_first_process_and_one_that_enters_are_confined_alike() {
    let read = "grep -E '^(Cap|Seccomp|NoNew|Uid|Gid|Groups|SigIgn|SigBlk)' /proc/self/status; \
                for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup";
    let mut bundle = Bundle::new(&format!("{read}; touch /tmp/done; exec sleep 60"));
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
        }),
    );
    for no_new_privs in [false, true] {
        bundle.set("/process/noNewPrivileges", json!(no_new_privs));
        let mut entering = process(&format!("{read}; busybox mkdir /tmp/x"));
        entering["noNewPrivileges"] = json!(no_new_privs);
        // The first process has written all its lines when its file is there.
        let waits = process("while ! test -e /tmp/done; do :; done; busybox rm /tmp/done");
        let outcome = bundle.run_with(&[waits, entering], &|| {});
        let (_, entered) = outcome.execs[1].as_ref().unwrap();
        assert_eq!(field(entered, "Seccomp"), "2");
        assert_eq!(
            field(entered, "NoNewPrivs"),
            if no_new_privs { "1" } else { "0" }
        );
        assert_eq!(field(entered, "SigIgn"), "0000000000000000");
        assert_eq!(field(entered, "SigBlk"), "0000000000000000");
        assert!(entered.contains("Function not implemented"), "{entered}");
        let refused = entered.find("mkdir:").unwrap();
        assert_eq!(
            &entered[..refused],
            &outcome.output[..refused.min(outcome.output.len())]
        );
    }
}

// === R18: keys ===

#[test]
fn each_container_has_a_session_keyring_of_its_own() {
    let bundle = Bundle::new("cat /proc/keys");
    let outcome = bundle.run();
    let own = format!("_ses.{}", bundle.id);
    assert!(outcome.ok().contains(&own), "{outcome:?}");
    // Those of other engines on the host may show themselves to any root.
    let others = outcome
        .output
        .lines()
        .filter(|line| line.contains(" _ses.havre-test-") && !line.contains(&own));
    assert_eq!(others.count(), 0, "{outcome:?}");
}

// === R19: cgroup tree ===

#[test]
fn the_hosts_cgroups_are_neither_seen_nor_written() {
    let script = "cat /proc/self/cgroup; for d in /sys/fs/cgroup/*; do ls -d $d/*/ 2>/dev/null; \
                  (echo $$ > $d/cgroup.procs) 2>/dev/null && echo WRITTEN $d; done; true";
    let mut bundle = Bundle::new(script);
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    let outcome = bundle.run();
    let text = outcome.ok();
    assert!(!text.contains("WRITTEN"), "{text}");
    assert!(!text.contains(&bundle.id), "{text}");
    let joined = ["memory", "pids", "devices"];
    for controller in joined {
        let line = text
            .lines()
            .find(|line| line.contains(&format!(":{controller}:")));
        assert!(line.is_none_or(|line| line.ends_with(":/")), "{text}");
    }
    // No group of a sibling or of the host below what is shown.
    assert!(!text.contains("/sys/fs/cgroup/memory/"), "{text}");
    assert!(!bundle.cgroup_left());
}

// === R04: a process that enters is in the hands of those inside ===

#[test]
fn what_the_caller_has_open_is_closed_long_before_the_program_runs() {
    // A caller has connections and pipes of other processes, which must neither be found by who
    // looks into the container's process nor be kept from ending by it.
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let name =
        |fd: &std::os::fd::OwnedFd| format!("pipe:[{}]\n", rustix::fs::fstat(fd).unwrap().st_ino);
    let outcome = Bundle::new("true").run();
    outcome.ok();
    assert!(outcome.at_gate.contains("/dev/null\n"), "{outcome:?}");
    assert!(!outcome.at_gate.contains(&name(&reader)), "{outcome:?}");
    assert!(!outcome.at_gate.contains(&name(&writer)), "{outcome:?}");
}

#[test]
fn a_container_that_stops_those_who_enter_holds_nobody() {
    // Needs no capability: root of the container is the same user as the process that enters.
    // Now and then all may go on, so that a program that got as far as running ends.
    let script = "i=0; while :; do kill -STOP -1; i=$((i+1)); \
                  test $i = 100000 && i=0 && kill -CONT -1; done";
    let outcome = Bundle::new(script).run_with(&vec![process("true"); 8], &|| {});
    assert_eq!(outcome.result, Ok(137), "{outcome:?}");
    let stopped = |exec: &&Result<(i32, String), String>| {
        exec.as_ref()
            .is_err_and(|error| error.ends_with("it was stopped"))
    };
    assert!(
        outcome.execs.iter().filter(stopped).count() > 0,
        "{outcome:?}"
    );
}
