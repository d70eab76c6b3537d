//! One record on its way, and the driver that takes it.

use havre_logs::options::{Driver, check};
use havre_logs::{Entry, Framed, Sink};

use crate::error::StartError;
use crate::fluentd::Fluentd;
use crate::gelf::Gelf;
use crate::journald::Journal;
use crate::patience::Patience;
use crate::syslog::Syslog;

/// A record as drivers see it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) entry: Entry,
    pub(crate) part: Option<Part>,
}

/// Place of a piece in its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The same for all pieces of a line, and for no other line.
    pub(crate) id: String,
    pub(crate) ordinal: u32,
    pub(crate) last: bool,
}

impl Record {
    /// `run` tells this run of the container from others.
    pub(crate) fn new(framed: Framed, run: &str) -> Self {
        let part = framed.part.map(|(line, ordinal, last)| Part {
            id: format!("{run}{line:016x}"),
            ordinal,
            last,
        });
        Self {
            entry: framed.entry,
            part,
        }
    }

    /// Without its newline.
    pub(crate) fn line(&self) -> &[u8] {
        let bytes = self.entry.bytes.as_slice();
        bytes.strip_suffix(b"\n").unwrap_or(bytes)
    }

    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.line())
    }

    pub(crate) fn is_error(&self) -> bool {
        self.entry.stream == havre_logs::Stream::Stderr
    }
}

/// What takes records. It returns when a record is delivered, or given up: then false.
pub(crate) trait Deliver: Send {
    fn deliver(&mut self, record: &Record, patience: &mut Patience) -> bool;
}

/// How records reach their driver.
pub(crate) struct Opened {
    pub(crate) driver: Box<dyn Deliver>,
    /// Records that may wait while the driver does; without it the container waits.
    pub(crate) queue: Option<usize>,
}

/// Opens the driver that the sink names; the first connection is made here.
pub(crate) fn open(sink: &Sink) -> Result<Opened, StartError> {
    let settings = check(&sink.driver, &sink.options).map_err(StartError::Option)?;
    let mut queue = None;
    let driver: Box<dyn Deliver> = match settings.driver {
        Driver::Syslog(options) => Box::new(Syslog::open(options, sink)?),
        Driver::Fluentd(options) => {
            let limit = usize::try_from(options.buffer_limit).unwrap_or(usize::MAX);
            queue = options.asynchronous.then_some(limit);
            Box::new(Fluentd::open(options, sink)?)
        }
        Driver::Gelf(options) => Box::new(Gelf::open(options, sink)?),
        Driver::Journald | Driver::None | Driver::JsonFile | Driver::Local => {
            Box::new(Journal::open(sink)?)
        }
    };
    Ok(Opened { driver, queue })
}
