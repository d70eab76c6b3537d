//! What the helper program is told about a log that leaves the machine's files: the engine writes it, the shim hands it
//! on without looking at it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use havre_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::options::OptionMap;

/// A log for the helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// One of the drivers that are remote ([`crate::options::Driver::is_remote`]).
    pub driver: String,
    /// The container's options.
    pub options: OptionMap,
    /// The finished tag.
    pub tag: String,
    /// Labels and variables that the options choose.
    pub attrs: BTreeMap<String, String>,
    /// Name of the machine.
    pub hostname: String,
    /// Socket of the systemd journal.
    pub journal: PathBuf,
    /// Whose log it is.
    pub container: Origin,
}

/// The container as drivers name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Full id.
    pub id: String,
    /// Name without slash.
    pub name: String,
    /// Image as the user named it.
    pub image: String,
    /// Id of the image.
    pub image_id: String,
    /// Program and arguments.
    pub command: String,
    /// When the container was made.
    pub created: Timestamp,
}
