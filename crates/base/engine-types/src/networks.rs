//! Networks as objects: what creates one, and what is told about it.
//!
//! Shapes: <https://github.com/moby/moby/tree/master/api/types/network>. Addresses stay texts here, because a wrong one
//! has to be answered in Docker's words and not in those of a parser.

use std::collections::BTreeMap;

use havre_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{EndpointSettings, StringMap};

/// A network, as `GET /networks` lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkSummary {
    pub name: String,
    pub id: String,
    pub created: Timestamp,
    /// `local` or `swarm`.
    pub scope: String,
    pub driver: String,
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub config_from: ConfigReference,
    pub config_only: bool,
    pub options: StringMap,
    pub labels: StringMap,
    /// Other nodes of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<PeerInfo>>,
}

/// Everything about one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkInspect {
    #[serde(flatten)]
    pub network: NetworkSummary,
    /// Its endpoints by the id of their container.
    #[serde(rename = "Containers")]
    pub containers: BTreeMap<String, EndpointResource>,
    /// Services of a cluster, for `verbose`.
    #[serde(rename = "Services", skip_serializing_if = "Option::is_none")]
    pub services: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(rename = "Status", skip_serializing_if = "Option::is_none")]
    pub status: Option<NetworkStatus>,
}

/// How the addresses of a network are given out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    pub driver: String,
    pub options: Option<StringMap>,
    pub config: Option<Vec<IpamConfig>>,
}

/// One subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that are in use by others, each with a name.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "Option::is_none")]
    pub aux_addresses: Option<StringMap>,
}

/// The network whose configuration is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigReference {
    pub network: String,
}

/// Another node of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PeerInfo {
    pub name: String,
    #[serde(rename = "IP")]
    pub ip: String,
}

/// A container's end of a network, seen from the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointResource {
    pub name: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub mac_address: String,
    /// With the length of the prefix.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// With the length of the prefix.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// How a network stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStatus {
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// How many addresses are given out, by subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamStatus {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// How many addresses of a subnet are given out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubnetStatus {
    #[serde(rename = "IPsInUse")]
    pub in_use: u64,
    #[serde(rename = "DynamicIPsAvailable")]
    pub available: u64,
}

/// The body of `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkCreateRequest {
    pub name: String,
    /// Empty: `bridge`.
    pub driver: String,
    pub scope: String,
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub config_only: bool,
    pub config_from: Option<ConfigReference>,
    pub options: Option<StringMap>,
    pub labels: Option<StringMap>,
}

/// The answer to `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkCreateResponse {
    pub id: String,
    pub warning: String,
}

/// The body of `POST /networks/{id}/connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkConnectRequest {
    pub container: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_config: Option<EndpointSettings>,
}

/// The body of `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkDisconnectRequest {
    pub container: String,
    pub force: bool,
}

/// The answer to `POST /networks/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkPruneResponse {
    /// Names, not ids; null when there was none.
    pub networks_deleted: Option<Vec<String>>,
}

/// Who can reach a port of a container, and what decides it. Havre's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortExplanation {
    /// `80/tcp`
    pub port: String,
    pub network: String,
    /// Who asks: `the host`, `other hosts`, `containers of other networks` …
    pub from: String,
    /// Where that one connects to.
    pub address: String,
    pub reachable: bool,
    /// The rule or setting that decides it.
    pub because: String,
}

/// The answer to `GET /containers/{id}/ports/explain`. Havre's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortsExplained {
    pub ports: Vec<PortExplanation>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspected_network_is_written_as_docker_writes_it() {
        let network = NetworkInspect {
            network: NetworkSummary {
                name: "web".to_owned(),
                driver: "bridge".to_owned(),
                enable_ipv4: true,
                ipam: Ipam {
                    driver: "default".to_owned(),
                    options: None,
                    config: Some(vec![IpamConfig {
                        subnet: "10.1.0.0/24".to_owned(),
                        ..IpamConfig::default()
                    }]),
                },
                ..NetworkSummary::default()
            },
            ..NetworkInspect::default()
        };
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"Name":"web","Id":"","Created":"0001-01-01T00:00:00Z","Scope":"","Driver":"bridge","#,
                r#""EnableIPv4":true,"EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,"#,
                r#""Config":[{"Subnet":"10.1.0.0/24"}]},"Internal":false,"Attachable":false,"#,
                r#""Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,"Options":{},"#,
                r#""Labels":{},"Containers":{}}"#
            )
        );
        assert_eq!(
            serde_json::from_str::<NetworkInspect>(&text).unwrap(),
            network
        );
    }
}
