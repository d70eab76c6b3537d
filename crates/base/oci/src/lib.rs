//! Images as documents: configuration, manifest and index, of OCI and of Docker's schema 2.
//!
//! Own types instead of `oci-spec`'s for images: those drop `Healthcheck`, `OnBuild`, `Shell` and every other field
//! that Docker added, and take any text for a digest. The runtime specification comes from `oci-spec`, re-exported
//! as [`runtime`], with the numbers of its capabilities in [`capability`]. A digest is always computed from the bytes that were received, never from a document written again.

pub mod capability;
mod config;
mod manifest;
pub mod media_type;

pub use config::{HealthConfig, History, ImageConfig, ImageRunConfig, RootFs};
pub use manifest::{Descriptor, DescriptorPlatform, Document, DocumentError, Index, Manifest};
pub use oci_spec::runtime;

/// The annotation of an index entry that `skopeo` and `buildah` use for a tag
/// (<https://github.com/opencontainers/image-spec/blob/main/annotations.md>).
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation in which containerd and Docker keep the whole name.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";
