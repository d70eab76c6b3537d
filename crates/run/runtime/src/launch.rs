//! What a new container and a process that enters one have in common: streams, gate, and the
//! conversation with the child until it runs.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use havre_sys::process::{Child, Exit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use crate::channel::{Channel, FromChild};
use crate::child::finish;
use crate::criu::Held;
use crate::error::{RuntimeError, Step as _};

/// Where the standard streams of a process lead.
#[derive(Debug)]
pub enum StdioSpec {
    /// To these descriptors.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// To a new terminal of the container, whose other side the caller gets.
    Terminal {
        /// Rows and columns.
        size: Option<(u16, u16)>,
    },
    /// To where the caller's lead.
    Inherit,
}

impl StdioSpec {
    pub(crate) fn streams(&self) -> finish::Streams<'_> {
        match self {
            Self::Fds {
                stdin,
                stdout,
                stderr,
            } => finish::Streams::Fds {
                stdin: stdin.as_fd(),
                stdout: stdout.as_fd(),
                stderr: stderr.as_fd(),
            },
            Self::Terminal { .. } | Self::Inherit => finish::Streams::Inherit,
        }
    }
}

/// What holds a process that is set up from executing its program.
#[derive(Debug)]
pub enum Gate {
    /// Nothing.
    Open,
    /// The caller, who says when (`start`).
    Hold,
    /// Whoever first connects to this listening unix socket: for a caller that will be gone by
    /// then. The directory of the socket decides who may. See [`open_gate`].
    Listen(OwnedFd),
}

impl Gate {
    pub(crate) fn for_child(&self) -> finish::Gate<'_> {
        match self {
            Self::Open => finish::Gate::Open,
            Self::Hold => finish::Gate::Channel,
            Self::Listen(listener) => finish::Gate::Listener(listener.as_fd()),
        }
    }
}

/// Lets a process go that waits at [`Gate::Listen`], and waits until its program runs.
///
/// `connection` is a connected socket of the gate.
pub fn open_gate(connection: OwnedFd) -> Result<(), RuntimeError> {
    settled(&Channel::from_fd(connection))
}

fn settled(channel: &Channel) -> Result<(), RuntimeError> {
    match channel
        .hear()
        .step(|| "wait for the program to be executed".to_owned())?
    {
        FromChild::End => Ok(()),
        FromChild::Failed(error) => Err(error),
        _ => Err(RuntimeError::Died {
            how: "it spoke out of turn".to_owned(),
        }),
    }
}

/// How often a child that says nothing is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a child that was killed is waited for. One that the kernel holds is left to whoever
/// reaps the orphans.
const REAP: Duration = Duration::from_secs(2);

/// A child that was cloned and is being talked to.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Child,
    pub(crate) console: Option<OwnedFd>,
    /// How long the child may be silent while it sets itself up.
    patience: Option<Duration>,
    /// Open while the child waits at a gate that the caller holds.
    channel: Option<Channel>,
    /// Instead of that, while CRIU holds it.
    held: Option<Held>,
}

/// What the runtime does when the child asks for it.
pub(crate) trait Attend {
    /// False if the child will ask for nothing and hand over nothing.
    fn is_needed(&self) -> bool;
    fn mappings(&mut self, pid: Pid) -> Result<(), RuntimeError>;
    fn hooks(&mut self, pid: Pid) -> Result<(), RuntimeError>;
}

/// For a child that asks for nothing; it may have a terminal to hand over.
#[derive(Debug)]
pub(crate) struct Nothing {
    pub(crate) terminal: bool,
}

impl Attend for Nothing {
    fn is_needed(&self) -> bool {
        self.terminal
    }
    fn mappings(&mut self, _pid: Pid) -> Result<(), RuntimeError> {
        Ok(())
    }
    fn hooks(&mut self, _pid: Pid) -> Result<(), RuntimeError> {
        Ok(())
    }
}

impl Launched {
    /// Talks with the child until it is ready, or with an open gate until its program runs. A
    /// child that fails, or that cannot be attended to, is ended and reaped.
    pub(crate) fn attend(
        child: Child,
        channel: Channel,
        gate: &Gate,
        attend: &mut dyn Attend,
        patience: Option<Duration>,
    ) -> Result<Self, RuntimeError> {
        let mut launched = Self {
            child,
            console: None,
            patience,
            channel: None,
            held: None,
        };
        match launched.talk(&channel, gate, attend) {
            Ok(()) => {
                launched.channel = matches!(gate, Gate::Hold).then_some(channel);
                Ok(launched)
            }
            Err(error) => {
                drop(channel);
                Err(launched.end_after(error))
            }
        }
    }

