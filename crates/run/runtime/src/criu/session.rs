//! A running CRIU and the conversation with it.
//!
//! `criu swrk N` serves one request over the sequenced-packet socket N and ends
//! (<https://criu.org/RPC>, <https://github.com/checkpoint-restore/criu/blob/criu-dev/criu/cr-service.c>).

use std::ffi::CString;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use fs_err::File;
use havre_sys::net::{recv_fds, send_fds};
use havre_sys::process::Child;
use havre_sys::spawn::{Program, Spawn};
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

use super::message::{Kind, NetworkLock, Request, Response};
use crate::error::{RuntimeError, Step as _};
use crate::lookup;

/// The longest message that CRIU sends: a notice or an outcome, a few hundred bytes.
const MESSAGE_MAX: usize = 64 * 1024;
/// How long CRIU may be silent. It says nothing while it copies memory, so this is long.
const PATIENCE: Duration = Duration::from_secs(600);
/// How much of its log is searched for the reason of a failure.
const LOG_MAX: u64 = 16 << 20;
/// How many of its complaints are passed on.
const COMPLAINTS: usize = 4;

/// Where criu finds the programs that it runs (`ip`, `iptables-restore`), and where it is searched
/// itself when the caller has no PATH.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program, found.
#[derive(Debug)]
pub(super) struct Criu {
    pub(super) path: CString,
    pub(super) env: Vec<CString>,
}

impl Criu {
    /// The one that was named, or `criu` in PATH, as runc has it.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, RuntimeError> {
        let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
        let env = match path {
            Some(path) => [b"PATH=", path.as_encoded_bytes()].concat(),
            None => PATH.as_bytes().to_vec(),
        };
        let env = vec![CString::new(env).unwrap_or_default()];
        let name = named.map_or(&b"criu"[..], |path| path.as_os_str().as_encoded_bytes());
        let name = CString::new(name).unwrap_or_default();
        match lookup::program(&name, &env) {
            Ok(path) => Ok(Self { path, env }),
            Err(_missing) => Err(RuntimeError::NoCriu {
                reason: match named {
                    Some(path) => format!("`{}` cannot be executed", path.display()),
                    None => "no program of the name criu is in PATH".to_owned(),
                },
            }),
        }
    }

    /// How it is to keep packets away: by itself where the program that it prefers is missing.
    pub(super) fn network_lock(&self) -> NetworkLock {
        match lookup::program(c"iptables-restore", &self.env) {
            Ok(_) => NetworkLock::Iptables,
            Err(_) => NetworkLock::Nftables,
        }
    }

    /// Its words: serve what comes over this descriptor.
    pub(super) fn argv(&self, socket: i32) -> Vec<CString> {
        [self.path.clone(), c"swrk".to_owned()]
            .into_iter()
            .chain(CString::new(socket.to_string()))
            .collect()
    }
}

/// The ends of a conversation before CRIU runs.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) ours: OwnedFd,
    pub(super) theirs: OwnedFd,
    /// What CRIU writes before it can answer: its standard error.
    pub(super) complaints: OwnedFd,
    pub(super) null: OwnedFd,
}

impl Ends {
    pub(super) fn make() -> Result<Self, RuntimeError> {
        let make = || -> io::Result<Self> {
            let (ours, theirs) = socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            let complaints = memfd_create(c"havre-criu", MemfdFlags::CLOEXEC)?;
            let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            Ok(Self {
                ours,
                theirs,
                complaints,
                null,
            })
        };
        make().step(|| "prepare the conversation with CRIU".to_owned())
    }
}

