//! The log of the container as the shim writes it: its files, and what goes to the helper that delivers it elsewhere.
//! Files are written at once. The helper gets what it takes; the rest waits here, and the container with it, or, when
//! the user wants that, records are dropped and counted.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use havre_logs::compress::Compression;
use havre_logs::{FileOptions, FileWriter, Format, Piece, Splitter, Stream, encode_frame};
use havre_shim_proto::LogOptions;
use havre_sys::process::Child;
use havre_sys::spawn::{Program, Spawn};
use havre_types::{ErrorKind, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal};

use crate::buffer::Outbox;
use crate::error::{Failure, note};
use crate::poll::{Interest, Poll, Token, WRITE};

/// How long the helper may take to reach its server: it gives up earlier by itself.
const OPENING: Duration = Duration::from_secs(30);
/// The longest answer of the helper.
const ANSWER: usize = 4096;

#[derive(Debug)]
pub(crate) struct Log {
    file: Option<FileWriter>,
    sink: Option<Sink>,
    helper: CString,
    /// Rotated files are compressed.
    compress: bool,
    compressing: Option<(Child, Compression)>,
    /// A failure was noted already; it will not be again.
    failed: bool,
}

/// The way to the helper.
#[derive(Debug)]
struct Sink {
    child: Child,
    socket: OwnedFd,
    /// Where it finds what could not be sent when this ends.
    rest: OwnedFd,
    splitter: Splitter,
    outbox: Outbox,
    interest: Interest,
    /// Bytes that may wait before records are dropped; none: the container waits.
    buffer: Option<usize>,
    dropped: u64,
    gone: bool,
}

impl Log {
    /// Opens what the options name; none when nothing is to be kept. With a server this waits until it is reached.
    pub(crate) fn open(options: &LogOptions) -> Result<Option<Self>, Failure> {
        let helper = CString::new(options.helper.as_str()).unwrap_or_default();
        let file = open_file(options)?;
        let sink = match options.sink.as_str() {
            "" => None,
            sink => Some(Sink::open(&helper, sink, options.buffer)?),
        };
        if file.is_none() && sink.is_none() {
            return Ok(None);
        }
        let mut log = Self {
            file,
            sink,
            helper,
            compress: options.compress,
            compressing: None,
            failed: false,
        };
        log.compress_next();
        Ok(Some(log))
    }

    /// Takes output of the container.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8], poll: &Poll) {
        let now = Timestamp::now();
        if let Some(file) = &mut self.file {
            let outcome = file.write(stream, bytes, now);
            self.note(outcome);
            self.compress_next();
        }
        if let Some(sink) = &mut self.sink {
            sink.write(stream, bytes, now);
            sink.flush(poll);
        }
    }

    /// Nothing more comes.
    pub(crate) fn finish(&mut self, poll: &Poll) {
        let now = Timestamp::now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(file) = &mut self.file {
                let outcome = file.finish(stream, now);
                self.note(outcome);
            }
            if let Some(sink) = &mut self.sink {
                sink.finish(stream, now);
            }
        }
        if let Some(sink) = &mut self.sink {
            sink.flush(poll);
        }
        if self.dropped() > 0 {
            note(&format!("{} records of the log were lost", self.dropped()));
        }
    }

    /// Bytes that wait for the helper and hold back the container.
    pub(crate) fn unsent(&self) -> usize {
        let sink = self.sink.as_ref().filter(|sink| sink.buffer.is_none());
        sink.map_or(0, |sink| sink.outbox.len())
    }

    /// Records that nobody will ever see.
    pub(crate) fn dropped(&self) -> u64 {
        let file = self.file.as_ref().map_or(0, FileWriter::dropped);
        file + self.sink.as_ref().map_or(0, |sink| sink.dropped)
    }

    /// The helper takes more.
    pub(crate) fn sink_ready(&mut self, poll: &Poll) {
        if let Some(sink) = &mut self.sink {
            sink.flush(poll);
        }
    }

    /// A child has ended: true when it was one of the log's.
    pub(crate) fn child_ended(&mut self, pid: Pid, status: Option<u32>) -> bool {
        if self
            .compressing
            .as_ref()
            .is_some_and(|(child, _)| child.pid == pid)
        {
            if let Some((_, compression)) = self.compressing.take() {
                if status == Some(0) {
                    let outcome = compression.finish();
                    self.note(outcome);
                    self.start_compression();
                } else {
                    note("a rotated log could not be compressed");
                    compression.cancel();
                }
            }
            return true;
        }
        let sink = self.sink.as_mut().filter(|sink| sink.child.pid == pid);
        if let Some(sink) = sink {
            note("the helper of the log has ended");
            sink.lose();
            return true;
        }
        false
    }

    fn note<T>(&mut self, outcome: Result<T, havre_logs::LogError>) {
        if let Err(error) = outcome
            && !self.failed
        {
            self.failed = true;
            note(&Failure::of(&error).message);
        }
    }

    fn compress_next(&mut self) {
        let rotated = self.file.as_mut().is_some_and(FileWriter::take_rotated);
        if rotated && self.compressing.is_none() {
            self.start_compression();
        }
    }

    /// Compresses one file after another, each by a helper of its own: the shim never waits for it.
    fn start_compression(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.compress) else {
            return;
        };
        let compression = match Compression::next(file.path()) {
            Ok(Some(compression)) => compression,
            Ok(None) => return,
            Err(error) => return self.note::<()>(Err(error)),
        };
        let spawned = Spawn::new(Program::Path(&self.helper), words("gzip"))
            .fd(compression.input.as_fd(), 0)
            .fd(compression.output.as_fd(), 1)
            .spawn();
        match spawned {
            Ok(child) => self.compressing = Some((child, compression)),
            Err(error) => {
                compression.cancel();
                if !self.failed {
                    self.failed = true;
                    note(&format!("failed to start the helper of the log: {error}"));
                }
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some((child, compression)) = self.compressing.take() {
            // What it has done so far is of no use without us.
            if child.kill(Signal::KILL).is_err() {
                // It has just ended.
            }
            compression.cancel();
        }
    }
}

