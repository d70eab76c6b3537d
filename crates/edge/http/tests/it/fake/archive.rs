//! The files of the fake's containers: one of each kind.

use async_trait::async_trait;
use havre_api_traits::{
    ApiError, ApiResult, Archive, CommitRequest, Download, ExtractOptions, Upload,
};
use havre_engine_types::{FilesystemChange, PathStat};
use tokio::sync::mpsc;

use super::Fake;

fn download(pieces: Vec<std::io::Result<bytes::Bytes>>) -> Download {
    let (sender, download) = mpsc::channel(4);
    for piece in pieces {
        sender.try_send(piece).expect("there is room");
    }
    download
}

#[async_trait]
impl Archive for Fake {
    async fn changes(&self, id: &str) -> ApiResult<Vec<FilesystemChange>> {
        let change = |path: &str, kind| FilesystemChange {
            path: path.to_owned(),
            kind,
        };
        Ok(match id {
            "same" => Vec::new(),
            _ => vec![change("/a", 0), change("/a/b", 1), change("/c", 2)],
        })
    }

    async fn export(&self, id: &str) -> ApiResult<Download> {
        let whole = Ok("whole".into());
        Ok(download(match id {
            "broken" => vec![whole, Err(std::io::Error::other("broken"))],
            _ => vec![whole],
        }))
    }

    async fn path_stat(&self, id: &str, path: &str) -> ApiResult<PathStat> {
        if path == "/none" {
            return Err(ApiError::not_found(format!(
                "Could not find the file {path} in container {id}"
            )));
        }
        Ok(PathStat {
            name: "f".to_owned(),
            size: 3,
            mode: 420,
            ..PathStat::default()
        })
    }

    async fn archive(&self, id: &str, path: &str) -> ApiResult<(PathStat, Download)> {
        Ok((self.path_stat(id, path).await?, self.export(id).await?))
    }

    async fn extract(
        &self,
        _id: &str,
        path: &str,
        options: ExtractOptions,
        mut archive: Upload,
    ) -> ApiResult<()> {
        let mut length = 0;
        while let Some(piece) = archive.recv().await {
            length += piece.map_or(0, |piece| piece.len());
        }
        Err(ApiError::conflict(format!("{path} {options:?} {length}")))
    }

    async fn commit(&self, request: CommitRequest) -> ApiResult<String> {
        Ok(format!("{request:?}"))
    }
}
