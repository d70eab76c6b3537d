//! Listeners, connections and their end. Every connection and every task of one belongs to the server's
//! tracker; nothing outlives [`Server::serve`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use havre_api_traits::Api;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::call;
use crate::conn::{Conn, Shared};
use crate::head::MAX_HEAD;
use crate::listen::Listener;
use crate::stream::Stream;

/// Connections at one time, over all listeners: a client that leaks them must not take the descriptors
/// that containers need.
const MAX_CONNECTIONS: usize = 4096;
/// How long answers in progress may take at shutdown.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted (no descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// The owner of all tasks: they end when the token says so, and the tracker waits for them.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Scope {
    /// Says when the server stops.
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task that may be dropped at shutdown.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Runs `work` to its end even when the caller is dropped: what changes a container must not stop
    /// half-way because a client left.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        match self.tasks.spawn(work).await {
            Ok(value) => Some(value),
            Err(failure) => {
                error!(%failure, "a request handler failed");
                None
            }
        }
    }
}

/// The server of the Engine API.
#[derive(Debug)]
pub struct Server {
    api: Api,
    version: String,
}

/// What a connection knows of its server.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) api: Api,
    /// For the `Server` header.
    pub(crate) server: String,
    pub(crate) scope: Scope,
}

impl Server {
    /// A server of `api`; `version` is the product's, for the `Server` header.
    #[must_use]
    pub fn new(api: Api, version: &str) -> Self {
        Self {
            api,
            version: version.to_owned(),
        }
    }

    /// Serves until `stop`. Then nothing is accepted any more, streams end, short answers get two seconds,
    /// and changes under way run to their end.
    pub async fn serve(self, listeners: Vec<Listener>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let scope = Scope {
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let context = Arc::new(Context {
            api: self.api,
            server: format!("Havre/{} (linux)", self.version),
            scope: scope.clone(),
        });
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for listener in listeners {
            let (context, places) = (Arc::clone(&context), Arc::clone(&places));
            scope.spawn(accept(listener, context, places));
        }
        stop.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }
}

async fn accept(listener: Listener, context: Arc<Context>, places: Arc<Semaphore>) {
    info!("API listen on {}", listener.address());
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let context = Arc::clone(&context);
                let tasks = context.scope.tasks.clone();
                tasks.spawn(async move {
                    connection(stream, context).await;
                    drop(place);
                });
            }
            Err(error) if is_of_one_client(&error) => {
                debug!(%error, "a client left before it was accepted");
            }
            Err(error) => {
                warn!(%error, "cannot accept connections");
                // Nothing here ends the pause early but shutdown, which drops this future.
                let never = std::future::pending::<()>();
                if timeout(PAUSE, never).await.is_err() {
                    debug!("accepting again");
                }
            }
        }
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

async fn connection(stream: Stream, context: Arc<Context>) {
    let shared = Arc::new(Shared::default());
    let tcp = matches!(stream, Stream::Tcp(_));
    let io = TokioIo::new(Conn::new(stream, Arc::clone(&shared)));
    let stop = context.scope.stop.clone();
    let service = service_fn(move |request| {
        call::serve(Arc::clone(&context), Arc::clone(&shared), tcp, request)
    });
    let mut builder = http1::Builder::new();
    builder
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .header_read_timeout(None);
    let connection = builder.serve_connection(io, service).with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(GRACE, connection).await {
                Ok(result) => result,
                Err(_elapsed) => return debug!("a connection was cut by the shutdown"),
            }
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection ended by an error");
    }
}
