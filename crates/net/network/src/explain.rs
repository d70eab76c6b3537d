//! Who can reach a published port, and which rule decides it.

use crate::error::NetworkError;
use crate::firewall::Model;
use crate::spec::{GatewayMode, Publication};

/// Somebody who may want to reach a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Other hosts, at the host's address.
    OtherHosts,
    /// Programs of this host, at the host's address.
    ThisHost,
    /// Containers of the same network, at the container's address.
    SameNetwork,
    /// Containers of other networks, at the host's address.
    OtherNetworks,
    /// Other hosts, at the container's address.
    Directly,
}

/// Whether somebody reaches a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Who.
    pub audience: Audience,
    /// Whether.
    pub reaches: bool,
    /// The rule that decides, by its chain and its comment.
    pub rule: String,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The port.
    pub publication: Publication,
    /// The table that has the rules.
    pub reach: Vec<Reach>,
}

fn reach(audience: Audience, reaches: bool, rule: &str) -> Reach {
    Reach {
        audience,
        reaches,
        rule: rule.to_owned(),
    }
}

pub(crate) fn explain(model: &Model, endpoint: &str) -> Result<Vec<Explanation>, NetworkError> {
    let end = model.endpoints.get(endpoint);
    let end = end.ok_or_else(|| NetworkError::UnknownEndpoint(endpoint.to_owned()))?;
    let network = model.networks.get(&end.network);
    let network = network.ok_or_else(|| NetworkError::UnknownNetwork(end.network.clone()))?;
    let Some(options) = network.bridge() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for publication in &end.publications {
        let mode = options.mode(publication.host.is_ipv6());
        let translated = !network.internal
            && matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected)
            && end.address(publication.host.is_ipv6()).is_some();
        let loopback = publication.host.is_loopback();
        let outside = match (translated, loopback) {
            (true, true) => "prerouting: not from outside",
            (true, false) => "prerouting: published",
            (false, _) => "forward: not published, or another network",
        };
        let here = if translated {
            "output: published"
        } else {
            "no rule: the port is not translated"
        };
        let open = match mode {
            GatewayMode::NatUnprotected => Some("forward: unprotected"),
            GatewayMode::Routed => Some("forward: published, directly"),
            GatewayMode::Nat if model.settings.direct_routing => {
                Some("forward: published, directly")
            }
            GatewayMode::Nat | GatewayMode::Isolated => None,
        };
        let open = open.filter(|_| !network.internal);
        found.push(Explanation {
            publication: *publication,
            reach: vec![
                reach(Audience::OtherHosts, translated && !loopback, outside),
                reach(Audience::ThisHost, translated, here),
                reach(
                    Audience::SameNetwork,
                    options.icc,
                    if options.icc {
                        "forward: the same network"
                    } else {
                        "forward: no talk between containers (icc)"
                    },
                ),
                reach(Audience::OtherNetworks, translated && !loopback, outside),
                reach(
                    Audience::Directly,
                    open.is_some(),
                    open.unwrap_or("forward: not published, or another network"),
                ),
            ],
        });
    }
    Ok(found)
}
