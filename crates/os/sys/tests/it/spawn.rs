//! Programs started from a process with threads.

use std::ffi::CString;
use std::io::{self, PipeReader, PipeWriter, Read as _, pipe};
use std::os::fd::{AsFd as _, AsRawFd as _};

use havre_sys::process::Exit;
use havre_sys::spawn::{Program, Slots, Spawn};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

fn shell(script: &str) -> Spawn<'_> {
    let script = CString::new(script).expect("no NUL in a script");
    Spawn::new(
        Program::Path(c"/bin/sh"),
        vec![c"sh".into(), c"-c".into(), script],
    )
}

fn pipes() -> (PipeReader, PipeWriter) {
    pipe().expect("a pipe can be made")
}

fn text(mut reader: PipeReader) -> String {
    let mut text = String::new();
    reader
        .read_to_string(&mut text)
        .expect("output can be read");
    text
}

#[test]
fn only_the_named_descriptors_are_open() {
    let (reader, writer) = pipes();
    // A descriptor that some other code forgot to mark close-on-exec.
    let leaked = fcntl_dupfd_cloexec(&reader, 50).expect("a copy");
    fcntl_setfd(&leaked, FdFlags::empty()).expect("flags");
    let child = shell("ls /proc/self/fd | tr '\\n' ' '")
        .fd(writer.as_fd(), 1)
        .fd(writer.as_fd(), 5)
        .env(vec![c"PATH=/usr/bin:/bin".into()])
        .spawn()
        .expect("the shell starts");
    drop(writer);
    // 0 and 2 are inherited, 3 is the directory that ls reads.
    assert_eq!(text(reader), "0 1 2 3 5 ");
    assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
    drop(leaked);
}

#[test]
fn descriptors_that_trade_places_are_mapped_right() {
    let (reader_a, writer_a) = pipes();
    let (reader_b, writer_b) = pipes();
    let (a, b) = (writer_a.as_raw_fd(), writer_b.as_raw_fd());
    // Each one's number is the other's target.
    let child = shell(&format!(
        "echo to-a > /proc/self/fd/{b}; echo to-b > /proc/self/fd/{a}"
    ))
    .fd(writer_a.as_fd(), b)
    .fd(writer_b.as_fd(), a)
    .spawn()
    .expect("the shell starts");
    drop((writer_a, writer_b));
    assert_eq!(text(reader_a), "to-a\n");
    assert_eq!(text(reader_b), "to-b\n");
    assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
}

#[test]
fn a_descriptor_can_stay_at_its_number() {
    let (reader, writer) = pipes();
    let high = fcntl_dupfd_cloexec(&writer, 60).expect("a copy");
    let number = high.as_raw_fd();
    let child = shell(&format!("echo kept > /proc/self/fd/{number}"))
        .fd(high.as_fd(), number)
        .spawn()
        .expect("the shell starts");
    drop((writer, high));
    assert_eq!(text(reader), "kept\n");
    assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
}

#[test]
fn environment_directory_session_and_signals_are_set() {
    let (reader, writer) = pipes();
    let dir = open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("/proc");
    let child = shell(
        "pwd; echo $X; read -r pid comm state ppid pgrp session rest < /proc/$$/stat; \
         [ $pid = $session ] && echo leader; \
         while read -r name value; do case $name in SigBlk:|SigIgn:) echo $name $value;; esac; done \
         < /proc/$$/status",
    )
    .env(vec![c"X=y".into()])
    .cwd(dir.as_fd())
    .new_session()
    .fd(writer.as_fd(), 1)
    .spawn()
    .expect("the shell starts");
    drop(writer);
    // Rust ignores SIGPIPE in its own process: the child must not.
    assert_eq!(
        text(reader),
        "/proc\ny\nleader\nSigBlk: 0000000000000000\nSigIgn: 0000000000000000\n"
    );
    assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
}

