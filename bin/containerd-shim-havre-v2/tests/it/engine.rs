//! What an engine does, in the smallest form: a bundle with a busybox root, a spawned shim, a client.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fs_err::os::unix::fs::symlink;
use havre_logs::{ReadOptions, Reader};
use havre_shim_proto::attach::{AttachRequest, Stream};
use havre_shim_proto::client::{AttachReader, AttachWriter, TaskClient, attach};
use havre_shim_proto::task::{
    CreateTaskRequest, DeleteRequest, ExecProcessRequest, KillRequest, ShutdownRequest,
    StartRequest, WaitRequest, WaitResponse,
};
use havre_shim_proto::{Any, ExitRecord, HavreOptions, LogOptions, RpcError, TaskRequest};
use havre_sys::net::unix_listen_at;
use havre_sys::process::Child;
use havre_sys::spawn::{Program, Spawn};
use rustix::fs::{Mode, OFlags, open};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// No step of a test takes longer on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on a single-threaded runtime.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { within(test).await });
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it takes too long")
}

/// How the container is to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) terminal: bool,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) max_size: u64,
    pub(crate) memory: Option<i64>,
}

/// A shim with one container.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) dir: TempDir,
    pub(crate) id: String,
    pub(crate) client: TaskClient,
    pub(crate) child: Child,
}

/// One copy, so that the roots of all tests are links to one file.
fn busybox() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim-busybox");
        let next = path.with_extension(std::process::id().to_string());
        fs_err::copy("/bin/busybox", &next).unwrap();
        fs_err::rename(next, &path).unwrap();
        path
    })
}

fn spec(id: &str, script: &str, wish: Wish) -> Value {
    let caps = json!(["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]);
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": wish.terminal,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
            ],
        },
    });
    if let Some(limit) = wish.memory {
        spec["linux"]["resources"] = json!({"memory": {"limit": limit, "swap": limit}});
    }
    spec
}

impl Shim {
    /// A shim whose container runs `script` in a shell; created, not started.
    pub(crate) async fn create(script: &str, wish: Wish) -> Self {
        let shim = Self::spawn(script, wish).await;
        shim.call(&shim.create_request(wish)).await;
        shim
    }

    pub(crate) async fn start(script: &str, wish: Wish) -> Self {
        let shim = Self::create(script, wish).await;
        shim.start_process("").await;
        shim
    }

