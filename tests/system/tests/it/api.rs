//! The API under random requests: it answers each in time and never with an error of its own, and nothing is left.
//!
//! `HAVRE_FUZZ_REQUESTS` and `HAVRE_FUZZ_SEED` make more of them, or the same again.

mod generate;

use crate::support::{networked_engine, text};
use anyhow::{Context as _, Result, bail, ensure};
use generate::{Generator, Request};
use havre_testkit::Engine;
use serde_json::json;
use std::collections::BTreeMap;
use std::env;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Requests of one run of the suite.
const REQUESTS: u64 = 10_000;
/// Clients at one time.
const CLIENTS: u64 = 4;
/// The first byte of every answer comes within this.
const DEADLINE: Duration = Duration::from_secs(20);
/// Answers that wait for something: they are left after this.
const PATIENCE: Duration = Duration::from_millis(150);
/// Memory that the engine may have more at the end, in KiB.
const GROWTH: u64 = 192 * 1024;

/// Failures after which a run is given up.
const ENOUGH: usize = 20;

/// A program that ends at once when it is told to.
const PROGRAM: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

#[test]
fn random_requests_break_nothing() -> Result<()> {
    let requests = from_environment("HAVRE_FUZZ_REQUESTS")?.unwrap_or(REQUESTS);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = from_environment("HAVRE_FUZZ_SEED")?.unwrap_or(clock);
    println!("HAVRE_FUZZ_SEED={seed} HAVRE_FUZZ_REQUESTS={requests}");
    let engine = networked_engine()?;
    revive(&engine.socket())?;
    let pid = engine.pid()?;
    let before = usage(pid)?;
    // Clients that begin a request and never end it.
    let idle = half_open(&engine.socket())?;

    let failures = Mutex::new(Vec::new());
    let answers = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (engine, failures, answers) = (&engine, &failures, &answers);
            scope.spawn(move || {
                let mut generator = Generator::new(seed.wrapping_add(client << 32));
                for number in 0..requests / CLIENTS {
                    // What many requests are about is stopped, renamed and removed by others.
                    if number % 100 == 0 {
                        revive(&engine.socket()).ok();
                    }
                    match exchange(&engine.socket(), &generator.request()) {
                        Ok(status) => {
                            let mut answers = answers.lock().expect("no client panics");
                            *answers.entry(status).or_default() += 1;
                        }
                        Err(error) => {
                            let mut failures = failures.lock().expect("no client panics");
                            failures.push(format!("{error:#}"));
                            if failures.len() >= ENOUGH {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    drop(idle);
    let failures = failures.into_inner()?;
    ensure!(
        failures.is_empty(),
        "seed {seed}:\n{}\nthe log ends:\n{}",
        failures.join("\n---\n"),
        tail(&engine.log())
    );
    check_variety(&answers.into_inner()?, requests)?;
    ensure!(engine.pid()? == pid && Path::new(&format!("/proc/{pid}")).exists());
    check_log(&engine.log())?;
    clean(&engine)?;
    settles(pid, &before)
}

fn from_environment(name: &str) -> Result<Option<u64>> {
    env::var(name)
        .ok()
        .map(|text| Ok(text.parse()?))
        .transpose()
}

/// Makes what many requests are about, as far as it is not there.
fn revive(socket: &Path) -> Result<()> {
    let program = ["sh", "-c", PROGRAM];
    let body = json!({"Image": "busybox", "Cmd": program, "HostConfig": {"NetworkMode": "none"}});
    let body = body.to_string();
    let post = |target: &str, body: &str| {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: fuzz\r\nConnection: close\r\n");
        let kind = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        let request = Request {
            method: "POST".to_owned(),
            target: target.to_owned(),
            bytes: [head, kind, body.to_owned()].concat().into_bytes(),
            truncated: false,
        };
        exchange(socket, &request)
    };
    for name in ["running", "stopped"] {
        post(&format!("/containers/create?name={name}"), &body)?;
    }
    post("/containers/running/unpause", "")?;
    post("/containers/running/start", "")?;
    Ok(())
}

/// Descriptors, threads and memory of the engine.
#[derive(Debug)]
struct Usage {
    descriptors: usize,
    threads: u64,
    resident: u64,
}

fn usage(pid: u32) -> Result<Usage> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        Ok(number.with_context(|| format!("no {name}"))?.parse()?)
    };
    Ok(Usage {
        descriptors: fs_err::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: field("Threads:")?,
        resident: field("VmRSS:")?,
    })
}

fn half_open(socket: &Path) -> Result<Vec<UnixStream>> {
    (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(socket)?;
            stream.write_all(b"POST /containers/create HTTP/1.1\r\nContent-Le")?;
            Ok(stream)
        })
        .collect()
}

/// Sends one request and judges its answer: the status, or 0 when there was none to wait for.
fn exchange(socket: &Path, request: &Request) -> Result<u16> {
    let started = Instant::now();
    let answer = answer(socket, request);
    let answer = answer.with_context(|| format!("{} {}", request.method, request.target))?;
    let Some(head) = answer else {
        return Ok(0);
    };
    let status: u16 = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no answer but {head:?} to {}", text(&request.bytes)))?;
    // A login is refused by a port that nobody listens on; there is no swarm to leave.
    let absent = ["/auth", "/swarm/leave"].map(|path| request.target.contains(path));
    let outside = status == 503 && absent.contains(&true);
    ensure!(
        status < 500 || status == 501 || outside,
        "status {status} after {:?}\n{head}\nto {}",
        started.elapsed(),
        text(&request.bytes)
    );
    Ok(status)
}

/// The beginning of the answer; None where there is none to be had in time.
fn answer(socket: &Path, request: &Request) -> Result<Option<String>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    // The engine may answer and close before it has read everything.
    if stream.write_all(&request.bytes).is_err() {
        return Ok(None);
    }
    if request.truncated {
        stream.shutdown(Shutdown::Write).ok();
    }
    let path = request.target.split('?').next().unwrap_or("");
    // Bodies that are announced and do not come, and answers that come when something happens.
    let waits = [
        "/wait", "/stats", "/attach", "/ws", "/start", "/stop", "/restart", "/events",
    ];
    let lingers = waits.iter().any(|end| path.ends_with(end));
    let complete = is_complete(request);
    let patience = if lingers || !complete {
        PATIENCE
    } else {
        DEADLINE
    };
    stream.set_read_timeout(Some(patience))?;
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Ok(None),
        Ok(length) => Ok(Some(text(&buffer[..length]))),
        Err(error) if error.kind() == ErrorKind::WouldBlock && patience < DEADLINE => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
        Err(error) => bail!(
            "no answer within {patience:?}: {error}\n{}",
            text(&request.bytes)
        ),
    }
}

/// Whether the body is as long as the request says.
fn is_complete(request: &Request) -> bool {
    let end = request
        .bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n");
    let Some(end) = end else { return false };
    let head = text(&request.bytes[..end]).to_lowercase();
    if head.contains("transfer-encoding") || head.contains("expect:") {
        return false;
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(Some(0), |length| length.parse::<usize>().ok());
    // What is no number is answered at once.
    length.is_none_or(|length| request.bytes.len() - end - 4 >= length)
}

/// The requests reached what they are to reach: each kind of answer was among theirs.
fn check_variety(answers: &BTreeMap<u16, u64>, requests: u64) -> Result<()> {
    println!("{answers:?}");
    for (kinds, share) in [
        (200..=299, 20),
        (400..=400, 10),
        (404..=404, 10),
        (409..=409, 200),
    ] {
        let count: u64 = answers.range(kinds.clone()).map(|(_, count)| count).sum();
        ensure!(
            count >= requests / share,
            "{count} answers {kinds:?}: {answers:?}"
        );
    }
    Ok(())
}

fn check_log(log: &str) -> Result<()> {
    let bad = |line: &&str| line.contains("panicked") || line.contains("request handler failed");
    match log.lines().find(bad) {
        None => Ok(()),
        Some(line) => bail!("in the engine's log: {line}"),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn clean(engine: &Engine) -> Result<()> {
    let ids = engine.docker(&["ps", "-aq", "--no-trunc"])?;
    let mut words = vec!["rm", "--force"];
    words.extend(ids.lines());
    if words.len() > 2 {
        engine.docker(&words)?;
    }
    ensure!(engine.docker(&["ps", "-aq"])?.is_empty());
    Ok(())
}

/// The engine's descriptors and threads come back to what they were, and its memory stays bounded.
fn settles(pid: u32, before: &Usage) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let now = usage(pid)?;
        let settled = now.descriptors <= before.descriptors + 4
            && now.threads <= before.threads + 40
            && now.resident <= before.resident + GROWTH;
        if settled {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "before {before:?}, now {now:?}");
        thread::yield_now();
    }
}
