//! Random requests made of the API's operations: valid, nearly valid, and none at all. It is a pure function of the
//! seed, so that a request that breaks something can be made again.

use std::fmt::Write as _;

/// Method and path of every operation, as the API's description lists them.
const OPERATIONS: &str =
    include_str!("../../../../../crates/edge/http/data/engine-api-swagger-ops.txt");

/// Parameters that some operation knows, each with values that mean something to it.
const PARAMETERS: [(&str, &[&str]); 40] = [
    ("all", &["1", "0"]),
    ("limit", &["1", "-1"]),
    ("size", &["1"]),
    (
        "filters",
        &[
            r#"{"status":["running"]}"#,
            r#"{"name":{"a.*":true}}"#,
            r#"{"label":["a=b"]}"#,
            r#"{"until":["1h"]}"#,
            r#"{"type":["container"]}"#,
            r#"{"nope":["x"]}"#,
            r#"{"name":["("]}"#,
        ],
    ),
    ("t", &["0", "1"]),
    ("signal", &["KILL", "TERM", "15", "SIGNOPE"]),
    ("h", &["24"]),
    ("w", &["80"]),
    ("stdout", &["1"]),
    ("stderr", &["1"]),
    ("stdin", &["1"]),
    ("stream", &["0", "1"]),
    ("logs", &["1"]),
    ("follow", &["0", "1"]),
    ("since", &["1", "2030-01-01T00:00:00Z"]),
    ("until", &["1", "2.5"]),
    ("tail", &["all", "3"]),
    ("timestamps", &["1"]),
    ("details", &["1"]),
    ("detachKeys", &["ctrl-a", "ctrl-p,ctrl-q", "nope"]),
    ("condition", &["not-running", "next-exit", "removed"]),
    ("force", &["0", "1"]),
    ("v", &["1"]),
    ("link", &["1"]),
    ("name", &["fuzz-new", "running", "/x"]),
    ("platform", &["linux/amd64", "plan9"]),
    ("one-shot", &["1"]),
    ("ps_args", &["-ef", "aux", "; id"]),
    ("path", &["/", "/etc/passwd", "../../etc", "/proc/1/root"]),
    ("noOverwriteDirNonDir", &["1"]),
    ("copyUIDGID", &["1"]),
    ("repo", &["fuzz-image", "UPPER"]),
    ("tag", &["v1", "!"]),
    ("comment", &["x"]),
    ("changes", &["CMD x", "RUN y"]),
    ("container", &["running", "stopped"]),
    ("pause", &["0"]),
    ("type", &["container", "image", "nope"]),
    ("verbose", &["1"]),
    ("checkpoint", &["c1"]),
];

/// Fields of the bodies that containers, execs and updates are made of.
const FIELDS: [&str; 44] = [
    "Image",
    "Cmd",
    "Entrypoint",
    "Env",
    "Tty",
    "OpenStdin",
    "User",
    "WorkingDir",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "Healthcheck",
    "StopSignal",
    "StopTimeout",
    "Hostname",
    "Shell",
    "AttachStdout",
    "Detach",
    "DetachKeys",
    "ConsoleSize",
    "HostConfig",
    "NetworkingConfig",
    "Memory",
    "MemorySwap",
    "NanoCpus",
    "CpuShares",
    "CpusetCpus",
    "PidsLimit",
    "BlkioWeight",
    "BlkioDeviceReadBps",
    "RestartPolicy",
    "LogConfig",
    "NetworkMode",
    "IpcMode",
    "PidMode",
    "Mounts",
    "Tmpfs",
    "Devices",
    "DeviceRequests",
    "Ulimits",
    "SecurityOpt",
    "CapAdd",
    "ShmSize",
    "PortBindings",
];

/// What a request is, byte for byte.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) bytes: Vec<u8>,
    /// The client stops in the middle of it.
    pub(super) truncated: bool,
}

