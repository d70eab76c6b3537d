//! Output: from the process into the log and to everybody attached. Nothing is read that cannot be kept.

use std::time::Instant;

use havre_logs::Stream as LogStream;
use havre_shim_proto::attach::Stream;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::attach::OUTPUT_LIMIT;
use crate::buffer::Outbox;
use crate::error::Failure;
use crate::poll::{Interest, READ, Token};
use crate::process::{Input, Output, Stage};
use crate::server::Server;
use crate::stdio::OurEnds;
use crate::task::INIT;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Reads before others get their turn.
const TURNS: usize = 16;
/// What a process that has ended may leave with a client that does not read.
const LAST_LIMIT: usize = 16 * OUTPUT_LIMIT;
/// What is taken out of a pipe at the very end, whoever reads: more than a pipe holds.
const REST: usize = (1 << 20) / CHUNK;

/// What reading gave.
enum Got {
    Bytes,
    Nothing,
    End,
}

impl Server {
    /// Takes our ends of the process's streams and opens those of containerd.
    pub(crate) fn connect_streams(&mut self, at: usize, ends: OurEnds) -> Result<(), Failure> {
        let Some(process) = self
            .task
            .as_mut()
            .and_then(|task| task.processes.get_mut(at))
        else {
            return Ok(());
        };
        process.input = ends.stdin.map(|fd| Input {
            fd,
            queue: Outbox::default(),
            interest: Interest::default(),
            ended: false,
        });
        let output = |fd, stream| Output {
            fd,
            stream,
            interest: Interest::default(),
        };
        process.outputs = [
            ends.stdout.map(|fd| output(fd, Stream::Stdout)),
            ends.stderr.map(|fd| output(fd, Stream::Stderr)),
        ];
        self.open_external(at)?;
        self.resume_output(at);
        Ok(())
    }

    /// Watches the outputs of a process, unless a client or the log holds them back.
    pub(crate) fn resume_output(&mut self, at: usize) {
        for which in 0..2 {
            let held = self.is_held_back(at, which);
            let Some(process) = self
                .task
                .as_mut()
                .and_then(|task| task.processes.get_mut(at))
            else {
                return;
            };
            let Some(output) = process.outputs.get_mut(which).and_then(Option::as_mut) else {
                continue;
            };
            let wanted = (!held).then_some(READ);
            self.poll
                .watch(&output.fd, token(at, which), &mut output.interest, wanted);
        }
    }

    fn is_held_back(&self, at: usize, which: usize) -> bool {
        let ended = self
            .task
            .as_ref()
            .and_then(|task| task.processes.get(at))
            .is_some_and(|process| process.stage == Stage::Draining);
        let limit = if ended { LAST_LIMIT } else { OUTPUT_LIMIT };
        let log = self.task.as_ref().and_then(|task| task.log.as_ref());
        let logged = at == INIT && log.is_some_and(|log| log.unsent() >= limit);
        logged
            || self
                .clients
                .iter()
                .any(|(_, client)| client.hears(at, which) && client.unread() >= limit)
    }

    pub(crate) fn output_ready(&mut self, at: usize, which: usize) {
        for _ in 0..TURNS {
            if self.is_held_back(at, which) {
                return self.resume_output(at);
            }
            match self.pump(at, which) {
                Got::Bytes => {}
                Got::Nothing => return,
                Got::End => return self.output_ended(at, which),
            }
        }
        // A terminal that nobody had open may be reported only once; there is more.
        self.resume_output(at);
    }

    /// Moves one chunk.
    fn pump(&mut self, at: usize, which: usize) -> Got {
        let Some(task) = &mut self.task else {
            return Got::Nothing;
        };
        let Some(output) = task
            .processes
            .get(at)
            .and_then(|process| process.outputs.get(which))
            .and_then(Option::as_ref)
        else {
            return Got::Nothing;
        };
        let stream = output.stream;
        let mut buffer = [0; CHUNK];
        let count = match rustix::io::read(&output.fd, &mut buffer) {
            // A terminal whose other side nobody has open gives EIO.
            Ok(0) | Err(Errno::IO) => return Got::End,
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Got::Nothing,
            Err(_) => return Got::End,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if at == INIT {
            self.log(stream, bytes);
        }
        let mut gone = Vec::new();
        for client in self.clients.numbers() {
            let hearer = self
                .clients
                .get_mut(client)
                .filter(|client| client.hears(at, which));
            match hearer.map(|hearer| hearer.give(stream, bytes)) {
                None => {}
                Some(true) => self.watch_client(client),
                Some(false) => gone.push(client),
            }
        }
        for client in gone {
            self.drop_client(client);
        }
        Got::Bytes
    }

    fn log(&mut self, stream: Stream, bytes: &[u8]) {
        let log = self.task.as_mut().and_then(|task| task.log.as_mut());
        if let Some(log) = log {
            log.write(log_stream(stream), bytes, &self.poll);
        }
    }

    /// The helper of the log has taken some.
    pub(crate) fn log_ready(&mut self) {
        let Some(log) = self.task.as_mut().and_then(|task| task.log.as_mut()) else {
            return;
        };
        log.sink_ready(&self.poll);
        if log.unsent() < OUTPUT_LIMIT / 2 {
            self.resume_output(INIT);
        }
    }

    fn output_ended(&mut self, at: usize, which: usize) {
        let Some(process) = self
            .task
            .as_mut()
            .and_then(|task| task.processes.get_mut(at))
        else {
            return;
        };
        let Some(place) = process.outputs.get_mut(which) else {
            return;
        };
        if process.asked.terminal && process.stage != Stage::Draining {
            // The master side stays: it is needed for resizing, and a process (an init system, for one) may open
            // its terminal again. Until then the hang-up is reported once only, not for ever.
            if let Some(output) = place {
                let token = token(at, which);
                let wanted = Some(READ | EventFlags::ET);
                self.poll
                    .watch(&output.fd, token, &mut output.interest, wanted);
            }
            return;
        }
        *place = None;
        if process.stage == Stage::Draining && process.outputs.iter().all(Option::is_none) {
            self.finish_process(at);
        }
    }

    /// After the end of the process: reads what is there, and waits a little for what its children still write.
    pub(crate) fn drain(&mut self, at: usize, until: Instant) {
        let Some(process) = self
            .task
            .as_mut()
            .and_then(|task| task.processes.get_mut(at))
        else {
            return;
        };
        process.stage = Stage::Draining;
        process.drain_until = Some(until);
        let silent = process.outputs.iter().all(Option::is_none);
        self.close_input(at);
        if silent {
            return self.finish_process(at);
        }
        self.resume_output(at);
        for which in 0..2 {
            self.output_ready(at, which);
        }
    }

    /// Takes the rest out of the pipes and closes them.
    pub(crate) fn close_outputs(&mut self, at: usize) {
        for which in 0..2 {
            for _ in 0..REST {
                if !matches!(self.pump(at, which), Got::Bytes) {
                    break;
                }
            }
        }
        let Some(task) = &mut self.task else { return };
        if let Some(process) = task.processes.get_mut(at) {
            process.outputs = [None, None];
            process.input = None;
        }
        if at != INIT {
            return;
        }
        if let Some(log) = &mut task.log {
            log.finish(&self.poll);
        }
    }
}

const fn token(at: usize, which: usize) -> Token {
    if which == 0 {
        Token::Stdout(at)
    } else {
        Token::Stderr(at)
    }
}

const fn log_stream(stream: Stream) -> LogStream {
    match stream {
        Stream::Stdin | Stream::Stdout => LogStream::Stdout,
        Stream::Stderr => LogStream::Stderr,
    }
}
