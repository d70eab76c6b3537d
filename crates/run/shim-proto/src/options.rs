//! What the engine asks of its own shim beyond the Task API, and the record of an exit that outlives the shim.

use std::collections::HashMap;

use havre_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::well_known::Any;

/// Options of Create for our own shim. Absent under containerd.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HavreOptions {
    /// Where output goes when nobody is attached.
    #[prost(message, optional, tag = "1")]
    pub log: Option<LogOptions>,
    /// Give the process a pipe as stdin instead of `/dev/null`.
    #[prost(bool, tag = "2")]
    pub open_stdin: bool,
    /// Close that pipe when the first attached client has left.
    #[prost(bool, tag = "3")]
    pub stdin_once: bool,
    /// The program that makes the container instead of the shim itself.
    #[prost(message, optional, tag = "4")]
    pub runtime: Option<RuntimeOptions>,
    /// The CRIU program for checkpoints; empty: `criu` in PATH.
    #[prost(string, tag = "5")]
    pub criu: String,
}

/// Options of Checkpoint, containerd's own for runc
/// (<https://github.com/containerd/containerd/blob/main/api/types/runc/options/oci.proto>).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CheckpointOptions {
    /// The container ends with it.
    #[prost(bool, tag = "1")]
    pub exit: bool,
    /// Open TCP connections are kept.
    #[prost(bool, tag = "2")]
    pub open_tcp: bool,
    /// Sockets to processes outside are kept.
    #[prost(bool, tag = "3")]
    pub external_unix_sockets: bool,
    /// Terminals are kept.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// File locks are kept.
    #[prost(bool, tag = "5")]
    pub file_locks: bool,
    /// Namespaces that are made anew and left empty.
    #[prost(string, repeated, tag = "6")]
    pub empty_namespaces: Vec<String>,
    /// What CRIU does about cgroups; empty: nothing.
    #[prost(string, tag = "7")]
    pub cgroups_mode: String,
    /// Where the files go instead of the request's path.
    #[prost(string, tag = "8")]
    pub image_path: String,
    /// Where CRIU's log goes.
    #[prost(string, tag = "9")]
    pub work_path: String,
}

impl CheckpointOptions {
    /// Type URL in the request.
    pub const TYPE_URL: &'static str = "containerd.runc.v1.CheckpointOptions";

    /// Wraps the options for Checkpoint.
    #[must_use]
    pub fn to_any(&self) -> Any {
        Any::pack(Self::TYPE_URL, self)
    }
}

/// An OCI runtime with the command line of runc.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeOptions {
    /// Its absolute path.
    #[prost(string, tag = "1")]
    pub program: String,
    /// Words between its name and the command.
    #[prost(string, repeated, tag = "2")]
    pub arguments: Vec<String>,
}

impl HavreOptions {
    /// Type URL in the request.
    pub const TYPE_URL: &'static str = "havre.shim.v1.CreateOptions";

    /// Wraps the options for Create.
    #[must_use]
    pub fn to_any(&self) -> Any {
        Any::pack(Self::TYPE_URL, self)
    }
}

/// The log of a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LogOptions {
    /// Format of the file: `json-file` or `local`; with `none` there is no file.
    #[prost(string, tag = "1")]
    pub driver: String,
    /// Path of the file that is written now; rotated ones get `.1`, `.2` …
    #[prost(string, tag = "2")]
    pub path: String,
    /// Rotate when the file would grow over this many bytes; 0 = never.
    #[prost(uint64, tag = "3")]
    pub max_size: u64,
    /// Files to keep, the current one included; 0 counts as 1.
    #[prost(uint32, tag = "4")]
    pub max_file: u32,
    /// Attributes written into each line (labels and variables that the user chose).
    #[prost(map = "string, string", tag = "5")]
    pub attrs: HashMap<String, String>,
    /// Rotated files are compressed by the helper.
    #[prost(bool, tag = "6")]
    pub compress: bool,
    /// The helper program, for compression and for `sink`.
    #[prost(string, tag = "7")]
    pub helper: String,
    /// JSON that the helper gets before the records; empty when records stay in files.
    #[prost(string, tag = "8")]
    pub sink: String,
    /// Bytes that may wait for the helper before records are dropped. Without it the container waits.
    #[prost(uint64, optional, tag = "9")]
    pub buffer: Option<u64>,
}

/// `exit.json` in the bundle: written before Wait is answered, so that an engine that was down learns the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Pid of the container's first process.
    pub pid: u32,
    /// 0 to 255; 128 + signal when a signal ended it.
    pub exit_status: u32,
    /// When the shim collected the process.
    pub exited_at: Timestamp,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// The most memory that it used, in bytes. Only known of one that was killed for want of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory_peak: u64,
    /// Records of the log that were lost: no room on the disk, or a slow server in non-blocking mode.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_dropped: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ExitRecord {
    /// File name in the bundle.
    pub const FILE: &'static str = "exit.json";

    /// The record as the file holds it.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Four plain fields: serialising them cannot fail, and an empty text is refused by `from_json`.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`ExitRecord::to_json`] wrote.
    ///
    /// # Errors
    /// Fails on anything else.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_record_is_the_documented_json() {
        let record = ExitRecord {
            pid: 7,
            exit_status: 137,
            exited_at: Timestamp { secs: 0, nanos: 5 },
            oom_killed: false,
            memory_peak: 0,
            log_dropped: 3,
        };
        let text = record.to_json();
        assert_eq!(
            text,
            r#"{"pid":7,"exit_status":137,"exited_at":"1970-01-01T00:00:00.000000005Z","oom_killed":false,"log_dropped":3}"#
        );
        assert_eq!(
            ExitRecord::from_json(text.as_bytes()).expect("own text"),
            record
        );
    }
}
