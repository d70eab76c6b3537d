//! The requests that the command line makes, one function each.

use havre_engine_types::{
    ContainerCreateRequest, ContainerCreateResponse, ContainerSummary, Event, ExecCreateRequest,
    ExecInspect, ExecStartRequest, IdResponse, ImageDeleteItem, ImageSummary, JsonMessage,
    SystemVersion, WaitResponse,
};
use havre_types::Timestamp;
use hyper::Method;
use serde_json::Value;
use tokio::io::AsyncRead;

use crate::query::segment;
use crate::{Client, ClientError, Hijacked, JsonLines, Query, Response};

/// When `wait` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// At once when the container does not run.
    NotRunning,
    /// At the next exit.
    NextExit,
    /// When the container is gone.
    Removed,
}

/// What to attach to.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Output that was written before.
    pub logs: bool,
    pub detach_keys: String,
}

/// What of a log to show.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub timestamps: bool,
    pub details: bool,
    /// `all` or a number of lines.
    pub tail: String,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// How to remove a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    pub force: bool,
    pub volumes: bool,
    pub link: bool,
}

impl Client {
    /// `HEAD /_ping`: whether an engine answers.
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.send(Method::HEAD, "/_ping").await?.finish(self).await
    }

    /// `POST /containers/create`
    pub async fn container_create(
        &self,
        name: &str,
        platform: &str,
        request: &ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse, ClientError> {
        let path = Query::new()
            .text("name", name)
            .text("platform", platform)
            .on("/containers/create");
        self.send_json(Method::POST, &path, request)
            .await?
            .json(self)
            .await
    }

    /// `POST /containers/{id}/start`
    pub async fn container_start(&self, id: &str, query: &Query) -> Result<(), ClientError> {
        self.container_post(id, "start", query).await
    }

    /// `POST /containers/{id}/{action}` without a body or an answer.
    pub async fn container_post(
        &self,
        id: &str,
        action: &str,
        query: &Query,
    ) -> Result<(), ClientError> {
        let path = query.on(&format!("/containers/{}/{action}", segment(id)));
        self.send(Method::POST, &path).await?.finish(self).await
    }

    /// `POST /containers/{id}/wait`. The head arrives when the engine has begun to wait, the exit status later.
    pub async fn container_wait(
        &self,
        id: &str,
        condition: WaitCondition,
    ) -> Result<Response, ClientError> {
        let condition = match condition {
            WaitCondition::NotRunning => "",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        };
        let path = Query::new()
            .text("condition", condition)
            .on(&format!("/containers/{}/wait", segment(id)));
        self.send(Method::POST, &path).await
    }

    /// The exit status that [`Client::container_wait`] promised.
    pub async fn wait_result(&self, response: Response) -> Result<WaitResponse, ClientError> {
        response.json(self).await
    }

    /// `POST /containers/{id}/attach`
    pub async fn container_attach(
        &self,
        id: &str,
        options: &AttachOptions,
    ) -> Result<Hijacked, ClientError> {
        let path = Query::new()
            .flag("stream", true)
            .flag("stdin", options.stdin)
            .flag("stdout", options.stdout)
            .flag("stderr", options.stderr)
            .flag("logs", options.logs)
            .text("detachKeys", &options.detach_keys)
            .on(&format!("/containers/{}/attach", segment(id)));
        self.hijack::<()>(&path, None).await
    }

    /// `POST /containers/{id}/resize` or `/exec/{id}/resize`
    pub async fn resize(
        &self,
        what: &str,
        id: &str,
        rows: u16,
        columns: u16,
    ) -> Result<(), ClientError> {
        let path = Query::new()
            .number("h", Some(rows.into()))
            .number("w", Some(columns.into()))
            .on(&format!("/{what}/{}/resize", segment(id)));
        self.send(Method::POST, &path).await?.finish(self).await
    }

    /// `GET /containers/json`
    pub async fn container_list(
        &self,
        query: &Query,
    ) -> Result<Vec<ContainerSummary>, ClientError> {
        self.send(Method::GET, &query.on("/containers/json"))
            .await?
            .json(self)
            .await
    }

    /// `GET /containers/{id}/json`, as the engine wrote it.
    pub async fn container_inspect(&self, id: &str, size: bool) -> Result<Value, ClientError> {
        let path = Query::new()
            .flag("size", size)
            .on(&format!("/containers/{}/json", segment(id)));
        self.send(Method::GET, &path).await?.raw_json(self).await
    }

    /// `GET /containers/{id}/logs`
    pub async fn container_logs(
        &self,
        id: &str,
        options: &LogOptions,
    ) -> Result<Response, ClientError> {
        let time = |time: Option<Timestamp>| time.map(|time| time.unix_text()).unwrap_or_default();
        let path = Query::new()
            .flag("stdout", true)
            .flag("stderr", true)
            .flag("follow", options.follow)
            .flag("timestamps", options.timestamps)
            .flag("details", options.details)
            .text("tail", &options.tail)
            .text("since", &time(options.since))
            .text("until", &time(options.until))
            .on(&format!("/containers/{}/logs", segment(id)));
        self.send(Method::GET, &path).await
    }

    /// `DELETE /containers/{id}`
    pub async fn container_remove(
        &self,
        id: &str,
        options: RemoveOptions,
    ) -> Result<(), ClientError> {
        let path = Query::new()
            .flag("force", options.force)
            .flag("v", options.volumes)
            .flag("link", options.link)
            .on(&format!("/containers/{}", segment(id)));
        self.send(Method::DELETE, &path).await?.finish(self).await
    }

    /// `POST /containers/{id}/exec`
    pub async fn exec_create(
        &self,
        id: &str,
        request: &ExecCreateRequest,
    ) -> Result<IdResponse, ClientError> {
        let path = format!("/containers/{}/exec", segment(id));
        self.send_json(Method::POST, &path, request)
            .await?
            .json(self)
            .await
    }

    /// `POST /exec/{id}/start`, detached.
    pub async fn exec_start_detached(
        &self,
        id: &str,
        request: &ExecStartRequest,
    ) -> Result<(), ClientError> {
        let path = format!("/exec/{}/start", segment(id));
        self.send_json(Method::POST, &path, request)
            .await?
            .finish(self)
            .await
    }

    /// `POST /exec/{id}/start`, attached.
    pub async fn exec_start(
        &self,
        id: &str,
        request: &ExecStartRequest,
    ) -> Result<Hijacked, ClientError> {
        self.hijack(&format!("/exec/{}/start", segment(id)), Some(request))
            .await
    }

    /// `GET /exec/{id}/json`
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect, ClientError> {
        self.send(Method::GET, &format!("/exec/{}/json", segment(id)))
            .await?
            .json(self)
            .await
    }

    /// `GET /images/json`
    pub async fn image_list(&self, query: &Query) -> Result<Vec<ImageSummary>, ClientError> {
        self.send(Method::GET, &query.on("/images/json"))
            .await?
            .json(self)
            .await
    }

    /// `GET /images/{name}/json`, as the engine wrote it.
    pub async fn image_inspect(&self, name: &str, platform: &str) -> Result<Value, ClientError> {
        let path = Query::new()
            .text("platform", platform)
            .on(&format!("/images/{}/json", segment(name)));
        self.send(Method::GET, &path).await?.raw_json(self).await
    }

    /// `POST /images/create?fromImage=…`
    pub async fn image_pull(
        &self,
        query: &Query,
        registry_auth: Option<String>,
    ) -> Result<JsonLines<JsonMessage>, ClientError> {
        let headers: Vec<_> = registry_auth
            .map(|auth| ("X-Registry-Auth", auth))
            .into_iter()
            .collect();
        let response = self
            .send_with_headers(Method::POST, &query.on("/images/create"), &headers)
            .await?;
        Ok(JsonLines::new(response))
    }

    /// `DELETE /images/{name}`
    pub async fn image_remove(
        &self,
        name: &str,
        query: &Query,
    ) -> Result<Vec<ImageDeleteItem>, ClientError> {
        let path = query.on(&format!("/images/{}", segment(name)));
        self.send(Method::DELETE, &path).await?.json(self).await
    }

    /// `POST /images/{name}/tag`
    pub async fn image_tag(
        &self,
        name: &str,
        repository: &str,
        tag: &str,
    ) -> Result<(), ClientError> {
        let query = Query::new().text("repo", repository).text("tag", tag);
        let path = query.on(&format!("/images/{}/tag", segment(name)));
        self.send(Method::POST, &path).await?.finish(self).await
    }

    /// `POST /images/load`
    pub async fn image_load(
        &self,
        query: &Query,
        archive: impl AsyncRead + Send + 'static,
    ) -> Result<Response, ClientError> {
        self.upload(
            Method::POST,
            &query.on("/images/load"),
            "application/x-tar",
            archive,
        )
        .await
    }

    /// `POST /images/create?fromSrc=…`
    pub async fn image_import(
        &self,
        query: &Query,
        archive: impl AsyncRead + Send + 'static,
    ) -> Result<JsonLines<JsonMessage>, ClientError> {
        let path = query.on("/images/create");
        Ok(JsonLines::new(
            self.upload(Method::POST, &path, "application/x-tar", archive)
                .await?,
        ))
    }

    /// `GET /events`
    pub async fn events(&self, query: &Query) -> Result<JsonLines<Event>, ClientError> {
        Ok(JsonLines::new(
            self.send(Method::GET, &query.on("/events")).await?,
        ))
    }

    /// `GET /version`
    pub async fn version(&self) -> Result<SystemVersion, ClientError> {
        self.send(Method::GET, "/version").await?.json(self).await
    }

    /// `GET /info`, as the engine wrote it.
    pub async fn info(&self) -> Result<Value, ClientError> {
        self.send(Method::GET, "/info").await?.raw_json(self).await
    }

    /// `GET` of any other kind of object, as the engine wrote it.
    pub async fn inspect_other(&self, collection: &str, name: &str) -> Result<Value, ClientError> {
        let path = format!("/{collection}/{}", segment(name));
        self.send(Method::GET, &path).await?.raw_json(self).await
    }
}
