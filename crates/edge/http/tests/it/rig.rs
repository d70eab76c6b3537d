//! A server on a socket of its own with the fake engine behind it, and a client that shows raw bytes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use havre_api_traits::Api;
use havre_http::{Host, Listener, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fake::Fake;

/// Longer than anything that works takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Rig {
    pub(crate) fake: Arc<Fake>,
    pub(crate) socket: PathBuf,
    pub(crate) tcp: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("havre.sock");
        let fake = Fake::new();
        let unix = Listener::bind(&Host::Unix(socket.clone()), None)
            .await
            .unwrap();
        let tcp = Listener::bind(&"tcp://127.0.0.1:0".parse().unwrap(), None)
            .await
            .unwrap();
        let address = tcp.address().strip_prefix("tcp://").unwrap().to_owned();
        let stop = CancellationToken::new();
        let server = Server::new(Api::new(Arc::clone(&fake)), "0.0-test");
        let serving = tokio::spawn(server.serve(vec![unix, tcp], stop.clone()));
        Self {
            fake,
            socket,
            tcp: address,
            stop,
            serving,
            _dir: dir,
        }
    }

    /// Stops the server; it must end soon whatever its clients do.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        patient(self.serving).await.unwrap();
        assert!(!self.socket.exists(), "the socket's name stays");
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            stream: UnixStream::connect(&self.socket).await.unwrap(),
            read: Vec::new(),
        }
    }

    /// Sends one request on a connection of its own and reads the whole answer.
    pub(crate) async fn ask(&self, request: &str, body: &str) -> Answer {
        let mut client = self.connect().await;
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let json = if body.starts_with('{') {
            "Content-Type: application/json\r\n"
        } else {
            ""
        };
        client
            .send(&format!(
                "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}{json}\r\n{body}"
            ))
            .await;
        Answer::parse(&client.rest().await)
    }
}

/// Waits for what must happen.
pub(crate) async fn patient<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .expect("this should have happened long ago")
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Closes the sending half.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads through the first occurrence of `mark` and returns everything before its end.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        let find = |bytes: &[u8]| {
            bytes
                .windows(mark.len())
                .position(|part| part == mark.as_bytes())
        };
        loop {
            if let Some(at) = find(&self.read) {
                let rest = self.read.split_off(at + mark.len());
                let taken = std::mem::replace(&mut self.read, rest);
                return String::from_utf8(taken).unwrap();
            }
            let mut piece = [0; 4096];
            let count = patient(self.stream.read(&mut piece)).await.unwrap();
            assert!(
                count > 0,
                "end before {mark:?}: {:?}",
                String::from_utf8_lossy(&self.read)
            );
            self.read.extend_from_slice(&piece[..count]);
        }
    }

    /// Reads to the end.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        patient(self.stream.read_to_end(&mut self.read))
            .await
            .unwrap();
        std::mem::take(&mut self.read)
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no head: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head.contains("Transfer-Encoding: chunked") {
            unchunk(body)
        } else {
            body.to_owned()
        };
        Self {
            status,
            head: head.to_owned(),
            body,
        }
    }

    /// The text of an error.
    pub(crate) fn message(&self) -> String {
        let value: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        value["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return out;
        }
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    panic!("a chunked body without its end");
}
