//! The files of a container: what changed, copies in and out, the whole tree, an image of it.

mod changes;
mod commit;
mod download;
mod extract;
mod path;
mod places;
mod upload;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use havre_api_traits::{
    ApiError, ApiResult, Archive, CommitRequest, Download, ExtractOptions, Upload,
};
use havre_engine_types::{FilesystemChange, PathStat};

use crate::container::Container;
use crate::engine::Engine;
use crate::images::blocking;
use crate::state::Status;

pub(crate) use places::make as make_marks;
pub(crate) use upload::Body;

#[async_trait]
impl Archive for Engine {
    async fn changes(&self, id: &str) -> ApiResult<Vec<FilesystemChange>> {
        let container = self.shared.registry.find(id)?;
        let shared = Arc::clone(&self.shared);
        blocking(move || changes::list(&shared, container.id())).await
    }

    async fn export(&self, id: &str) -> ApiResult<Download> {
        let container = self.shared.registry.find(id)?;
        usable(&container, "export")?;
        let tree = download::tree(&self.shared, &container).await?;
        self.shared.announce(&container.now().fixed, "export", &[]);
        Ok(tree)
    }

    async fn path_stat(&self, id: &str, path: &str) -> ApiResult<PathStat> {
        let container = self.shared.registry.find(id)?;
        let view = view::open(&self.shared, &container, view::Purpose::Read).await?;
        let place = path::Place::new(path, id);
        blocking(move || place.stat(&view)).await
    }

    async fn archive(&self, id: &str, path: &str) -> ApiResult<(PathStat, Download)> {
        let container = self.shared.registry.find(id)?;
        let view = view::open(&self.shared, &container, view::Purpose::Read).await?;
        let place = path::Place::new(path, id);
        let found = download::path(&self.shared, view, place).await?;
        self.shared
            .announce(&container.now().fixed, "archive-path", &[]);
        Ok(found)
    }

    async fn extract(
        &self,
        id: &str,
        path: &str,
        options: ExtractOptions,
        archive: Upload,
    ) -> ApiResult<()> {
        let container = self.shared.registry.find(id)?;
        let place = path::Place::new(path, id);
        extract::run(&self.shared, &container, place, options, archive).await?;
        self.shared
            .announce(&container.now().fixed, "extract-to-dir", &[]);
        Ok(())
    }

    async fn commit(&self, request: CommitRequest) -> ApiResult<String> {
        commit::run(self, request).await
    }
}

/// Refuses a container that is going.
fn usable(container: &Container, verb: &str) -> ApiResult<()> {
    let id = container.id();
    match container.now().state.status {
        Status::Dead => Err(ApiError::conflict(format!(
            "You cannot {verb} container {id} which is Dead"
        ))),
        Status::Removing => Err(ApiError::conflict(format!(
            "You cannot {verb} container {id} which is being removed"
        ))),
        _ => Ok(()),
    }
}
