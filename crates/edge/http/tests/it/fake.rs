//! An engine in memory. A container's command decides what it does: `echo …`, `both` (one line on each
//! output, exit 3), `cat` (echoes its input), `size` (prints its terminal's size changes), `lines` (prints
//! a line for each call of [`Fake::tick`]), and everything else sleeps until it is killed.

mod archive;
mod checkpoints;
mod engine;
mod execs;
mod lifecycle;
mod monitor;
mod networks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use havre_api_traits::{
    ApiError, ApiResult, AttachSession, Input, LogEntry, Output, OutputStream, StdinEof,
    TerminalSize,
};
use havre_engine_types::{ContainerConfig, Event, JsonMessage};
use havre_types::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};

/// An exec's process, its detach keys, its container.
type ExecRecord = (Arc<Process>, String, String);

/// The engine.
pub(crate) struct Fake {
    pub(crate) containers: Mutex<Vec<Arc<Process>>>,
    pub(crate) execs: Mutex<BTreeMap<String, ExecRecord>>,
    pub(crate) images: Mutex<Vec<String>>,
    pub(crate) events: broadcast::Sender<Event>,
    /// What a pull sends; the stream then stays open until the receiver is dropped if `hold` is set.
    pub(crate) pull: Mutex<Vec<ApiResult<JsonMessage>>>,
    pub(crate) hold_pull: watch::Sender<bool>,
    /// Pulls that noticed that their client left.
    pub(crate) cancelled_pulls: watch::Sender<usize>,
    /// Start waits for this to be true.
    pub(crate) let_start: watch::Sender<bool>,
    /// Calls of start so far.
    pub(crate) starting: watch::Sender<usize>,
    /// Observers (attach, logs, events) that are there now.
    pub(crate) observers: watch::Sender<usize>,
    pub(crate) detached: watch::Sender<usize>,
    /// Bytes of the last upload, or the error that ended it.
    pub(crate) uploaded: Mutex<Option<Result<usize, String>>>,
    counter: AtomicUsize,
}

/// A container's process, or an exec's.
pub(crate) struct Process {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) config: ContainerConfig,
    pub(crate) auto_remove: bool,
    pub(crate) started: watch::Sender<bool>,
    pub(crate) exit: watch::Sender<Option<i64>>,
    pub(crate) removed: watch::Sender<bool>,
    pub(crate) killed: watch::Sender<i64>,
    pub(crate) ticks: watch::Sender<usize>,
    pub(crate) size: watch::Sender<Option<TerminalSize>>,
    pub(crate) log: watch::Sender<Vec<LogEntry>>,
    clients: Mutex<Vec<mpsc::Sender<Output>>>,
    stdin: mpsc::Sender<Input>,
    stdin_end: Mutex<Option<mpsc::Receiver<Input>>>,
}

impl Process {
    pub(crate) fn new(id: String, name: String, config: ContainerConfig) -> Arc<Self> {
        Self::create(id, name, config, false)
    }

    pub(crate) fn create(
        id: String,
        name: String,
        config: ContainerConfig,
        auto_remove: bool,
    ) -> Arc<Self> {
        let (stdin, stdin_end) = mpsc::channel(8);
        Arc::new(Self {
            id,
            name,
            config,
            auto_remove,
            started: watch::Sender::new(false),
            exit: watch::Sender::new(None),
            removed: watch::Sender::new(false),
            killed: watch::Sender::new(0),
            ticks: watch::Sender::new(0),
            size: watch::Sender::new(None),
            log: watch::Sender::new(Vec::new()),
            clients: Mutex::new(Vec::new()),
            stdin,
            stdin_end: Mutex::new(Some(stdin_end)),
        })
    }

    pub(crate) fn running(&self) -> bool {
        *self.started.borrow() && self.exit.borrow().is_none()
    }

    /// A session whose output goes to `sender`.
    pub(crate) fn session(&self, stdin: bool, sender: mpsc::Sender<Output>) -> AttachSession {
        if self.exit.borrow().is_none() {
            self.clients.lock().unwrap().push(sender);
        }
        let once = self.config.stdin_once && !self.config.tty;
        AttachSession {
            output: mpsc::channel(1).1,
            input: (stdin && self.config.open_stdin).then(|| self.stdin.clone()),
            stdin_eof: if once {
                StdinEof::CloseStdin
            } else {
                StdinEof::Detach
            },
            tty: self.config.tty,
            detach_keys: None,
        }
    }

    pub(crate) async fn write(&self, stream: OutputStream, data: &[u8]) {
        let line = Bytes::copy_from_slice(data);
        let entry = LogEntry {
            stream,
            timestamp: Timestamp::now(),
            line: line.clone(),
            attrs: Vec::new(),
        };
        self.log.send_modify(|log| log.push(entry));
        let clients = self.clients.lock().unwrap().clone();
        for client in clients {
            let _gone = client
                .send(Output {
                    stream,
                    data: line.clone(),
                })
                .await
                .is_err();
        }
    }

