//! Queries by TCP: each client has its own task, its own time and a bounded part of the whole.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Container, Shared, View, forward, rest};
use crate::answer::{Carrier, Outcome, respond};

/// Clients of one container at a time; one that comes then is turned away.
const CLIENTS: usize = 64;
/// Between two queries, and for each part of one.
const IDLE: Duration = Duration::from_secs(8);
/// No query is longer.
const LONGEST: usize = 4096;

pub(super) async fn serve(shared: Rc<Shared>, container: Rc<Container>) {
    loop {
        let Ok((stream, client)) = container.tcp.accept().await else {
            rest().await;
            continue;
        };
        let Some(place) = container.load.client(CLIENTS) else {
            continue;
        };
        let (shared, serving) = (Rc::clone(&shared), Rc::clone(&container));
        container.work.spawn(async move {
            // How a client ends is its own affair.
            drop(converse(&shared, &serving, stream, client).await);
            drop(place);
        });
    }
}

async fn converse(
    shared: &Rc<Shared>,
    container: &Rc<Container>,
    mut stream: TcpStream,
    client: SocketAddr,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let query = timeout(IDLE, read_query(&mut stream)).await??;
        let mut answer = Vec::new();
        let outcome = respond(
            &query,
            &View { shared, container },
            Carrier::Tcp,
            &mut answer,
        );
        match outcome {
            Outcome::Answered => {}
            Outcome::Silence => return Ok(()),
            Outcome::Forward(query) => {
                let asked = forward::Asked::new(&query, Carrier::Tcp, client);
                answer = forward::forward(shared, container, asked).await;
            }
        }
        timeout(IDLE, stream.write_all(&framed(&answer)?)).await??;
    }
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    Ok(query)
}

/// A message with its length before it, in one piece (RFC 7766, 8).
pub(super) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes(), message].concat())
}
