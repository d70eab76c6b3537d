//! What containerd runs: `start` brings up a shim and tells its address, `delete` cleans up after one that died.
//!
//! Contract: <https://github.com/containerd/containerd/blob/main/core/runtime/v2/README.md>

use std::env;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use havre_cgroup::{Cgroup, Host};
use havre_shim_proto::ExitRecord;
use havre_shim_proto::task::DeleteResponse;
use havre_sys::fd::self_exe_readonly;
use havre_sys::net::unix_listen_at;
use havre_sys::spawn::{Program, Spawn};
use havre_types::{Digest, Timestamp};
use prost::Message as _;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::error::{ShimError, Step as _};
use crate::service::launch::read_spec;

/// Environment variable with the socket of containerd's ttrpc server.
const EVENTS: &str = "TTRPC_ADDRESS";
/// File in the bundle from which containerd reads the address after its own restart.
const ADDRESS_FILE: &str = "address";
/// Where sockets are whose path in the bundle would be too long for a socket address.
const SHORT_DIRECTORY: &str = "/run/containerd-shim-havre";
/// Longest path in a socket address (`man 7 unix`), without the final NUL.
const PATH_LIMIT: usize = 107;

/// What containerd says on the command line.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// `-namespace`.
    pub namespace: String,
    /// `-id`.
    pub id: String,
    /// `-address`: containerd's own socket.
    pub address: String,
    /// `-bundle`, or the working directory.
    pub bundle: PathBuf,
}

/// Brings up a shim that outlives this process, and gives its address.
///
/// The shim runs from a copy of the program that nobody can write, because processes of the container could reach
/// the original through `/proc` (CVE-2019-5736).
///
/// # Errors
/// Fails when the socket cannot be made or the program cannot be started.
pub fn start(call: &Invocation) -> Result<String, ShimError> {
    if call.id.is_empty() {
        return Err(ShimError::Missing { what: "-id" });
    }
    let (directory, name) = socket_place(call)?;
    let dir = open_directory(&directory)?;
    let mode = Mode::RUSR | Mode::WUSR;
    let listener = match unix_listen_at(dir.as_fd(), OsStr::new(&name), mode) {
        // Left by a shim that was killed: containerd makes sure that no other of this name lives.
        Err(error) if error.raw_os_error() == Some(Errno::ADDRINUSE.raw_os_error()) => {
            fs_err::remove_file(directory.join(&name)).step("remove the old socket")?;
            unix_listen_at(dir.as_fd(), OsStr::new(&name), mode)
        }
        other => other,
    };
    let listener = listener.step("make the socket")?;
    let socket = directory.join(&name);
    let address = format!("unix://{}", socket.display());
    fs_err::write(call.bundle.join(ADDRESS_FILE), &address).step("write the address")?;
    spawn(call, &socket, &listener)?;
    Ok(address)
}

fn spawn(call: &Invocation, socket: &Path, listener: &OwnedFd) -> Result<(), ShimError> {
    let program = self_exe_readonly().step("make a read-only copy of the program")?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .step("open `/dev/null`")?;
    // containerd reads the log of its shims from this pipe; without it nobody does.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = open(call.bundle.join("log"), flags, Mode::empty());
    let events = env::var_os(EVENTS).unwrap_or_default();
    let words: [&OsStr; 12] = [
        "containerd-shim-havre-v2".as_ref(),
        "serve".as_ref(),
        "--namespace".as_ref(),
        call.namespace.as_ref(),
        "--id".as_ref(),
        call.id.as_ref(),
        "--bundle".as_ref(),
        call.bundle.as_ref(),
        "--socket".as_ref(),
        socket.as_ref(),
        "--events".as_ref(),
        &events,
    ];
    let argv = words.iter().map(|word| CString::new(word.as_bytes()));
    let argv: Vec<_> = argv
        .collect::<Result<_, _>>()
        .map_err(std::io::Error::from)
        .step("pass the arguments on")?;
    let bundle = open_directory(&call.bundle)?;
    Spawn::new(Program::Fd(program.as_fd()), argv)
        .cwd(bundle.as_fd())
        .fd(null.as_fd(), 0)
        .fd(null.as_fd(), 1)
        .fd(log.as_ref().unwrap_or(&null).as_fd(), 2)
        .fd(listener.as_fd(), 3)
        .new_session()
        .spawn()
        .step("start the shim")?;
    Ok(())
}

/// The bundle if its path fits, else a directory of our own with a name made of everything that tells shims apart.
fn socket_place(call: &Invocation) -> Result<(PathBuf, String), ShimError> {
    let in_bundle = call.bundle.join("shim.sock");
    if in_bundle.as_os_str().len() <= PATH_LIMIT {
        return Ok((call.bundle.clone(), "shim.sock".to_owned()));
    }
    let directory = PathBuf::from(SHORT_DIRECTORY);
    fs_err::create_dir_all(&directory).step("make the directory of sockets")?;
    rustix::fs::chmod(&directory, Mode::RWXU).step("close the directory of sockets")?;
    let whole = format!(
        "{}\0{}\0{}",
        call.address,
        call.namespace,
        call.bundle.display()
    );
    let digest = Digest::sha256_of(whole.as_bytes());
    Ok((directory, digest.hex().chars().take(32).collect()))
}

fn open_directory(path: &Path) -> Result<OwnedFd, ShimError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).step("open the bundle")
}

/// Removes what a dead shim left and gives the answer that containerd expects on standard output. The container
/// itself died with its shim.
///
/// # Errors
/// Fails when the bundle's configuration cannot be read.
pub fn delete(call: &Invocation) -> Result<Vec<u8>, ShimError> {
    let spec = read_spec(&call.bundle).map_err(|failure| ShimError::Config {
        reason: failure.message,
    })?;
    let path = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().clone());
    let path = path
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("/").join(&call.id));
    let cgroup = Host::detect().and_then(|host| Cgroup::open(&host, &path));
    if let Ok(cgroup) = cgroup
        && let Err(error) = cgroup.kill_all().and_then(|()| cgroup.delete())
    {
        crate::error::note(&error.to_string());
    }
    let (directory, name) = socket_place(call)?;
    if fs_err::remove_file(directory.join(name)).is_err() {
        // It went with its shim.
    }
    let record = fs_err::read(call.bundle.join(ExitRecord::FILE))
        .ok()
        .and_then(|bytes| ExitRecord::from_json(&bytes).ok());
    let answer = match record {
        Some(record) => DeleteResponse {
            pid: record.pid,
            exit_status: record.exit_status,
            exited_at: Some(record.exited_at.into()),
        },
        None => DeleteResponse {
            pid: fs_err::read_to_string(call.bundle.join("init.pid"))
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
            exit_status: 137,
            exited_at: Some(Timestamp::now().into()),
        },
    };
    Ok(answer.encode_to_vec())
}
