//! Manifest, index and descriptor, of OCI and of Docker's schema 2 alike.
//!
//! A document that could be read as both a manifest and an index is refused (CVE-2021-41190:
//! <https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh>).

use std::collections::BTreeMap;

use havre_types::{Classify, Digest, ErrorKind, Platform};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::media_type;

/// A pointer to content: type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Other places to get it from; never followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The content itself, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// In an index: the platform of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// The platform of an entry of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DescriptorPlatform {
    /// `amd64` …; `unknown` for attestations.
    pub architecture: String,
    /// `linux`; `unknown` for attestations.
    pub os: String,
    /// Version of Windows.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of Windows.
    #[serde(rename = "os.features", skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// `v7` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The type of this document, when it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, base first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A list of manifests, one for each platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The type of this document, when it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a registry answers when it is asked for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// A list of images.
    Index(Box<Index>),
}

/// Why a document is neither manifest nor index.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON, or a field has the wrong shape.
    #[error("failed to parse manifest")]
    Json(#[source] serde_json::Error),
    /// It can be read in two ways.
    #[error("manifest is ambiguous: it has the fields of both a manifest and an index")]
    Ambiguous,
    /// The type it declares is not the one it was served with.
    #[error("manifest was served as `{served}` but declares `{declared}`")]
    TypeMismatch {
        /// `Content-Type` or the descriptor's type
        served: String,
        /// the document's own `mediaType`
        declared: String,
    },
    /// Schema 1, or something that is no manifest at all.
    #[error("unsupported manifest media type `{0}`")]
    Unsupported(String),
}

impl Classify for DocumentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Json(_) | Self::Ambiguous | Self::TypeMismatch { .. } => {
                ErrorKind::InvalidParameter
            }
            Self::Unsupported(_) => ErrorKind::NotImplemented,
        }
    }
}

impl Document {
    /// Reads a manifest or an index. `served_as` is the type of the response or of the descriptor; `None` or a type
    /// that names no manifest (`application/json`, `text/plain`) leaves the decision to the document.
    pub fn parse(bytes: &[u8], served_as: Option<&str>) -> Result<Self, DocumentError> {
        let value: Value = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
        let has = |key: &str| value.get(key).is_some_and(|v| !v.is_null());
        let (index, image) = (has("manifests"), has("config") || has("layers"));
        if index && image {
            return Err(DocumentError::Ambiguous);
        }
        let declared = value
            .get("mediaType")
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty());
        let served = served_as.filter(|t| names_manifest(t));
        if let (Some(served), Some(declared)) = (served, declared)
            && served != declared
        {
            return Err(DocumentError::TypeMismatch {
                served: served.to_owned(),
                declared: declared.to_owned(),
            });
        }
        let kind = declared.or(served);
        let as_index = match kind {
            Some(kind) if media_type::is_index(kind) => true,
            Some(kind) if media_type::is_manifest(kind) => false,
            Some(kind) => return Err(DocumentError::Unsupported(kind.to_owned())),
            None if has("fsLayers") => {
                return Err(DocumentError::Unsupported(
                    media_type::DOCKER_SCHEMA1.to_owned(),
                ));
            }
            None => index,
        };
        if as_index && image || !as_index && index {
            return Err(DocumentError::Ambiguous);
        }
        if as_index {
            serde_json::from_value(value)
                .map(Box::new)
                .map(Self::Index)
                .map_err(DocumentError::Json)
        } else {
            serde_json::from_value(value)
                .map(Self::Manifest)
                .map_err(DocumentError::Json)
        }
    }
}

impl Index {
    /// The entry for this platform: an exact variant first, then the first that runs at all. Attestations and other
    /// entries for `unknown` platforms never match.
    #[must_use]
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let runs = |d: &&Descriptor| {
            d.platform
                .as_ref()
                .is_some_and(|p| platform.matches(&p.to_platform()))
        };
        let exact = |d: &&Descriptor| {
            d.platform
                .as_ref()
                .is_some_and(|p| p.to_platform() == *platform)
        };
        self.manifests
            .iter()
            .find(exact)
            .or_else(|| self.manifests.iter().find(runs))
    }
}

impl DescriptorPlatform {
    /// The same in normalised words.
    #[must_use]
    pub fn to_platform(&self) -> Platform {
        Platform::normalized(
            &self.os,
            &self.architecture,
            self.variant.as_deref().unwrap_or_default(),
        )
    }
}

impl Descriptor {
    /// A descriptor of bytes in memory.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self::new(media_type, Digest::sha256_of(bytes), size)
    }

    /// A descriptor with nothing but the three fields that each must have.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: None,
            annotations: None,
            data: None,
            platform: None,
            artifact_type: None,
        }
    }
}

fn names_manifest(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.")
        || media_type.starts_with("application/vnd.docker.distribution.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> String {
        let digest = Digest::sha256_of(b"");
        format!(r#"{{"mediaType":"x","digest":"{digest}","size":0}}"#)
    }

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let d = descriptor();
        let manifest = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{d}]}}"#);
        assert!(
            matches!(Document::parse(manifest.as_bytes(), None), Ok(Document::Manifest(m)) if m.layers.len() == 1)
        );
        assert!(matches!(
            Document::parse(index.as_bytes(), Some("text/plain")),
            Ok(Document::Index(_))
        ));
        assert!(matches!(
            Document::parse(index.as_bytes(), Some(media_type::OCI_INDEX)),
            Ok(Document::Index(_))
        ));
    }

    #[test]
    fn confusing_documents_are_refused() {
        let d = descriptor();
        let both = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[],"manifests":[{d}]}}"#);
        assert!(matches!(
            Document::parse(both.as_bytes(), None),
            Err(DocumentError::Ambiguous)
        ));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{d}]}}"#);
        let served = Document::parse(index.as_bytes(), Some(media_type::OCI_MANIFEST));
        assert!(matches!(served, Err(DocumentError::Ambiguous)));
        let typed = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            media_type::OCI_INDEX
        );
        let served = Document::parse(typed.as_bytes(), Some(media_type::DOCKER_MANIFEST));
        assert!(matches!(served, Err(DocumentError::TypeMismatch { .. })));
        let old = Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#, None);
        assert!(matches!(old, Err(DocumentError::Unsupported(_))));
        let negative = manifest_with_size(-1);
        assert!(matches!(
            Document::parse(negative.as_bytes(), None),
            Err(DocumentError::Json(_))
        ));
    }

    fn manifest_with_size(size: i64) -> String {
        let digest = Digest::sha256_of(b"");
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{digest}","size":{size}}},"layers":[]}}"#
        )
    }

    #[test]
    fn an_index_gives_the_entry_that_runs_here() {
        let entry = |os: &str, architecture: &str, variant: Option<&str>, size| Descriptor {
            platform: Some(DescriptorPlatform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.map(str::to_owned),
                ..DescriptorPlatform::default()
            }),
            ..Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256_of(b""), size)
        };
        let index = Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests: vec![
                entry("unknown", "unknown", None, 1),
                entry("linux", "arm", Some("v6"), 2),
                entry("linux", "arm", Some("v7"), 3),
                entry("linux", "amd64", None, 4),
            ],
            subject: None,
            annotations: None,
        };
        let pick = |text: &str| {
            index
                .select(&Platform::parse(text).unwrap())
                .map(|d| d.size)
        };
        assert_eq!(pick("linux/amd64"), Some(4));
        assert_eq!(pick("linux/arm/v7"), Some(3));
        assert_eq!(pick("linux/riscv64"), None);
    }
}
