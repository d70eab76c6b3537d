//! Who can reach a published port, and which rule decides it.

use havre_netlink::nft::{ForeignChain, Hook, Policy};

use crate::error::NetworkError;
use crate::firewall::{Guard, Model};
use crate::spec::{EndpointSpec, GatewayMode, NetworkSpec, Publication};

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

impl Audience {
    const ALL: [Self; 5] = [
        Self::OtherHosts,
        Self::ThisHost,
        Self::SameNetwork,
        Self::OtherNetworks,
        Self::Directly,
    ];
}

/// Whether somebody reaches a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Who.
    pub audience: Audience,
    /// Whether the engine's rules let them.
    pub reaches: bool,
    /// The rule that decides, by its chain and its comment, and whose rules are asked as well.
    pub rule: String,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The port.
    pub publication: Publication,
    /// Everybody.
    pub reach: Vec<Reach>,
}

/// What decides beside the engine's own rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Others {
    /// The chains of other tables, in which a drop is final.
    pub(crate) chains: Vec<(&'static str, ForeignChain)>,
    /// How far those for arriving packets hold for published ports.
    pub(crate) guard: Guard,
}

impl Others {
    /// The chains of others that are asked about what goes from one host to another through this one. One that drops all
    /// it does not know is named as that: it most likely decides.
    fn asked(&self, arriving: bool) -> String {
        let guarded = arriving && self.guard != Guard::None;
        let chains = self.chains.iter().filter_map(|(family, chain)| {
            let base = chain.base.as_ref().filter(|base| base.kind == "filter")?;
            let hook = match base.hook? {
                Hook::Forward => "forward",
                Hook::Prerouting => "prerouting",
                Hook::Input if guarded => "input",
                Hook::Input | Hook::Output | Hook::Postrouting => return None,
            };
            let strict = hook != "input" || self.guard == Guard::Full;
            let closed = match base.policy {
                Policy::Drop if strict => ", which drops what it does not allow",
                Policy::Drop | Policy::Accept => "",
            };
            Some(format!(
                "{family} {} {} ({hook}{closed})",
                chain.table, chain.name
            ))
        });
        let chains: Vec<String> = chains.collect();
        if chains.is_empty() {
            return String::new();
        }
        format!("; the host's own rules decide first: {}", chains.join(", "))
    }
}

impl Others {
    /// The chains of others that drop whatever is forwarded and that they do not know, containers' packets among it.
    pub(crate) fn closed(&self) -> Vec<String> {
        let closed = self.chains.iter().filter(|(_, chain)| {
            chain
                .base
                .as_ref()
                .is_some_and(|base| base.hook == Some(Hook::Forward) && base.policy == Policy::Drop)
        });
        let named =
            closed.map(|(family, chain)| format!("{family} {} {}", chain.table, chain.name));
        named.collect()
    }
}

/// Explains all published ports of an end.
pub(crate) fn explain(
    model: &Model,
    others: &Others,
    endpoint: &str,
) -> Result<Vec<Explanation>, NetworkError> {
    let end = model.endpoints.get(endpoint);
    let end = end.ok_or_else(|| NetworkError::UnknownEndpoint(endpoint.to_owned()))?;
    let network = model.networks.get(&end.network);
    let network = network.ok_or_else(|| NetworkError::UnknownNetwork(end.network.clone()))?;
    if network.bridge().is_none() {
        return Ok(Vec::new());
    }
    let explained = end.publications.iter().map(|publication| Explanation {
        publication: *publication,
        reach: reach(model, others, (network, end), publication),
    });
    Ok(explained.collect())
}

/// Of a family for which the engine makes no rules.
fn left(audience: Audience) -> Reach {
    Reach {
        audience,
        reaches: true,
        rule: "left to the administrator".to_owned(),
    }
}

fn reach(
    model: &Model,
    others: &Others,
    (network, end): (&NetworkSpec, &EndpointSpec),
    publication: &Publication,
) -> Vec<Reach> {
    const CLOSED: &str = "forward: not published, or another network";
    let ipv6 = publication.host.is_ipv6();
    let icc = network.bridge().is_some_and(|options| options.icc);
    if model.settings.leaves(ipv6) {
        return Audience::ALL.map(left).to_vec();
    }
    let mode = network
        .bridge()
        .map_or(GatewayMode::Nat, |options| options.mode(ipv6));
    let translated = !network.internal
        && matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected)
        && end.address(ipv6).is_some();
    let loopback = publication.host.is_loopback();
    let outside = translated && !loopback;
    // On the host itself ::1 is a relay's.
    let relayed = ipv6 && loopback;
    let open = match mode {
        GatewayMode::NatUnprotected => Some("forward: unprotected"),
        GatewayMode::Routed => Some("forward: published, directly"),
        GatewayMode::Nat if model.settings.direct_routing => Some("forward: published, directly"),
        GatewayMode::Nat | GatewayMode::Isolated => None,
    };
    let open = open.filter(|_| !network.internal);
    let from_outside = match (translated, loopback) {
        (true, true) => "prerouting: not from outside",
        (true, false) => "prerouting: published",
        (false, _) if network.internal => "forward: into an internal network",
        (false, _) => CLOSED,
    };
    let here = match (translated, relayed) {
        (true, true) => "output: the relay's",
        (true, false) => "output: published",
        (false, _) => "no rule: the port is not translated",
    };
    let among = match icc {
        true => "forward: the same network",
        false => "forward: no talk between containers (icc)",
    };
    let told = |audience, reaches: bool, rule: &str, arriving: Option<bool>| Reach {
        audience,
        reaches,
        rule: match arriving.filter(|_| reaches) {
            Some(arriving) => format!("{rule}{}", others.asked(arriving)),
            None => rule.to_owned(),
        },
    };
    vec![
        told(Audience::OtherHosts, outside, from_outside, Some(true)),
        told(Audience::ThisHost, translated, here, None),
        told(Audience::SameNetwork, icc, among, None),
        told(Audience::OtherNetworks, outside, from_outside, Some(true)),
        told(
            Audience::Directly,
            open.is_some(),
            open.unwrap_or(CLOSED),
            Some(false),
        ),
    ]
}
