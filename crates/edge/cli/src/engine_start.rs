//! Starts `havred` when nobody listens on the default socket, so that `havre run` works on a fresh machine.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use havre_client::Client;
use havre_sys::spawn::{Program, Spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ui::Ui;

const ENGINE: &str = "havred";
/// Where the engine's messages go until it keeps a log of its own.
const LOG_DIR: &str = "/run/havre";
const LOG: &str = "/run/havre/havred.log";
/// How long the engine may take to answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long another engine may take to answer after ours has ended.
const GRACE: Duration = Duration::from_secs(2);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(2);

/// Starts the engine in the background and waits until it answers.
pub(crate) async fn start(
    ui: &mut Ui,
    client: &Client,
    path: Option<&OsStr>,
) -> anyhow::Result<()> {
    let program = find(path).context("no havred beside this program or in PATH")?;
    ui.complain(&format!(
        "No engine is running: starting {} in the background",
        program.display()
    ));
    let pidfd = spawn(&program)?;
    let answers = async {
        let mut ticks = tokio::time::interval(PAUSE);
        let mut ended = None;
        loop {
            ticks.tick().await;
            if client.ping().await.is_ok() {
                return Ok(());
            }
            if ended.is_none() && has_ended(&pidfd) {
                ended = Some(Instant::now());
            }
            // Somebody else may have started one at the same time; ours then gives way to it.
            if ended.is_some_and(|at| at.elapsed() > GRACE) {
                anyhow::bail!("havred ended at once; {LOG} says why");
            }
        }
    };
    match tokio::time::timeout(DEADLINE, answers).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => anyhow::bail!(
            "havred did not answer within {} seconds; {LOG} may say why",
            DEADLINE.as_secs()
        ),
    }
}

/// A pidfd is readable once its process has ended.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The engine beside this program, or the first in PATH.
fn find(path: Option<&OsStr>) -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join(ENGINE)));
    let in_path = path
        .into_iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join(ENGINE));
    beside
        .into_iter()
        .chain(in_path)
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn spawn(program: &Path) -> anyhow::Result<OwnedFd> {
    fs_err::create_dir_all(LOG_DIR)?;
    let log = fs_err::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(LOG)?;
    let null = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let program = CString::new(program.as_os_str().as_bytes())?;
    let env = std::env::vars_os()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<Vec<_>, _>>()?;
    let child = Spawn::new(Program::Path(&program), vec![program.clone()])
        .env(env)
        .fd(null.as_fd(), 0)
        .fd(log.as_fd(), 1)
        .fd(log.as_fd(), 2)
        .new_session()
        .spawn()
        .with_context(|| format!("failed to start {}", program.to_string_lossy()))?;
    Ok(child.pidfd)
}
