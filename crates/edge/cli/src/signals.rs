//! Passes the signals that this program gets on to the container, and the size of the terminal.

use std::rc::Rc;

use havre_client::{Client, Query};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::terminal;

/// So many requests to end, and this program ends itself.
const PATIENCE: u32 = 3;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Background(JoinHandle<()>);

/// Signals on their way to a container.
#[derive(Debug)]
pub(crate) struct Forwarding {
    _task: Background,
    impatient: Rc<Notify>,
}

impl Forwarding {
    /// Returns when the user asked three times to end.
    pub(crate) async fn impatience(&self) {
        self.impatient.notified().await;
    }
}

impl Background {
    /// Starts a task that ends when the value is dropped.
    pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) -> Self {
        Self(tokio::task::spawn_local(task))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes HUP, INT, QUIT, TERM, USR1 and USR2 on as they come. Must be called before the container starts, so that no
/// signal ends this program and leaves the container.
pub(crate) fn forward(client: &Rc<Client>, container: &str) -> std::io::Result<Forwarding> {
    let kinds = [
        ("HUP", SignalKind::hangup()),
        ("INT", SignalKind::interrupt()),
        ("QUIT", SignalKind::quit()),
        ("TERM", SignalKind::terminate()),
        ("USR1", SignalKind::user_defined1()),
        ("USR2", SignalKind::user_defined2()),
    ];
    let mut streams: Vec<(&'static str, Signal)> = Vec::with_capacity(kinds.len());
    for (name, kind) in kinds {
        streams.push((name, signal(kind)?));
    }
    let client = Rc::clone(client);
    let container = container.to_owned();
    let impatience = Rc::new(Notify::new());
    let impatient = Rc::clone(&impatience);
    let task = tokio::task::spawn_local(async move {
        let mut endings = 0;
        loop {
            let name = next(&mut streams).await;
            if matches!(name, "INT" | "TERM") {
                endings += 1;
            }
            if endings >= PATIENCE {
                impatient.notify_one();
                return;
            }
            // The container may have ended meanwhile; then there is nobody to tell.
            client
                .container_post(&container, "kill", &Query::new().text("signal", name))
                .await
                .ok();
        }
    });
    Ok(Forwarding {
        _task: Background(task),
        impatient: impatience,
    })
}

/// The name of the next signal that arrives.
async fn next(streams: &mut [(&'static str, Signal)]) -> &'static str {
    std::future::poll_fn(|cx| {
        for (name, stream) in streams.iter_mut() {
            if stream.poll_recv(cx).is_ready() {
                return std::task::Poll::Ready(*name);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Tells the engine the size of the terminal now and whenever it changes. `collection` is `containers` or `exec`.
pub(crate) fn watch_size(
    client: &Rc<Client>,
    collection: &'static str,
    id: &str,
) -> std::io::Result<Background> {
    let mut changes = signal(SignalKind::window_change())?;
    let client = Rc::clone(client);
    let id = id.to_owned();
    Ok(Background(tokio::task::spawn_local(async move {
        loop {
            if let Some((rows, columns)) = terminal::size() {
                // A process that has ended has no terminal to resize.
                client.resize(collection, &id, rows, columns).await.ok();
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    })))
}
