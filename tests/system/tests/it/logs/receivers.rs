//! Log servers of a few lines: what they got, in order, as they got it.

use anyhow::{Context as _, Result};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::support::LIMIT;

/// Takes connections one after another; each piece of data is handed on as it comes.
pub(super) struct Tcp {
    pub(super) port: u16,
    received: Receiver<Vec<u8>>,
    collected: Vec<u8>,
}

impl Tcp {
    /// `answer` is given what a connection has sent so far, and its answer is sent back.
    pub(super) fn listen(answer: fn(&[u8]) -> Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (sender, received) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || pump(stream, &sender, answer));
            }
        });
        Ok(Self {
            port,
            received,
            collected: Vec::new(),
        })
    }

    /// Everything received, once it contains `wanted`.
    pub(super) fn until(&mut self, wanted: &str) -> Result<String> {
        loop {
            let text = String::from_utf8_lossy(&self.collected).into_owned();
            if text.contains(wanted) {
                return Ok(text);
            }
            let more = self.received.recv_timeout(LIMIT);
            self.collected
                .extend(more.with_context(|| format!("`{wanted}` is not in: {text}"))?);
        }
    }
}

fn pump(mut stream: TcpStream, sender: &Sender<Vec<u8>>, answer: fn(&[u8]) -> Vec<u8>) {
    use std::io::Write as _;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let reply = answer(&buffer[..count]);
        if sender.send(buffer[..count].to_vec()).is_err() || stream.write_all(&reply).is_err() {
            return;
        }
    }
}

/// A server that accepts one connection and reads nothing until it is told to; then everything to its end.
pub(super) struct Stalled {
    pub(super) port: u16,
    listener: TcpListener,
}

impl Stalled {
    pub(super) fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        Ok(Self { port, listener })
    }

    pub(super) fn read_all(self) -> Result<String> {
        let (mut stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

pub(super) fn udp() -> Result<(u16, UdpSocket)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok((socket.local_addr()?.port(), socket))
}

pub(super) fn unix(path: &Path) -> Result<UnixDatagram> {
    let socket = UnixDatagram::bind(path)?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket)
}
