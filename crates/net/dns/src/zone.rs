//! What the companion is told: networks with their endpoints, and for each container which of them it is on. A name is kept
//! once for each network, not once for each container, so that a start on a network of a thousand costs one message.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A network, as far as names go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The name that may follow a container's: `db.shop`.
    pub name: String,
    /// By the endpoint's id.
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// A container on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// All names that it answers to on this network: the container's name first, which reverse queries get; then aliases,
    /// the short id, the host name.
    pub names: Vec<String>,
    /// Its addresses of both versions.
    pub addresses: Vec<IpAddr>,
}

/// What one container may resolve, and who answers the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// The networks that it is on, in the order in which they are asked.
    pub networks: Vec<Membership>,
    /// Who is asked for names that are not ours.
    pub upstreams: Upstreams,
    /// False when all networks of the container are internal: nothing is asked from the host's namespace (CVE-2024-29018).
    pub forward: bool,
    /// The container's resolv.conf has an `ndots` that is not ours: names without a dot are then never forwarded, the
    /// container's resolver comes back with a search domain.
    pub ndots_set: bool,
}

/// A container's place on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The network's id.
    pub network: String,
    /// Names that only this container uses (`--link`), and the name on the network that each stands for.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

impl Membership {
    /// A place without links.
    #[must_use]
    pub fn of(network: &str) -> Self {
        Self {
            network: network.to_owned(),
            links: BTreeMap::new(),
        }
    }
}

/// Name servers for names that are not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upstreams {
    /// Those of the host's resolv.conf, as it is at the time of each query, asked from the host's namespace.
    #[default]
    Host,
    /// These, asked from the host's namespace.
    FromHost(Vec<SocketAddr>),
    /// These (`--dns`), asked from the container's namespace: they may lie on one of its networks.
    FromContainer(Vec<SocketAddr>),
}

/// The protocol of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// The socket listens.
    Tcp,
    /// The socket is bound.
    Udp,
}

/// Everything that the companion should have, by the ids of networks, containers and relays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// All networks with their endpoints.
    pub networks: BTreeMap<String, Network>,
    /// All containers that are served.
    pub containers: BTreeMap<String, Zone>,
    /// Where each relay leads.
    pub relays: BTreeMap<String, SocketAddr>,
}

/// Whose sockets the companion has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Containers that are served.
    pub containers: Vec<String>,
    /// Relays that run.
    pub relays: Vec<String>,
}
