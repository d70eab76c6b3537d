//! Archives on their way out: a blocking task walks and writes, the caller reads from a channel. What waits
//! in between is bounded, whatever the size of the tree and however slow the caller is.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use havre_api_traits::{ApiError, ApiResult, Download};
use havre_engine_types::PathStat;
use havre_layer::{ExportError, ExportOptions, export_path, export_tree};
use havre_types::chain;
use tokio::sync::mpsc;

use super::path::Place;
use super::view::View;
use crate::container::Container;
use crate::engine::Shared;
use crate::error::classified;
use crate::images::blocking;

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Pieces that wait for the caller.
const PIECES: usize = 4;

/// The writing end.
#[derive(Debug)]
pub(super) struct Pipe {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
}

impl Pipe {
    /// A pipe and what comes out of it.
    pub(super) fn new() -> (Self, Download) {
        let (sender, download) = mpsc::channel(PIECES);
        let piece = BytesMut::new();
        (Self { sender, piece }, download)
    }

    /// Breaks the stream off when `result` is a failure, so that nobody takes it for whole.
    pub(super) fn end<T>(
        sender: &mpsc::Sender<io::Result<Bytes>>,
        result: Result<T, ExportError>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(err) => {
                tracing::debug!(error = %chain(&err), "an archive was broken off");
                // A caller that left does not read it.
                sender.blocking_send(Err(io::Error::other(err))).ok();
                None
            }
        }
    }

    pub(super) fn sender(&self) -> mpsc::Sender<io::Result<Bytes>> {
        self.sender.clone()
    }

    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        let sent = self.sender.blocking_send(Ok(piece));
        sent.map_err(|_left| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let count = room.min(bytes.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE));
            self.send(piece.freeze())?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.send(piece.freeze())
    }
}

/// Runs `write` against a channel.
fn start(
    shared: &Shared,
    write: impl FnOnce(Pipe) -> Result<(), ExportError> + Send + 'static,
) -> Download {
    let (pipe, download) = Pipe::new();
    shared.tasks.spawn_blocking(move || {
        let sender = pipe.sender();
        Pipe::end(&sender, write(pipe));
    });
    download
}

/// The whole tree of a container, without its mounts.
pub(super) async fn tree(shared: &Arc<Shared>, container: &Arc<Container>) -> ApiResult<Download> {
    let (owned, kept) = (Arc::clone(shared), Arc::clone(container));
    let trees = blocking(move || {
        let trees = owned.snapshots.trees(kept.id().as_str());
        trees.map_err(|err| classified(&format!("Error exporting container {}", kept.id()), &err))
    })
    .await?;
    let container = Arc::clone(container);
    Ok(start(shared, move |pipe| {
        export_tree(&trees.merged, pipe, &ExportOptions::default())?;
        // What is taken away under the reader is merely missing from the archive.
        if container.now().state.removed {
            return Err(ExportError::Write {
                source: io::Error::other("the container was removed"),
            });
        }
        Ok(())
    }))
}

/// What is at a place, and an archive of it.
pub(super) async fn path(
    shared: &Arc<Shared>,
    view: View,
    place: Place,
) -> ApiResult<(PathStat, Download)> {
    let name = PathBuf::from(place.name());
    let (found, view) = blocking(move || {
        let found = place.find(&view)?;
        Ok::<_, ApiError>((found, view))
    })
    .await?;
    let stat = found.stat.clone();
    let download = start(shared, move |pipe| {
        let options = ExportOptions::default();
        export_path(found.dir.as_fd(), &found.base, &name, pipe, &options)?;
        drop(view);
        Ok(())
    });
    Ok((stat, download))
}
