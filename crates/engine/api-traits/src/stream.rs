//! Streams in both directions: progress towards the caller, archives towards the engine.

use std::io;

use bytes::Bytes;
use havre_engine_types::JsonMessage;
use tokio::sync::mpsc;

use crate::ApiResult;

/// Progress of a pull, load or import.
///
/// The stream ends with the work. An `Err` is always the last item; when it is also the first, the
/// edge answers with its HTTP status, later it is written into the stream as Docker does. The work
/// must stop soon after the receiver is dropped.
pub type Progress = mpsc::Receiver<ApiResult<JsonMessage>>;

/// The body of an upload, in pieces of any size. An upload that was cut short ends with an `Err`;
/// only the end without one means that all bytes arrived. Blocking readers use `blocking_recv`.
pub type Upload = mpsc::Receiver<io::Result<Bytes>>;

/// An archive on its way to the caller. It is whole when the stream ends without an `Err`. Dropping the
/// receiver ends the work.
pub type Download = mpsc::Receiver<io::Result<Bytes>>;
