//! Container log files: write, rotate, read, follow. Never interprets what a container wrote, and never follows a
//! link where a log file should be.
//!
//! The formats are those of Docker's drivers json-file and local; rotated files are `.1`, `.2` …, or `.1.gz` … once they
//! are compressed. What drivers with a server send is the helper's work (`run/sinks`); its options are read here.

pub mod compress;
mod error;
mod files;
mod local;
pub mod options;
mod reader;
mod record;
mod sink;
mod split;
mod writer;

pub use error::LogError;
pub use files::remove_all;
pub use local::{FRAME_LIMIT, Found, Framed, encode_frame, find_frame};
pub use reader::{ReadOptions, Reader};
pub use record::{Entry, Stream};
pub use sink::{Origin, Sink};
pub use split::{PARTIAL_SIZE, Part, Piece, Splitter};
pub use writer::{FileOptions, FileWriter, Format};
