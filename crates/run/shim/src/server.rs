//! The loop: waits, hands each event to its part, and ends when there is nothing left to serve.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use havre_sys::prctl::set_subreaper;
use havre_sys::signal::SignalFd;
use rustix::event::epoll::EventFlags;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Signal, geteuid};

use crate::attach::Client;
use crate::error::{ShimError, Step as _};
use crate::events::Publisher;
use crate::poll::{Interest, Poll, READ, Token};
use crate::rpc::Caller;
use crate::slab::Slab;
use crate::task::Task;

/// Who the shim serves.
#[derive(Debug)]
pub struct ServeOptions {
    /// Namespace of events.
    pub namespace: String,
    /// The container.
    pub id: String,
    /// Its directory.
    pub bundle: PathBuf,
    /// Socket of containerd's event service; events are published only with it.
    pub events: Option<PathBuf>,
    /// The socket to remove at the end.
    pub socket: Option<PathBuf>,
}

/// Sockets that listen already.
#[derive(Debug)]
pub struct Listeners {
    /// The Task API.
    pub task: OwnedFd,
    /// Attached clients; containerd has none.
    pub attach: Option<OwnedFd>,
}

/// Everything the shim has.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) options: ServeOptions,
    pub(crate) poll: Poll,
    pub(crate) signals: SignalFd,
    pub(crate) callers: Slab<Caller>,
    pub(crate) clients: Slab<Client>,
    pub(crate) task: Option<Task>,
    pub(crate) publisher: Option<Publisher>,
    /// Shutdown was called.
    pub(crate) ending: bool,
}

/// Serves until Shutdown.
///
/// # Errors
/// Fails when the kernel refuses what everything depends on. Failures of calls are answers, not errors.
pub fn serve(options: ServeOptions, listeners: &Listeners) -> Result<(), ShimError> {
    // Before anything can be a child: its end must not be missed. Terminal and user signals do not end a shim.
    let signals = SignalFd::new(&[
        Signal::CHILD,
        Signal::HUP,
        Signal::INT,
        Signal::TERM,
        Signal::QUIT,
    ])
    .step("take over signals")?;
    set_subreaper(true).step("become the parent of orphans")?;
    let poll = Poll::new().step("make an epoll descriptor")?;
    watch_listener(&poll, &listeners.task, Token::TaskListener)?;
    if let Some(attach) = &listeners.attach {
        watch_listener(&poll, attach, Token::AttachListener)?;
    }
    poll.watch(
        signals.as_fd(),
        Token::Signals,
        &mut Interest::default(),
        Some(READ),
    );
    let publisher = options.events.clone().map(Publisher::new);
    let mut server = Server {
        options,
        poll,
        signals,
        callers: Slab::default(),
        clients: Slab::default(),
        task: None,
        publisher,
        ending: false,
    };
    while !server.ending {
        let events = server
            .poll
            .wait(server.deadline())
            .step("wait for events")?;
        for (token, flags) in events {
            server.handle(token, flags, listeners);
        }
        server.check_deadlines(Instant::now());
    }
    server.leave();
    Ok(())
}

fn watch_listener(poll: &Poll, listener: &OwnedFd, token: Token) -> Result<(), ShimError> {
    // A client that is gone before it is accepted must not block the loop.
    fcntl_setfl(listener, OFlags::NONBLOCK).step("set up a listening socket")?;
    poll.watch(listener, token, &mut Interest::default(), Some(READ));
    Ok(())
}

impl Server {
    fn handle(&mut self, token: Token, flags: EventFlags, listeners: &Listeners) {
        match token {
            Token::TaskListener => {
                if let Some(fd) = accept(&listeners.task) {
                    self.add_caller(fd);
                }
            }
            Token::AttachListener => {
                if let Some(fd) = listeners.attach.as_ref().and_then(accept) {
                    self.add_client(fd);
                }
            }
            Token::Signals => self.reap(),
            Token::Events => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.ready(&self.poll);
                }
            }
            Token::Caller(at) => self.caller_ready(at),
            Token::Client(at) => self.client_ready(at, flags),
            Token::Stdout(at) => self.output_ready(at, 0),
            Token::Stderr(at) => self.output_ready(at, 1),
            Token::Stdin(at) => self.input_ready(at),
            Token::Log => self.log_ready(),
        }
    }

    /// The next moment at which something must happen by itself.
    fn deadline(&self) -> Option<Instant> {
        let task = self.task.as_ref()?;
        task.processes
            .iter()
            .filter_map(|(_, process)| process.drain_until)
            .min()
    }

    fn check_deadlines(&mut self, now: Instant) {
        let Some(task) = &self.task else { return };
        let late = |at: &usize| {
            let process = task.processes.get(*at);
            process
                .and_then(|process| process.drain_until)
                .is_some_and(|until| until <= now)
        };
        let numbers: Vec<_> = task.processes.numbers().into_iter().filter(late).collect();
        for at in numbers {
            self.finish_process(at);
        }
    }

    /// Sends what fits at once and cleans up.
    fn leave(&mut self) {
        for at in self.callers.numbers() {
            self.caller_flush(at);
        }
        for at in self.clients.numbers() {
            self.client_flush(at);
        }
        if let Some(socket) = &self.options.socket
            && fs_err::remove_file(socket).is_err()
        {
            // `delete` removes it later, and a new shim of this name would.
        }
    }
}

/// Only root and our own user may talk to the shim, whatever the socket's mode says (CVE-2020-15257).
fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let fd = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(fd) => fd,
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return None,
        Err(error) => {
            crate::error::note(&format!("failed to accept a connection: {error}"));
            return None;
        }
    };
    let peer = havre_sys::net::peer_cred(fd.as_fd()).ok()?;
    (peer.uid.is_root() || peer.uid == geteuid()).then_some(fd)
}
