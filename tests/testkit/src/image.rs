//! An image on disk as an OCI layout directory, and the two manifest formats it can be served in.

use anyhow::{Context as _, Result, ensure};
use fs_err::File;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which family of media types a manifest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/vnd.oci.image.*`.
    Oci,
    /// `application/vnd.docker.distribution.*`, schema 2.
    Docker,
}

impl Format {
    /// The media type of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    /// The media type of an index, Docker's "manifest list".
    pub fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }
}

/// One gzip-compressed layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The blob file in the layout.
    pub path: PathBuf,
    /// `sha256:…` of the compressed bytes.
    pub digest: String,
    /// Length of the compressed bytes.
    pub size: u64,
    /// `sha256:…` of the tar archive inside.
    pub diff_id: String,
}

/// An image: its configuration and its layers, lowest first.
#[derive(Clone, Debug)]
pub struct Image {
    /// The recipe's name: `busybox`, `debian` …
    pub name: String,
    /// The OCI layout directory.
    pub layout: PathBuf,
    /// The same image as an archive of `docker save`'s form.
    pub archive: PathBuf,
    /// The image configuration, byte for byte.
    pub config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// The image id: the digest of the configuration.
    pub fn id(&self) -> String {
        digest(&self.config)
    }

    /// The manifest in the wished format.
    pub fn manifest(&self, format: Format) -> Vec<u8> {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                json!({ "mediaType": format.layer(), "digest": layer.digest, "size": layer.size })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": format.manifest(),
            "config": {
                "mediaType": format.config(),
                "digest": self.id(),
                "size": self.config.len(),
            },
            "layers": layers,
        });
        manifest.to_string().into_bytes()
    }

    /// An index with this image for linux/amd64 and a placeholder that is not there for linux/arm64.
    pub fn index(&self, format: Format) -> Vec<u8> {
        let manifest = self.manifest(format);
        let elsewhere = digest(b"no such manifest");
        let entry = |digest: String, size: usize, architecture: &str| {
            json!({
                "mediaType": format.manifest(),
                "digest": digest,
                "size": size,
                "platform": { "architecture": architecture, "os": "linux" },
            })
        };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": format.index(),
            "manifests": [
                entry(elsewhere, 16, "arm64"),
                entry(digest(&manifest), manifest.len(), "amd64"),
            ],
        });
        index.to_string().into_bytes()
    }

    /// Reads an image that [`Image::write_layout`] wrote.
    pub(crate) fn open(directory: &Path, name: &str) -> Result<Self> {
        let layout = directory.join(name);
        let index = read_json(&layout.join("index.json"))?;
        let manifest_digest = text(&index["manifests"][0]["digest"])?;
        let manifest = read_json(&blob_path(&layout, &manifest_digest)?)?;
        let config = fs_err::read(blob_path(&layout, &text(&manifest["config"]["digest"])?)?)?;
        let document: Value = serde_json::from_slice(&config)?;
        let mut layers = Vec::new();
        let listed = manifest["layers"]
            .as_array()
            .context("the manifest has no layers")?;
        for (number, layer) in listed.iter().enumerate() {
            let digest = text(&layer["digest"])?;
            layers.push(Layer {
                path: blob_path(&layout, &digest)?,
                size: layer["size"].as_u64().context("a layer has no size")?,
                diff_id: text(&document["rootfs"]["diff_ids"][number])?,
                digest,
            });
        }
        let archive = directory.join(format!("{name}.tar"));
        Ok(Self {
            name: name.to_owned(),
            layout,
            archive,
            config,
            layers,
        })
    }

    /// Writes everything of the layout but the layers, which lie there already.
    pub(crate) fn write_layout(&self) -> Result<()> {
        let manifest = self.manifest(Format::Oci);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": Format::Oci.index(),
            "manifests": [{
                "mediaType": Format::Oci.manifest(),
                "digest": digest(&manifest),
                "size": manifest.len(),
                "platform": { "architecture": "amd64", "os": "linux" },
                "annotations": {
                    "io.containerd.image.name": format!("docker.io/library/{}:latest", self.name),
                    "org.opencontainers.image.ref.name": "latest",
                },
            }],
        });
        write(&blob_path(&self.layout, &self.id())?, &self.config)?;
        write(&blob_path(&self.layout, &digest(&manifest))?, &manifest)?;
        write(
            &self.layout.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        write(
            &self.layout.join("index.json"),
            index.to_string().as_bytes(),
        )
    }
}

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// `sha256:…` of a finished hash.
pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Where a layout keeps a blob.
pub(crate) fn blob_path(layout: &Path, digest: &str) -> Result<PathBuf> {
    let name = digest
        .strip_prefix("sha256:")
        .with_context(|| format!("no digest: {digest}"))?;
    ensure!(
        name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()),
        "no digest: {digest}"
    );
    Ok(layout.join("blobs/sha256").join(name))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(fs_err::write(path, bytes)?)
}

fn read_json(path: &Path) -> Result<Value> {
    let file = File::open(path)?;
    serde_json::from_reader(file).with_context(|| format!("failed to read {}", path.display()))
}

fn text(value: &Value) -> Result<String> {
    Ok(value
        .as_str()
        .context("a string is missing in an image document")?
        .to_owned())
}
