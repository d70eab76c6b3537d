//! clone3, exec, and how children end.

use std::fs::{read_link, read_to_string};
use std::io::{Read as _, Write as _, pipe};
use std::os::fd::AsRawFd as _;

use havre_sys::process::{
    CloneArgs, CloneFlags, Exit, Keep, PANIC_STATUS, clone3, ensure_single_threaded, exec, fexec,
};
use havre_sys::testing::in_child;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Signal, getpid};

#[test]
fn a_threaded_process_is_refused() {
    // The test harness itself has at least two threads.
    let error = clone3(&CloneArgs::new(CloneFlags::NONE), || 0).expect_err("threads exist");
    assert_eq!(error.to_string(), "the process has more than one thread");
}

#[test]
fn exit_codes_signals_and_panics_are_reported() {
    in_child(|| {
        ensure_single_threaded().expect("a forked child has one thread");
        let args = CloneArgs::new(CloneFlags::NONE);
        let child = clone3(&args, || 7).expect("clone3 works");
        assert_eq!(child.wait().expect("it ends"), Exit::Code(7));

        let (reader, writer) = pipe().expect("a pipe");
        let child = clone3(&args, || {
            // Blocks until killed: the parent holds the other end.
            let mut byte = [0];
            (&reader).read_exact(&mut byte).map_or(1, |()| 0)
        })
        .expect("clone3 works");
        assert_eq!(child.try_wait().expect("it can be asked"), None);
        child.kill(Signal::TERM).expect("it can be killed");
        let exit = child.wait().expect("it ends");
        assert_eq!(exit, Exit::Signal(15));
        assert_eq!(exit.status(), 143);
        drop(writer);

        let child = clone3(&args, || {
            std::panic::resume_unwind(Box::new("no hook, no noise"))
        })
        .expect("clone3 works");
        assert_eq!(child.wait().expect("it ends"), Exit::Code(PANIC_STATUS));
    });
}

#[test]
fn namespaces_are_new_in_the_child() {
    in_child(|| {
        let flags =
            CloneFlags::NEWNS | CloneFlags::NEWPID | CloneFlags::NEWUTS | CloneFlags::NEWIPC;
        let outside = std::fs::read_link("/proc/self/ns/uts").expect("a namespace");
        let child = clone3(&CloneArgs::new(flags), || {
            let inside = std::fs::read_link("/proc/self/ns/uts").expect("a namespace");
            i32::from(getpid().as_raw_nonzero().get() != 1) + 2 * i32::from(inside == outside)
        })
        .expect("clone3 works");
        assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
    });
}

#[test]
fn exec_replaces_the_program_with_this_environment_only() {
    in_child(|| {
        let (mut reader, writer) = pipe().expect("a pipe");
        let child = clone3(&CloneArgs::new(CloneFlags::NONE), || {
            rustix::stdio::dup2_stdout(&writer).expect("stdout is replaced");
            drop(exec(
                c"/usr/bin/env",
                &[c"env".into()],
                &[c"A=1".into(), c"B=2".into()],
            ));
            126
        })
        .expect("clone3 works");
        drop(writer);
        let mut out = String::new();
        reader.read_to_string(&mut out).expect("output");
        assert_eq!(out, "A=1\nB=2\n");
        assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
    });
}

#[test]
fn fexec_runs_what_the_descriptor_names() {
    in_child(|| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let program = open("/bin/sh", flags, Mode::empty()).expect("a shell");
        let child = clone3(&CloneArgs::new(CloneFlags::NONE), || {
            use std::os::fd::AsFd as _;
            let argv = [c"sh".into(), c"-c".into(), c"exit 9".into()];
            drop(fexec(program.as_fd(), &argv, &[]));
            126
        })
        .expect("clone3 works");
        assert_eq!(child.wait().expect("it ends"), Exit::Code(9));
    });
}

#[test]
fn exec_returns_the_reason_of_failure() {
    let error = exec(c"/no/such/program", &[c"x".into()], &[]);
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_child_is_born_in_a_cgroup() {
    use std::os::fd::AsFd as _;
    let base = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|p| std::path::Path::new(p).join("cgroup.controllers").exists())
        .expect("cgroup v2 is mounted");
    let dir = format!("{base}/havre-test-sys-{}", std::process::id());
    std::fs::create_dir(&dir).expect("a cgroup can be made");
    in_child(|| {
        let cgroup = open(&dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("dir");
        let args = CloneArgs {
            cgroup: Some(cgroup.as_fd()),
            ..CloneArgs::new(CloneFlags::NONE)
        };
        let child = clone3(&args, || {
            let own = read_to_string("/proc/self/cgroup").expect("own cgroup");
            i32::from(!own.contains("havre-test-sys-"))
        })
        .expect("clone3 works");
        assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
    });
    std::fs::remove_dir(&dir).expect("the test's cgroup is empty");
}

#[test]
fn a_failed_child_reports_its_message() {
    let caught = std::panic::catch_unwind(|| in_child(|| panic!("the reason {}", 5)));
    let text = caught
        .expect_err("it must fail")
        .downcast::<String>()
        .expect("a text");
    assert!(text.contains("the reason 5"), "{text}");
    std::io::stdout().flush().expect("stdout");
}

#[test]
fn a_child_keeps_only_the_descriptors_it_is_given() {
    in_child(|| {
        let pipes: Vec<_> = (0..4).map(|_| pipe().expect("a pipe")).collect();
        let number = |end: usize| pipes[end].1.as_raw_fd();
        // Out of order, and one that is below the limit anyway.
        let fds = [number(3), number(1), 2];
        let args = CloneArgs {
            keep: Some(Keep {
                below: 3,
                fds: &fds,
            }),
            ..CloneArgs::new(CloneFlags::NONE)
        };
        let child = clone3(&args, || {
            let open = (0..200).filter(|fd| read_link(format!("/proc/self/fd/{fd}")).is_ok());
            let mut wanted = vec![0, 1, 2, number(1), number(3)];
            wanted.sort_unstable();
            i32::from(open.collect::<Vec<_>>() != wanted)
        })
        .expect("clone3 works");
        assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
        // The caller's own are as before.
        assert!(
            pipes
                .iter()
                .all(|(reader, _)| rustix::io::fcntl_getfd(reader).is_ok())
        );
    });
}
