//! Images: names, records, layers on disk, removal, `load` and `import`.
//!
//! All calls block (SQLite, files); async callers use a blocking thread. Nothing here speaks to a
//! network, and no path from an archive ever reaches a plain path call.

mod commit;
mod delete;
mod error;
mod gc;
mod import;
mod index;
mod lease;
mod load;
mod record;
mod store;
mod unpack;

pub use commit::ChildImage;
pub use delete::{DeleteError, DeleteOptions, DeleteRecord, ImageUser};
pub use error::{ArchiveError, StoreError};
pub use gc::Collected;
pub use import::NewImage;
pub use lease::Lease;
pub use load::{LoadEvent, Loaded};
pub use record::{Image, ImageRecord, LayerRecord};
pub use store::{AddImage, ImageStore};
pub use unpack::{LayerSource, UnpackError, Unpacked};

/// Limits on documents of an image, as DESIGN's security notes set them.
pub mod limits {
    /// Longest manifest or index, in bytes.
    pub const MANIFEST: u64 = 4 << 20;
    /// Longest configuration, in bytes.
    pub const CONFIG: u64 = 8 << 20;
    /// Largest compressed layer, in bytes.
    pub const LAYER: u64 = 64 << 30;
    /// Most layers of one image.
    pub const LAYERS: usize = 500;
    /// Most members of one index.
    pub const INDEX_MEMBERS: usize = 1000;
    /// How deep an index may refer to an index.
    pub const INDEX_DEPTH: usize = 8;
}
