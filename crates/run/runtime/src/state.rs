//! What a container says of itself: to hooks, and to `havre-runtime state`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// The version of the specification that the states we write follow.
pub const OCI_VERSION: &str = "1.2.0";

/// Where a container is in its life
/// (<https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits at the gate.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

/// The state object of the specification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The version of the specification.
    #[serde(rename = "ociVersion")]
    pub version: String,
    /// The container's name.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Its first process, 0 if there is none.
    pub pid: i32,
    /// The directory of its configuration.
    pub bundle: PathBuf,
    /// The annotations of its configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl State {
    /// The state of a container that is being made from `spec`.
    #[must_use]
    pub fn creating(id: &str, bundle: &Path, spec: &Spec) -> Self {
        let annotations = spec.annotations().iter().flatten();
        Self {
            version: OCI_VERSION.to_owned(),
            id: id.to_owned(),
            status: Status::Creating,
            pid: 0,
            bundle: bundle.to_owned(),
            annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }

    /// The same container at another point of its life.
    #[must_use]
    pub fn at(&self, status: Status, pid: i32) -> Self {
        Self {
            status,
            pid,
            ..self.clone()
        }
    }
}
