//! The systemd journal: its native protocol, with Docker's fields.
//!
//! Protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>; fields:
//! <https://github.com/moby/moby/blob/master/daemon/logger/journald/journald.go>.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use havre_logs::Sink;
use havre_sys::fd::memfd_sealed;
use rustix::io::Errno;

use crate::connect::waits;
use crate::deliver::{Deliver, Record};
use crate::error::StartError;
use crate::patience::{Backoff, Patience, SLICE};

const ERROR: &str = "3";
const INFO: &str = "6";

pub(crate) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    /// Fields that every record has, as they are sent.
    fixed: Vec<u8>,
    ordinal: u64,
}

impl Journal {
    pub(crate) fn open(sink: &Sink) -> Result<Self, StartError> {
        let socket = connect(&sink.journal).map_err(|_absent: io::Error| StartError::NoJournal)?;
        let mut epoch = [0; 32];
        getrandom::fill(&mut epoch).map_err(|_broken| StartError::NoJournal)?;
        let mut fixed = Vec::new();
        let container = &sink.container;
        for (key, value) in [
            (
                "CONTAINER_ID",
                container.id.get(..12).unwrap_or(&container.id),
            ),
            ("CONTAINER_ID_FULL", &container.id),
            ("CONTAINER_NAME", &container.name),
            ("CONTAINER_TAG", &sink.tag),
            ("IMAGE_NAME", &container.image),
            ("SYSLOG_IDENTIFIER", &sink.tag),
            ("CONTAINER_LOG_EPOCH", &crate::serve::hex(&epoch)),
        ] {
            field(key, value.as_bytes(), &mut fixed);
        }
        for (key, value) in &sink.attrs {
            let key = field_name(key);
            if !key.is_empty() {
                field(&key, value.as_bytes(), &mut fixed);
            }
        }
        Ok(Self {
            socket,
            path: sink.journal.clone(),
            fixed,
            ordinal: 0,
        })
    }

    fn message(&mut self, record: &Record) -> Vec<u8> {
        self.ordinal += 1;
        let mut out = self.fixed.clone();
        field("MESSAGE", record.line(), &mut out);
        let priority = if record.is_error() { ERROR } else { INFO };
        let time = record.entry.timestamp.rfc3339();
        let mut text = |key: &str, value: &str| field(key, value.as_bytes(), &mut out);
        text("PRIORITY", priority);
        text("SYSLOG_TIMESTAMP", &time);
        text("CONTAINER_LOG_ORDINAL", &self.ordinal.to_string());
        if let Some(part) = &record.part {
            text("CONTAINER_PARTIAL_ID", &part.id);
            text("CONTAINER_PARTIAL_ORDINAL", &part.ordinal.to_string());
            text(
                "CONTAINER_PARTIAL_LAST",
                if part.last { "true" } else { "false" },
            );
            if !part.last {
                text("CONTAINER_PARTIAL_MESSAGE", "true");
            }
        }
        out
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        let sent = self.socket.send(message).map(drop);
        let too_long = |error: &io::Error| {
            let known = [Errno::MSGSIZE, Errno::NOBUFS].map(Errno::raw_os_error);
            error
                .raw_os_error()
                .is_some_and(|code| known.contains(&code))
        };
        match sent {
            // A message that no datagram holds goes as a sealed memory file.
            Err(error) if too_long(&error) => {
                let file = memfd_sealed(c"journal-entry", message)?;
                havre_sys::net::send_fd_only(self.socket.as_fd(), file.as_fd())
            }
            other => other,
        }
    }
}

fn connect(path: &std::path::Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(SLICE))?;
    Ok(socket)
}

impl Deliver for Journal {
    fn deliver(&mut self, record: &Record, patience: &mut Patience) -> bool {
        let message = self.message(record);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            match self.send(&message) {
                Ok(()) => return true,
                Err(error) if waits(&error) => {
                    if !patience.lasts() {
                        return false;
                    }
                }
                // The journal is being restarted.
                Err(_) => {
                    if !patience.pause(backoff.step()) {
                        return false;
                    }
                    if let Ok(socket) = connect(&self.path) {
                        self.socket = socket;
                    }
                }
            }
        }
    }
}

/// A name that the journal takes: capitals, digits and underscores, not beginning with one.
fn field_name(key: &str) -> String {
    let mapped = key.chars().map(|letter| match letter {
        'a'..='z' => letter.to_ascii_uppercase(),
        'A'..='Z' | '0'..='9' => letter,
        _ => '_',
    });
    mapped.skip_while(|letter| *letter == '_').collect()
}

/// A value with a newline is preceded by its length instead of an equals sign.
fn field(key: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or(0);
        out.extend_from_slice(&length.to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_protocol() {
        let mut out = Vec::new();
        field("A", b"b", &mut out);
        field("C", b"d\ne", &mut out);
        assert_eq!(out, b"A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n");
        assert_eq!(field_name("__com.Example-1"), "COM_EXAMPLE_1");
    }
}
