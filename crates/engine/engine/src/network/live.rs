//! A container on its networks while it runs. The kernel has the truth; what leads to it is written beside the shim before
//! the container starts, so that an engine that comes after this one finds every address and port again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_engine_types::{PortBinding, PortMap};
use havre_network::ports::Claim;
use havre_network::{EndpointSpec, Protocol, Publication, Rate};
use havre_types::{Cidr, EndpointId, MacAddress, NetworkId};
use serde::{Deserialize, Serialize};

use super::membership::Addresses;

/// In the container's bundle.
const FILE: &str = "network.json";

/// What a running container has of networks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Live {
    pub ends: Vec<End>,
    /// Published ports that lead nowhere now, because no network of their family leads out; the host keeps them.
    #[serde(default)]
    pub parked: Vec<Published>,
    /// Exposed ports that nothing of the host leads to.
    pub exposed: Vec<String>,
    /// Its names are resolved by the companion.
    pub resolves: bool,
    /// Keeps the host's ports.
    #[serde(skip)]
    pub claims: Arc<Mutex<Vec<Claim>>>,
}

/// One end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct End {
    pub network: NetworkId,
    /// The network's name.
    pub name: String,
    pub id: EndpointId,
    pub mac: Option<MacAddress>,
    pub ipv4: Option<Cidr>,
    pub ipv6: Option<Cidr>,
    /// Further addresses (`--link-local-ip`).
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    pub gateway_ipv4: Option<IpAddr>,
    pub gateway_ipv6: Option<IpAddr>,
    /// Its name inside.
    pub interface: String,
    /// The network with the highest one leads out.
    #[serde(default)]
    pub gw_priority: i64,
    /// The container's default routes lead by it.
    pub default_route: (bool, bool),
    pub ports: Vec<Published>,
    /// What it answers to, the container's name first; empty where names are not resolved.
    pub names: Vec<String>,
    /// Names that only this container uses, and what each stands for (`--link`).
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    #[serde(default)]
    pub receive: Option<u64>,
    #[serde(default)]
    pub send: Option<u64>,
}

/// A port of the host that leads to one of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    pub host: IpAddr,
    pub host_port: u16,
    pub container_port: u16,
}

impl Published {
    /// As the plane wants it.
    pub(crate) fn plan(&self) -> Option<Publication> {
        Some(Publication {
            protocol: protocol(&self.protocol)?,
            host: self.host,
            host_port: self.host_port,
            container_port: self.container_port,
        })
    }

    /// `80/tcp`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.container_port, self.protocol)
    }
}

/// The protocol of that name.
pub(crate) fn protocol(name: &str) -> Option<Protocol> {
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    all.into_iter()
        .find(|protocol| protocol.to_string() == name)
}

impl End {
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            ipv4: self.ipv4,
            ipv6: self.ipv6,
        }
    }

    /// Its addresses of both families.
    pub(crate) fn all_addresses(&self) -> Vec<IpAddr> {
        let both = [self.ipv4, self.ipv6].into_iter().flatten();
        both.map(Cidr::address).collect()
    }

    /// As the plane knows it; parameters matter only while it is made.
    pub(crate) fn spec(&self) -> EndpointSpec {
        let free = self.receive.is_none() && self.send.is_none();
        EndpointSpec {
            network: self.network.to_string(),
            id: self.id.to_string(),
            mac: self.mac,
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            link_local: self.link_local.clone(),
            interface: Some(self.interface.clone()).filter(|name| !name.is_empty()),
            default_route: self.default_route,
            publications: self.ports.iter().filter_map(Published::plan).collect(),
            rate: (!free).then_some(Rate {
                receive: self.receive,
                send: self.send,
            }),
            ..EndpointSpec::default()
        }
    }
}

impl Live {
    /// The host's ports that are kept for it.
    pub(crate) fn claims(&self) -> MutexGuard<'_, Vec<Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the host's ports to others, whoever else still looks at this.
    pub(crate) fn release_claims(&self) {
        self.claims().clear();
    }

    /// The end on a network.
    pub(crate) fn on(&self, network: &NetworkId) -> Option<&End> {
        self.ends.iter().find(|end| end.network == *network)
    }

    /// Ports as `inspect` and `ps` show them.
    pub(crate) fn ports(&self) -> PortMap {
        let mut ports: PortMap = self.exposed.iter().map(|key| (key.clone(), None)).collect();
        for published in self.ends.iter().flat_map(|end| &end.ports) {
            let bindings = ports.entry(published.key()).or_default();
            bindings.get_or_insert_default().push(PortBinding {
                host_ip: published.host.to_string(),
                host_port: published.host_port.to_string(),
            });
        }
        ports
    }

    /// Writes it down in the bundle. No disk is waited for: after a crash of the host nothing of it is true.
    pub(crate) fn write(&self, bundle: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        let new = bundle.join("network.json.new");
        fs_err::write(&new, text)?;
        fs_err::rename(new, bundle.join(FILE))
    }

    /// What a former engine wrote down.
    pub(crate) fn read(bundle: &Path) -> Option<Self> {
        let text = fs_err::read(bundle.join(FILE)).ok()?;
        let read = serde_json::from_slice(&text);
        if let Err(error) = &read {
            tracing::error!(bundle = %bundle.display(), %error, "the container's networks are not known any more");
        }
        read.ok()
    }
}
