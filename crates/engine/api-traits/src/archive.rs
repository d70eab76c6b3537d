//! The files of a container: what changed, copies in and out, the whole tree, an image of it.

use async_trait::async_trait;
use havre_engine_types::{ContainerConfig, FilesystemChange, PathStat};

use crate::{ApiResult, Download, Upload};

/// How to unpack an archive into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Refuse to replace a directory by something else, and the other way round.
    pub keep_kinds: bool,
    /// Everything is to belong to the container's user, whatever the archive says.
    pub own_by_user: bool,
}

/// What to make an image of.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The container.
    pub container: String,
    /// The new image's name; empty for none.
    pub repository: String,
    /// Its tag; empty for `latest`.
    pub tag: String,
    /// Who made it.
    pub author: String,
    /// Free text for the history.
    pub comment: String,
    /// Hold the container still meanwhile.
    pub pause: bool,
    /// Dockerfile instructions to apply to the configuration.
    pub changes: Vec<String>,
    /// The configuration to begin with. None: the container's.
    pub config: Option<ContainerConfig>,
}

/// Files of containers, running or not.
#[async_trait]
pub trait Archive: Send + Sync {
    /// What is different from the image, by path.
    async fn changes(&self, id: &str) -> ApiResult<Vec<FilesystemChange>>;

    /// The whole tree without what is mounted in it.
    async fn export(&self, id: &str) -> ApiResult<Download>;

    /// What is at a path.
    async fn path_stat(&self, id: &str, path: &str) -> ApiResult<PathStat>;

    /// What is at a path, and an archive of it.
    async fn archive(&self, id: &str, path: &str) -> ApiResult<(PathStat, Download)>;

    /// Unpacks an archive, compressed or not, into the directory at a path.
    async fn extract(
        &self,
        id: &str,
        path: &str,
        options: ExtractOptions,
        archive: Upload,
    ) -> ApiResult<()>;

    /// Makes an image of the container's changes on top of its own image; the new image's id.
    async fn commit(&self, request: CommitRequest) -> ApiResult<String>;
}
