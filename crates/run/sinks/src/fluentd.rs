//! Fluentd's forward protocol, a message for each record, as Docker's library sends it.
//!
//! Protocol: <https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>; library:
//! <https://github.com/fluent/fluent-logger-golang>.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use havre_logs::Sink;
use havre_logs::options::{FluentdOptions, FluentdTarget, SyslogTls};

use crate::connect::{Connection, dial_tcp, dial_unix, encrypt};
use crate::deliver::{Deliver, Record};
use crate::error::StartError;
use crate::msgpack;
use crate::patience::{Backoff, Patience};
use crate::tls;

/// How long the server may take to accept.
const CONNECT: Duration = Duration::from_secs(3);
/// No pause before an attempt is longer.
const MOST_WAIT: Duration = Duration::from_secs(60);

pub(crate) struct Fluentd {
    options: FluentdOptions,
    tag: String,
    /// Fields that every record has.
    fixed: BTreeMap<String, String>,
    connection: Option<(Connection, Instant)>,
}

impl Fluentd {
    pub(crate) fn open(options: FluentdOptions, sink: &Sink) -> Result<Self, StartError> {
        let mut fixed = BTreeMap::from([
            ("container_id".to_owned(), sink.container.id.clone()),
            (
                "container_name".to_owned(),
                format!("/{}", sink.container.name),
            ),
        ]);
        fixed.extend(sink.attrs.clone());
        let mut fluentd = Self {
            options,
            tag: sink.tag.clone(),
            fixed,
            connection: None,
        };
        if !fluentd.options.asynchronous {
            fluentd.connection = Some((fluentd.connect()?, Instant::now()));
        }
        Ok(fluentd)
    }

    fn connect(&self) -> Result<Connection, StartError> {
        match &self.options.target {
            FluentdTarget::Unix(path) => dial_unix(path).map(Connection::Unix),
            FluentdTarget::Tcp(endpoint) => dial_tcp(endpoint, CONNECT).map(Connection::Tcp),
            FluentdTarget::Tls(endpoint) => {
                let config = tls::config(&SyslogTls::default())?;
                encrypt(endpoint, dial_tcp(endpoint, CONNECT)?, &config)
            }
        }
    }

    fn message(&self, record: &Record, chunk: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        msgpack::array(4, &mut out);
        msgpack::string(self.tag.as_bytes(), &mut out);
        let time = record.entry.timestamp;
        if self.options.sub_second {
            msgpack::event_time(time.secs, time.nanos, &mut out);
        } else {
            msgpack::integer(time.secs, &mut out);
        }
        let mut fields: Vec<(&str, Vec<u8>)> = self
            .fixed
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "source" | "log"))
            .map(|(key, value)| (key.as_str(), value.clone().into_bytes()))
            .collect();
        // An attribute of the user's takes the place of the driver's own, as in Docker.
        for (key, value) in [
            ("source", record.entry.stream.name().as_bytes()),
            ("log", record.line()),
        ] {
            let own = self.fixed.get(key).map(String::as_bytes);
            fields.push((key, own.unwrap_or(value).to_vec()));
        }
        if let Some(part) = &record.part {
            fields.push(("partial_message", b"true".to_vec()));
            fields.push(("partial_id", part.id.clone().into_bytes()));
            fields.push(("partial_ordinal", part.ordinal.to_string().into_bytes()));
            fields.push(("partial_last", part.last.to_string().into_bytes()));
        }
        msgpack::map(fields.len(), &mut out);
        for (key, value) in fields {
            msgpack::string(key.as_bytes(), &mut out);
            msgpack::string(&value, &mut out);
        }
        match chunk {
            None => msgpack::map(0, &mut out),
            Some(chunk) => {
                msgpack::map(1, &mut out);
                msgpack::string(b"chunk", &mut out);
                msgpack::string(chunk.as_bytes(), &mut out);
            }
        }
        out
    }

    /// Sends over the connection that there is, or a new one.
    fn attempt(
        &mut self,
        message: &[u8],
        chunk: Option<&str>,
        patience: &mut Patience,
    ) -> io::Result<()> {
        let interval = self.options.reconnect_interval;
        let old = self.connection.as_ref().is_some_and(|(connection, since)| {
            let worn = interval.is_some_and(|interval| since.elapsed() >= interval);
            worn || connection.is_closed()
        });
        if old {
            self.connection = None;
        }
        if self.connection.is_none() {
            let connection = self.connect().map_err(io::Error::other)?;
            self.connection = Some((connection, Instant::now()));
        }
        let Some((connection, _)) = &mut self.connection else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        connection.send(message, patience, self.options.write_timeout)?;
        let Some(chunk) = chunk else { return Ok(()) };
        let mut answer = Vec::new();
        let mut buffer = [0; 256];
        while answer.len() < buffer.len() {
            let count = connection.receive(&mut buffer, patience, self.options.read_timeout)?;
            answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if let Some(ack) = msgpack::ack(&answer) {
                return if ack == chunk {
                    Ok(())
                } else {
                    Err(io::ErrorKind::InvalidData.into())
                };
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

impl Deliver for Fluentd {
    fn deliver(&mut self, record: &Record, patience: &mut Patience) -> bool {
        let mut id = [0; 16];
        let chunk = (self.options.request_ack && getrandom::fill(&mut id).is_ok())
            .then(|| crate::serve::hex(&id));
        let message = self.message(record, chunk.as_deref());
        let mut backoff = Backoff::new(self.options.retry_wait, MOST_WAIT);
        let mut retries = 0;
        loop {
            if self.attempt(&message, chunk.as_deref(), patience).is_ok() {
                return true;
            }
            self.connection = None;
            if retries >= self.options.max_retries || !patience.pause(backoff.step()) {
                return false;
            }
            retries += 1;
        }
    }
}
