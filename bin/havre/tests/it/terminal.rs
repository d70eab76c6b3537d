//! `run -it` on a pseudo-terminal: raw while the container runs, as before whatever ends the session.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::fake::{Events, Fake, Request, close, json, no_content, switch};
use crate::havre;
use crate::run::container;

/// Both ends of a pseudo-terminal.
struct Pty {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Pty {
    fn open() -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).unwrap();
        Self { master, slave }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    }

    fn start(&self, host: &str, args: &[&str]) -> Child {
        let end = || Stdio::from(self.slave.try_clone().unwrap());
        havre(host, args)
            .stdin(end())
            .stdout(end())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// A container with a terminal. `attached` is its side of the stream.
fn answer(
    request: &Request,
    stream: &mut UnixStream,
    events: &Events,
    attached: impl Fn(&mut UnixStream),
) {
    let line = request.line();
    if line.ends_with("/attach") {
        switch(stream, "raw-stream");
        events.wait("started");
        attached(stream);
        close(stream);
        events.set("exited");
    } else if line.ends_with("/resize") {
        no_content(stream);
        events.set("resized");
    } else {
        container(request, stream, events, 3, |_| {});
    }
}

#[test]
fn the_terminal_is_raw_while_the_container_runs_and_not_after() {
    let pty = Arc::new(Pty::open());
    let events = Arc::new(Events::default());
    let (seen, terminal) = (Arc::clone(&events), Arc::clone(&pty));
    let fake = Fake::start(move |request, stream| {
        answer(request, stream, &seen, |stream| {
            assert!(terminal.is_raw());
            seen.wait("resized");
            let mut typed = [0; 3];
            rustix::io::write(&terminal.master, b"a\x03\r").unwrap();
            stream.read_exact(&mut typed).unwrap();
            assert_eq!(&typed, b"a\x03\r", "keys arrive as they are");
        });
    });
    let child = pty.start(&fake.host(), &["run", "-it", "x"]);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(3), "{out:?}");
    events.wait("exited");
    assert!(!pty.is_raw());
    let create = fake
        .requests()
        .into_iter()
        .find(|request| request.line().ends_with("/create"))
        .unwrap();
    assert!(
        create.body.contains(r#""ConsoleSize":[30,100]"#),
        "{}",
        create.body
    );
    assert!(
        fake.requests()
            .iter()
            .any(|request| request.target.ends_with("/resize?h=30&w=100"))
    );
}

#[test]
fn keys_detach() {
    let pty = Arc::new(Pty::open());
    let events = Arc::new(Events::default());
    let (seen, terminal) = (Arc::clone(&events), Arc::clone(&pty));
    let fake = Fake::start(move |request, stream| {
        answer(request, stream, &seen, |stream| {
            rustix::io::write(&terminal.master, b"x\x10\x11").unwrap();
            let mut typed = Vec::new();
            stream.read_to_end(&mut typed).unwrap();
            assert_eq!(typed, b"x", "the keys are not passed on");
        });
    });
    let out = pty
        .start(&fake.host(), &["run", "-it", "x"])
        .wait_with_output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    events.wait("exited");
    assert!(!pty.is_raw());
}

#[test]
fn a_start_that_fails_leaves_the_terminal_as_it_was() {
    let pty = Arc::new(Pty::open());
    let events = Events::default();
    let fake = Fake::start(move |request, stream| {
        if request.line().ends_with("/start") {
            json(stream, "500 Internal Server Error", r#"{"message":"no"}"#);
            events.set("started");
        } else {
            answer(request, stream, &events, |_| {});
        }
    });
    let out = pty
        .start(&fake.host(), &["run", "-it", "x"])
        .wait_with_output()
        .unwrap();
    assert_eq!(out.status.code(), Some(125), "{out:?}");
    assert!(!pty.is_raw());
}

#[test]
fn an_engine_that_dies_leaves_the_terminal_as_it_was() {
    let pty = Arc::new(Pty::open());
    let events = Events::default();
    let fake = Fake::start(move |request, stream| {
        let line = request.line();
        if line.ends_with("/wait") {
            crate::fake::head_of_wait(stream);
            events.wait("started");
            close(stream);
        } else {
            answer(request, stream, &events, |_| {});
        }
    });
    let out = pty
        .start(&fake.host(), &["run", "-it", "x"])
        .wait_with_output()
        .unwrap();
    assert_eq!(out.status.code(), Some(125), "{out:?}");
    assert!(!pty.is_raw());
}

#[test]
fn input_without_a_terminal_is_refused() {
    let fake = Fake::start(|_, stream| no_content(stream));
    let out = havre(&fake.host(), &["run", "-it", "x"]).output().unwrap();
    assert_eq!(crate::text(&out.stderr), "the input device is not a TTY\n");
    assert_eq!(out.status.code(), Some(1));
    assert!(fake.requests().is_empty(), "nothing was made");
}
