//! What can go wrong with images; texts name the image, the layer or the archive's member.

use havre_content::{ContentError, IngestError};
use havre_layer::TarError;
use havre_meta::{ReadError, WriteError};
use havre_oci::DocumentError;
use havre_snapshot::SnapshotError;
use havre_types::{ChainId, Classify, DigestError, ErrorKind, ImageId, Reference, ReferenceError};
use std::io;
use thiserror::Error;

use crate::unpack::UnpackError;

/// A failure of the image store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The words are no reference.
    #[error(transparent)]
    Name { source: ReferenceError },
    /// Nothing has that name or id. The text is Docker's.
    #[error("No such image: {name}")]
    NoSuchImage { name: String },
    /// A digest is computed, never given by hand. The text is Docker's.
    #[error("refusing to create a tag with a digest reference")]
    TagIsDigest,
    /// `sha256` reads like the beginning of an id. The text is Docker's.
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    TagIsAlgorithm,
    /// The configuration is no configuration.
    #[error("failed to parse the configuration of image `{id}`")]
    Config {
        id: ImageId,
        source: serde_json::Error,
    },
    /// A layer of the image is not there.
    #[error("layer `{chain}` of image `{id}` is missing")]
    LayerMissing { id: ImageId, chain: ChainId },
    /// The configuration has more layers than an image may have.
    #[error("image `{id}` has {count} layers, the limit is {limit}")]
    TooManyLayers {
        id: ImageId,
        count: usize,
        limit: usize,
    },
    /// A document could not be read.
    #[error("failed to read image metadata")]
    Read { source: ReadError },
    /// A document could not be written.
    #[error("failed to write image metadata")]
    Write { source: WriteError },
    /// A document could not be put into words.
    #[error("failed to encode image metadata")]
    Encode { source: serde_json::Error },
    /// A blob could not be read or removed.
    #[error("failed to use image content")]
    Content { source: ContentError },
    /// A blob could not be stored.
    #[error("failed to store image content")]
    Ingest { source: IngestError },
    /// A layer could not be put in its place or removed.
    #[error("failed to use image layers")]
    Snapshot { source: SnapshotError },
}

impl StoreError {
    /// What Docker says of words that name no image.
    pub(crate) fn no_such_image(text: &str) -> Self {
        let name = match Reference::parse_normalized(text) {
            Ok(name) => name.with_default_tag().familiar(),
            Err(_not_a_name) => text.to_owned(),
        };
        Self::NoSuchImage { name }
    }
}

impl Classify for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. }
            | Self::TagIsDigest
            | Self::TagIsAlgorithm
            | Self::Config { .. }
            | Self::TooManyLayers { .. } => ErrorKind::InvalidParameter,
            Self::NoSuchImage { .. } => ErrorKind::NotFound,
            Self::LayerMissing { .. } => ErrorKind::DataLoss,
            Self::Read { source } => source.kind(),
            Self::Write { source } => source.kind(),
            Self::Encode { .. } => ErrorKind::Internal,
            Self::Content { source } => source.kind(),
            Self::Ingest { source } => source.kind(),
            Self::Snapshot { source } => source.kind(),
        }
    }
}

/// An archive that `load` or `import` cannot take.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It could not be read as an archive.
    #[error("failed to read archive")]
    Tar { source: TarError },
    /// It could not be decompressed, or the connection it came over broke.
    #[error("failed to read archive")]
    Io { source: io::Error },
    /// It has neither form. The text is Docker's.
    #[error("invalid archive: does not contain a manifest.json or an index.json")]
    NoManifest,
    /// It has more members, or more in them, than an archive of images may have.
    #[error("archive has more than {limit} members")]
    TooManyMembers { limit: usize },
    /// A member that is referred to is not there.
    #[error("archive has no member `{name}`")]
    MemberMissing { name: String },
    /// A small document is not small.
    #[error("archive member `{name}` has {size} bytes, the limit is {limit}")]
    MemberTooLarge { name: String, size: u64, limit: u64 },
    /// A document is malformed.
    #[error("failed to parse archive member `{name}`")]
    Json {
        name: String,
        source: serde_json::Error,
    },
    /// A manifest or index is malformed.
    #[error("failed to use manifest `{name}`")]
    Document { name: String, source: DocumentError },
    /// A digest in it is malformed.
    #[error("archive member `{name}` has an invalid digest")]
    Digest { name: String, source: DigestError },
    /// A name for an image is malformed.
    #[error("failed to use name `{name}` of the archive")]
    Name {
        name: String,
        source: ReferenceError,
    },
    /// Manifest and configuration do not fit. The text is Docker's.
    #[error("invalid manifest, layers length mismatch: expected {expected}, got {actual}")]
    LayerCount { expected: usize, actual: usize },
    /// No image in it is for the wished platform.
    #[error("no matching image for {platform} in the archive")]
    NoPlatform { platform: String },
    /// A layer could not be unpacked.
    #[error(transparent)]
    Unpack { source: Box<UnpackError> },
    /// The store failed.
    #[error(transparent)]
    Store { source: StoreError },
}

impl Classify for ArchiveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Tar { source } => source.kind(),
            Self::Io { .. }
            | Self::NoManifest
            | Self::TooManyMembers { .. }
            | Self::MemberMissing { .. }
            | Self::MemberTooLarge { .. }
            | Self::Json { .. }
            | Self::Digest { .. }
            | Self::Name { .. }
            | Self::LayerCount { .. } => ErrorKind::InvalidParameter,
            Self::Document { source, .. } => source.kind(),
            Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::Unpack { source } => source.kind(),
            Self::Store { source } => source.kind(),
        }
    }
}
