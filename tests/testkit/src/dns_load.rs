//! A load of DNS queries for the bench: as many as are answered, or one at a time for the delay. Run it inside a container's
//! network namespace (`nsenter --net`), against 127.0.0.11:53 of any engine.

use anyhow::{Context as _, Result, bail, ensure};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A query without an answer for so long is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked of whom.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The server.
    pub server: SocketAddr,
    /// The name, of which the A records are asked.
    pub name: &'a str,
    /// How long.
    pub time: Duration,
    /// Queries that are under way at any time.
    pub window: u16,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Queries that were answered, for each second.
    pub per_second: f64,
    /// The delay that half of the answers stayed below.
    pub median: Duration,
    /// The delay that 99 of 100 stayed below.
    pub p99: Duration,
    /// Queries without an answer.
    pub lost: u64,
}

impl Load<'_> {
    /// Asks, and fails when an answer is not one with an address.
    pub fn run(&self) -> Result<Figures> {
        ensure!(self.window > 0, "the window is empty");
        let socket = UdpSocket::bind("0.0.0.0:0").context("failed to open a socket")?;
        socket.connect(self.server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut query = query(self.name)?;
        let mut sent = vec![Instant::now(); usize::from(self.window)];
        let mut delays = Vec::with_capacity(1 << 20);
        let mut lost = 0;
        let begin = Instant::now();
        for id in 0..self.window {
            send(&socket, &mut query, id, &mut sent)?;
        }
        let mut answer = [0; 4096];
        while begin.elapsed() < self.time {
            let count = match socket.recv(&mut answer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // All that were under way are gone.
                    lost += u64::from(self.window);
                    for id in 0..self.window {
                        send(&socket, &mut query, id, &mut sent)?;
                    }
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("the server does not answer"),
            };
            let id = check(answer.get(..count).unwrap_or_default())?;
            let Some(start) = sent.get(usize::from(id)) else {
                continue;
            };
            delays.push(start.elapsed());
            send(&socket, &mut query, id, &mut sent)?;
        }
        let took = begin.elapsed();
        figures(delays, took, lost)
    }
}

fn send(socket: &UdpSocket, query: &mut [u8], id: u16, sent: &mut [Instant]) -> Result<()> {
    if let Some(place) = query.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    if let Some(time) = sent.get_mut(usize::from(id)) {
        *time = Instant::now();
    }
    socket.send(query).context("failed to send a query")?;
    Ok(())
}

fn check(answer: &[u8]) -> Result<u16> {
    let Some(&[a, b, _, flags, _, _, _, answers]) = answer.first_chunk() else {
        bail!("an answer of {} bytes", answer.len());
    };
    let code = flags & 15;
    ensure!(
        code == 0 && answers > 0,
        "an answer with code {code} and {answers} records"
    );
    Ok(u16::from_be_bytes([a, b]))
}

fn query(name: &str) -> Result<Vec<u8>> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| *length < 64);
        packet.push(length.with_context(|| format!("not a name: {name}"))?);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    Ok(packet)
}

fn figures(mut delays: Vec<Duration>, took: Duration, lost: u64) -> Result<Figures> {
    delays.sort_unstable();
    let at = |part: usize| delays.get(delays.len() * part / 100).copied();
    let count = u32::try_from(delays.len())?;
    Ok(Figures {
        per_second: f64::from(count) / took.as_secs_f64(),
        median: at(50).context("nothing was answered")?,
        p99: at(99).context("nothing was answered")?,
        lost,
    })
}