    /// Runs the command.
    pub(crate) async fn run(self: Arc<Self>) {
        self.started.send_replace(true);
        let command = self.config.cmd.clone().unwrap_or_default();
        let mut killed = self.killed.subscribe();
        let code = tokio::select! {
            code = self.command(&command) => code,
            signal = killed.wait_for(|signal| *signal != 0) => 128 + *signal.unwrap(),
        };
        self.clients.lock().unwrap().clear();
        self.exit.send_replace(Some(code));
        if self.auto_remove {
            self.removed.send_replace(true);
        }
    }

    async fn command(&self, command: &[String]) -> i64 {
        match command.first().map_or("", String::as_str) {
            "echo" => {
                self.write(
                    OutputStream::Stdout,
                    format!("{}\n", command[1..].join(" ")).as_bytes(),
                )
                .await;
                0
            }
            "both" => {
                self.write(OutputStream::Stdout, b"to out\n").await;
                self.write(OutputStream::Stderr, b"to err\n").await;
                3
            }
            "cat" => self.cat().await,
            "size" => {
                let mut size = self.size.subscribe();
                let size = *size.wait_for(Option::is_some).await.unwrap();
                self.write(OutputStream::Stdout, format!("{size:?}\n").as_bytes())
                    .await;
                0
            }
            "lines" => {
                let mut ticks = self.ticks.subscribe();
                for number in 1.. {
                    ticks.wait_for(|ticks| *ticks >= number).await.unwrap();
                    self.write(OutputStream::Stdout, format!("line {number}\n").as_bytes())
                        .await;
                }
                0
            }
            _ => std::future::pending().await,
        }
    }

    async fn cat(&self) -> i64 {
        let mut stdin = self.stdin_end.lock().unwrap().take().unwrap();
        if self.config.tty && self.config.image == "debian" {
            self.write(OutputStream::Stdout, b"ready\r\n").await;
        }
        while let Some(Input::Data(data)) = stdin.recv().await {
            self.write(OutputStream::Stdout, &data).await;
            if self.config.tty && data.contains(&4) {
                break;
            }
        }
        0
    }
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            containers: Mutex::default(),
            execs: Mutex::default(),
            images: Mutex::new(vec!["debian:latest".to_owned()]),
            events: broadcast::Sender::new(64),
            pull: Mutex::default(),
            hold_pull: watch::Sender::new(false),
            cancelled_pulls: watch::Sender::new(0),
            let_start: watch::Sender::new(true),
            starting: watch::Sender::new(0),
            observers: watch::Sender::new(0),
            detached: watch::Sender::new(0),
            uploaded: Mutex::default(),
            counter: AtomicUsize::new(1),
        })
    }

    pub(crate) fn next_id(&self) -> String {
        format!("{:064x}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn find(&self, id: &str) -> ApiResult<Arc<Process>> {
        let name = id.strip_prefix('/').unwrap_or(id);
        let containers = self.containers.lock().unwrap();
        let found = containers
            .iter()
            .find(|c| c.name == name || c.id.starts_with(name));
        found
            .cloned()
            .ok_or_else(|| ApiError::not_found(format!("No such container: {id}")))
    }

    /// Makes a container without a request.
    pub(crate) fn add(
        &self,
        name: &str,
        command: &[&str],
        adapt: impl FnOnce(&mut ContainerConfig),
    ) -> Arc<Process> {
        let cmd = Some(command.iter().map(|word| (*word).to_owned()).collect());
        let mut config = ContainerConfig {
            cmd,
            image: "debian".to_owned(),
            ..ContainerConfig::default()
        };
        adapt(&mut config);
        let process = Process::new(self.next_id(), name.to_owned(), config);
        self.containers.lock().unwrap().push(Arc::clone(&process));
        process
    }

    pub(crate) fn emit(&self, action: &str, process: &Process) {
        let now = Timestamp::now();
        let mut event = Event {
            kind: "container".to_owned(),
            action: action.to_owned(),
            time: now.secs,
            time_nano: now.unix_nanos(),
            scope: "local".to_owned(),
            ..Event::default()
        };
        event.actor.id.clone_from(&process.id);
        event
            .actor
            .attributes
            .insert("image".to_owned(), process.config.image.clone());
        event
            .actor
            .attributes
            .insert("name".to_owned(), process.name.clone());
        let _nobody_listens = self.events.send(event).is_err();
    }

    /// Waits until `count` observers are there.
    pub(crate) async fn until_observers(&self, count: usize) {
        let mut observers = self.observers.subscribe();
        crate::rig::patient(observers.wait_for(|now| *now == count))
            .await
            .unwrap();
    }
}