/// A conversation.
#[derive(Debug)]
pub(crate) struct Session {
    /// The program.
    pub(super) criu: Child,
    socket: OwnedFd,
    complaints: OwnedFd,
    /// The directory and the file of its log.
    log: (OwnedFd, &'static str),
}

/// What CRIU says next.
#[derive(Debug)]
pub(super) enum Word {
    /// It has come to this point, with the process that it made if it says so, and perhaps a
    /// descriptor.
    At(String, Option<i32>, Option<OwnedFd>),
    /// All is done.
    Done,
}

impl Session {
    /// Starts CRIU as a plain child.
    pub(super) fn spawn(criu: &Criu, log: (OwnedFd, &'static str)) -> Result<Self, RuntimeError> {
        let ends = Ends::make()?;
        let child = Spawn::new(Program::Path(&criu.path), criu.argv(3))
            .env(criu.env.clone())
            .fd(ends.null.as_fd(), 0)
            .fd(ends.null.as_fd(), 1)
            .fd(ends.complaints.as_fd(), 2)
            .fd(ends.theirs.as_fd(), 3)
            .spawn()
            .step(|| format!("start `{}`", criu.path.to_string_lossy()))?;
        Ok(Self::new(child, ends, log))
    }

    /// For a CRIU that was started with the far ends.
    pub(super) fn new(criu: Child, ends: Ends, log: (OwnedFd, &'static str)) -> Self {
        // The far end goes here: its end must be seen when CRIU dies.
        let Ends {
            ours, complaints, ..
        } = ends;
        Self {
            criu,
            socket: ours,
            complaints,
            log,
        }
    }

    pub(super) fn ask(&self, request: &Request) -> Result<(), RuntimeError> {
        let bytes = request.encode_to_vec();
        match send_fds(self.socket.as_fd(), &bytes, &[]) {
            // It is gone already: why is read from its complaints.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.failure(None)),
            other => other.map(drop).step(|| "ask CRIU".to_owned()),
        }
    }

    /// Lets CRIU go on from the point that it told of.
    pub(super) fn go_on(&self) -> Result<(), RuntimeError> {
        self.ask(&Request {
            kind: Kind::Notify.into(),
            options: None,
            notify_success: Some(true),
        })
    }

    /// Waits for what CRIU says. An error means that it has failed or is gone.
    pub(super) fn hear(&self) -> Result<Word, RuntimeError> {
        let describe = || "hear from CRIU".to_owned();
        let time = Timespec::try_from(PATIENCE)
            .map_err(io::Error::other)
            .step(describe)?;
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        loop {
            match poll(&mut fds, Some(&time)) {
                Err(Errno::INTR) => {}
                Ok(0) => {
                    self.stop();
                    return Err(io::Error::from(io::ErrorKind::TimedOut)).step(describe);
                }
                other => break other.map(drop).step(describe)?,
            }
        }
        let mut buffer = vec![0; MESSAGE_MAX];
        let (count, mut fds) = match recv_fds(self.socket.as_fd(), &mut buffer, 1) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (0, Vec::new()),
            other => other.step(describe)?,
        };
        buffer.truncate(count);
        if buffer.is_empty() {
            return Err(self.failure(None));
        }
        let response = Response::decode(buffer.as_slice())
            .map_err(io::Error::other)
            .step(describe)?;
        if !response.success {
            return Err(self.failure(Some(&response)));
        }
        match (response.kind(), response.notify) {
            (Kind::Notify, Some(notify)) => Ok(Word::At(
                notify.script.unwrap_or_default(),
                notify.pid,
                fds.pop(),
            )),
            _ => Ok(Word::Done),
        }
    }

    /// Waits for CRIU to end; one that does not is killed.
    pub(super) fn end(self) {
        let mut fds = [PollFd::new(&self.criu.pidfd, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        drop(self.socket);
        if !matches!(poll(&mut fds, Some(&limit)), Ok(count) if count > 0) {
            drop(self.criu.kill(Signal::KILL));
        }
        // Whoever reaps all children may have been first.
        drop(self.criu.wait());
    }

    /// Ends CRIU at once.
    pub(super) fn stop(&self) {
        drop(self.criu.kill(Signal::KILL));
        drop(self.criu.wait());
    }

    /// Why it failed, in its own words: its answer says little, its log all.
    fn failure(&self, response: Option<&Response>) -> RuntimeError {
        let mut reasons = complaints(&self.read_log());
        if reasons.is_empty() {
            reasons = complaints(&read_all(&self.complaints).unwrap_or_default());
        }
        let said = response.and_then(|response| response.message.clone());
        if reasons.is_empty() {
            reasons.extend(said.filter(|text| !text.is_empty()));
        }
        if reasons.is_empty() {
            let errno = response.and_then(|response| response.errno);
            reasons.push(match errno.filter(|errno| *errno != 0) {
                Some(errno) => havre_types::os_text(&io::Error::from_raw_os_error(errno)),
                None => "it said no reason".to_owned(),
            });
        }
        RuntimeError::Criu {
            reason: reasons.join("; "),
        }
    }

    fn read_log(&self) -> Vec<u8> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&self.log.0, self.log.1, flags, Mode::empty()) {
            Ok(file) => read_all(&file).unwrap_or_default(),
            Err(_none_written) => Vec::new(),
        }
    }
}

fn read_all(file: &OwnedFd) -> io::Result<Vec<u8>> {
    // A copy shares the position with CRIU, which has ended or is about to.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_MAX)))?;
    let mut out = Vec::new();
    file.take(LOG_MAX).read_to_end(&mut out)?;
    Ok(out)
}

/// The first lines that CRIU marks as errors, without clock and process.
fn complaints(log: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(log);
    let errors = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("Error (")?;
        let (_, said) = rest.split_once("): ")?;
        Some(said.trim().to_owned())
    });
    errors
        // CRIU tries that first and can do without.
        .filter(|said| !said.starts_with("rlimit: "))
        .filter(|said| !said.starts_with("exited, status="))
        .take(COMPLAINTS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_the_errors_of_the_log() {
        let log = b"(00.01) Running\n(00.02) Error (criu/util.c:1): rlimit: Can't setup\n\
            (00.03)     17: Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=0 path=/dev/null\n\
            Error (criu/crtools.c:260): Could not initialize kernel features detection.\n";
        assert_eq!(
            complaints(log),
            [
                "Can't lookup mount=24 for fd=0 path=/dev/null",
                "Could not initialize kernel features detection."
            ]
        );
        assert!(complaints(b"\xff nothing").is_empty());
    }

    #[test]
    fn a_program_that_is_not_there_is_said_to_be_missing() {
        let error = Criu::find(Some(Path::new("/nowhere/criu"))).unwrap_err();
        assert!(error.to_string().contains("CRIU"), "{error}");
        assert!(error.to_string().contains("/nowhere/criu"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_criu_is_an_error_not_a_hang() {
        let criu = Criu {
            path: c"/bin/true".to_owned(),
            env: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let dir = open(dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let session = Session::spawn(&criu, (dir, "none")).unwrap();
        let outcome = session.go_on().and_then(|()| session.hear());
        assert!(
            matches!(outcome, Err(RuntimeError::Criu { .. })),
            "{outcome:?}"
        );
        session.end();
    }
}