#[test]
fn a_new_group_is_led_by_the_child() {
    let (reader, writer) = pipes();
    let child = shell("read -r pid comm state ppid pgrp rest < /proc/$$/stat; echo $pid $pgrp")
        .new_group()
        .fd(writer.as_fd(), 1)
        .spawn()
        .expect("the shell starts");
    drop(writer);
    let pid = child.pid.as_raw_nonzero();
    assert_eq!(text(reader), format!("{pid} {pid}\n"));
    assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
}

#[test]
fn a_sealed_memory_file_is_executed() {
    let program = fs_open("/bin/true");
    let sealed = havre_sys::fd::memfd_sealed(c"true", program).expect("it can be sealed");
    let child = Spawn::new(Program::Fd(sealed.as_fd()), vec![c"true".into()])
        .spawn()
        .expect("it starts");
    assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
}

#[expect(clippy::disallowed_types, reason = "the path is constant")]
fn fs_open(path: &str) -> std::fs::File {
    std::fs::File::open(path).expect("the program exists")
}

#[test]
fn a_missing_program_is_an_error_and_leaves_no_child() {
    let error = Spawn::new(Program::Path(c"/no/such"), vec![c"x".into()])
        .spawn()
        .expect_err("there is no such program");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn slots_give_the_named_descriptors_and_keep_none() {
    let slots = Slots::reserve().expect("slots");
    let sealed = havre_sys::fd::memfd_sealed(c"sh", fs_open("/bin/sh")).expect("it can be sealed");
    let directory = open("/proc", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("/proc");
    let (reader, writer) = pipes();
    let leaked = fcntl_dupfd_cloexec(&reader, 50).expect("a copy");
    fcntl_setfd(&leaked, FdFlags::empty()).expect("flags");
    let words = ["sh", "-c", "pwd; ls /proc/self/fd | tr '\\n' ' '"];
    let words = words.map(|word| CString::new(word).expect("no NUL"));
    let child = Spawn::new(Program::Fd(sealed.as_fd()), words.into())
        .fd(writer.as_fd(), 1)
        .fd(writer.as_fd(), 5)
        .cwd(directory.as_fd())
        .env(vec![c"PATH=/usr/bin:/bin".into()])
        .slots(&slots)
        .spawn()
        .expect("the shell starts");
    drop(writer);
    // The end of the output is seen: no slot holds the writing end open.
    assert_eq!(text(reader), "/proc\n0 1 2 3 5 ");
    assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
    // The table of the caller is as it was.
    assert!(rustix::io::fcntl_getfd(&leaked).is_ok() && rustix::io::fcntl_getfd(&sealed).is_ok());
    let error = shell("true")
        .fd(directory.as_fd(), 16)
        .slots(&slots)
        .spawn()
        .expect_err("16 is a slot");
    assert!(error.to_string().contains("slots"), "{error}");
    let error = Spawn::new(Program::Path(c"/no/such"), vec![c"x".into()])
        .slots(&slots)
        .spawn()
        .expect_err("there is no such program");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn many_threads_share_slots_while_others_open_and_close() {
    let slots = Slots::reserve().expect("slots");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let slots = &slots;
            scope.spawn(move || {
                for _ in 0..20 {
                    let (reader, writer) = pipes();
                    let child = shell(&format!("echo {n}"))
                        .fd(writer.as_fd(), 1)
                        .slots(slots)
                        .spawn()
                        .expect("starts");
                    drop(writer);
                    assert_eq!(text(reader), format!("{n}\n"));
                    assert_eq!(child.wait().expect("ends"), Exit::Code(0));
                }
            });
        }
    });
}

#[test]
fn many_threads_spawn_at_once() {
    let ended: Vec<Exit> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                scope.spawn(move || {
                    let script = format!("exit {n}");
                    (0..10)
                        .map(|_| {
                            shell(&script)
                                .spawn()
                                .expect("starts")
                                .wait()
                                .expect("ends")
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().expect("no panic"))
            .collect()
    });
    for n in 0..8 {
        assert_eq!(ended.iter().filter(|e| **e == Exit::Code(n)).count(), 10);
    }
}
