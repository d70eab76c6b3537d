//! Requests of the commands that watch, change and sweep: `top`, `stats`, `update`, `prune`, `df`, `login`, `why`.

use havre_engine_types::{RestartPolicy, WhyResponse};
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::query::segment;
use crate::{Client, ClientError, JsonLines, Query, Response};

/// What `update` may change; what is not set stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Update {
    pub blkio_weight: u16,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_realtime_period: i64,
    pub cpu_realtime_runtime: i64,
    pub cpu_shares: i64,
    #[serde(rename = "CpusetCpus")]
    pub cpuset_cpus: String,
    #[serde(rename = "CpusetMems")]
    pub cpuset_mems: String,
    pub memory: i64,
    pub memory_reservation: i64,
    pub memory_swap: i64,
    #[serde(rename = "NanoCpus")]
    pub nano_cpus: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    pub network_receive_bps: u64,
    pub network_send_bps: u64,
    pub restart_policy: RestartPolicy,
}

/// What an engine says about things it did although it has doubts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Warnings {
    pub warnings: Vec<String>,
}

/// The processes of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Top {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

/// One path that differs from the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Change {
    pub path: String,
    /// 0 changed, 1 added, 2 deleted.
    pub kind: u8,
}

/// What a registry said to credentials.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Login {
    pub status: String,
    pub identity_token: String,
}

/// How `stats` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// One answer each second.
    Stream,
    /// One answer that compares two moments.
    Once,
}

impl Client {
    /// `GET /containers/{id}/top`
    pub async fn container_top(&self, id: &str, ps_args: &str) -> Result<Top, ClientError> {
        let path = Query::new()
            .text("ps_args", ps_args)
            .on(&format!("/containers/{}/top", segment(id)));
        self.send(Method::GET, &path).await?.json(self).await
    }

    /// `GET /containers/{id}/stats`
    pub async fn container_stats(
        &self,
        id: &str,
        sampling: Sampling,
    ) -> Result<JsonLines<Value>, ClientError> {
        let stream = if sampling == Sampling::Stream {
            "1"
        } else {
            "0"
        };
        let path = Query::new()
            .text("stream", stream)
            .on(&format!("/containers/{}/stats", segment(id)));
        Ok(JsonLines::new(self.send(Method::GET, &path).await?))
    }

    /// `POST /containers/{id}/update`
    pub async fn container_update(
        &self,
        id: &str,
        update: &Update,
    ) -> Result<Warnings, ClientError> {
        let path = format!("/containers/{}/update", segment(id));
        self.send_json(Method::POST, &path, update)
            .await?
            .json(self)
            .await
    }

    /// `POST /{collection}/prune`
    pub async fn prune(&self, collection: &str, query: &Query) -> Result<Value, ClientError> {
        let path = query.on(&format!("/{collection}/prune"));
        self.send(Method::POST, &path).await?.raw_json(self).await
    }

    /// `GET /containers/{id}/changes`
    pub async fn container_changes(&self, id: &str) -> Result<Vec<Change>, ClientError> {
        let path = format!("/containers/{}/changes", segment(id));
        let changes: Option<Vec<Change>> = self.send(Method::GET, &path).await?.json(self).await?;
        Ok(changes.unwrap_or_default())
    }

    /// `GET /containers/{id}/export`
    pub async fn container_export(&self, id: &str) -> Result<Response, ClientError> {
        let path = format!("/containers/{}/export", segment(id));
        self.send(Method::GET, &path).await
    }

    /// `GET /containers/{id}/why`, which only Havre has.
    pub async fn container_why(&self, id: &str) -> Result<WhyResponse, ClientError> {
        let path = format!("/containers/{}/why", segment(id));
        self.send(Method::GET, &path).await?.json(self).await
    }

    /// `GET /system/df`, as the engine wrote it.
    pub async fn disk_usage(&self) -> Result<Value, ClientError> {
        self.send(Method::GET, "/system/df?verbose=1")
            .await?
            .raw_json(self)
            .await
    }

    /// `POST /auth`
    pub async fn login(&self, credentials: &Value) -> Result<Login, ClientError> {
        self.send_json(Method::POST, "/auth", credentials)
            .await?
            .json(self)
            .await
    }

    /// `POST /containers/{id}/checkpoints`
    pub async fn checkpoint_create(&self, id: &str, request: &Value) -> Result<(), ClientError> {
        let path = format!("/containers/{}/checkpoints", segment(id));
        self.send_json(Method::POST, &path, request)
            .await?
            .finish(self)
            .await
    }

    /// `GET /containers/{id}/checkpoints`, as the engine wrote it.
    pub async fn checkpoint_list(&self, id: &str, query: &Query) -> Result<Value, ClientError> {
        let path = query.on(&format!("/containers/{}/checkpoints", segment(id)));
        self.send(Method::GET, &path).await?.raw_json(self).await
    }

    /// `DELETE /containers/{id}/checkpoints/{checkpoint}`
    pub async fn checkpoint_remove(
        &self,
        id: &str,
        checkpoint: &str,
        query: &Query,
    ) -> Result<(), ClientError> {
        let (id, checkpoint) = (segment(id), segment(checkpoint));
        let path = query.on(&format!("/containers/{id}/checkpoints/{checkpoint}"));
        self.send(Method::DELETE, &path).await?.finish(self).await
    }

    /// `GET` of a list, as the engine wrote it.
    pub async fn list_other(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path).await?.raw_json(self).await
    }
}
