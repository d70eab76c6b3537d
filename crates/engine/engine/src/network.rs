//! Networks without their containers: made, listed, removed, and found by what a user calls them.
//!
//! What is decided here is written down before anybody hears of it; the data plane ([`plane`]) only carries it out.

mod addresses;
mod attach;
mod create;
mod default_bridge;
mod defaults;
mod departures;
mod etc;
mod explained;
mod files;
mod join;
mod list;
mod live;
mod membership;
mod names;
mod options;
mod plane;
mod ports;
mod prune;
mod record;
mod request;
mod shown;
mod store;
mod wanted;
mod ways;

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, InspectNetwork};
use havre_engine_types::{
    Actor, Event, Filters, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworkInspect, NetworkPruneResponse, PortsExplained,
};

pub(crate) use self::attach::{announce, connect_live, disconnect_live, limit, quit, rename};
pub use self::defaults::{DefaultBridge, NetworkDefaults};
pub(crate) use self::departures::Leaving;
pub(crate) use self::etc::write_all as write_files;
pub(crate) use self::files::{Texts, tell_linked, texts, zone};
pub(crate) use self::join::{Joined, adopt, join, part};
pub(crate) use self::live::{End, Live};
pub(crate) use self::names::{Names, Relaying};
pub(crate) use self::record::Record;
pub(crate) use self::shown::{endpoints, ports as shown_ports, settings as shown};
pub(crate) use self::store::{Networks, open};
pub(crate) use self::wanted::{Wishes, check as check_endpoint, exclude, of as wishes, settle};

use crate::engine::{Engine, Shared, event};

/// Names that no user's network has. The last is another word for the first.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

/// Whether a network of this name is there from the start.
pub(crate) fn is_predefined(name: &str) -> bool {
    PREDEFINED.contains(&name)
}

/// <https://github.com/moby/moby/blob/master/daemon/libnetwork/error.go> (`ErrNoSuchNetwork`)
pub(crate) fn no_such_network(name: &str) -> ApiError {
    ApiError::not_found(format!("network {name} not found"))
}

#[async_trait]
impl havre_api_traits::Networks for Engine {
    async fn create(&self, request: NetworkCreateRequest) -> ApiResult<NetworkCreateResponse> {
        create::create(&self.shared, request).await
    }

    async fn list(&self, filters: Filters) -> ApiResult<Vec<NetworkInspect>> {
        list::list(&self.shared, &filters)
    }

    async fn inspect(&self, name: &str, how: InspectNetwork) -> ApiResult<NetworkInspect> {
        list::inspect(&self.shared, name, &how)
    }

    async fn remove(&self, name: &str) -> ApiResult<()> {
        prune::remove(&self.shared, name).await
    }

    async fn prune(&self, filters: Filters) -> ApiResult<NetworkPruneResponse> {
        prune::prune(&self.shared, &filters).await
    }

    async fn connect(&self, network: &str, request: NetworkConnectRequest) -> ApiResult<()> {
        attach::connect(&self.shared, network, request).await
    }

    async fn disconnect(&self, network: &str, request: NetworkDisconnectRequest) -> ApiResult<()> {
        attach::disconnect(&self.shared, network, request).await
    }

    async fn explain_ports(&self, container: &str) -> ApiResult<PortsExplained> {
        attach::explain_ports(&self.shared, container).await
    }
}

/// Docker's attributes of a network's event, then those of the action.
pub(crate) fn network_event(record: &Record, action: &str, attributes: &[(&str, &str)]) -> Event {
    let own = [
        ("name".to_owned(), record.name.clone()),
        ("type".to_owned(), record.driver.clone()),
    ];
    let more = attributes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let actor = Actor {
        id: record.id.to_string(),
        attributes: own.into_iter().chain(more).collect(),
    };
    event("network", action, actor, String::new())
}

impl Shared {
    /// Publishes an event about a network.
    pub(crate) fn announce_network(
        &self,
        record: &Record,
        action: &str,
        attributes: &[(&str, &str)],
    ) {
        self.bus.publish(network_event(record, action, attributes));
    }
}
