//! Input: from attached clients into the process, as fast as it reads.

use crate::poll::{Token, WRITE};
use crate::process::Input;
use crate::server::Server;

/// Input that waits for the process before its clients are held back.
const INPUT_LIMIT: usize = 64 << 10;

impl Server {
    fn input(&mut self, at: usize) -> Option<&mut Input> {
        self.task.as_mut()?.processes.get_mut(at)?.input.as_mut()
    }

    /// Whether more input is welcome. A process without stdin swallows everything.
    pub(crate) fn takes_input(&self, at: usize) -> bool {
        let process = self.task.as_ref().and_then(|task| task.processes.get(at));
        match process {
            // Not made yet: there is nothing to write into, but there will be.
            Some(process) if process.handle.is_none() => false,
            Some(process) => process
                .input
                .as_ref()
                .is_none_or(|input| input.queue.len() < INPUT_LIMIT),
            None => true,
        }
    }

    pub(crate) fn stdin_once(&self, at: usize) -> bool {
        let process = self.task.as_ref().and_then(|task| task.processes.get(at));
        process.is_some_and(|process| process.asked.stdin_once)
    }

    /// Passes input on. What a process that has closed its stdin does not take is dropped.
    pub(crate) fn feed(&mut self, at: usize, bytes: &[u8]) {
        let Some(input) = self.input(at).filter(|input| !input.ended) else {
            return;
        };
        if input.queue.send(&input.fd, &[bytes]).is_err() {
            return self.close_input(at);
        }
        self.watch_input(at);
    }

    /// No more input: the process reads the end of file after what is queued. A terminal has no such end.
    pub(crate) fn end_input(&mut self, at: usize) {
        let Some(process) = self
            .task
            .as_mut()
            .and_then(|task| task.processes.get_mut(at))
        else {
            return;
        };
        if process.asked.terminal {
            return;
        }
        let Some(input) = process.input.as_mut() else {
            return;
        };
        input.ended = true;
        if input.queue.is_empty() {
            self.close_input(at);
        }
    }

    pub(crate) fn input_ready(&mut self, at: usize) {
        let Some(input) = self.input(at) else { return };
        let flushed = input.queue.flush(&input.fd);
        if flushed.is_err() || (input.ended && input.queue.is_empty()) {
            self.close_input(at);
        } else {
            self.watch_input(at);
        }
        if self.takes_input(at) {
            self.resume_clients(at);
        }
    }

    pub(crate) fn close_input(&mut self, at: usize) {
        let process = self
            .task
            .as_mut()
            .and_then(|task| task.processes.get_mut(at));
        if let Some(mut input) = process.and_then(|process| process.input.take()) {
            // The other descriptor of a terminal would keep this one watched.
            self.poll
                .watch(&input.fd, Token::Stdin(at), &mut input.interest, None);
        }
        self.resume_clients(at);
    }

    fn watch_input(&mut self, at: usize) {
        let Some(process) = self
            .task
            .as_mut()
            .and_then(|task| task.processes.get_mut(at))
        else {
            return;
        };
        let Some(input) = process.input.as_mut() else {
            return;
        };
        let wanted = (!input.queue.is_empty()).then_some(WRITE);
        self.poll
            .watch(&input.fd, Token::Stdin(at), &mut input.interest, wanted);
    }
}
