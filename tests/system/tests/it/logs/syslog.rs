//! The syslog driver: what the server gets in each of its formats, over each kind of connection.

use anyhow::{Context as _, Result, ensure};
use havre_testkit::command::{self, command};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use super::receivers::{Tcp, udp, unix};
use super::{logs, run, run_well};
use crate::support::{assert_fails, engine, text};

/// Prints a line on each stream, and one that does not end.
const BOTH: &str = "echo out; echo err >&2; printf unfinished";

/// A form of messages, and what its words are.
struct Form {
    name: &'static str,
    flags: &'static [&'static str],
    /// Priorities of standard output and error: the facility by 8, and informational 6 or error 3.
    priorities: [&'static str; 2],
    /// How the words of a message are, without the priority and the text.
    words: &'static [Word],
}

#[derive(Clone, Copy)]
enum Word {
    Is(&'static str),
    Day,
    Clock,
    /// With so many digits of a second's parts.
    Moment(usize),
    Host,
    /// The tag, here the container's name.
    Tag,
    Number,
    /// The tag with the number of the process that sends.
    Sender,
}

impl Word {
    fn fits(self, word: &str, name: &str) -> bool {
        let number = |text: &str| text.parse::<u32>().is_ok();
        match self {
            Self::Is(wanted) => word == wanted,
            Self::Day => word.parse().is_ok_and(|day: u8| (1..=31).contains(&day)),
            Self::Clock => word.len() == 8 && word.split(':').count() == 3,
            Self::Moment(digits) => {
                let whole = "2026-01-02T03:04:05".len();
                let parts = if digits == 0 { 0 } else { digits + 1 };
                let zone = word.get(whole + parts..).unwrap_or_default();
                let is_zone = zone == "Z" || zone.starts_with(['+', '-']);
                is_zone && word.get(10..11) == Some("T")
            }
            Self::Host => !word.is_empty(),
            Self::Tag => word == name,
            Self::Number => number(word),
            Self::Sender => {
                let pid = word.strip_prefix(name);
                let pid = pid.and_then(|rest| rest.strip_prefix('[')?.strip_suffix("]:"));
                pid.is_some_and(number)
            }
        }
    }
}

/// <https://github.com/moby/moby/blob/master/daemon/logger/syslog/syslog.go> (`parseLogFormat`)
const FORMS: [Form; 4] = [
    Form {
        name: "plain",
        flags: &[],
        priorities: ["<30>", "<27>"],
        words: &[Word::Day, Word::Clock, Word::Sender],
    },
    Form {
        name: "old",
        flags: &["syslog-format=rfc3164", "syslog-facility=local0"],
        priorities: ["<134>", "<131>"],
        words: &[Word::Day, Word::Clock, Word::Host, Word::Sender],
    },
    Form {
        name: "new",
        flags: &["syslog-format=rfc5424"],
        priorities: ["<30>1", "<27>1"],
        words: &[
            Word::Moment(0),
            Word::Host,
            Word::Tag,
            Word::Number,
            Word::Tag,
            Word::Is("-"),
        ],
    },
    Form {
        name: "micro",
        flags: &["syslog-format=rfc5424micro", "syslog-facility=local0"],
        priorities: ["<134>1", "<131>1"],
        words: &[
            Word::Moment(6),
            Word::Host,
            Word::Tag,
            Word::Number,
            Word::Tag,
            Word::Is("-"),
        ],
    },
];

#[test]
fn syslog_messages_have_dockers_forms() -> Result<()> {
    let engine = engine()?;
    for form in &FORMS {
        let mut server = Tcp::listen(|_| Vec::new())?;
        let address = format!("syslog-address=tcp://127.0.0.1:{}", server.port);
        let mut flags = vec!["--log-driver", "syslog", "--log-opt", &address];
        flags.extend(["--log-opt", "tag={{.Name}}"]);
        for flag in form.flags {
            flags.extend(["--log-opt", flag]);
        }
        run_well(&engine, form.name, &flags, BOTH)?;
        for (end, priority) in [
            (" out\n", form.priorities[0]),
            (" unfinished\n", form.priorities[0]),
            (" err\n", form.priorities[1]),
        ] {
            let seen = server.until(end)?;
            let message = seen.lines().find(|line| line.ends_with(end.trim_end()));
            let message = message.with_context(|| seen.clone())?;
            let mut words: Vec<&str> = message.split_whitespace().collect();
            words.pop();
            // The month stands at the priority in the older forms.
            ensure!(words.remove(0).starts_with(priority), "{message}");
            let fit = words.len() == form.words.len()
                && std::iter::zip(&words, form.words)
                    .all(|(word, form_of)| form_of.fits(word, form.name));
            ensure!(fit, "{}: {message}", form.name);
        }
        ensure!(logs(&engine, &[form.name])? == ["out", "unfinished"]);
    }
    Ok(())
}

#[test]
fn syslog_goes_by_datagrams_too() -> Result<()> {
    let engine = engine()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log");
    let local = unix(&path)?;
    let (port, remote) = udp()?;
    let mut buffer = [0; 2048];
    for (name, address) in [
        (
            "gram",
            format!("syslog-address=unixgram://{}", path.display()),
        ),
        ("udp", format!("syslog-address=udp://127.0.0.1:{port}")),
    ] {
        let flags = ["--log-driver", "syslog", "--log-opt", &address];
        run_well(&engine, name, &flags, BOTH)?;
        let mut ends = Vec::new();
        for _ in 0..3 {
            let length = match name {
                "gram" => local.recv(&mut buffer)?,
                _ => remote.recv(&mut buffer)?,
            };
            let message = text(&buffer[..length]);
            let (_, end) = message.rsplit_once(' ').context("one word")?;
            ends.push(end.to_owned());
        }
        ends.sort();
        ensure!(ends == ["err\n", "out\n", "unfinished\n"], "{ends:?}");
    }
    Ok(())
}

/// A TLS server of the host's, which says on its standard output what it gets.
struct TlsServer(Child);

impl Drop for TlsServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn syslog_over_tls_trusts_whom_it_is_told_to() -> Result<()> {
    let engine = engine()?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    command::run(command("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        // The certificate of an authority is refused as that of a server.
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]))?;
    let server = command("openssl")
        .args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-cert",
            &certificate,
            "-key",
            &key,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut server = TlsServer(server);
    let mut said = BufReader::new(server.0.stdout.take().context("no output")?).lines();
    let mut hear = |wanted: &str| -> Result<String> {
        for line in said.by_ref() {
            let line = line?;
            if line.contains(wanted) {
                return Ok(line);
            }
        }
        anyhow::bail!("the server never said `{wanted}`")
    };
    let accepting = hear("ACCEPT")?;
    let (_, port) = accepting.rsplit_once(':').context("no port")?;
    let address = format!("syslog-address=tcp+tls://localhost:{port}");
    let authority = format!("syslog-tls-ca-cert={certificate}");
    let head = [
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "syslog-format=rfc5424",
    ];
    let unknown = run(&engine, "unknown", &head, "true")?;
    assert_fails(
        &unknown,
        125,
        "failed to initialize logging driver: tls: invalid peer certificate",
    );
    let trusted = [&head[..], &["--log-opt", &authority]].concat();
    run_well(&engine, "trusted", &trusted, "echo over tls")?;
    let line = hear("over tls")?;
    // RFC 5425: the length comes first.
    let (length, message) = line.split_once(' ').context("no length")?;
    ensure!(
        length.parse() == Ok(message.len() + 1) && message.starts_with("<30>1 "),
        "{line}"
    );
    let anybody = [&head[..], &["--log-opt", "syslog-tls-skip-verify=true"]].concat();
    run_well(&engine, "anybody", &anybody, "echo to anybody")?;
    hear("to anybody")?;
    Ok(())
}
