//! Checkpoints: their names and directories are checked here, the files are the shim's work.
//!
//! A checkpoint is a directory of its own in the container's, or in one that the caller names. What it says about a
//! container counts for nothing: a start from it runs what the container's own record says.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, CheckpointAt, Checkpoints};
use havre_engine_types::{CheckpointCreateRequest, CheckpointSummary};
use havre_sys::fsroot::Root;
use havre_types::Timestamp;
use serde::Serialize;
use tokio::sync::oneshot;

use super::actor::{Actor, Command, SHIM_DEADLINE};
use super::record::Fixed;
use super::registry::Container;
use crate::engine::{Engine, Shared};
use crate::error::{internal, not_running};
use crate::host;
use crate::images::blocking;
use crate::state::Status;

/// What is known of a checkpoint, for people.
const ABOUT: &str = "config.json";
/// What CRIU always writes: a directory with neither is no checkpoint.
const INVENTORY: &str = "inventory.img";

#[async_trait]
impl Checkpoints for Engine {
    async fn create(&self, id: &str, request: CheckpointCreateRequest) -> ApiResult<()> {
        let at = CheckpointAt {
            name: request.checkpoint_id,
            directory: request.checkpoint_dir,
        };
        check_name(&at.name)?;
        let container = self.shared.registry.find(id)?;
        let running = matches!(
            container.now().state.status,
            Status::Running | Status::Paused
        );
        if !running {
            return Err(not_running(container.id().as_str()));
        }
        let parent = parent(&self.shared, &container, &at)?;
        let (name, shown) = (at.name.clone(), id.to_owned());
        let path = blocking(move || reserve(&parent, &name, &shown)).await?;
        let (images, exit) = (path.clone(), request.exit);
        let exits = container.now().state.exits;
        let made = self
            .ask(id, |reply| Command::Checkpoint {
                images,
                exit,
                reply,
            })
            .await;
        let fixed = container.fixed();
        match made {
            Ok(()) => {
                if exit {
                    await_end(&container, exits).await;
                }
                let about = About::of(&fixed, &at.name, exit);
                // It is there, with or without this.
                if let Err(err) = blocking(move || about.write(&path)).await {
                    tracing::warn!(container = %fixed.id, error = %err.message, "a checkpoint is not described");
                }
                Ok(())
            }
            Err(err) => {
                let removed = blocking(move || Ok(fs_err::remove_dir_all(path))).await;
                if let Ok(Err(left)) = removed {
                    tracing::warn!(error = %left, "the files of a failed checkpoint stay");
                }
                let text = format!("Cannot checkpoint container {id}: {}", err.message);
                Err(ApiError::new(err.kind, text))
            }
        }
    }

    async fn list(&self, id: &str, directory: &str) -> ApiResult<Vec<CheckpointSummary>> {
        let container = self.shared.registry.find(id)?;
        let at = CheckpointAt {
            name: String::new(),
            directory: directory.to_owned(),
        };
        let path = parent(&self.shared, &container, &at)?;
        let (own, id) = (directory.is_empty(), id.to_owned());
        blocking(move || list(&path, own, &id)).await
    }

    async fn remove(&self, id: &str, at: CheckpointAt) -> ApiResult<()> {
        check_name(&at.name)?;
        let container = self.shared.registry.find(id)?;
        let parent = parent(&self.shared, &container, &at)?;
        let id = id.to_owned();
        blocking(move || {
            find(&parent, &at.name, &id)?;
            let removed = Root::open(&parent).and_then(|root| root.remove_all(at.name.as_ref()));
            removed.map_err(|err| internal("failed to remove the checkpoint", &err))
        })
        .await
    }

    async fn start(&self, id: &str, at: CheckpointAt) -> ApiResult<()> {
        check_name(&at.name)?;
        let container = self.shared.registry.find(id)?;
        if container.now().state.status.is_running() {
            // With the words of the actor, which also knows of a paused one.
            return self.ask(id, start(None)).await;
        }
        let parent = parent(&self.shared, &container, &at)?;
        let name = format!("/{}", container.fixed().name);
        let path = blocking(move || find(&parent, &at.name, &name)).await?;
        self.ask(id, start(Some(path))).await
    }
}

