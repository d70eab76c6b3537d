//! The engine's side: finds or starts the companion, tells it what to serve, notices when it is gone. It keeps no copy of what
//! the companion knows: after any break the engine says everything again with [`Companion::sync`].

mod calls;
mod process;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use havre_sys::process::Child;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::process::{connect_at, end, open_directory, reap, start};
use crate::protocol::{Answer, Owner, Request, VERSION, receive, send};
use crate::zone::{Held, State, Transport};

pub use self::process::LISTENER_FD;

/// A companion that answers nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Starts that are tried when companions end while they are being talked to.
const ATTEMPTS: usize = 3;

/// Why the companion does not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum CompanionError {
    /// It could not be started.
    #[error("failed to start the network companion `{}`", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its socket cannot be reached.
    #[error("failed to reach the network companion in `{}`", directory.display())]
    Reach {
        /// The directory of the control socket.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or does not answer; [`Companion::connect_or_start`] gives a new one.
    #[error("the network companion is gone")]
    Gone,
    /// It said no.
    #[error("the network companion refused {what}: {message}")]
    Refused {
        /// What it was told to do.
        what: String,
        /// Why it does not.
        message: String,
    },
}

/// What has no socket in the companion after [`Companion::sync`]: the engine opens new ones and hands them over.
pub type Missing = Held;

/// A companion that the engine is connected to.
#[derive(Debug)]
pub struct Companion {
    pid: i32,
    calls: mpsc::Sender<Call>,
    gone: watch::Receiver<bool>,
    /// What an older companion gave back, until it is handed over again.
    spare: Mutex<HashMap<Owner, Vec<OwnedFd>>>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Call {
    request: Request,
    fds: Vec<OwnedFd>,
    answer: oneshot::Sender<Answer>,
}

/// Who answers at the control socket.
#[derive(Debug)]
struct Peer {
    version: String,
    pid: i32,
}

impl Peer {
    fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        if let Err(error) = kill_process(pid, Signal::KILL) {
            tracing::warn!(%error, pid = self.pid, "a silent network companion cannot be ended");
        }
    }
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The engine has nothing more to say.
    Left,
    /// The companion is gone.
    Closed,
    /// The companion exists and does not answer.
    Silent,
}

impl Companion {
    /// Connects to the companion of this directory if one runs.
    pub async fn connect(exec_root: &Path) -> Result<Option<Self>, CompanionError> {
        let dir = open_directory(exec_root).map_err(|source| CompanionError::Reach {
            directory: exec_root.to_owned(),
            source,
        })?;
        let Ok(stream) = connect_at(dir.as_fd()) else {
            return Ok(None);
        };
        match greet(&stream).await {
            Ok(peer) if peer.version == VERSION => {
                Ok(Some(Self::over(stream, peer, None, HashMap::new())))
            }
            _ => Ok(None),
        }
    }

    /// Connects to the companion of this directory, or starts `program` as one. A companion of another version gives its
    /// sockets back first; [`Companion::sync`] hands them to the new one, and no query is lost: they wait in the sockets.
    pub async fn connect_or_start(
        exec_root: &Path,
        program: &Path,
    ) -> Result<Self, CompanionError> {
        let unreachable = |source| CompanionError::Reach {
            directory: exec_root.to_owned(),
            source,
        };
        let dir = open_directory(exec_root).map_err(unreachable)?;
        let mut spare = HashMap::new();
        let mut child = None;
        for _ in 0..ATTEMPTS {
            if let Ok(stream) = connect_at(dir.as_fd()) {
                match greet(&stream).await {
                    Ok(peer) if peer.version == VERSION => {
                        return Ok(Self::over(stream, peer, child, spare));
                    }
                    Ok(_) => {
                        // One that fails half-way keeps what it has; it is asked again.
                        let taken = timeout(PATIENCE, take_back(&stream, &mut spare));
                        drop(taken.await);
                    }
                    // It ended in this moment.
                    Err(_) => {}
                }
            }
            if let Some(broken) = child.take() {
                end(&broken);
            }
            let started = start(dir.as_fd(), program);
            child = Some(started.map_err(|source| CompanionError::Start {
                program: program.to_owned(),
                source,
            })?);
        }
        connect_at(dir.as_fd()).map_err(unreachable)?;
        Err(CompanionError::Gone)
    }

