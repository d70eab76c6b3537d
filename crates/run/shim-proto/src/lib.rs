//! Ttrpc framing, containerd Task API messages, the attach protocol and the records shared by engine and shim.
//!
//! Everything here but the `client` feature is free of I/O: bytes in, values out. The shim links this crate without
//! that feature, so nothing outside `client` may use tokio.

pub mod attach;
#[cfg(feature = "client")]
pub mod client;
pub mod events;
pub mod frame;
pub mod metrics;
pub mod options;
pub mod rpc;
pub mod task;
pub mod well_known;

pub use frame::{FRAME_LIMIT, Frame, FrameDecoder, FrameError, FrameType, HEADER_LEN};
pub use options::{CheckpointOptions, ExitRecord, HavreOptions, LogOptions, RuntimeOptions};
pub use rpc::{Request, Response, RpcError, Status};
pub use task::TaskRequest;
pub use well_known::{Any, Empty, ProtoTimestamp};
