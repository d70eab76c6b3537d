//! Requests about networks.

use havre_engine_types::{
    NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest,
    NetworkSummary, PortsExplained,
};
use hyper::Method;
use serde_json::Value;

use crate::query::segment;
use crate::{Client, ClientError, Query};

impl Client {
    /// `POST /networks/create`
    pub async fn network_create(
        &self,
        request: &NetworkCreateRequest,
    ) -> Result<NetworkCreateResponse, ClientError> {
        self.send_json(Method::POST, "/networks/create", request)
            .await?
            .json(self)
            .await
    }

    /// `GET /networks`
    pub async fn network_list(&self, query: &Query) -> Result<Vec<NetworkSummary>, ClientError> {
        self.send(Method::GET, &query.on("/networks"))
            .await?
            .json(self)
            .await
    }

    /// `GET /networks/{id}`, as the engine wrote it.
    pub async fn network_inspect(&self, name: &str, verbose: bool) -> Result<Value, ClientError> {
        let path = Query::new()
            .flag("verbose", verbose)
            .on(&format!("/networks/{}", segment(name)));
        self.send(Method::GET, &path).await?.raw_json(self).await
    }

    /// `DELETE /networks/{id}`
    pub async fn network_remove(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/networks/{}", segment(name));
        self.send(Method::DELETE, &path).await?.finish(self).await
    }

    /// `POST /networks/{id}/connect`
    pub async fn network_connect(
        &self,
        name: &str,
        request: &NetworkConnectRequest,
    ) -> Result<(), ClientError> {
        let path = format!("/networks/{}/connect", segment(name));
        self.send_json(Method::POST, &path, request)
            .await?
            .finish(self)
            .await
    }

    /// `POST /networks/{id}/disconnect`
    pub async fn network_disconnect(
        &self,
        name: &str,
        request: &NetworkDisconnectRequest,
    ) -> Result<(), ClientError> {
        let path = format!("/networks/{}/disconnect", segment(name));
        self.send_json(Method::POST, &path, request)
            .await?
            .finish(self)
            .await
    }

    /// `GET /containers/{id}/ports/explain`, Havre's own.
    pub async fn explain_ports(&self, id: &str) -> Result<PortsExplained, ClientError> {
        let path = format!("/containers/{}/ports/explain", segment(id));
        self.send(Method::GET, &path).await?.json(self).await
    }
}
