//! Asking a shim for a checkpoint.

use std::path::Path;
use std::time::Duration;

use havre_api_traits::ApiResult;
use havre_shim_proto::CheckpointOptions;
use havre_shim_proto::task::CheckpointTaskRequest;

use super::Shim;

/// All memory of a container is written to a disk, or read from it.
pub(super) const CHECKPOINT_DEADLINE: Duration = Duration::from_secs(3600);

impl Shim {
    /// Writes the container's processes into a directory; with `exit` they are gone then.
    pub(crate) async fn checkpoint(&self, images: &Path, exit: bool) -> ApiResult<()> {
        let options = CheckpointOptions {
            exit,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            work_path: self.bundle.join("criu").display().to_string(),
            ..CheckpointOptions::default()
        };
        let request = CheckpointTaskRequest {
            id: self.id.to_string(),
            path: images.display().to_string(),
            options: Some(options.to_any()),
        };
        self.call_within(CHECKPOINT_DEADLINE, &request)
            .await
            .map(|_| ())
    }
}
