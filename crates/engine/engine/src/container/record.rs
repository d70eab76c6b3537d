//! What is written down about a container: what was decided about it, and its state.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_engine_types::{ContainerConfig, Health, HostConfig};
use havre_types::{ContainerId, ImageId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::network::{Live, Wishes};
use crate::plan::log;
use crate::state::Status;

/// Kind of the documents in the metadata store.
pub(crate) const KIND: &str = "container";
/// The version of the document; a newer one is left alone and named.
const VERSION: u32 = 1;

/// What was decided when the container was made, as of the last `rename` or `update`: these replace the whole, so
/// that who holds one always sees a name and limits that belong together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fixed {
    pub id: ContainerId,
    pub name: String,
    pub created: Timestamp,
    pub image: ImageId,
    pub platform: String,
    /// The request merged with the image's configuration.
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    /// What it joins, by the networks' names; none in records of before there were networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Wishes>,
}

impl Fixed {
    /// Program and arguments, as `Path` and `Args` show them.
    pub(crate) fn command(&self) -> Vec<String> {
        let mut words = self.config.entrypoint.clone().unwrap_or_default();
        words.extend(self.config.cmd.iter().flatten().cloned());
        words
    }

    pub(crate) fn auto_remove(&self) -> bool {
        self.host_config.auto_remove
    }
}

/// What changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub status: Status,
    pub pid: u32,
    pub exit_code: i64,
    pub error: String,
    pub oom_killed: bool,
    /// The most memory it used, known of a run that was killed for want of it.
    #[serde(default)]
    pub memory_peak: u64,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub restart_count: u32,
    /// By `stop` or `kill`: `unless-stopped` then does not start it with the engine.
    pub stopped_by_user: bool,
    /// Of the current run; none without a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What it has of networks while it runs. The bundle has it, too.
    #[serde(skip)]
    pub live: Option<Arc<Live>>,
    /// How often it ended; a wait for the next exit compares it.
    #[serde(skip)]
    pub exits: u64,
    /// Nothing of it is left but the answer to those who wait.
    #[serde(skip)]
    pub removed: bool,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            memory_peak: 0,
            started_at: Timestamp::default(),
            finished_at: Timestamp::default(),
            restart_count: 0,
            stopped_by_user: false,
            health: None,
            live: None,
            exits: 0,
            removed: false,
        }
    }

    /// Why the last start failed.
    pub(crate) fn start_error(&self) -> Option<&str> {
        Some(self.error.as_str()).filter(|error| !error.is_empty() && !self.shim_was_silent())
    }

    /// The last run ended under a shim that did not say so.
    pub(crate) fn shim_was_silent(&self) -> bool {
        self.error == SILENT_SHIM
    }

    /// Docker's word: a container whose first start failed is still "created".
    pub(crate) fn docker_status(&self) -> &'static str {
        match self.status {
            Status::Exited | Status::Starting if self.started_at.is_zero() => "created",
            Status::Starting => "exited",
            other => other.as_docker(),
        }
    }
}

/// A container as readers see it: a snapshot that never changes.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub fixed: Arc<Fixed>,
    pub state: State,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(flatten)]
    fixed: &'a Fixed,
    state: &'a State,
}

#[derive(Deserialize)]
struct Read {
    version: u32,
    #[serde(flatten)]
    fixed: Fixed,
    state: State,
}

impl Record {
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Written {
            version: VERSION,
            fixed: &self.fixed,
            state: &self.state,
        })
    }

    /// Reads a document; the text says what is wrong with it.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, String> {
        let read: Read = serde_json::from_slice(body).map_err(|err| err.to_string())?;
        if read.version != VERSION {
            return Err(format!("version {} is not known", read.version));
        }
        Ok(Self {
            fixed: Arc::new(read.fixed),
            state: read.state,
        })
    }
}

/// Where a container's files are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
}

impl Places {
    pub(crate) fn all_data(&self) -> PathBuf {
        self.data_root.join("containers")
    }

    pub(crate) fn all_bundles(&self) -> PathBuf {
        self.exec_root.join("containers")
    }

    /// Log and engine files: survives a reboot.
    pub(crate) fn data(&self, id: &ContainerId) -> PathBuf {
        self.all_data().join(id.as_str())
    }

    /// What belongs to one run: sockets, configuration, exit record.
    pub(crate) fn bundle(&self, id: &ContainerId) -> PathBuf {
        self.all_bundles().join(id.as_str())
    }

    /// What `docker logs` reads, with this driver.
    pub(crate) fn log(&self, id: &ContainerId, driver: &str) -> PathBuf {
        log::file(&self.data(id), id, driver)
    }
}

/// The error of a container whose end its shim did not report. It had started: see [`State::start_error`].
const SILENT_SHIM: &str = "the shim of the container did not answer when the container's process ended, and was ended: \
    output that it had not read is lost";

/// The exit record that the shim leaves in the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub exit_status: i64,
    pub exited_at: Timestamp,
    #[serde(default)]
    pub oom_killed: bool,
    #[serde(default)]
    pub memory_peak: u64,
    /// Records of the log that were lost.
    #[serde(default)]
    pub log_dropped: u64,
    /// What was wrong with the end itself.
    #[serde(default)]
    pub error: String,
}

impl Exit {
    /// What is recorded when the shim died with the container and nobody saw the end: killed.
    pub(crate) fn unseen() -> Self {
        Self {
            exit_status: 137,
            exited_at: Timestamp::now(),
            oom_killed: false,
            memory_peak: 0,
            log_dropped: 0,
            error: String::new(),
        }
    }

    /// What is recorded when the process has ended and the shim does not say so; `code` when it could be seen.
    pub(crate) fn unreported(code: Option<i64>, at: Timestamp) -> Self {
        Self {
            exit_status: code.unwrap_or(137),
            exited_at: at,
            error: SILENT_SHIM.to_owned(),
            ..Self::unseen()
        }
    }

    pub(crate) fn read(bundle: &Path) -> Option<Self> {
        let text = fs_err::read(bundle.join("exit.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_of_an_earlier_engine_is_read() {
        let id = "ab".repeat(32);
        let document = json!({
            "version": 1,
            "id": id,
            "name": "box",
            "created": "2026-01-02T03:04:05Z",
            "image": format!("sha256:{}", "cd".repeat(32)),
            "platform": "linux",
            "config": { "Image": "busybox", "Cmd": ["true"] },
            "host_config": { "RestartPolicy": { "Name": "always" } },
            "state": {
                "status": "exited",
                "pid": 0,
                "exit_code": 3,
                "error": "",
                "oom_killed": false,
                "started_at": "2026-01-02T03:04:06Z",
                "finished_at": "2026-01-02T03:04:07Z",
                "restart_count": 2,
                "stopped_by_user": false,
            },
        });
        let record = Record::from_json(&serde_json::to_vec(&document).unwrap()).unwrap();
        assert_eq!(record.fixed.name, "box");
        assert_eq!(record.state.status, Status::Exited);
        assert_eq!((record.state.exit_code, record.state.restart_count), (3, 2));
        assert_eq!(record.state.health, None);
        let again = Record::from_json(&record.to_json().unwrap()).unwrap();
        assert_eq!(again.fixed.host_config, record.fixed.host_config);
    }
}
