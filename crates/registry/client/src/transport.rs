//! Connections: made, kept for the next request, and dropped when they break.

use crate::dns::{DnsError, Resolver};
use crate::endpoint::Endpoint;
use crate::tls::Tls;
use crate::url::{Origin, Scheme};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For one address to accept, or to shake hands.
const CONNECT: Duration = Duration::from_secs(10);
/// More idle connections to one server are of no use.
const IDLE: usize = 8;

/// Why a server could not be asked.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The name has no address.
    #[error("dial tcp")]
    Lookup {
        /// Why.
        source: DnsError,
    },
    /// No address accepted. The text is that of Go's dialer, which Docker prints.
    #[error("dial tcp {address}: connect")]
    Connect {
        /// The last address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no secure connection to it.
    #[error("tls handshake with {host} failed")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// It answers in plain text. The text is that of Go's client, which Docker prints.
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainText,
    /// The settings for secure connections cannot be used.
    #[error("failed to set up tls for {host}")]
    Setup {
        /// The host.
        host: String,
        /// Why.
        source: crate::config::ConfigError,
    },
    /// The exchange broke.
    #[error("connection broke")]
    Http {
        /// Why.
        source: hyper::Error,
    },
    /// Nothing came for too long.
    #[error("no answer within {} seconds", .patience.as_secs())]
    Stalled {
        /// How long it was waited.
        patience: Duration,
    },
}

impl TransportError {
    /// Whether the server was never reached, so that another one may be asked instead.
    pub(crate) fn is_unreached(&self) -> bool {
        match self {
            Self::Lookup { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::PlainText
            | Self::Setup { .. } => true,
            Self::Http { .. } | Self::Stalled { .. } => false,
        }
    }
}

type Key = (Origin, bool);
type Sender = SendRequest<Full<Bytes>>;

/// All connections of a client.
#[derive(Debug)]
pub(crate) struct Transport {
    tls: Tls,
    settings: Mutex<HashMap<Key, Arc<ClientConfig>>>,
    idle: Mutex<HashMap<Key, Vec<Sender>>>,
    /// The tasks that drive connections: they end with the client at the latest.
    drivers: Mutex<JoinSet<()>>,
    patience: Duration,
}

impl Transport {
    pub(crate) fn new(tls: Tls, patience: Duration) -> Self {
        let (settings, idle, drivers) = Default::default();
        Self {
            tls,
            settings,
            idle,
            drivers,
            patience,
        }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TransportError> {
        let key = (endpoint.origin.clone(), endpoint.verify);
        if let Some(mut sender) = self.take_idle(&key) {
            match self.exchange(&mut sender, request.clone()).await {
                Ok(response) => {
                    self.keep(key, sender);
                    return Ok(response);
                }
                // The server closed it while it was idle; nothing says anything about the request.
                Err(TransportError::Http { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut sender = self.connect(&key).await?;
        let response = self.exchange(&mut sender, request).await?;
        self.keep(key, sender);
        Ok(response)
    }

    async fn exchange(
        &self,
        sender: &mut Sender,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TransportError> {
        match timeout(self.patience, sender.send_request(request)).await {
            Ok(result) => result.map_err(|source| TransportError::Http { source }),
            Err(_elapsed) => Err(TransportError::Stalled {
                patience: self.patience,
            }),
        }
    }

    // === connections ===

    fn take_idle(&self, key: &Key) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(key)?;
        senders.retain(|sender| !sender.is_closed());
        let ready = senders.iter().position(SendRequest::is_ready)?;
        Some(senders.swap_remove(ready))
    }

    /// Kept at once: it becomes ready when the body of its answer has been read.
    fn keep(&self, key: Key, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.entry(key).or_default();
        if senders.len() < IDLE {
            senders.push(sender);
        }
    }

    async fn connect(&self, key: &Key) -> Result<Sender, TransportError> {
        let (origin, verify) = key;
        let stream = dial(origin).await?;
        match origin.scheme {
            Scheme::Http => self.handshake(stream).await,
            Scheme::Https => {
                let failed = |source| tls_failure(&origin.host, source);
                let settings = self.settings_for(origin, *verify)?;
                let name = ServerName::try_from(origin.host.clone()).map_err(io::Error::other);
                let connecting =
                    TlsConnector::from(settings).connect(name.map_err(failed)?, stream);
                match timeout(CONNECT, connecting).await {
                    Ok(stream) => self.handshake(stream.map_err(failed)?).await,
                    Err(_elapsed) => Err(failed(io::ErrorKind::TimedOut.into())),
                }
            }
        }
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Sender, TransportError> {
        let failed = |source| TransportError::Http { source };
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        while drivers.try_join_next().is_some() {}
        drivers.spawn(async move {
            // The request that it broke under reports it.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a registry connection ended");
            }
        });
        Ok(sender)
    }

    fn settings_for(
        &self,
        origin: &Origin,
        verify: bool,
    ) -> Result<Arc<ClientConfig>, TransportError> {
        let key = (origin.clone(), verify);
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = settings.get(&key) {
            return Ok(Arc::clone(known));
        }
        let made = self
            .tls
            .for_registry(&origin.authority(), verify)
            .map_err(|source| TransportError::Setup {
                host: origin.host.clone(),
                source,
            })?;
        settings.insert(key, Arc::clone(&made));
        Ok(made)
    }
}

/// A failed handshake; one that met something that is no TLS at all is most often a plain server.
fn tls_failure(host: &str, source: io::Error) -> TransportError {
    let inner = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => TransportError::PlainText,
        _ => TransportError::Tls {
            host: host.to_owned(),
            source,
        },
    }
}

/// Connects to the first address that accepts.
async fn dial(origin: &Origin) -> Result<TcpStream, TransportError> {
    let resolver = Resolver::from_system();
    let addresses = resolver.lookup(&origin.host).await;
    let addresses = addresses.map_err(|source| TransportError::Lookup { source })?;
    let nowhere = || SocketAddr::new(IpAddr::from([0, 0, 0, 0]), origin.port);
    let mut failure = (nowhere(), io::Error::from(io::ErrorKind::AddrNotAvailable));
    for address in addresses {
        let address = SocketAddr::new(address, origin.port);
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Only a matter of latency; a socket that refuses it works all the same.
                let _set = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failure = (address, error),
            Err(_elapsed) => failure = (address, io::ErrorKind::TimedOut.into()),
        }
    }
    let (address, source) = failure;
    Err(TransportError::Connect { address, source })
}

#[cfg(test)]
mod tests;
