//! Layers: tar archives to trees and back, whiteouts, compression. Archives come from strangers:
//! nothing here may touch a file outside the directory it was given, trust a number it read, or
//! hold more memory than its limits say.

mod apply;
mod decompress;
mod error;
mod export;
mod fixup;
mod flatten;
mod header;
mod number;
mod overlay;
mod pax;
mod pipe;
mod reader;
mod stack;
mod writer;

pub use crate::apply::{Applied, ApplyOptions, Existing, Limits, Whiteouts, apply, extract};
pub use crate::decompress::{Compression, Decompressor, decompress};
pub use crate::error::{ApplyError, EntryProblem, ExportError, TarError};
pub use crate::export::{
    Change, ChangeKind, ExportOptions, Exported, Times, changes, export_changes, export_diff,
    export_path, export_tree, is_virtual,
};
pub use crate::fixup::{DeferredLink, Fixups, copy_metadata, fix_up};
pub use crate::flatten::flatten;
pub use crate::header::{Entry, Kind, Mtime};
pub use crate::reader::{Content, Data, TarReader};
pub use crate::stack::{Child, Level, Stack};
pub use crate::writer::TarWriter;