fn start(from: Option<PathBuf>) -> impl FnOnce(oneshot::Sender<ApiResult<()>>) -> Command {
    move |reply| Command::Start { from, reply }
}

impl Actor {
    /// Has the shim write the processes. Those of a container that is to end are gone then, by the user's will: no
    /// restart.
    pub(super) async fn checkpoint(&mut self, images: &Path, exit: bool) -> ApiResult<()> {
        if !matches!(self.state.status, Status::Running | Status::Paused) {
            return Err(not_running(self.fixed.id.as_str()));
        }
        let Some(shim) = self.shim.clone() else {
            return Err(not_running(self.fixed.id.as_str()));
        };
        let before = (self.no_restart, self.state.stopped_by_user);
        if exit {
            // Before the end is seen, which comes by another way.
            (self.no_restart, self.state.stopped_by_user) = (true, true);
        }
        let written = shim.checkpoint(images, exit).await;
        if written.is_err() {
            (self.no_restart, self.state.stopped_by_user) = before;
        } else {
            self.shared.announce(&self.fixed, "checkpoint", &[]);
        }
        written
    }
}

/// The processes are gone; who asked may start it again at once, so that must have been seen.
async fn await_end(container: &Container, exits: u64) {
    let mut view = container.view.clone();
    let ended = view.wait_for(|view| view.state.exits > exits || view.state.removed);
    if tokio::time::timeout(SHIM_DEADLINE, ended).await.is_err() {
        tracing::warn!(container = %container.id(), "the end of a container after its checkpoint is not seen");
    }
}

// === names and directories ===

/// <https://github.com/moby/moby/blob/master/daemon/names/names.go> (`RestrictedNamePattern`), and no dot at the end.
fn check_name(name: &str) -> ApiResult<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let good = name.len() > 1
        && name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(fits)
        && !name.ends_with('.');
    if good {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "invalid checkpoint ID {name:?}, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// The directory that holds the checkpoint.
fn parent(shared: &Shared, container: &Container, at: &CheckpointAt) -> ApiResult<PathBuf> {
    if at.directory.is_empty() {
        return Ok(shared.places.data(container.id()).join("checkpoints"));
    }
    let path = PathBuf::from(&at.directory);
    if path.is_absolute() && !at.directory.contains('\0') {
        return Ok(path);
    }
    Err(ApiError::invalid(format!(
        "checkpoint directory {:?} must be an absolute path",
        at.directory
    )))
}

/// Makes the directory of a new checkpoint.
fn reserve(parent: &Path, name: &str, container: &str) -> ApiResult<PathBuf> {
    let failed =
        |err: &std::io::Error| internal(&format!("cannot checkpoint container {container}"), err);
    if !parent.is_dir() {
        host::make_private_dir(parent).map_err(|err| failed(&err))?;
    }
    let path = parent.join(name);
    match rustix::fs::mkdir(&path, rustix::fs::Mode::RWXU) {
        Ok(()) => Ok(path),
        Err(rustix::io::Errno::EXIST) if path.is_dir() => Err(ApiError::conflict(format!(
            "cannot checkpoint container {container}: checkpoint with name {name} already exists for container {container}"
        ))),
        Err(rustix::io::Errno::EXIST) => Err(ApiError::conflict(format!(
            "cannot checkpoint container {container}: {} exists and is not a directory",
            path.display()
        ))),
        Err(errno) => Err(failed(&errno.into())),
    }
}

/// The directory of a checkpoint that is there: a directory itself, not a link to one, and one with a checkpoint in it.
fn find(parent: &Path, name: &str, container: &str) -> ApiResult<PathBuf> {
    let path = parent.join(name);
    let missing = || {
        ApiError::not_found(format!(
            "checkpoint {name} does not exist for container {container}"
        ))
    };
    let meta = fs_err::symlink_metadata(&path).map_err(|_missing| missing())?;
    if !meta.is_dir() {
        return Err(ApiError::conflict(format!(
            "{} exists and is not a directory",
            path.display()
        )));
    }
    let known = |file: &str| fs_err::symlink_metadata(path.join(file)).is_ok_and(|m| m.is_file());
    if known(INVENTORY) || known(ABOUT) {
        Ok(path)
    } else {
        Err(missing())
    }
}

fn list(parent: &Path, own: bool, container: &str) -> ApiResult<Vec<CheckpointSummary>> {
    let shown = parent.display().to_string();
    let entries = match fs_err::read_dir(parent) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound && own => return Ok(Vec::new()),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return Err(ApiError::not_found(format!(
                "checkpoint directory {shown:?} does not exist for container {container}: stat {shown}: no such file or directory"
            )));
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(ApiError::invalid(format!(
                "checkpoint directory {shown:?} exists but is not a directory"
            )));
        }
        Err(err) => return Err(internal("failed to list the checkpoints", &err)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|err| internal("failed to list the checkpoints", &err))?;
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (true, Ok(name)) = (is_dir, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort();
    let list = names.into_iter().map(|name| CheckpointSummary { name });
    Ok(list.collect())
}

/// `config.json` of a checkpoint. Nothing reads it again.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct About {
    name: String,
    #[serde(rename = "ContainerID")]
    container_id: String,
    image: String,
    created: Timestamp,
    exit: bool,
}

