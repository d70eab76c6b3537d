//! What the actor does about networks: connects and disconnects, at once when the container runs.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::EndpointSettings;

use super::actor::Actor;
use super::record::Fixed;
use crate::network::{self, Live, Wishes};
use crate::state::Status;

const SHARED: &str = "container sharing network namespace with another container or host cannot be connected to any other network";

impl Actor {
    /// Joins it to one more network.
    pub(super) async fn connect(
        &mut self,
        network: &str,
        settings: EndpointSettings,
    ) -> ApiResult<()> {
        self.changes_networks()?;
        let mode = self.fixed.host_config.network_mode.as_str();
        if mode.starts_with("container:") {
            return Err(ApiError::invalid(SHARED));
        }
        let record = self.shared.networks.find(network);
        let mut wishes = network::wishes(&self.fixed);
        if let Ok(record) = &record {
            if record.driver == "host" && mode != "host" {
                return Err(ApiError::invalid(
                    "cannot connect container to host network - container must be created in host network mode",
                ));
            }
            network::check_endpoint(Some(record), &record.name, &settings)?;
        }
        let running = self.state.status.is_running();
        let name = match record {
            Ok(record) => record.name.clone(),
            // It may be there when the container starts.
            Err(_) if !running => network.to_owned(),
            Err(error) => return Err(error),
        };
        if wishes.contains_key(&name) && running {
            return Err(ApiError::new(
                havre_types::ErrorKind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {name}",
                    self.fixed.name
                ),
            ));
        }
        wishes.insert(name.clone(), settings.clone());
        network::exclude(&self.shared.networks, &wishes)?;
        if running {
            let live = self.live();
            let (shared, fixed) = (Arc::clone(&self.shared), Arc::clone(&self.fixed));
            let joined =
                network::connect_live(&shared, &fixed, self.state.pid, &live, (&name, settings));
            self.state.live = Some(Arc::new(joined.await?));
        }
        self.take_wishes(wishes).await
    }

    /// Takes it off a network.
    pub(super) async fn disconnect(&mut self, network: &str, force: bool) -> ApiResult<()> {
        self.changes_networks()?;
        let record = self.shared.networks.find(network);
        let mut wishes = network::wishes(&self.fixed);
        let running = self.state.status.is_running();
        let record = match record {
            Ok(record) => Some(record),
            Err(_) if force || !running => None,
            Err(error) => return Err(error),
        };
        let name = record
            .as_ref()
            .map_or(network, |record| record.name.as_str());
        if record
            .as_ref()
            .is_some_and(|record| record.driver == "host")
            && self.fixed.host_config.network_mode == "host"
        {
            return Err(ApiError::invalid(
                "cannot disconnect container from host network - container was created in host network mode",
            ));
        }
        if wishes.remove(name).is_none() {
            // Docker has two sentences for it, by whether the container runs.
            let the = if running { "" } else { "the " };
            return Err(ApiError::internal(format!(
                "container {} is not connected to {the}network {name}",
                self.fixed.id
            )));
        }
        let live = self.live();
        let is_there = record
            .as_ref()
            .is_some_and(|record| live.on(&record.id).is_some());
        if running && is_there {
            let (shared, fixed) = (Arc::clone(&self.shared), Arc::clone(&self.fixed));
            let parted = network::disconnect_live(&shared, &fixed, self.state.pid, &live, name);
            self.state.live = Some(Arc::new(parted.await?));
        }
        self.take_wishes(wishes).await
    }

    fn live(&self) -> Arc<Live> {
        self.state.live.clone().unwrap_or_default()
    }

    fn changes_networks(&self) -> ApiResult<()> {
        if self.state.removed || matches!(self.state.status, Status::Removing | Status::Dead) {
            return Err(ApiError::internal(format!(
                "Container {} is marked for removal and cannot be connected or disconnected to the network",
                self.fixed.id
            )));
        }
        Ok(())
    }

    async fn take_wishes(&mut self, wishes: Wishes) -> ApiResult<()> {
        let fixed = Fixed {
            networks: Some(wishes),
            ..(*self.fixed).clone()
        };
        self.replace(fixed, None).await
    }
}
