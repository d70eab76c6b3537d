//! Task events that a shim publishes to containerd, and the service that takes them.
//!
//! Numbers and types: <https://github.com/containerd/containerd/blob/main/api/events/task.proto>

use crate::task::Mount;
use crate::well_known::{Any, ProtoTimestamp};

/// Service that containerd offers at `TTRPC_ADDRESS`.
pub const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// Its only method.
pub const METHOD_FORWARD: &str = "Forward";

/// An event: its topic and the type URL of its message.
pub trait TaskEvent: prost::Message + Sized {
    /// Topic, as `ctr events` shows it.
    const TOPIC: &'static str;
    /// Full protobuf name.
    const TYPE_URL: &'static str;

    /// Wraps the event for [`ForwardRequest`].
    fn envelope(&self, namespace: &str, timestamp: ProtoTimestamp) -> Envelope {
        Envelope {
            timestamp: Some(timestamp),
            namespace: namespace.to_owned(),
            topic: Self::TOPIC.to_owned(),
            event: Some(Any::pack(Self::TYPE_URL, self)),
        }
    }
}

macro_rules! events {
    ($($event:ident => $topic:literal;)*) => {
        $(impl TaskEvent for $event {
            const TOPIC: &'static str = $topic;
            const TYPE_URL: &'static str = concat!("containerd.events.", stringify!($event));
        })*
    };
}

events! {
    TaskCreate => "/tasks/create";
    TaskStart => "/tasks/start";
    TaskDelete => "/tasks/delete";
    TaskExit => "/tasks/exit";
    TaskOOM => "/tasks/oom";
    TaskExecAdded => "/tasks/exec-added";
    TaskExecStarted => "/tasks/exec-started";
    TaskCheckpointed => "/tasks/checkpointed";
    TaskPaused => "/tasks/paused";
    TaskResumed => "/tasks/resumed";
}

/// Request of [`METHOD_FORWARD`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ForwardRequest {
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// `containerd.types.Envelope`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<ProtoTimestamp>,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskCreate {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    #[prost(message, optional, tag = "4")]
    pub io: Option<TaskIo>,
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskIo {
    #[prost(string, tag = "1")]
    pub stdin: String,
    #[prost(string, tag = "2")]
    pub stdout: String,
    #[prost(string, tag = "3")]
    pub stderr: String,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskStart {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskDelete {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<ProtoTimestamp>,
    #[prost(string, tag = "5")]
    pub id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExit {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<ProtoTimestamp>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskOOM {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExecAdded {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExecStarted {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskCheckpointed {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub checkpoint: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskPaused {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskResumed {
    #[prost(string, tag = "1")]
    pub container_id: String,
}