    fn over(
        stream: UnixStream,
        peer: Peer,
        child: Option<Child>,
        spare: HashMap<Owner, Vec<OwnedFd>>,
    ) -> Self {
        let pid = peer.pid;
        let (calls, inbox) = mpsc::channel(64);
        let (ended, gone) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            if converse(&stream, inbox).await == Ended::Silent {
                // It would go on answering from what it knew.
                peer.kill();
            }
            drop(stream);
            if let Some(child) = child {
                reap(child).await;
            }
            ended.send_replace(true);
        });
        Self {
            pid,
            calls,
            gone,
            spare: Mutex::new(spare),
            _task: task,
        }
    }

    /// The companion's process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns when the companion has ended or can no longer be talked to.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        // The sender lives as long as the conversation.
        drop(gone.wait_for(|gone| *gone).await);
    }

    /// Tells the companion everything: what it serves beyond that ends, what it has gets these zones. Sockets that an older
    /// companion gave back are used. What it has no sockets for is returned.
    pub async fn sync(&self, state: &State) -> Result<Missing, CompanionError> {
        let held = match self.ask(Request::Sync(state.clone()), Vec::new()).await? {
            Answer::Held(held) => held,
            other => return Err(unexpected("the state", other)),
        };
        let mut missing = Missing::default();
        for (id, zone) in &state.containers {
            if held.containers.contains(id) {
                continue;
            }
            match self.take_spare(&Owner::Container(id.clone())) {
                Some(fds) => self.serve_with(id, zone, fds).await?,
                None => missing.containers.push(id.clone()),
            }
        }
        for (id, target) in &state.relays {
            if held.relays.contains(id) {
                continue;
            }
            let spare = [Transport::Tcp, Transport::Udp]
                .into_iter()
                .find_map(|transport| {
                    let id = id.clone();
                    Some((transport, self.take_spare(&Owner::Relay { id, transport })?))
                });
            match spare {
                Some((transport, fds)) => self.relay_with(id, transport, *target, fds).await?,
                None => missing.relays.push(id.clone()),
            }
        }
        // Whatever is left belongs to nobody any more.
        self.spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        Ok(missing)
    }

    fn take_spare(&self, owner: &Owner) -> Option<Vec<OwnedFd>> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.remove(owner)
    }

    async fn tell(
        &self,
        what: &str,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(), CompanionError> {
        match self.ask(request, fds).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(what, other)),
        }
    }

    async fn ask(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, CompanionError> {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            request,
            fds,
            answer,
        };
        let sent = self.calls.send(call).await;
        sent.map_err(|_unsent| CompanionError::Gone)?;
        answered.await.map_err(|_closed| CompanionError::Gone)
    }
}

fn unexpected(what: &str, answer: Answer) -> CompanionError {
    let message = match answer {
        Answer::Refused { message } => message,
        other => format!("unexpected answer {other:?}"),
    };
    CompanionError::Refused {
        what: what.to_owned(),
        message,
    }
}

/// Sends one request after the other until the engine has no more, or the companion is gone.
async fn converse(stream: &UnixStream, mut inbox: mpsc::Receiver<Call>) -> Ended {
    loop {
        let call = tokio::select! {
            call = inbox.recv() => call,
            () = closed(stream) => return Ended::Closed,
        };
        let Some(call) = call else {
            return Ended::Left;
        };
        let fds: Vec<_> = call.fds.iter().map(OwnedFd::as_fd).collect();
        let exchange = async {
            send(stream, &call.request, &fds).await?;
            receive::<Answer>(stream).await
        };
        let answer = match timeout(PATIENCE, exchange).await {
            Ok(Ok(Some((answer, _none)))) => answer,
            Ok(Ok(None) | Err(_)) => return Ended::Closed,
            Err(_) => return Ended::Silent,
        };
        if call.answer.send(answer).is_err() {
            // Whoever asked does not wait any more; it is done nevertheless.
        }
    }
}

/// Returns when the other side has closed. Nothing is said unasked, so whatever can be read means that.
async fn closed(stream: &UnixStream) {
    let mut byte = [0];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

async fn greet(stream: &UnixStream) -> io::Result<Peer> {
    let exchange = async {
        send(stream, &Request::Hello, &[]).await?;
        receive(stream).await
    };
    match timeout(PATIENCE, exchange).await?? {
        Some((Answer::Hello { version, pid }, _none)) => Ok(Peer { version, pid }),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn take_back(
    stream: &UnixStream,
    spare: &mut HashMap<Owner, Vec<OwnedFd>>,
) -> io::Result<()> {
    send(stream, &Request::TakeBack, &[]).await?;
    while let Some((answer, fds)) = receive(stream).await? {
        match answer {
            Answer::Socket(owner) => spare.insert(owner, fds),
            _ => return Ok(()),
        };
    }
    Ok(())
}
