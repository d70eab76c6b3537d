//! The helper's loop: one sink from the shim, an answer, then records until the shim has gone.
//!
//! The shim sends the sink as JSON behind its length (four bytes, big-endian); the answer is one line, empty when the
//! driver is open, else the reason. Records follow as the `local` driver frames them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use havre_logs::{Found, Sink, find_frame};
use rustix::io::{Errno, pread, read, write};

use crate::deliver::{Deliver, Opened, Record, open};
use crate::error::{SinkError, StartError};
use crate::patience::{LAST, Patience};
use crate::queue::Queue;

const CHUNK: usize = 64 << 10;
/// More than a container's labels and variables come to.
const SINK_LIMIT: usize = 16 << 20;

/// Serves one container. `rest` holds what the shim could not hand over before it ended.
///
/// # Errors
/// Fails when the shim breaks off or breaks the protocol before a driver is open.
pub fn serve(shim: OwnedFd, rest: OwnedFd) -> Result<(), SinkError> {
    let failed = |source| SinkError::Shim { source };
    let shim = Arc::new(shim);
    let text = read_sink(&shim).map_err(failed)?;
    let opened = serde_json::from_slice::<Sink>(&text)
        .map_err(StartError::Sink)
        .and_then(|sink| open(&sink));
    let opened = match opened {
        Ok(opened) => {
            write_all(&shim, b"\n").map_err(failed)?;
            opened
        }
        Err(error) => {
            let line = error.to_string().replace('\n', " ");
            return write_all(&shim, format!("{line}\n").as_bytes()).map_err(failed);
        }
    };
    let mut id = [0; 24];
    getrandom::fill(&mut id).map_err(|error| failed(io::Error::other(error)))?;
    let records = Records {
        shim: Arc::clone(&shim),
        rest,
        read: None,
        buffer: Vec::new(),
        start: 0,
        run: hex(&id),
    };
    // dockerd does not wait for an asynchronous driver at the end of a container.
    let last = opened.queue.map_or(LAST, |_| Duration::ZERO);
    let lost = deliver_all(opened, records, &Patience::new(shim, last));
    if lost > 0 {
        let text = format!("havre-log: {lost} records were not delivered\n");
        if write(rustix::stdio::stderr(), text.as_bytes()).is_err() {
            // Nobody is left to tell.
        }
    }
    Ok(())
}

/// Gives every record to the driver, and the number of those that it gave up.
fn deliver_all(opened: Opened, mut records: Records, patience: &Patience) -> u64 {
    let Opened { mut driver, queue } = opened;
    let mut patience = patience.clone();
    let mut lost = 0;
    let Some(limit) = queue else {
        while let Some(record) = records.next() {
            lost += u64::from(!driver.deliver(&record, &mut patience));
        }
        return lost;
    };
    let queue = Queue::default();
    thread::scope(|scope| {
        let taker = scope.spawn(|| take(&queue, driver.as_mut(), patience));
        while let Some(record) = records.next() {
            lost += u64::from(!queue.push(record, limit));
        }
        queue.end();
        lost + taker.join().unwrap_or(0)
    })
}

fn take(queue: &Queue, driver: &mut dyn Deliver, mut patience: Patience) -> u64 {
    let mut lost = 0;
    while let Some(record) = queue.pop() {
        lost += u64::from(!driver.deliver(&record, &mut patience));
    }
    lost
}

/// What the shim sends, and after its end what it left.
struct Records {
    shim: Arc<OwnedFd>,
    rest: OwnedFd,
    /// How much of the rest has been read; none as long as the shim is there.
    read: Option<u64>,
    buffer: Vec<u8>,
    /// Start of the next record in `buffer`.
    start: usize,
    run: String,
}

impl Records {
    fn next(&mut self) -> Option<Record> {
        loop {
            let unread = self.buffer.get(self.start..).unwrap_or_default();
            if !unread.is_empty() {
                match find_frame(unread, false) {
                    Found::Record(framed, length) => {
                        self.start += length;
                        return Some(Record::new(*framed, &self.run));
                    }
                    // Only a shim that was killed in the middle of a write leaves such.
                    Found::Damage(length) => {
                        self.start += length;
                        continue;
                    }
                    Found::More => {}
                }
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn fill(&mut self) -> bool {
        self.buffer.drain(..self.start);
        self.start = 0;
        let known = self.buffer.len();
        self.buffer.resize(known + CHUNK, 0);
        let free = self.buffer.get_mut(known..).unwrap_or_default();
        let count = loop {
            let outcome = match self.read {
                None => read(&*self.shim, &mut *free),
                Some(at) => pread(&self.rest, &mut *free, at),
            };
            match (outcome, self.read) {
                (Err(Errno::INTR), _) => {}
                (Ok(0) | Err(_), None) => self.read = Some(0),
                (Ok(count), _) => break count,
                (Err(_), Some(_)) => break 0,
            }
        };
        if let Some(at) = &mut self.read {
            *at += u64::try_from(count).unwrap_or(0);
        }
        self.buffer.truncate(known + count);
        count > 0
    }
}

fn read_sink(shim: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    read_exact(shim, &mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if length > SINK_LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    read_exact(shim, &mut text)?;
    Ok(text)
}

fn read_exact(fd: &OwnedFd, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match read(fd, &mut *buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = write(fd, bytes)?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Bytes as lower-case digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
