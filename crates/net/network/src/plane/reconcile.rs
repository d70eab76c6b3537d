//! The start of an engine: what it finds becomes what it wants.

use std::collections::{BTreeMap, BTreeSet};

use havre_netlink::{Link, LinkChange, Route};

use super::{Base, Core, Endpoint, Network, Plane};
use crate::driver::bridge;
use crate::error::NetworkError;
use crate::names;
use crate::spec::{Attached, EndpointSpec, NetworkSpec};

/// What was found at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Ends whose interface is gone: they are not attached.
    pub missing: Vec<String>,
    /// Interfaces of this engine that belonged to nothing, and were removed.
    pub removed: Vec<String>,
    /// Networks that could not be set up, and why.
    pub failed: Vec<(String, String)>,
}

impl Plane {
    /// Makes the kernel what these networks and ends need: the whole table in one step, bridges that are missing, ports of
    /// bridges that lost theirs; and removes what this engine made and nobody wants any more. Ends of networks without a
    /// bridge are taken to be as they are said to be.
    pub fn reconcile(
        &self,
        networks: &[NetworkSpec],
        endpoints: &[EndpointSpec],
    ) -> Result<Reconciled, NetworkError> {
        let mut core = self.core();
        let mut found = Reconciled::default();
        for network in networks {
            super::check(network)?;
            self.forward_for(network)?;
        }
        let cables = self.cables(&mut core)?;
        let bridged: BTreeSet<&str> = networks
            .iter()
            .filter(|network| network.bridge().is_some())
            .map(|network| network.id.as_str())
            .collect();
        let (present, missing): (Vec<_>, Vec<_>) = endpoints.iter().partition(|end| {
            !bridged.contains(end.network.as_str()) || cables.contains_key(&end.id)
        });
        let wanted: Vec<EndpointSpec> = present.into_iter().cloned().collect();
        found.missing = missing.into_iter().map(|end| end.id.clone()).collect();
        // Rules first: nothing is connected that they do not cover.
        self.firewall.replace(networks, &wanted, |end| {
            cables.get(&end.id).map(|link| link.name.as_str())
        })?;
        core.networks.clear();
        core.waiting.clear();
        core.endpoints.clear();
        for network in networks {
            match self.base(&mut core.route, network) {
                Ok(base) => {
                    let spec = network.clone();
                    core.networks
                        .insert(network.id.clone(), Network { spec, base });
                }
                Err(error) => {
                    found.failed.push((network.id.clone(), chain(&error)));
                    core.waiting.insert(network.id.clone(), network.clone());
                }
            }
        }
        for spec in wanted {
            let cable = cables.get(&spec.id);
            adopt(&mut core, spec, cable)?;
        }
        found.removed = self.sweep(&mut core, networks, &cables)?;
        Ok(found)
    }

    /// The host's ends of this engine's cables, by the id of the end that they are of.
    fn cables(&self, core: &mut Core) -> Result<BTreeMap<String, Link>, NetworkError> {
        let prefix = names::cable_prefix(&self.options.instance);
        let mut links = core.route.links()?;
        links.retain(|link| link.name.starts_with(&prefix) && !link.alias.is_empty());
        let cables = links.into_iter().map(|link| (link.alias.clone(), link));
        Ok(cables.collect())
    }

    /// Removes interfaces of this engine that belong to nothing.
    fn sweep(
        &self,
        core: &mut Core,
        networks: &[NetworkSpec],
        cables: &BTreeMap<String, Link>,
    ) -> Result<Vec<String>, NetworkError> {
        let instance = &self.options.instance;
        let mark = bridge::alias(instance);
        let cable = names::cable_prefix(instance);
        let parent = names::dummy_prefix(instance);
        let wanted: BTreeSet<String> = networks
            .iter()
            .filter_map(|network| Some(network.bridge()?.interface.clone()))
            .chain(
                core.networks
                    .values()
                    .filter_map(|network| match &network.base {
                        Base::Parent(own) => Some(own.name.clone()),
                        Base::Bridge(_) => None,
                    }),
            )
            .collect();
        let used: BTreeSet<&str> = core
            .endpoints
            .keys()
            .filter_map(|id| Some(cables.get(id)?.name.as_str()))
            .collect();
        let mut removed = Vec::new();
        for link in core.route.links()? {
            // One without the mark is what was being made when an engine was killed.
            let base = link.alias == mark || link.name.starts_with(&parent);
            let stale_base = base && !wanted.contains(&link.name);
            // A cable without a name on it is the pool's: of this run, or of one that ended, and then it goes with its
            // namespace.
            let stale_cable = link.name.starts_with(&cable)
                && !link.alias.is_empty()
                && !used.contains(link.name.as_str());
            if stale_base || stale_cable {
                let gone = core.route.delete_link(link.index).map_err(Into::into);
                bridge::gone(gone)?;
                removed.push(link.name);
            }
        }
        Ok(removed)
    }
}

/// Takes over an end that is there; its cable is plugged in where it should be, as soon as that is there.
fn adopt(core: &mut Core, spec: EndpointSpec, cable: Option<&Link>) -> Result<(), NetworkError> {
    match (core.networks.get(&spec.network), cable) {
        // It may go with its container in this moment.
        (Some(network), Some(link)) => bridge::gone(plug(&mut core.route, network, link))?,
        (Some(_), None) => {}
        (None, _) if core.waiting.contains_key(&spec.network) => {}
        (None, _) => return Ok(()),
    }
    let attached = Attached {
        interface: spec.interface.clone().unwrap_or_default(),
        host_interface: cable.map(|link| link.name.clone()),
        mac: spec.mac,
    };
    let id = spec.id.clone();
    core.endpoints.insert(id, Endpoint { spec, attached });
    Ok(())
}

/// Plugs the host's end of a cable into the bridge that it is of.
pub(super) fn plug(route: &mut Route, network: &Network, cable: &Link) -> Result<(), NetworkError> {
    let (Base::Bridge(number), Some(options)) = (&network.base, network.spec.bridge()) else {
        return Ok(());
    };
    if cable.master == Some(*number) {
        return Ok(());
    }
    let change = LinkChange {
        up: Some(true),
        master: Some(*number),
        ..LinkChange::default()
    };
    route.change_link(cable.index, &change)?;
    Ok(route.change_port(cable.index, bridge::port(options))?)
}

/// An error with its causes, for a report.
fn chain(error: &NetworkError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
