//! Archives between the connection and the files of this machine. Reading and writing files blocks, so each
//! has a thread of its own, and a few pieces are in between.

use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use havre_client::{Pieces, Response};
use havre_layer::{ApplyOptions, Existing, ExportOptions, Limits, export_path, extract};
use havre_sys::fsroot::Root;
use havre_types::chain;
use tokio::sync::mpsc;

use super::Place;
use super::local::Source;
use super::progress::Counter;
use crate::failure::{Failure, Outcome};

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Pieces in between.
const PIECES: usize = 4;

/// Unpacks what the engine sends.
pub(super) async fn receive(mut content: Response, place: Place, counter: Counter) -> Outcome {
    let (sender, pieces) = mpsc::channel(PIECES);
    let unpacking = tokio::task::spawn_blocking(move || unpack(pieces, place));
    let received = async {
        while let Some(piece) = content.chunk().await? {
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
            // Who unpacks has failed and says why.
            if sender.send(Ok(piece)).await.is_err() {
                break;
            }
        }
        Ok::<_, Failure>(())
    }
    .await;
    if received.is_err() {
        let broken = io::Error::from(io::ErrorKind::UnexpectedEof);
        sender.send(Err(broken)).await.ok();
    }
    drop(sender);
    let unpacked = unpacking.await;
    received?;
    unpacked.map_err(|err| Failure::new(err.to_string()))?
}

fn unpack(pieces: Pieces, place: Place) -> Outcome {
    let failed = |err: &dyn std::error::Error| Failure::new(chain(err));
    let root = Root::open(&place.directory).map_err(|err| failed(&err))?;
    // Files belong to whoever copies them.
    let owner = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mut options = ApplyOptions::onto(Existing::KeepKinds, Some(owner));
    options.rename = place.rename;
    options.limits = Limits {
        size: u64::MAX,
        file: 1 << 43,
        ..Limits::default()
    };
    let reader = Reader {
        pieces,
        rest: Bytes::new(),
    };
    extract(reader, &root, &options).map_err(|err| failed(&err))?;
    Ok(())
}

/// An archive of something on this machine.
pub(super) fn send(source: Source, name: PathBuf, counter: Counter) -> Pieces {
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let writer = Writer {
            sender: sender.clone(),
            piece: Vec::with_capacity(PIECE),
            counter,
        };
        if let Err(err) = pack(&source, &name, writer) {
            // The request is broken off with it.
            sender.blocking_send(Err(err)).ok();
        }
    });
    pieces
}

fn pack(source: &Source, name: &Path, writer: Writer) -> io::Result<()> {
    let parent = Root::open(&source.parent)?;
    let options = ExportOptions::default();
    export_path(parent.as_fd(), &source.base, name, writer, &options).map_err(io::Error::other)?;
    Ok(())
}

/// The standard input as it comes.
pub(super) fn standard_input() -> Pieces {
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = rustix::io::retry_on_intr(|| {
                rustix::io::read(rustix::stdio::stdin(), &mut buffer[..])
            });
            let piece = match read {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(errno) => Err(errno.into()),
            };
            let last = piece.is_err();
            if sender.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    pieces
}

struct Reader {
    pieces: Pieces,
    rest: Bytes,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

struct Writer {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    counter: Counter,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.counter
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
        let sent = self.sender.blocking_send(Ok(piece.into()));
        sent.map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}