    fn talk(
        &mut self,
        channel: &Channel,
        gate: &Gate,
        attend: &mut dyn Attend,
    ) -> Result<(), RuntimeError> {
        let describe = || "talk with the container process".to_owned();
        if matches!(gate, Gate::Open) && !attend.is_needed() {
            // All that it says is read at the end, which saves waking up for each word.
            self.watch(|time| channel.await_end(time))?;
        }
        let mut ready = false;
        loop {
            match self.hear(channel)? {
                FromChild::NeedMappings => {
                    attend.mappings(self.child.pid)?;
                    channel.go().step(describe)?;
                }
                FromChild::NeedHooks => {
                    attend.hooks(self.child.pid)?;
                    channel.go().step(describe)?;
                }
                FromChild::Console(master) => self.console = Some(master),
                FromChild::Ready if matches!(gate, Gate::Open) => ready = true,
                FromChild::Ready => return Ok(()),
                FromChild::Failed(error) => return Err(error),
                FromChild::End if ready => return Ok(()),
                FromChild::Born(_) | FromChild::End => {
                    return Err(RuntimeError::Died { how: String::new() });
                }
            }
        }
    }

    /// Waits until the helper that makes the real child has said who that is, and reaps it.
    pub(crate) fn await_birth(
        helper: Child,
        channel: &Channel,
        patience: Duration,
    ) -> Result<Child, RuntimeError> {
        let helper = Self {
            child: helper,
            console: None,
            patience: Some(patience),
            channel: None,
            held: None,
        };
        let word = helper.hear(channel);
        match word {
            Ok(FromChild::Born(child)) => {
                // It has nothing left to do but to end.
                helper.reap();
                Ok(child)
            }
            Ok(FromChild::Failed(error)) => Err(helper.end_after(error)),
            Ok(_) => Err(helper.end_after(RuntimeError::Died { how: String::new() })),
            Err(error) => Err(helper.end_after(error)),
        }
    }

    /// The next word of the child.
    fn hear(&self, channel: &Channel) -> Result<FromChild, RuntimeError> {
        self.watch(|time| channel.await_word(time))?;
        channel
            .hear()
            .step(|| "talk with the container process".to_owned())
    }

    /// Waits by `wait`, but not for a child that cannot go on: the processes of a PID namespace
    /// that it entered can stop it (SIGSTOP asks only for the same user), and a caller that
    /// waited for it would be held by the container.
    fn watch(&self, wait: impl Fn(Duration) -> io::Result<bool>) -> Result<(), RuntimeError> {
        let describe = || "wait for the set-up of the container process".to_owned();
        let begun = Instant::now();
        while !wait(LOOK).step(describe)? {
            let held = if self.child.is_stopped().step(describe)? {
                "it was stopped"
            } else if self.patience.is_some_and(|limit| begun.elapsed() > limit) {
                "it takes too long"
            } else {
                continue;
            };
            return Err(io::Error::new(io::ErrorKind::TimedOut, held)).step(describe);
        }
        Ok(())
    }

    /// Reaps the child, which has ended or was killed; none if the kernel holds it.
    fn reap(&self) -> Option<Exit> {
        let mut fds = [PollFd::new(&self.child.pidfd, PollFlags::IN)];
        let time = Timespec::try_from(REAP).ok()?;
        poll(&mut fds, Some(&time)).ok()?;
        self.child.try_wait().ok().flatten()
    }

    /// Ends and reaps the child; fills in how it ended if that is all there is to say.
    fn end_after(&self, error: RuntimeError) -> RuntimeError {
        let died = matches!(error, RuntimeError::Died { .. });
        if !died && self.child.kill(Signal::KILL).is_err() {
            // It is gone already; reaping below tells no more.
        }
        match (self.reap(), died) {
            (Some(exit), true) => RuntimeError::Died {
                how: format!("exit status {}", exit.status()),
            },
            (_, _) => error,
        }
    }

    /// A process that CRIU has brought back, with the master side of its terminal.
    pub(crate) const fn restored(child: Child, console: Option<OwnedFd>) -> Self {
        Self {
            child,
            console,
            patience: None,
            channel: None,
            held: None,
        }
    }

    /// The process runs when it is started, not before.
    pub(crate) fn hold(&mut self, held: Held) {
        self.held = Some(held);
    }

    pub(crate) fn start(&mut self) -> Result<(), RuntimeError> {
        if let Some(held) = self.held.take() {
            return held.release();
        }
        let Some(channel) = self.channel.take() else {
            return Err(RuntimeError::Step {
                what: "start the process".to_owned(),
                source: io::Error::other("it does not wait to be started"),
            });
        };
        channel.go().step(|| "start the process".to_owned())?;
        if let Err(error) = self.watch(|time| channel.await_word(time)) {
            // The caller reaps it, as after every failure of a start.
            drop(self.child.kill(Signal::KILL));
            return Err(error);
        }
        settled(&channel)
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }
}
