//! Signals, keyring, identities, attributes of the process.

use std::os::fd::AsFd as _;

use havre_sys::process::{CloneArgs, CloneFlags, Exit, clone3};
use havre_sys::sched::{IoClass, SchedAttr, set_attr, set_ioprio};
use havre_sys::signal::{self, SignalFd, SignalInfo, SignalSet};
use havre_sys::testing::in_child;
use havre_sys::{keyring, prctl, user};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};

#[test]
fn signals_arrive_at_the_descriptor() {
    in_child(|| {
        let fd = SignalFd::new(&[Signal::USR1, Signal::CHILD]).expect("a signalfd");
        assert_eq!(fd.read().expect("readable"), None);
        kill_process(getpid(), Signal::USR1).expect("kill");
        let got = fd.read().expect("readable").expect("a signal");
        assert_eq!(got.signal, 10);
        assert_eq!(got.pid, getpid().as_raw_nonzero().get().unsigned_abs());

        let child = clone3(&CloneArgs::new(CloneFlags::NONE), || 3).expect("clone3");
        let mut polled = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        poll(&mut polled, None).expect("poll");
        let pid = child.pid.as_raw_nonzero().get().unsigned_abs();
        let want = SignalInfo {
            signal: 17,
            pid,
            status: 3,
        };
        assert_eq!(fd.read().expect("readable"), Some(want));
        assert_eq!(child.wait().expect("it ends"), Exit::Code(3));
    });
}

#[test]
fn a_reset_unblocks_and_restores_default_actions() {
    in_child(|| {
        signal::ignore(Signal::TERM);
        let before = signal::block_all().expect("mask");
        assert!(!before.contains(Signal::TERM));
        kill_process(getpid(), Signal::HUP).expect("kill");
        assert!(signal::pending().expect("pending").contains(Signal::HUP));
        let child = clone3(&CloneArgs::new(CloneFlags::NONE), || {
            signal::reset_all().expect("reset");
            kill_process(getpid(), Signal::TERM).expect("kill");
            0
        })
        .expect("clone3");
        assert_eq!(child.wait().expect("it ends"), Exit::Signal(15));
    });
}

#[test]
fn signal_numbers_outside_of_the_range_are_refused() {
    assert_eq!(signal::from_raw(0), None);
    assert_eq!(signal::from_raw(65), None);
    assert_eq!(signal::from_raw(-1), None);
    assert_eq!(signal::from_raw(37).map(Signal::as_raw), Some(37));
    assert!(SignalSet::full().contains(Signal::TERM));
    assert_eq!(
        format!("{:?}", SignalSet::of(&[Signal::HUP, Signal::TERM])),
        "{1, 15}"
    );
}

#[test]
fn a_new_session_keyring_replaces_the_old() {
    in_child(|| {
        let first = keyring::join_new_session(c"havre-test-1").expect("a keyring");
        let second = keyring::join_new_session(c"havre-test-2").expect("a keyring");
        assert_ne!(first, second);
        second.set_permissions(0x3f3f_0000).expect("permissions");
        let keys = read("/proc/keys");
        assert!(keys.contains("havre-test-2"), "{keys}");
    });
}

#[test]
fn identity_changes_are_complete() {
    in_child(|| {
        user::setgroups(&[7, 8]).expect("setgroups");
        user::setresgid(1001).expect("setresgid");
        user::setresuid(1000).expect("setresuid");
        let status = read("/proc/self/status");
        assert!(
            status.contains("Uid:\t1000\t1000\t1000\t1000\n"),
            "{status}"
        );
        assert!(
            status.contains("Gid:\t1001\t1001\t1001\t1001\n"),
            "{status}"
        );
        assert!(status.contains("Groups:\t7 8"), "{status}");
        user::setresuid(0).expect_err("there is no way back");
    });
}

#[test]
fn process_attributes_are_set() {
    in_child(|| {
        prctl::set_oom_score_adj(500).expect("oom_score_adj");
        assert_eq!(read("/proc/self/oom_score_adj"), "500\n");
        prctl::personality(0x0008).expect("personality");
        assert_eq!(read("/proc/self/personality"), "00000008\n");
        prctl::set_subreaper(true).expect("subreaper");
        let subreaper = rustix::process::child_subreaper().expect("prctl");
        assert!(subreaper.is_some());
        prctl::set_subreaper(false).expect("subreaper");
        set_ioprio(IoClass::Idle, 0).expect("ioprio");
        // SCHED_BATCH with nice 5: field 41 of stat is the policy, field 19 the nice value.
        set_attr(&SchedAttr {
            policy: 3,
            nice: 5,
            ..SchedAttr::default()
        })
        .expect("sched");
        let stat = read("/proc/self/stat");
        let fields: Vec<_> = stat.rsplit_once(") ").expect("stat").1.split(' ').collect();
        assert_eq!((fields[41 - 3], fields[19 - 3]), ("3", "5"));
        havre_sys::sched::set_mempolicy(0, &[]).expect("the default policy");
        prctl::set_undumpable().expect("undumpable");
        let dumpable = rustix::process::dumpable_behavior().expect("prctl");
        assert_eq!(dumpable, rustix::process::DumpableBehavior::NotDumpable);
    });
}

#[test]
fn an_orphan_goes_to_the_subreaper() {
    in_child(|| {
        prctl::set_subreaper(true).expect("subreaper");
        let args = CloneArgs::new(CloneFlags::NONE);
        let parent = clone3(&args, || clone3(&args, || 42).map_or(1, |_grandchild| 0));
        assert_eq!(
            parent.expect("clone3").wait().expect("it ends"),
            Exit::Code(0)
        );
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::wait(options)
            .expect("wait")
            .expect("the grandchild");
        assert_eq!(status.exit_status(), Some(42));
    });
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).expect("a file of /proc")
}
