//! A registry in the test's own process: it serves one image, and does wrong what a test tells it to.

use crate::image::{Format, Image, digest};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` …
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The first byte that is wanted.
    pub fn from(&self) -> usize {
        let range = self
            .header("range")
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-'));
        range.map_or(0, |from| from.parse().unwrap_or_default())
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers, but for the length.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub cut: Option<usize>,
    /// The connection is left open and silent after so many bytes of the body.
    pub stall: Option<usize>,
    /// What the header says of the body's length, when it lies.
    pub length: Option<usize>,
}

impl Reply {
    /// A status and a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A refusal in the distribution API's form.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
        Self::new(status, body)
    }
}

type Rule = Box<dyn Fn(&Request, usize) -> Option<Reply> + Send + Sync>;

struct Shared {
    /// Answers before the image is looked at; the number counts earlier requests for the target.
    rule: Rule,
    documents: BTreeMap<String, (Vec<u8>, String)>,
    requests: Mutex<Vec<Request>>,
    /// Bytes of bodies sent, by target.
    sent: Mutex<BTreeMap<String, usize>>,
    open: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

/// The running server; it ends when this is dropped.
pub struct Fake {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

/// The name of the image in every fake registry.
pub const NAME: &str = "team/app";

impl Fake {
    /// Serves an image as `team/app:latest`, but for what the rule answers.
    pub fn serve(
        image: &Image,
        rule: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let manifest = image.manifest(Format::Oci);
        let mut documents = BTreeMap::new();
        let kind = Format::Oci.manifest().to_owned();
        for name in ["latest".to_owned(), digest(&manifest)] {
            let entry = (manifest.clone(), kind.clone());
            documents.insert(format!("/v2/{NAME}/manifests/{name}"), entry);
        }
        let octets = || "application/octet-stream".to_owned();
        documents.insert(
            format!("/v2/{NAME}/blobs/{}", image.id()),
            (image.config.clone(), octets()),
        );
        for layer in &image.layers {
            let bytes = fs_err::read(&layer.path).expect("an image's layers are in the cache");
            documents.insert(
                format!("/v2/{NAME}/blobs/{}", layer.digest),
                (bytes, octets()),
            );
        }
        Self::start(documents, Box::new(rule))
    }

    /// Serves nothing but what the rule answers.
    pub fn bare(rule: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::start(BTreeMap::new(), Box::new(rule))
    }

    fn start(documents: BTreeMap<String, (Vec<u8>, String)>, rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener
            .local_addr()
            .expect("a listener has an address")
            .port();
        let (requests, sent, open, ended) = Default::default();
        let shared = Arc::new(Shared {
            rule,
            documents,
            requests,
            sent,
            open,
            ended,
        });
        let own = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            let mut workers = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                // The last connection is the one that ends the server.
                if own.ended.load(Ordering::SeqCst) {
                    break;
                }
                let own = Arc::clone(&own);
                lock(&own.open).extend(stream.try_clone());
                workers.push(thread::spawn(move || own.converse(&stream)));
            }
            for stream in lock(&own.open).drain(..) {
                drop(stream.shutdown(Shutdown::Both));
            }
            for worker in workers {
                // A test's rule that panicked has failed the test in its own way.
                drop(worker.join());
            }
        });
        Self {
            shared,
            port,
            acceptor: Some(acceptor),
        }
    }

    /// `127.0.0.1:port`
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:port/team/app:latest`
    pub fn reference(&self) -> String {
        format!("{}/{NAME}:latest", self.authority())
    }

    /// Everything asked so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// How often this was asked for.
    pub fn count(&self, part: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.target.contains(part))
            .count()
    }

    /// Bytes sent of bodies whose target has this part.
    pub fn sent(&self, part: &str) -> usize {
        let sent = lock(&self.shared.sent);
        sent.iter()
            .filter(|(target, _)| target.contains(part))
            .map(|(_, count)| count)
            .sum()
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.authority()));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

impl Shared {
    fn converse(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            let number = {
                let mut requests = lock(&self.requests);
                let earlier = requests
                    .iter()
                    .filter(|other| other.target == request.target)
                    .count();
                requests.push(request.clone());
                earlier
            };
            let reply = (self.rule)(&request, number).unwrap_or_else(|| self.document(&request));
            if !self.answer(stream, &request, &reply) {
                return;
            }
        }
        drop(stream.shutdown(Shutdown::Both));
    }

    fn document(&self, request: &Request) -> Reply {
        let Some((bytes, kind)) = self.documents.get(&request.target) else {
            return if request.target.contains("/manifests/") {
                Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            } else {
                Reply::error(404, "BLOB_UNKNOWN", "blob unknown")
            };
        };
        ranged(request, bytes).header("Content-Type", kind.clone())
    }

    /// Whether the connection goes on.
    fn answer(&self, mut stream: &TcpStream, request: &Request, reply: &Reply) -> bool {
        let length = reply.length.unwrap_or(reply.body.len());
        let mut head = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {length}\r\n",
            reply.status
        );
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let stop = reply
            .cut
            .or(reply.stall)
            .unwrap_or(reply.body.len())
            .min(reply.body.len());
        let written = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&reply.body[..stop]));
        *lock(&self.sent).entry(request.target.clone()).or_default() += stop;
        if reply.stall.is_some() {
            // Until the client has had enough.
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest));
            return false;
        }
        let fine = written.is_ok() && reply.cut.is_none() && length == reply.body.len();
        if !fine {
            drop(stream.shutdown(Shutdown::Write));
        }
        fine
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes from where they are wanted.
pub fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let from = request.from().min(bytes.len());
    if from == 0 {
        return Reply::new(200, bytes);
    }
    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    Reply::new(206, &bytes[from..]).header("Content-Range", range)
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    // A client that tries TLS first is told at once that there is none here.
    if reader
        .fill_buf()
        .ok()?
        .first()
        .is_none_or(|byte| !byte.is_ascii_alphabetic())
    {
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    if !target.starts_with('/') {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap_or_default());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        target,
        headers,
        body,
    })
}
