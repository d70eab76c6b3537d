//! Images: where they come from, what is known of them, how they go.

use std::fmt;

use async_trait::async_trait;
use havre_engine_types::{Filters, ImageDeleteItem, ImageHistoryItem, ImageInspect, ImageSummary};

use crate::{ApiResult, Progress, Upload};

/// Credentials for one registry, as `X-Registry-Auth` carries them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// User name; empty when a token is used or nothing was given.
    pub username: String,
    /// Password.
    pub password: String,
    /// Where the credentials belong.
    pub server_address: String,
    /// OAuth2 refresh token.
    pub identity_token: String,
    /// Bearer token to send as it is.
    pub registry_token: String,
}

impl fmt::Debug for RegistryAuth {
    /// Secrets never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// What to pull.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// `fromImage`: a reference, perhaps with its tag or digest.
    pub image: String,
    /// `tag`: tag or digest when it is not part of `image`. With neither, every tag is meant.
    pub tag: String,
    /// `os/arch/variant`; empty for the host's.
    pub platform: String,
    /// Credentials.
    pub auth: Option<RegistryAuth>,
}

/// A root file system to make an image of.
#[derive(Debug)]
pub struct ImportRequest {
    /// `repo`: the new image's name; empty for none.
    pub repository: String,
    /// `tag`; empty for `latest`.
    pub tag: String,
    /// The comment of the image.
    pub message: String,
    /// Dockerfile instructions to apply to the configuration.
    pub changes: Vec<String>,
    /// `os/arch/variant`; empty for the host's.
    pub platform: String,
    /// The archive, compressed or not.
    pub archive: Upload,
}

/// An archive of images.
#[derive(Debug)]
pub struct LoadRequest {
    /// Do not report the progress of layers.
    pub quiet: bool,
    /// Load only these platforms; empty for all.
    pub platforms: Vec<String>,
    /// The archive: Docker's or OCI layout, compressed or not.
    pub archive: Upload,
}

/// How to remove an image.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveImage {
    /// Remove even when stopped containers or several tags use it.
    pub force: bool,
    /// Keep untagged parents.
    pub keep_parents: bool,
}

/// Images.
#[async_trait]
pub trait Images: Send + Sync {
    /// Fetches an image from a registry.
    async fn pull(&self, request: PullRequest) -> ApiResult<Progress>;

    /// Makes an image of a root file system.
    async fn import(&self, request: ImportRequest) -> ApiResult<Progress>;

    /// Takes in the images of an archive.
    async fn load(&self, request: LoadRequest) -> ApiResult<Progress>;

    /// All images that pass the filters (`dangling`, `reference`, `label`, `before`, `since`, `until`).
    async fn list(&self, all: bool, filters: Filters) -> ApiResult<Vec<ImageSummary>>;

    /// Everything about one image.
    async fn inspect(&self, name: &str) -> ApiResult<ImageInspect>;

    /// The steps that made an image.
    async fn history(&self, name: &str) -> ApiResult<Vec<ImageHistoryItem>>;

    /// Gives an image one more name. An empty tag means `latest`.
    async fn tag(&self, name: &str, repository: &str, tag: &str) -> ApiResult<()>;

    /// Removes a name, and the image with its last one.
    async fn remove(&self, name: &str, how: RemoveImage) -> ApiResult<Vec<ImageDeleteItem>>;
}