impl Sink {
    fn open(helper: &CString, sink: &str, buffer: Option<u64>) -> Result<Self, Failure> {
        let failed = |what: &'static str| {
            move |error: io::Error| {
                Failure::internal(&format!("{what} the helper of the log"), error)
            }
        };
        let flags = SocketFlags::CLOEXEC;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| failed("connect")(error.into()))?;
        let rest = memfd_create("log-rest", MemfdFlags::CLOEXEC)
            .map_err(|error| failed("prepare")(error.into()))?;
        let child = Spawn::new(Program::Path(helper), words("sink"))
            .fd(theirs.as_fd(), 3)
            .fd(rest.as_fd(), 4)
            .spawn()
            .map_err(failed("start"))?;
        drop(theirs);
        let length = u32::try_from(sink.len()).unwrap_or(u32::MAX).to_be_bytes();
        send_all(&socket, &length)
            .and_then(|()| send_all(&socket, sink.as_bytes()))
            .map_err(failed("talk to"))?;
        let answer = receive_line(&socket).map_err(|error| {
            if child.kill(Signal::KILL).is_err() {
                // It has just ended.
            }
            failed("hear from")(error)
        })?;
        if !answer.is_empty() {
            let message = format!("failed to initialize logging driver: {answer}");
            return Err(Failure::new(ErrorKind::Internal, message));
        }
        ioctl_fionbio(&socket, true).map_err(|error| failed("talk to")(error.into()))?;
        Ok(Self {
            child,
            socket,
            rest,
            splitter: Splitter::default(),
            outbox: Outbox::default(),
            interest: Interest::default(),
            buffer: buffer.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            dropped: 0,
            gone: false,
        })
    }

    fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.split(stream, bytes, |piece| self.record(piece, now));
        self.splitter = splitter;
    }

    fn finish(&mut self, stream: Stream, now: Timestamp) {
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.finish(stream, |piece| self.record(piece, now));
        self.splitter = splitter;
    }

    fn record(&mut self, piece: Piece<'_>, now: Timestamp) {
        if self.gone {
            self.dropped += 1;
            return;
        }
        // As Docker's ring: the new record is dropped, unless it is the only one.
        if self
            .buffer
            .is_some_and(|most| self.outbox.len() + piece.bytes.len() > most)
        {
            self.send();
            let waiting = self.outbox.len();
            let full = self
                .buffer
                .is_some_and(|most| waiting + piece.bytes.len() > most);
            if full && waiting > 0 {
                if self.dropped == 0 {
                    note("the log's server is slow: records are dropped");
                }
                self.dropped += 1;
                return;
            }
        }
        let mut frame = Vec::with_capacity(piece.bytes.len() + 64);
        encode_frame(piece, &[], now, &mut frame);
        self.outbox.push(&frame);
    }

    fn send(&mut self) {
        if !self.gone && self.outbox.flush(&self.socket).is_err() {
            note("the helper of the log takes no more records");
            self.lose();
        }
    }

    fn flush(&mut self, poll: &Poll) {
        self.send();
        let wanted = (!self.outbox.is_empty() && !self.gone).then_some(WRITE);
        poll.watch(&self.socket, Token::Log, &mut self.interest, wanted);
    }

    /// The helper is gone, and what waited for it.
    fn lose(&mut self) {
        self.gone = true;
        self.outbox = Outbox::default();
    }
}

impl Drop for Sink {
    /// Leaves behind what the helper has not taken: it goes on without us for a while.
    fn drop(&mut self) {
        self.send();
        let mut unsent = self.outbox.unsent();
        while !unsent.is_empty() {
            match write(&self.rest, unsent) {
                Ok(count) => unsent = unsent.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => {
                    return note(&format!("the end of the log was lost: {error}"));
                }
            }
        }
    }
}

fn words(command: &str) -> Vec<CString> {
    let words = ["havre-log", command].map(CString::new);
    words.into_iter().flatten().collect()
}

fn open_file(options: &LogOptions) -> Result<Option<FileWriter>, Failure> {
    let format = match options.driver.as_str() {
        "none" => return Ok(None),
        "json-file" | "" => Format::Json,
        "local" => Format::Local,
        other => {
            let message = format!("logger: no log driver named '{other}' is registered");
            return Err(Failure::new(ErrorKind::InvalidParameter, message));
        }
    };
    let attrs: BTreeMap<_, _> = options.attrs.clone().into_iter().collect();
    FileWriter::open(FileOptions {
        path: options.path.clone().into(),
        format,
        max_size: options.max_size,
        max_file: options.max_file,
        attrs,
    })
    .map(Some)
    .map_err(|error| Failure::of(&error))
}

fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = write(socket, bytes)?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// One line of the helper, within its time.
fn receive_line(socket: &OwnedFd) -> io::Result<String> {
    let until = Instant::now() + OPENING;
    let mut line = Vec::new();
    let mut buffer = [0; 512];
    while line.len() < ANSWER {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        match read(socket, &mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => line.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}
