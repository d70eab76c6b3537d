//! The threads of an unpacker: one decompresses, one hashes what comes out, and the caller's own
//! takes it as a stream. Buffers are shared, not copied, and there is a fixed number of them.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use havre_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::apply::Limits;
use crate::decompress::{Decompressor, decompress};
use crate::error::ApplyError;

const CHUNK: usize = 512 * 1024;
/// Chunks on their way to each consumer.
const AHEAD: usize = 4;

/// What a stream turned out to be, once it was read to its end.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A buffer that goes back to its pool when the last consumer has done with it.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    pool: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(bytes);
    }
}

/// The decompressed stream, for the caller's thread.
#[derive(Debug)]
pub(crate) struct Chunks {
    queue: Receiver<Arc<Chunk>>,
    current: Option<Arc<Chunk>>,
    position: usize,
}

/// Runs `consume` over the decompressed `source`. When decompression fails, that error wins over
/// whatever the consumer made of the stream's early end.
pub(crate) fn run<R: Read + Send, T>(
    source: R,
    limits: &Limits,
    consume: impl FnOnce(&mut Chunks) -> Result<T, ApplyError>,
) -> Result<(T, Summary), ApplyError> {
    let (to_hash, hash_queue) = sync_channel(AHEAD);
    let (to_consumer, queue) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let thread = |source| ApplyError::Thread { source };
        let hasher = std::thread::Builder::new()
            .name("layer-hash".to_owned())
            .spawn_scoped(scope, move || hash(&hash_queue))
            .map_err(thread)?;
        let producer = std::thread::Builder::new()
            .name("layer-decode".to_owned())
            .spawn_scoped(scope, move || {
                produce(source, limits, &to_hash, &to_consumer)
            })
            .map_err(thread)?;
        let mut chunks = Chunks {
            queue,
            current: None,
            position: 0,
        };
        let consumed = consume(&mut chunks);
        drop(chunks);
        let died = || ApplyError::Thread {
            source: io::ErrorKind::BrokenPipe.into(),
        };
        let produced = producer.join().map_err(|_panic| died())?;
        let digest = hasher.join().map_err(|_panic| died())?;
        let size = produced?;
        Ok((consumed?, Summary { digest, size }))
    })
}

fn hash(queue: &Receiver<Arc<Chunk>>) -> Digest {
    let mut hash = Sha256::new();
    while let Ok(chunk) = queue.recv() {
        hash.update(&chunk.bytes);
    }
    Digest::from_sha256_bytes(hash.finalize().into())
}

struct Counting<'a, R> {
    inner: R,
    count: &'a AtomicU64,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn produce<R: Read>(
    source: R,
    limits: &Limits,
    to_hash: &SyncSender<Arc<Chunk>>,
    to_consumer: &SyncSender<Arc<Chunk>>,
) -> Result<u64, ApplyError> {
    let failed = |source| ApplyError::Decompress { source };
    let taken = AtomicU64::new(0);
    let mut decoder = decompress(Counting {
        inner: source,
        count: &taken,
    })
    .map_err(failed)?;
    let pool = Arc::new(Mutex::new(Vec::new()));
    let mut size = 0;
    loop {
        let recycled = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes: Vec<u8> = recycled.unwrap_or_default();
        bytes.resize(CHUNK, 0);
        let filled = fill(&mut decoder, &mut bytes).map_err(failed)?;
        bytes.truncate(filled);
        if filled == 0 {
            return Ok(size);
        }
        size += filled as u64;
        check_size(size, taken.load(Ordering::Relaxed), limits)?;
        let chunk = Arc::new(Chunk {
            bytes,
            pool: Arc::clone(&pool),
        });
        // A consumer that is gone has failed and says why itself.
        if to_hash.send(Arc::clone(&chunk)).is_err() || to_consumer.send(chunk).is_err() {
            return Ok(size);
        }
    }
}

fn check_size(size: u64, taken: u64, limits: &Limits) -> Result<(), ApplyError> {
    if size > limits.size {
        return Err(ApplyError::TooLarge { limit: limits.size });
    }
    let ratio = size / taken.max(1);
    if size > limits.ratio_from && ratio > limits.ratio {
        return Err(ApplyError::Ratio {
            ratio,
            limit: limits.ratio,
        });
    }
    Ok(())
}

fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The decompressed stream within its limits, without threads. Where one is passed, or the source
/// fails, the stream ends, and [`Limited::verdict`] says why.
#[derive(Debug)]
pub(crate) struct Limited<R: Read> {
    decoder: Decompressor<Counted<R>>,
    taken: Arc<AtomicU64>,
    limits: Limits,
    size: u64,
    buffer: Vec<u8>,
    filled: usize,
    position: usize,
    failure: Option<ApplyError>,
}

#[derive(Debug)]
pub(crate) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Read> Limited<R> {
    pub(crate) fn new(source: R, limits: &Limits) -> Result<Self, ApplyError> {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: source,
            count: Arc::clone(&taken),
        };
        let decoder = decompress(counted).map_err(|source| ApplyError::Decompress { source })?;
        Ok(Self {
            decoder,
            taken,
            limits: limits.clone(),
            size: 0,
            buffer: vec![0; CHUNK],
            filled: 0,
            position: 0,
            failure: None,
        })
    }

    pub(crate) fn verdict(self) -> Result<(), ApplyError> {
        self.failure.map_or(Ok(()), Err)
    }

    fn refill(&mut self) {
        self.position = 0;
        self.filled = 0;
        if self.failure.is_some() {
            return;
        }
        let filled = loop {
            match self.decoder.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match filled {
            Ok(filled) => {
                self.filled = filled;
                self.size += filled as u64;
                let taken = self.taken.load(Ordering::Relaxed);
                self.failure = check_size(self.size, taken, &self.limits).err();
            }
            Err(source) => self.failure = Some(ApplyError::Decompress { source }),
        }
        if self.failure.is_some() {
            self.filled = 0;
        }
    }
}

impl<R: Read> BufRead for Limited<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.filled {
            self.refill();
        }
        Ok(&self.buffer[self.position..self.filled])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let buffer = self.fill_buf()?;
        let count = buffer.len().min(out.len());
        out[..count].copy_from_slice(&buffer[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self
            .current
            .as_ref()
            .is_none_or(|chunk| self.position >= chunk.bytes.len())
        {
            self.current = self.queue.recv().ok();
            self.position = 0;
        }
        Ok(self
            .current
            .as_ref()
            .map_or(&[], |chunk| &chunk.bytes[self.position..]))
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let buffer = self.fill_buf()?;
        let count = buffer.len().min(out.len());
        out[..count].copy_from_slice(&buffer[..count]);
        self.consume(count);
        Ok(count)
    }
}
