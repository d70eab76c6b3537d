//! Callers of the Task API: frames in, frames out, any number of calls at a time.

use std::os::fd::OwnedFd;

use havre_shim_proto::frame::{Frame, FrameDecoder, FrameType};
use havre_shim_proto::rpc::{Request, Response};
use havre_types::ErrorKind;
use prost::Message as _;
use rustix::io::Errno;

use crate::buffer::Outbox;
use crate::error::Failure;
use crate::poll::{Interest, READ, Token, WRITE};
use crate::process::Waiter;
use crate::server::Server;

/// A caller that lets so many bytes of answers lie is dropped.
const UNREAD_LIMIT: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Caller {
    fd: OwnedFd,
    decoder: FrameDecoder,
    outbox: Outbox,
    interest: Interest,
}

impl Server {
    pub(crate) fn add_caller(&mut self, fd: OwnedFd) {
        let token = Token::Caller(self.callers.vacant());
        let mut interest = Interest::default();
        self.poll.watch(&fd, token, &mut interest, Some(READ));
        let caller = Caller {
            fd,
            decoder: FrameDecoder::default(),
            outbox: Outbox::default(),
            interest,
        };
        self.callers.insert(caller);
        // The engine calls as soon as it is connected: the first call is usually here.
        if let Token::Caller(at) = token {
            self.caller_ready(at);
        }
    }

    pub(crate) fn caller_ready(&mut self, at: usize) {
        self.caller_flush(at);
        let mut buffer = [0; 4096];
        loop {
            let Some(caller) = self.callers.get_mut(at) else {
                return;
            };
            match rustix::io::read(&caller.fd, &mut buffer) {
                Ok(0) => return self.drop_caller(at),
                Ok(count) => caller.decoder.push(buffer.get(..count).unwrap_or_default()),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => return self.drop_caller(at),
            }
            self.take_calls(at);
        }
    }

    fn take_calls(&mut self, at: usize) {
        while let Some(caller) = self.callers.get_mut(at) {
            let frame = match caller.decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_) => return self.drop_caller(at),
            };
            if frame.kind != FrameType::Request {
                continue;
            }
            let waiter = Waiter {
                caller: at,
                stream: frame.stream,
            };
            match Request::decode(frame.data.as_slice()) {
                Ok(request) => self.dispatch(waiter, &request),
                Err(error) => {
                    let message = format!("failed to decode the request: {error}");
                    let failure = Failure::new(ErrorKind::InvalidParameter, message);
                    self.respond(waiter, Err(failure));
                }
            }
        }
    }

    /// Answers a call. The caller may be gone.
    pub(crate) fn respond(&mut self, to: Waiter, outcome: Result<Vec<u8>, Failure>) {
        let response = match outcome {
            Ok(payload) => Response::success(payload),
            Err(failure) => Response::failure(failure.kind, failure.message),
        };
        let frame = Frame {
            stream: to.stream,
            kind: FrameType::Response,
            flags: 0,
            data: response.encode_to_vec(),
        };
        let mut bytes = Vec::new();
        if frame.encode(&mut bytes).is_err() {
            // Answers are far below the limit; an error text as long as that is not worth more.
            return;
        }
        let Some(caller) = self.callers.get_mut(to.caller) else {
            return;
        };
        let sent = caller.outbox.send(&caller.fd, &[&bytes]);
        if sent.is_err() || caller.outbox.len() > UNREAD_LIMIT {
            return self.drop_caller(to.caller);
        }
        self.watch_caller(to.caller);
    }

    pub(crate) fn caller_flush(&mut self, at: usize) {
        let Some(caller) = self.callers.get_mut(at) else {
            return;
        };
        if caller.outbox.flush(&caller.fd).is_err() {
            return self.drop_caller(at);
        }
        self.watch_caller(at);
    }

    fn watch_caller(&mut self, at: usize) {
        let Some(caller) = self.callers.get_mut(at) else {
            return;
        };
        let wanted = if caller.outbox.is_empty() {
            READ
        } else {
            READ | WRITE
        };
        self.poll.watch(
            &caller.fd,
            Token::Caller(at),
            &mut caller.interest,
            Some(wanted),
        );
    }

    /// Its pending calls are forgotten, so that their answers do not reach the next caller of this number.
    fn drop_caller(&mut self, at: usize) {
        drop(self.callers.remove(at));
        let processes = self
            .task
            .iter_mut()
            .flat_map(|task| task.processes.iter_mut());
        for (_, process) in processes {
            process.waiters.retain(|waiter| waiter.caller != at);
        }
    }
}
