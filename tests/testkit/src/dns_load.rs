//! A load of DNS queries for the bench: as many as are answered, or one at a time for the delay. Run it inside a container's
//! network namespace (`nsenter --net`), against 127.0.0.11:53 of any engine.

use anyhow::{Context as _, Result, bail, ensure};
use havre_sys::datagrams::Datagrams;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
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
    /// Asks, and fails when an answer is not one with an address. What is there at once is taken and followed by new queries at
    /// once, so that the load costs less than the server that it is for.
    pub fn run(&self) -> Result<Figures> {
        ensure!(self.window > 0, "the window is empty");
        let socket = UdpSocket::bind("0.0.0.0:0").context("failed to open a socket")?;
        socket.connect(self.server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut asking = Asking {
            query: query(self.name)?,
            sent: vec![Instant::now(); usize::from(self.window)],
            delays: Vec::with_capacity(1 << 20),
        };
        let mut lost = 0;
        let mut batch = Datagrams::default();
        let begin = Instant::now();
        asking.begin(&socket)?;
        while begin.elapsed() < self.time {
            if let Err(error) = batch.receive(socket.as_fd()) {
                ensure!(
                    error.kind() == ErrorKind::WouldBlock,
                    "the server does not answer: {error}"
                );
                if let Err(error) = socket.peek(&mut [0]) {
                    ensure!(
                        error.kind() == ErrorKind::WouldBlock,
                        "the server does not answer: {error}"
                    );
                    // All that were under way are gone.
                    lost += u64::from(self.window);
                    asking.begin(&socket)?;
                }
                continue;
            }
            let mut checked = Ok(());
            batch.answer_each(|answer, _server, next| {
                if let Err(error) = asking.again(answer, next) {
                    checked = Err(error);
                }
            });
            checked?;
            batch
                .send(socket.as_fd())
                .context("failed to send queries")?;
        }
        let took = begin.elapsed();
        figures(asking.delays, took, lost)
    }
}

struct Asking {
    query: Vec<u8>,
    sent: Vec<Instant>,
    delays: Vec<Duration>,
}

impl Asking {
    /// Sends as many queries as may be under way.
    fn begin(&mut self, socket: &UdpSocket) -> Result<()> {
        for (id, sent) in (0_u16..).zip(&mut self.sent) {
            *sent = Instant::now();
            socket
                .send(&with_id(&self.query, id))
                .context("failed to send a query")?;
        }
        Ok(())
    }

    /// Notes an answer, and asks the same once more.
    fn again(&mut self, answer: &[u8], next: &mut Vec<u8>) -> Result<()> {
        let id = check(answer)?;
        let sent = self.sent.get_mut(usize::from(id));
        let sent = sent.context("an answer to something else")?;
        self.delays.push(sent.elapsed());
        *sent = Instant::now();
        next.extend_from_slice(&with_id(&self.query, id));
        Ok(())
    }
}

fn with_id(query: &[u8], id: u16) -> Vec<u8> {
    let mut query = query.to_vec();
    if let Some(place) = query.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    query
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
