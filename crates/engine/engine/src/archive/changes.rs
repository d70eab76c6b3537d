//! What is different from the image. What the engine puts into the container's layer is no change
//! (see [`super::places`]): Docker has it in a layer of its own below, and does not show it.

use havre_api_traits::ApiResult;
use havre_engine_types::FilesystemChange;
use havre_layer::{Change, ChangeKind, changes};
use havre_types::ContainerId;

use super::places::places;
use crate::engine::Shared;
use crate::error::classified;

pub(super) fn list(shared: &Shared, id: &ContainerId) -> ApiResult<Vec<FilesystemChange>> {
    let failed = "failed to compare the container with its image";
    let trees = shared.snapshots.trees(id.as_str());
    let trees = trees.map_err(|err| classified(failed, &err))?;
    let found = changes(&trees.parents, &trees.merged, &places(&trees));
    let found = found.map_err(|err| classified(failed, &err))?;
    Ok(found.iter().map(shown).collect())
}

fn shown(change: &Change) -> FilesystemChange {
    FilesystemChange {
        path: format!("/{}", change.path.display()),
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    }
}
