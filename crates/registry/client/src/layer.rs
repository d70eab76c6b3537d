//! One layer from registry to disk: fetched, hashed, kept, decompressed and unpacked in one pass.
//!
//! What is left of an earlier attempt, even one ended by `kill -9`, is used: then the rest is fetched
//! first and the layer is unpacked from the store.

use crate::download::{self, End, Event};
use crate::error::{LayerError, RequestError};
use crate::progress::LayerState;
use crate::session::{Session, pause};
use bytes::{Buf as _, Bytes};
use havre_content::{Ingest, IngestError};
use havre_image::{ImageStore, Unpacked};
use havre_oci::Descriptor;
use havre_types::{DiffId, Digest};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::spawn_blocking;

/// Pieces between the network and the disk; hyper's are of some 8 to 400 KiB.
const QUEUE: usize = 32;
/// How long an arrival that was given up may be held.
const LEFT: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Debug)]
pub(crate) struct LayerJob {
    pub(crate) store: Arc<ImageStore>,
    pub(crate) session: Arc<Session>,
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: DiffId,
}

impl LayerJob {
    /// Brings the layer to disk. Given up in the middle, it keeps what has arrived.
    pub(crate) async fn run(
        self,
        state: &(dyn Fn(LayerState) + Send + Sync),
    ) -> Result<Unpacked, LayerError> {
        let unpacked = match self.begin().await? {
            Begin::Stored => self.unpack_stored(state).await?,
            Begin::Arriving(ingest) if ingest.offset() > 0 => {
                self.fetch(*ingest, state, Taker::Disk).await?;
                self.unpack_stored(state).await?
            }
            Begin::Arriving(ingest) => {
                match self.fetch(*ingest, state, Taker::DiskAndTree).await? {
                    Some(unpacked) => {
                        state(LayerState::Extracting {
                            total: self.blob.size,
                        });
                        unpacked
                    }
                    None => self.unpack_stored(state).await?,
                }
            }
        };
        state(LayerState::Complete);
        Ok(unpacked)
    }

    /// Begins or resumes the arrival. One that was given up a moment ago may still be held by the
    /// thread that wrote it, until that notices.
    async fn begin(&self) -> Result<Begin, LayerError> {
        let deadline = Instant::now() + LEFT;
        loop {
            let begun = self.begin_once().await;
            let busy = matches!(&begun, Err(LayerError::Store { source, .. })
                if matches!(**source, IngestError::Busy { .. }));
            if !busy || Instant::now() > deadline {
                return begun;
            }
            pause(Duration::from_millis(5)).await;
        }
    }

    async fn begin_once(&self) -> Result<Begin, LayerError> {
        let (store, blob) = (Arc::clone(&self.store), self.blob.clone());
        self.blocking(move || {
            if store
                .content()
                .size(&blob.digest)
                .is_ok_and(|size| size == blob.size)
            {
                return Ok(Begin::Stored);
            }
            let key = blob.digest.to_string();
            let ingest = store
                .content()
                .ingest(&key, Some(&blob.digest), Some(blob.size));
            let ingest = ingest.map(|ingest| Begin::Arriving(Box::new(ingest)));
            ingest.map_err(|source| storing(&blob.digest, source))
        })
        .await
    }

    async fn unpack_stored(
        &self,
        state: &(dyn Fn(LayerState) + Send + Sync),
    ) -> Result<Unpacked, LayerError> {
        state(LayerState::Extracting {
            total: self.blob.size,
        });
        let (store, digest) = (Arc::clone(&self.store), self.blob.digest.clone());
        let diff_id = self.diff_id.clone();
        self.blocking(move || {
            let file = store.content().blob(&digest);
            let file = file.map_err(|source| LayerError::Read {
                digest,
                source: Box::new(source),
            })?;
            store
                .unpack(file, Some(&diff_id))
                .map_err(LayerError::Unpack)
        })
        .await
    }

