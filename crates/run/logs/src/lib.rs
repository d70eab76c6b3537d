//! Container log files: write, rotate, read, follow. Never interprets what a container wrote, and never follows a
//! link where a log file should be.
//!
//! The format is that of Docker's json-file driver: one JSON object a line, `.1`, `.2` … for rotated files.

mod error;
mod files;
pub mod options;
mod reader;
mod record;
mod sink;
mod writer;

pub use error::LogError;
pub use files::remove_all;
pub use reader::{ReadOptions, Reader};
pub use record::{Entry, Stream};
pub use sink::{Origin, Sink};
pub use writer::{JsonFileOptions, JsonFileWriter, PARTIAL_SIZE};