    /// A shim without a container.
    pub(crate) async fn spawn(script: &str, wish: Wish) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let id = format!("havre-shim-{}-{number}", std::process::id());
        let rootfs = dir.path().join("rootfs");
        for name in ["bin", "proc", "dev", "tmp"] {
            fs_err::create_dir_all(rootfs.join(name)).unwrap();
        }
        fs_err::hard_link(busybox(), rootfs.join("bin/busybox")).unwrap();
        symlink("busybox", rootfs.join("bin/sh")).unwrap();
        fs_err::write(
            dir.path().join("config.json"),
            spec(&id, script, wish).to_string(),
        )
        .unwrap();
        let child = spawn_shim(&id, dir.path());
        let client = connect(dir.path()).await;
        Self {
            dir,
            id,
            client,
            child,
        }
    }

    pub(crate) fn create_request(&self, wish: Wish) -> CreateTaskRequest {
        let log = LogOptions {
            driver: "json-file".to_owned(),
            path: self.log_path().display().to_string(),
            max_size: wish.max_size,
            max_file: 50,
            attrs: std::iter::once(("tag".to_owned(), "t".to_owned())).collect(),
            ..LogOptions::default()
        };
        let Wish {
            open_stdin,
            stdin_once,
            ..
        } = wish;
        let options = HavreOptions {
            log: Some(log),
            open_stdin,
            stdin_once,
            ..HavreOptions::default()
        };
        CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.dir.path().display().to_string(),
            terminal: wish.terminal,
            options: Some(options.to_any()),
            ..CreateTaskRequest::default()
        }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("container-json.log")
    }

    /// What the log holds of a stream; `None` for both.
    pub(crate) fn logged(&self, stream: Option<havre_logs::Stream>) -> Vec<u8> {
        let mut reader = Reader::open(&self.log_path(), ReadOptions::default()).unwrap();
        let mut out = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            if stream.is_none_or(|stream| stream == entry.stream) {
                out.extend_from_slice(&entry.bytes);
            }
        }
        assert_eq!(reader.skipped(), 0, "the log is damaged");
        out
    }

    pub(crate) async fn call<R: TaskRequest>(&self, request: &R) -> R::Response {
        self.try_call(request)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", R::METHOD))
    }

    pub(crate) async fn try_call<R: TaskRequest>(
        &self,
        request: &R,
    ) -> Result<R::Response, RpcError> {
        within(self.client.call(request)).await
    }

    pub(crate) async fn start_process(&self, exec_id: &str) -> u32 {
        let request = StartRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
        };
        self.call(&request).await.pid
    }

    pub(crate) async fn wait(&self, exec_id: &str) -> WaitResponse {
        self.call(&WaitRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
        })
        .await
    }

    pub(crate) async fn kill(&self, exec_id: &str, signal: u32) {
        let exec_id = exec_id.to_owned();
        self.call(&KillRequest {
            id: self.id.clone(),
            exec_id,
            signal,
            all: false,
        })
        .await;
    }

    pub(crate) async fn delete(&self, exec_id: &str) {
        let exec_id = exec_id.to_owned();
        self.call(&DeleteRequest {
            id: self.id.clone(),
            exec_id,
        })
        .await;
    }

    /// Announces an exec process.
    pub(crate) async fn add(&self, exec_id: &str, args: &[&str], terminal: bool) {
        let process = json!({
            "terminal": terminal, "user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/",
        });
        let request = ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            terminal,
            spec: Some(Any::json("process", process.to_string().into_bytes())),
            ..ExecProcessRequest::default()
        };
        self.call(&request).await;
    }

    pub(crate) async fn attach(&self, exec_id: &str, stdin: bool) -> (AttachReader, AttachWriter) {
        let exec_id = exec_id.to_owned();
        let request = AttachRequest {
            exec_id,
            stdin,
            stdout: true,
            stderr: true,
        };
        within(attach(&self.dir.path().join("attach.sock"), &request))
            .await
            .unwrap()
    }

    pub(crate) fn record(&self) -> ExitRecord {
        let bytes = fs_err::read(self.dir.path().join(ExitRecord::FILE)).unwrap();
        ExitRecord::from_json(&bytes).unwrap()
    }

    /// Deletes the container, ends the shim and checks that nothing is left.
    pub(crate) async fn finish(self) {
        self.delete("").await;
        self.call(&ShutdownRequest {
            id: self.id.clone(),
            now: false,
        })
        .await;
        let exit = self.child.wait().unwrap();
        assert_eq!(exit.status(), 0, "{}", self.notes());
        assert_eq!(self.notes(), "");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
    }

    /// What the shim wrote to its own log.
    pub(crate) fn notes(&self) -> String {
        fs_err::read_to_string(self.dir.path().join("shim.log")).unwrap()
    }

    /// Directories of the container's cgroup that exist.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let controllers = fs_err::read_dir("/sys/fs/cgroup").unwrap();
        let mut paths: Vec<_> = controllers
            .map(|entry| entry.unwrap().path().join(&self.id))
            .collect();
        paths.push(Path::new("/sys/fs/cgroup").join(&self.id));
        paths.into_iter().filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // The container dies with its shim; a test that failed leaves its cgroup, which is empty then.
        if self.child.kill(rustix::process::Signal::KILL).is_ok() {
            self.child.wait().ok();
        }
        for path in self.cgroups() {
            // Its processes are dead, but the kernel takes its time to let go of them.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(2) {
                match fs_err::remove_dir(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        std::thread::yield_now();
                    }
                    _ => break,
                }
            }
        }
    }
}

pub(crate) async fn connect(bundle: &Path) -> TaskClient {
    TaskClient::new(UnixStream::connect(bundle.join("shim.sock")).await.unwrap())
}

fn spawn_shim(id: &str, bundle: &Path) -> Child {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(bundle, flags, Mode::empty()).unwrap();
    let mode = Mode::RUSR | Mode::WUSR;
    let task = unix_listen_at(dir.as_fd(), OsStr::new("shim.sock"), mode).unwrap();
    let attach = unix_listen_at(dir.as_fd(), OsStr::new("attach.sock"), mode).unwrap();
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let log = fs_err::File::create(bundle.join("shim.log")).unwrap();
    let program = CString::new(env!("CARGO_BIN_EXE_containerd-shim-havre-v2")).unwrap();
    let bundle = OsStr::from_bytes(bundle.as_os_str().as_bytes())
        .to_str()
        .unwrap();
    let words = [
        "shim",
        "serve",
        "--namespace",
        "havre",
        "--id",
        id,
        "--bundle",
        bundle,
    ];
    let argv = words
        .iter()
        .map(|word| CString::new(*word).unwrap())
        .collect();
    Spawn::new(Program::Path(&program), argv)
        .cwd(dir.as_fd())
        .fd(null.as_fd(), 0)
        .fd(null.as_fd(), 1)
        .fd(log.as_fd(), 2)
        .fd(task.as_fd(), 3)
        .fd(attach.as_fd(), 4)
        .new_session()
        .spawn()
        .unwrap()
}

/// Everything that comes until the shim closes, by stream.
pub(crate) async fn read_all(mut reader: AttachReader) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((stream, bytes)) = within(reader.next()).await.unwrap() {
        match stream {
            Stream::Stderr => err.extend(bytes),
            _ => out.extend(bytes),
        }
    }
    (out, err)
}

/// Reads standard output until it contains `text`.
pub(crate) async fn read_until(reader: &mut AttachReader, text: &str) -> String {
    let mut out = String::new();
    while !out.contains(text) {
        let next = within(reader.next()).await.unwrap();
        let (_, bytes) = next.unwrap_or_else(|| panic!("output ended without {text:?}: {out:?}"));
        out.push_str(&String::from_utf8_lossy(&bytes));
    }
    out
}
