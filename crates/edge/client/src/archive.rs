//! The requests about files of containers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use havre_engine_types::{IdResponse, PathStat, gojson};
use hyper::Method;

use crate::query::segment;
use crate::{Client, ClientError, Pieces, Query, Response};

/// Carries the stat of a path as JSON in base64.
const PATH_STAT: &str = "x-docker-container-path-stat";

impl Client {
    /// `HEAD /containers/{id}/archive`: what is at a path.
    pub async fn container_path_stat(
        &self,
        name: &str,
        path: &str,
    ) -> Result<PathStat, ClientError> {
        let path = archive_path(name, &Query::new().text("path", path));
        path_stat(&self.send(Method::HEAD, &path).await?)
    }

    /// `GET /containers/{id}/archive`: what is at a path, and an archive of it as the answer's body.
    pub async fn container_archive(
        &self,
        name: &str,
        path: &str,
    ) -> Result<(PathStat, Response), ClientError> {
        let path = archive_path(name, &Query::new().text("path", path));
        let response = self.send(Method::GET, &path).await?;
        Ok((path_stat(&response)?, response))
    }

    /// `PUT /containers/{id}/archive`: unpacks an archive into the directory at a path. Nothing there is
    /// replaced by a thing of another kind.
    pub async fn container_extract(
        &self,
        name: &str,
        path: &str,
        own_by_user: bool,
        archive: Pieces,
    ) -> Result<(), ClientError> {
        let query = Query::new()
            .text("path", path)
            .text("noOverwriteDirNonDir", "true")
            .flag("copyUIDGID", own_by_user);
        let path = archive_path(name, &query);
        let response = self
            .upload_pieces(Method::PUT, &path, "application/x-tar", archive)
            .await?;
        response.finish(self).await
    }

    /// `POST /commit`: an image of a container; its id.
    pub async fn commit(&self, query: &Query) -> Result<IdResponse, ClientError> {
        let path = query.on("/commit");
        let response = self.send(Method::POST, &path).await?;
        response.json(self).await
    }
}

fn archive_path(name: &str, query: &Query) -> String {
    query.on(&format!("/containers/{}/archive", segment(name)))
}

fn path_stat(response: &Response) -> Result<PathStat, ClientError> {
    let unreadable = || ClientError::Header {
        request: response.request().to_owned(),
        name: PATH_STAT,
    };
    let text = response.header(PATH_STAT).ok_or_else(unreadable)?;
    let bytes = STANDARD.decode(text).map_err(|_not_base64| unreadable())?;
    gojson::from_slice(&bytes).map_err(|_not_json| unreadable())
}