impl About {
    fn of(fixed: &Fixed, name: &str, exit: bool) -> Self {
        Self {
            name: name.to_owned(),
            container_id: fixed.id.to_string(),
            image: fixed.config.image.clone(),
            created: Timestamp::now(),
            exit,
        }
    }

    fn write(&self, directory: &Path) -> ApiResult<()> {
        let failed =
            |err: &dyn std::error::Error| internal("failed to describe the checkpoint", err);
        let body = serde_json::to_vec(self).map_err(|err| failed(&err))?;
        fs_err::write(directory.join(ABOUT), body).map_err(|err| failed(&err))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use havre_types::ErrorKind;

    use super::*;

    #[test]
    fn names_are_one_component_in_dockers_alphabet() {
        for good in ["c1", "before-update", "a.b_c-d", "0x"] {
            check_name(good).unwrap();
        }
        let long = "x".repeat(256);
        for bad in [
            "",
            "x",
            ".",
            "..",
            "../x",
            "/etc",
            "a/b",
            "-a",
            ".a",
            "a.",
            "a b",
            "a\n",
            "a\0b",
            "é1",
            "a\u{2024}b",
            long.as_str(),
        ] {
            let err = check_name(bad).unwrap_err();
            assert_eq!(err.kind, ErrorKind::InvalidParameter, "{bad:?}");
            assert!(err.message.contains("invalid checkpoint ID"), "{bad:?}");
        }
    }

    #[test]
    fn only_a_directory_with_a_checkpoint_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("checkpoints");
        let kind = |name: &str| find(&parent, name, "box").unwrap_err().kind;
        assert_eq!(kind("c1"), ErrorKind::NotFound);
        let path = reserve(&parent, "c1", "box").unwrap();
        assert_eq!(kind("c1"), ErrorKind::NotFound);
        assert_eq!(
            reserve(&parent, "c1", "box").unwrap_err().kind,
            ErrorKind::Conflict
        );
        fs_err::write(path.join(ABOUT), "{}").unwrap();
        assert_eq!(find(&parent, "c1", "box").unwrap(), path);
        symlink(&path, parent.join("c2")).unwrap();
        assert_eq!(kind("c2"), ErrorKind::Conflict);
        fs_err::write(parent.join("c3"), "").unwrap();
        assert_eq!(
            reserve(&parent, "c3", "box").unwrap_err().kind,
            ErrorKind::Conflict
        );
        let names: Vec<String> = list(&parent, true, "box")
            .unwrap()
            .into_iter()
            .map(|summary| summary.name)
            .collect();
        assert_eq!(names, ["c1"]);
    }

    #[test]
    fn a_directory_that_is_missing_is_empty_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert_eq!(list(&missing, true, "box").unwrap(), []);
        assert_eq!(
            list(&missing, false, "box").unwrap_err().kind,
            ErrorKind::NotFound
        );
        fs_err::write(&missing, "").unwrap();
        assert_eq!(
            list(&missing, false, "box").unwrap_err().kind,
            ErrorKind::InvalidParameter
        );
    }
}
