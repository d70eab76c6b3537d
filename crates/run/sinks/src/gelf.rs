//! Graylog's extended log format, by datagrams (in chunks, compressed) or a connection.
//!
//! Format: <https://go2docs.graylog.org/current/getting_in_log_data/gelf.html>; fields and figures:
//! <https://github.com/moby/moby/blob/master/daemon/logger/gelf/gelf.go> and its library.

use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::time::Duration;

use flate2::write::{GzEncoder, ZlibEncoder};
use havre_logs::Sink;
use havre_logs::options::{Compression, GelfOptions, Transport};
use serde_json::{Map, Value, json};

use crate::connect::{CONNECT, Connection, dial_tcp};
use crate::deliver::{Deliver, Record};
use crate::error::StartError;
use crate::patience::Patience;
use crate::syslog::{send_udp, udp};

/// A datagram that passes every Ethernet, and what of it is left beside a chunk's head.
const DATAGRAM: usize = 1420;
const CHUNK: usize = DATAGRAM - 12;
const MAGIC: [u8; 2] = [0x1e, 0x0f];
const MOST_CHUNKS: usize = 128;
const ERROR: u8 = 3;
const INFO: u8 = 6;

enum Way {
    Udp {
        socket: UdpSocket,
        compression: Compression,
        level: flate2::Compression,
    },
    Tcp {
        connection: Option<Connection>,
        max_reconnect: u32,
        delay: Duration,
    },
}

pub(crate) struct Gelf {
    options: GelfOptions,
    hostname: String,
    extra: Map<String, Value>,
    way: Way,
}

impl Gelf {
    pub(crate) fn open(options: GelfOptions, sink: &Sink) -> Result<Self, StartError> {
        let failed = |source| StartError::Gelf {
            endpoint: options.endpoint.to_string(),
            source: Box::new(source),
        };
        let way = match options.transport {
            Transport::Udp { compression, level } => Way::Udp {
                socket: udp(&options.endpoint).map_err(failed)?,
                compression,
                level: level.map_or_else(flate2::Compression::default, flate2::Compression::new),
            },
            Transport::Tcp {
                max_reconnect,
                delay,
            } => {
                let stream = dial_tcp(&options.endpoint, CONNECT).map_err(failed)?;
                Way::Tcp {
                    connection: Some(Connection::Tcp(stream)),
                    max_reconnect,
                    delay,
                }
            }
        };
        Ok(Self {
            hostname: sink.hostname.clone(),
            extra: extra(sink),
            options,
            way,
        })
    }

    fn message(&self, record: &Record) -> Vec<u8> {
        let time = record.entry.timestamp;
        let millis = format!("{}.{:03}", time.secs, time.nanos / 1_000_000);
        let level = if record.is_error() { ERROR } else { INFO };
        let mut message = Map::new();
        message.insert("version".to_owned(), json!("1.1"));
        message.insert("host".to_owned(), json!(self.hostname));
        message.insert("short_message".to_owned(), json!(record.text()));
        let number = millis.parse::<f64>().unwrap_or_default();
        message.insert("timestamp".to_owned(), json!(number));
        message.insert("level".to_owned(), json!(level));
        message.extend(self.extra.clone());
        serde_json::to_vec(&message).unwrap_or_default()
    }
}

fn extra(sink: &Sink) -> Map<String, Value> {
    let container = &sink.container;
    let mut extra = Map::new();
    for (key, value) in [
        ("_command", &container.command),
        ("_container_id", &container.id),
        ("_container_name", &container.name),
        ("_created", &container.created.rfc3339()),
        ("_image_id", &container.image_id),
        ("_image_name", &container.image),
        ("_tag", &sink.tag),
    ] {
        extra.insert(key.to_owned(), json!(value));
    }
    for (key, value) in &sink.attrs {
        let key = if key.starts_with('_') {
            key.clone()
        } else {
            format!("_{key}")
        };
        extra.insert(key, json!(value));
    }
    extra
}

fn pack(bytes: &[u8], compression: Compression, level: flate2::Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Compression::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes)?;
            encoder.finish()
        }
    }
}

/// The datagrams of one message; none when it is too long for the format.
fn datagrams(message: &[u8], id: [u8; 8]) -> Option<Vec<Vec<u8>>> {
    if message.len() <= DATAGRAM {
        return Some(vec![message.to_vec()]);
    }
    let total = message.len().div_ceil(CHUNK);
    if total > MOST_CHUNKS {
        return None;
    }
    let total = u8::try_from(total).ok()?;
    let chunks = (0..total).zip(message.chunks(CHUNK));
    let framed = chunks.map(|(number, chunk)| [&MAGIC[..], &id, &[number, total], chunk].concat());
    Some(framed.collect())
}

impl Deliver for Gelf {
    fn deliver(&mut self, record: &Record, patience: &mut Patience) -> bool {
        if record.line().is_empty() {
            // Docker sends no empty messages.
            return true;
        }
        let mut message = self.message(record);
        let endpoint = &self.options.endpoint;
        match &mut self.way {
            Way::Udp {
                socket,
                compression,
                level,
            } => {
                let mut id = [0; 8];
                let packed = pack(&message, *compression, *level).ok();
                let packed = packed.filter(|_| getrandom::fill(&mut id).is_ok());
                packed
                    .and_then(|packed| datagrams(&packed, id))
                    .is_some_and(|all| all.iter().all(|one| send_udp(socket, one).is_ok()))
            }
            Way::Tcp {
                connection,
                max_reconnect,
                delay,
            } => {
                message.push(0);
                for attempt in 0..=*max_reconnect {
                    if attempt > 0 && !patience.pause(*delay) {
                        return false;
                    }
                    if connection.as_ref().is_none_or(Connection::is_closed) {
                        *connection = dial_tcp(endpoint, CONNECT).ok().map(Connection::Tcp);
                    }
                    let Some(open) = connection else { continue };
                    if open.send(&message, patience, None).is_ok() {
                        return true;
                    }
                    *connection = None;
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_go_in_chunks() {
        assert_eq!(datagrams(b"short", [0; 8]), Some(vec![b"short".to_vec()]));
        let message: Vec<u8> = (0..=255).cycle().take(5 * CHUNK - 1).collect();
        let chunks = datagrams(&message, [7; 8]).expect("fits");
        assert_eq!(chunks.len(), 5);
        let mut back = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            let number = u8::try_from(number).expect("few");
            assert!(chunk.len() <= DATAGRAM);
            assert_eq!(
                chunk.get(..12),
                Some(&[0x1e, 0x0f, 7, 7, 7, 7, 7, 7, 7, 7, number, 5][..])
            );
            back.extend_from_slice(&chunk[12..]);
        }
        assert_eq!(back, message);
        assert_eq!(datagrams(&vec![0; 129 * CHUNK], [0; 8]), None);
    }
}