    /// Fetches what is missing. The two ends run at the same time, joined by a bounded queue.
    async fn fetch(
        &self,
        ingest: Ingest,
        state: &(dyn Fn(LayerState) + Send + Sync),
        taker: Taker,
    ) -> Result<Option<Unpacked>, LayerError> {
        let from = ingest.offset();
        let total = self.blob.size;
        let (sender, receiver) = channel(QUEUE);
        let arrival = Arrival {
            ingest,
            receiver,
            piece: Bytes::new(),
            size: total,
        };
        let (store, digest) = (Arc::clone(&self.store), self.blob.digest.clone());
        let diff_id = self.diff_id.clone();
        let disk = self.blocking(move || take(&store, arrival, &digest, &diff_id, taker));
        let network = async {
            let event = |event| match event {
                Event::Position(current) => state(LayerState::Downloading { current, total }),
                Event::Retry(wait) => {
                    let more = u64::from(wait.subsec_nanos() > 0);
                    state(LayerState::Retrying {
                        seconds: wait.as_secs() + more,
                    });
                }
            };
            let end = download::stream(&self.session, &self.blob, from, &sender, &event).await;
            drop(sender);
            if matches!(end, Ok(End::Complete)) {
                state(LayerState::Verifying);
            }
            end
        };
        let (network, disk) = futures_util::future::join(network, disk).await;
        // Where the bytes stopped coming, the end of the queue is not what went wrong.
        network.map_err(LayerError::Request)?;
        let unpacked = disk?;
        state(LayerState::Downloaded);
        Ok(unpacked)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LayerError> + Send + 'static,
    ) -> Result<T, LayerError> {
        let digest = self.blob.digest.clone();
        spawn_blocking(work)
            .await
            .unwrap_or(Err(LayerError::Abandoned { digest }))
    }
}

#[derive(Debug)]
enum Begin {
    Stored,
    Arriving(Box<Ingest>),
}

/// Who takes the bytes that arrive.
#[derive(Clone, Copy, Debug)]
enum Taker {
    Disk,
    DiskAndTree,
}

/// Keeps every byte; with a tree, unpacks them on the way.
fn take(
    store: &ImageStore,
    mut arrival: Arrival,
    digest: &Digest,
    diff_id: &DiffId,
    taker: Taker,
) -> Result<Option<Unpacked>, LayerError> {
    let unpacked = match taker {
        Taker::Disk => None,
        Taker::DiskAndTree => Some(store.unpack(&mut arrival, Some(diff_id))),
    };
    // Even an archive that is refused is fetched to its end: only then is its digest known, and
    // whether the registry or the way is to blame.
    let drained = io::copy(&mut arrival, &mut io::sink());
    if let Err(source) = drained {
        let key = digest.to_string();
        return Err(storing(digest, IngestError::Io { key, source }));
    }
    let committed = arrival.ingest.commit();
    committed.map_err(|source| match source {
        IngestError::Digest { .. } => wrong(digest, source),
        source => storing(digest, source),
    })?;
    match unpacked {
        Some(Ok(unpacked)) => Ok(Some(unpacked)),
        Some(Err(error)) => {
            // Nothing will ever refer to it.
            if let Err(error) = store.content().delete(digest) {
                tracing::warn!(%digest, %error, "failed to remove a refused layer");
            }
            Err(LayerError::Unpack(error))
        }
        None => Ok(None),
    }
}

fn storing(digest: &Digest, source: IngestError) -> LayerError {
    LayerError::Store {
        digest: digest.clone(),
        source: Box::new(source),
    }
}

fn wrong(digest: &Digest, source: IngestError) -> LayerError {
    LayerError::Verification {
        digest: digest.clone(),
        source: Box::new(source),
    }
}

/// The bytes as they come from the network; each is kept before it is handed on.
#[derive(Debug)]
struct Arrival {
    ingest: Ingest,
    receiver: Receiver<Bytes>,
    piece: Bytes,
    size: u64,
}

impl Read for Arrival {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => {
                    self.ingest.write(&piece).map_err(io::Error::other)?;
                    self.piece = piece;
                }
                None if self.ingest.offset() < self.size => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// A small blob, whole and verified, through the store.
pub(crate) async fn fetch_document(
    store: &Arc<ImageStore>,
    session: &Session,
    blob: &Descriptor,
    limit: u64,
) -> Result<Vec<u8>, LayerError> {
    let (own, digest) = (Arc::clone(store), blob.digest.clone());
    let known = spawn_blocking(move || own.content().read_limited(&digest, limit)).await;
    if let Ok(Ok(bytes)) = known {
        return Ok(bytes);
    }
    let url = session.url(&format!("blobs/{}", blob.digest));
    if blob.size > limit {
        let url = url.to_string();
        let error = RequestError::Length {
            url,
            expected: limit,
            actual: blob.size,
        };
        return Err(LayerError::Request(error));
    }
    let (_, bytes) = session
        .get(&url, "", blob.size)
        .await
        .map_err(LayerError::Request)?;
    let (own, digest) = (Arc::clone(store), blob.digest.clone());
    spawn_blocking(move || {
        own.content()
            .put(&bytes, Some(&digest))
            .map_err(|source| match source {
                IngestError::Digest { .. } => wrong(&digest, source),
                source => storing(&digest, source),
            })?;
        Ok(bytes.to_vec())
    })
    .await
    .unwrap_or_else(|_stopped| {
        Err(LayerError::Abandoned {
            digest: blob.digest.clone(),
        })
    })
}
