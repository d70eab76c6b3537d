//! An engine that answers what a test tells it to, on a Unix socket in a directory of its own. It notes each request.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Longer than any step of a test takes; a test that hangs fails instead.
const DEADLINE: Duration = Duration::from_secs(20);

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) target: String,
    pub(crate) body: String,
    head: String,
}

impl Request {
    /// The value of a header, named in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (have, value) = line.split_once(':')?;
            (have.to_lowercase() == name).then(|| value.trim().to_owned())
        })
    }

    /// `POST /containers/create`
    pub(crate) fn line(&self) -> String {
        format!(
            "{} {}",
            self.method,
            self.target.split('?').next().unwrap_or_default()
        )
    }
}

/// Named events that one side sets and the other waits for.
#[derive(Default)]
pub(crate) struct Events {
    seen: Mutex<HashSet<&'static str>>,
    changed: Condvar,
}

impl Events {
    pub(crate) fn set(&self, name: &'static str) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name);
        self.changed.notify_all();
    }

    /// Lets a tenth of a second pass, or less when something happens.
    pub(crate) fn pause(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.changed
                .wait_timeout(seen, Duration::from_millis(100))
                .unwrap(),
        );
    }

    pub(crate) fn wait(&self, name: &'static str) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (_seen, result) = self
            .changed
            .wait_timeout_while(seen, DEADLINE, |seen| !seen.contains(name))
            .unwrap();
        assert!(!result.timed_out(), "`{name}` did not happen");
    }
}

/// A running fake.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// Starts one; `answer` writes the whole answer to a request.
    pub(crate) fn start(
        answer: impl Fn(&Request, &mut UnixStream) + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let noted = Arc::clone(&requests);
        // The thread ends with the test program: nothing closes the listener before.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, noted) = (Arc::clone(&answer), Arc::clone(&noted));
                let stream = stream.unwrap();
                thread::spawn(move || serve(stream, &*answer, &noted));
            }
        });
        Self { dir, requests }
    }

    /// The address for `-H`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// What was asked so far, as `METHOD /path`, sorted: requests on different connections have no order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.requests().iter().map(Request::line).collect();
        lines.sort();
        lines
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: UnixStream,
    answer: &(dyn Fn(&Request, &mut UnixStream) + Send + Sync),
    noted: &Mutex<Vec<Request>>,
) {
    while let Some(request) = read_request(&mut stream) {
        noted.lock().unwrap().push(request.clone());
        answer(&request, &mut stream);
    }
}

fn read_request(stream: &mut UnixStream) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.lines().next().unwrap().split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut request = Request {
        method,
        target,
        body: String::new(),
        head,
    };
    let body = match request.header("content-length") {
        Some(length) => {
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            body
        }
        None if request.header("transfer-encoding").is_some() => read_chunks(stream),
        None => Vec::new(),
    };
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}

fn read_chunks(stream: &mut UnixStream) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

/// Answers with a JSON body.
pub(crate) fn json(stream: &mut UnixStream, status: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok();
}

/// Answers without a body.
pub(crate) fn no_content(stream: &mut UnixStream) {
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok();
}

/// Hands over the connection.
pub(crate) fn switch(stream: &mut UnixStream, kind: &str) {
    let head = format!(
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.{kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
}

/// The head of an answer whose body comes later.
pub(crate) fn head_of_wait(stream: &mut UnixStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
}

/// That body.
pub(crate) fn chunk(stream: &mut UnixStream, text: &str) {
    stream
        .write_all(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).as_bytes())
        .ok();
}

/// A frame of multiplexed output.
pub(crate) fn frame(stream: &mut UnixStream, kind: u8, bytes: &[u8]) {
    let mut frame = vec![kind, 0, 0, 0];
    frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend(bytes);
    stream.write_all(&frame).unwrap();
}

/// Ends a connection that was handed over.
pub(crate) fn close(stream: &UnixStream) {
    stream.shutdown(Shutdown::Both).ok();
}