/// A stream of requests.
#[derive(Debug)]
pub(super) struct Generator {
    state: u64,
    operations: Vec<(&'static str, &'static str)>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        let operations = OPERATIONS
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        Self {
            state: seed,
            operations,
        }
    }

    /// The next request.
    pub(super) fn request(&mut self) -> Request {
        let (method, path) = self.operation();
        let target = self.target(method, path);
        let method = if self.one_in(60) {
            (*self.pick(&["BREW", "PATCH", "OPTIONS", "get", ""])).to_owned()
        } else {
            method.to_owned()
        };
        let has_body = matches!(method.as_str(), "POST" | "PUT") || self.one_in(40);
        let body = if has_body {
            self.body(path)
        } else {
            Vec::new()
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: fuzz\r\n");
        self.headers(&mut head, path, body.len(), has_body);
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        let truncated = self.one_in(25);
        if truncated {
            let length = bytes.len();
            bytes.truncate(self.below(length));
        }
        Request {
            method,
            target,
            bytes,
            truncated,
        }
    }

    /// Mostly of containers, execs and the system: what else there is answers 501.
    fn operation(&mut self) -> (&'static str, &'static str) {
        loop {
            let count = self.operations.len();
            let index = self.below(count);
            let (method, path) = self.operations[index];
            let ours = [
                "/containers",
                "/exec",
                "/system",
                "/events",
                "/info",
                "/images",
            ];
            if ours.iter().any(|start| path.starts_with(start)) || self.one_in(4) {
                return (method, path);
            }
        }
    }

    fn target(&mut self, method: &str, path: &str) -> String {
        let mut target = match self.below(10) {
            0 => format!("/v1.{}", self.below(70)),
            1 => (*self.pick(&["/v", "/v1", "/v9.9", "/v1.44.1", "/vx", "/v1.99999999999"]))
                .to_owned(),
            2..=5 => format!("/v1.{}", 24 + self.below(33)),
            _ => String::new(),
        };
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('{') {
            target.push_str(before);
            let name = self.name(method, path);
            target.push_str(&name);
            rest = after.split_once('}').map_or("", |(_, tail)| tail);
        }
        target.push_str(rest);
        if self.one_in(50) {
            target.push_str(self.word(&["/", "//", "/../..", "/%2e%2e/", "%"]));
        }
        let mut separator = '?';
        for _ in 0..self.below(5) {
            let (name, value) = self.parameter();
            write!(target, "{separator}{name}={value}").expect("a string takes everything");
            separator = if self.one_in(40) { ';' } else { '&' };
        }
        // An image that does not come from here would be fetched over the network.
        if path == "/images/create" {
            let source = self.word(&["fromImage=UPPER", "fromImage=a@b", "fromSrc=-", "fromSrc=x"]);
            write!(target, "{separator}{source}").expect("a string takes everything");
        }
        target
    }

    fn name(&mut self, method: &str, path: &str) -> String {
        let image = path.starts_with("/images");
        match self.below(10) {
            0..=3 if !image => (*self.pick(&["running", "stopped", "running"])).to_owned(),
            0..=3 if method != "DELETE" => (*self.pick(&["busybox", "busybox:latest"])).to_owned(),
            4 => "fuzz-new".to_owned(),
            5 => format!("{:064x}", self.next()),
            6 => format!("{:x}", self.below(16)),
            _ => escape(&self.text()),
        }
    }

    fn parameter(&mut self) -> (&'static str, String) {
        let (name, values) = *self.pick(&PARAMETERS);
        let value = match self.below(4) {
            0 => self.text(),
            1 => (*self.pick(&[
                "",
                "-1",
                "99999999999999999999",
                "1e9",
                "true",
                "null",
                "0x10",
            ]))
            .to_owned(),
            _ => (*self.pick(values)).to_owned(),
        };
        // Stopping may take as long as the client says.
        if name == "t" && value.len() > 1 && value.bytes().all(|b| b.is_ascii_digit()) {
            return (name, "0".to_owned());
        }
        (
            name,
            if self.one_in(30) {
                value
            } else {
                escape(&value)
            },
        )
    }

    fn headers(&mut self, head: &mut String, path: &str, length: usize, has_body: bool) {
        if has_body {
            let kind = match self.below(12) {
                0 => None,
                1 => Some(*self.pick(&["text/plain", "", ";", "application/json; charset", "é"])),
                2 => Some("application/x-tar"),
                _ => Some("application/json"),
            };
            if let Some(kind) = kind {
                write!(head, "Content-Type: {kind}\r\n").expect("a string takes everything");
            }
            let length = match self.below(30) {
                0 => "-1".to_owned(),
                1 => "x".to_owned(),
                2 => (length + 1 + self.below(100)).to_string(),
                3 => (length / 2).to_string(),
                _ => length.to_string(),
            };
            write!(head, "Content-Length: {length}\r\n").expect("a string takes everything");
        }
        if self.one_in(8) || path.ends_with("/ws") {
            head.push_str("Connection: Upgrade\r\n");
            head.push_str(self.word(&[
                "Upgrade: tcp\r\n",
                "Upgrade: websocket\r\n",
                "Upgrade: h2c\r\n",
            ]));
        }
        if path.ends_with("/ws") && self.one_in(2) {
            head.push_str("Sec-WebSocket-Version: 13\r\n");
            head.push_str("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
        }
        if self.one_in(30) {
            head.push_str(self.word(&[
                "X-Registry-Auth: !!!\r\n",
                "X-Registry-Auth: bnVsbA==\r\n",
                "Expect: 100-continue\r\n",
                "Transfer-Encoding: chunked\r\n",
                "Transfer-Encoding: gzip\r\n",
                "no colon\r\n",
                "Host: again\r\n",
                "Range: bytes=5-1\r\n",
            ]));
        }
        if self.one_in(200) {
            let filler = "x".repeat(1 << self.below(18));
            write!(head, "X-Filler: {filler}\r\n").expect("a string takes everything");
        }
    }

    fn body(&mut self, path: &str) -> Vec<u8> {
        match self.below(12) {
            0 => Vec::new(),
            1 => self.noise(),
            2 => self.json(3).into_bytes(),
            3 => {
                let mut text = self.object(path).into_bytes();
                let length = text.len();
                text.truncate(self.below(length + 1));
                text
            }
            4 => "[".repeat(self.below(3000)).into_bytes(),
            _ => self.object(path).into_bytes(),
        }
    }

    /// A body as the operation wants it, but for some fields.
    fn object(&mut self, path: &str) -> String {
        let base = match path {
            "/containers/create" => {
                r#""Image":"busybox","Cmd":["sleep","5"],"HostConfig":{"NetworkMode":"none","#
            }
            "/containers/{id}/exec" => r#""Cmd":["true"],"AttachStdout":true,"#,
            // The login goes to a port that nobody listens on.
            "/auth" => r#""serveraddress":"127.0.0.1:1","username":"a","password":"b","#,
            _ => "",
        };
        let mut out = format!("{{{base}");
        for _ in 0..self.below(4) {
            let (field, value) = (*self.pick(&FIELDS), self.json(2));
            write!(out, "\"{field}\":{value},").expect("a string takes everything");
        }
        let mut out = out.trim_end_matches(',').to_owned();
        out.push_str(if path == "/containers/create" {
            "}}"
        } else {
            "}"
        });
        out
    }

    fn json(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 8 } else { 12 }) {
            0 => "null".to_owned(),
            1 => "true".to_owned(),
            2 => (*self.pick(&[
                "0",
                "-1",
                "1.5",
                "1e400",
                "9223372036854775808",
                "65536",
                "-0",
            ]))
            .to_owned(),
            3 => self.below(100_000).to_string(),
            4 => r#""busybox""#.to_owned(),
            5..=7 => quote(&self.text()),
            8 | 9 => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => {
                let fields: Vec<String> = (0..self.below(4))
                    .map(|_| {
                        let name = if self.one_in(3) {
                            self.text()
                        } else {
                            (*self.pick(&FIELDS)).to_owned()
                        };
                        format!("{}:{}", quote(&name), self.json(depth - 1))
                    })
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }

    fn text(&mut self) -> String {
        match self.below(8) {
            0 => String::new(),
            1 => "é🦀\u{202e}\u{feff}".to_owned(),
            2 => "a\0b\r\n\t\u{7f}".to_owned(),
            3 => "a".repeat(1 << self.below(14)),
            4 => (*self.pick(&[
                "../../x", "/", "a/b:c@d", "sha256:", "-rf", "$(id)", "%s%n", "a=b",
            ]))
            .to_owned(),
            _ => {
                let letters = b"abcXYZ019._-/:@ ";
                (0..self.below(12))
                    .map(|_| char::from(*self.pick(letters)))
                    .collect()
            }
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        (0..self.below(600))
            .map(|_| u8::try_from(self.below(256)).unwrap_or(0))
            .collect()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn word(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len())]
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' | b'/' => {
                out.push(char::from(byte));
            }
            other => write!(out, "%{other:02X}").expect("a string takes everything"),
        }
    }
    out
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[test]
fn the_seed_decides_everything() {
    let made = |seed| -> Vec<Vec<u8>> {
        let mut generator = Generator::new(seed);
        (0..500).map(|_| generator.request().bytes).collect()
    };
    assert_eq!(made(1), made(1));
    assert_ne!(made(1), made(2));
}
