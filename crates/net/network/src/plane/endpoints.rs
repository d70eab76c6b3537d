//! Ends of networks: attached, changed, detached.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use havre_netlink::{Connections, Route};
use rustix::io::Errno;

use super::janitor::Remains;
use super::{Base, Endpoint, Plane};
use crate::driver::{bound, bridge, inner, parent};
use crate::error::NetworkError;
use crate::sandbox::Sandbox;
use crate::spec::{Attached, EndpointSpec, Protocol, Publication, Rate};

/// How long an address on a parent may be kept by an interface that is going.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

impl Plane {
    /// Connects a namespace to a network: interface, addresses, routes, and last the published ports.
    pub fn attach(&self, sandbox: &Sandbox, spec: &EndpointSpec) -> Result<Attached, NetworkError> {
        let addresses: Vec<_> = own_addresses(spec);
        self.janitor
            .wait_for(|address| addresses.contains(&address));
        let begin = Instant::now();
        loop {
            match self.attach_now(sandbox, spec) {
                // The namespace of a container that ended goes when the kernel finds the time, and until then its interface
                // has the hardware address on the parent that is wanted again.
                Err(NetworkError::Kernel(error))
                    if error.errno() == Some(Errno::ADDRINUSE) && begin.elapsed() < PATIENCE =>
                {
                    thread::park_timeout(PAUSE);
                }
                other => return other,
            }
        }
    }

    fn attach_now(&self, sandbox: &Sandbox, spec: &EndpointSpec) -> Result<Attached, NetworkError> {
        let mut core = self.core();
        let core = &mut *core;
        if core.endpoints.contains_key(&spec.id) {
            return Err(NetworkError::Attached(spec.id.clone()));
        }
        self.make_up(core, &spec.network)?;
        let network = core.networks.get(&spec.network);
        let network = network.ok_or_else(|| NetworkError::UnknownNetwork(spec.network.clone()))?;
        let attached = match (&network.base, network.spec.bridge()) {
            (Base::Bridge(number), Some(options)) => {
                let joining = bridge::Joining {
                    network: &network.spec,
                    options,
                    bridge: *number,
                    spec,
                    host: self.pool.name()?,
                    before: &|cable| self.firewall.add_cable(cable, spec),
                };
                let joined = joining.attach(&mut core.route, sandbox);
                if joined.is_err() {
                    // The error that matters is the first one.
                    drop(self.firewall.remove_cable(&spec.id));
                }
                joined?
            }
            (Base::Parent(own), _) => {
                let joining = parent::Joining {
                    network: &network.spec,
                    parent: &own.name,
                    spec,
                };
                joining.attach(&mut core.route, sandbox)?
            }
            (Base::Bridge(_), None) => {
                return Err(NetworkError::UnknownNetwork(spec.network.clone()));
            }
        };
        if let Err(error) = self.firewall.add_endpoint(spec) {
            // The error that matters is the first one.
            drop(unplug(&mut core.route, Some(sandbox), &attached));
            drop(self.firewall.remove_cable(&spec.id));
            return Err(error);
        }
        forget_before(&spec.publications)?;
        let endpoint = Endpoint {
            spec: spec.clone(),
            attached: attached.clone(),
        };
        core.endpoints.insert(spec.id.clone(), endpoint);
        Ok(attached)
    }

    /// Disconnects an end: published ports first, then the interface. Without its namespace when the container is gone;
    /// then what is left is removed in the background, before anybody else gets the address. An end that is not attached
    /// is none to detach.
    pub fn detach(&self, sandbox: Option<&Sandbox>, endpoint: &str) -> Result<(), NetworkError> {
        let mut core = self.core();
        let core = &mut *core;
        let Some(end) = core.endpoints.get(endpoint) else {
            return Ok(());
        };
        self.firewall.remove_endpoint(endpoint)?;
        let mut remains = Remains {
            link: end.attached.host_interface.clone(),
            addresses: own_addresses(&end.spec),
        };
        let network = core.networks.get(&end.spec.network);
        let checked = network.is_some_and(|network| network.spec.anti_spoofing());
        // What checks a cable goes after it, so that cable cannot be left for later.
        if sandbox.is_some() || checked {
            unplug(&mut core.route, sandbox, &end.attached)?;
            remains.link = None;
        }
        self.firewall.remove_cable(endpoint)?;
        core.endpoints.remove(endpoint);
        self.janitor.give(remains);
        Ok(())
    }

    /// Publishes further ports of an end.
    pub fn publish(&self, endpoint: &str, ports: &[Publication]) -> Result<(), NetworkError> {
        self.change_ports(endpoint, |now| {
            for port in ports {
                if !now.contains(port) {
                    now.push(*port);
                }
            }
        })
    }

    /// Ends the publication of ports of an end.
    pub fn unpublish(&self, endpoint: &str, ports: &[Publication]) -> Result<(), NetworkError> {
        self.change_ports(endpoint, |now| now.retain(|port| !ports.contains(port)))
    }

    fn change_ports(
        &self,
        endpoint: &str,
        change: impl FnOnce(&mut Vec<Publication>),
    ) -> Result<(), NetworkError> {
        let mut core = self.core();
        let end = core.endpoints.get_mut(endpoint);
        let end = end.ok_or_else(|| NetworkError::UnknownEndpoint(endpoint.to_owned()))?;
        let mut ports = end.spec.publications.clone();
        change(&mut ports);
        self.firewall.publish(endpoint, ports.clone())?;
        let old: BTreeSet<Publication> = end.spec.publications.iter().copied().collect();
        let new = ports.iter().filter(|port| !old.contains(port));
        let new: Vec<Publication> = new.copied().collect();
        forget_before(&new)?;
        end.spec.publications = ports;
        Ok(())
    }

    /// Bounds the bandwidth of an end, or frees it.
    pub fn set_rate(
        &self,
        sandbox: &Sandbox,
        endpoint: &str,
        rate: Option<Rate>,
    ) -> Result<(), NetworkError> {
        let mut core = self.core();
        let core = &mut *core;
        let end = core.endpoints.get_mut(endpoint);
        let end = end.ok_or_else(|| NetworkError::UnknownEndpoint(endpoint.to_owned()))?;
        let wanted = rate.unwrap_or_default();
        if let Some(host) = &end.attached.host_interface {
            let index = core.route.link(host)?.index;
            shape(&mut core.route, index, wanted.receive)?;
        }
        let mut state = sandbox.lock();
        let index = state.route.link(&end.attached.interface)?.index;
        shape(&mut state.route, index, wanted.send)?;
        drop(state);
        end.spec.rate = rate;
        Ok(())
    }

    /// Lets the default routes of a namespace lead by this end, or not.
    pub fn set_default_route(
        &self,
        sandbox: &Sandbox,
        endpoint: &str,
        (ipv4, ipv6): (bool, bool),
    ) -> Result<(), NetworkError> {
        let mut core = self.core();
        let core = &mut *core;
        let end = core.endpoints.get_mut(endpoint);
        let end = end.ok_or_else(|| NetworkError::UnknownEndpoint(endpoint.to_owned()))?;
        let network = core.networks.get(&end.spec.network);
        let network =
            network.ok_or_else(|| NetworkError::UnknownNetwork(end.spec.network.clone()))?;
        let mut state = sandbox.lock();
        let name = end.attached.interface.as_str();
        let index = state.route.link(name)?.index;
        for (family, wanted) in [(false, ipv4), (true, ipv6)] {
            let at = (name, index);
            let Some(route) = inner::default_route(&network.spec, &end.spec, at, family) else {
                continue;
            };
            if wanted {
                state.route.add_route(&route)?;
            } else {
                bridge::gone(state.route.delete_route(&route).map_err(Into::into))?;
            }
        }
        drop(state);
        end.spec.default_route = (ipv4, ipv6);
        Ok(())
    }
}

/// Datagrams that keep coming would go on to where they went before the port was published: the kernel asks the rules only
/// about what is new. For TCP nothing goes on at a port that nobody had.
fn forget_before(ports: &[Publication]) -> Result<(), NetworkError> {
    for ipv6 in [false, true] {
        let datagrams: BTreeSet<u16> = ports
            .iter()
            .filter(|port| port.protocol == Protocol::Udp && port.host.is_ipv6() == ipv6)
            .map(|port| port.host_port)
            .collect();
        if !datagrams.is_empty() {
            let udp = Protocol::Udp.number();
            let within = |port| datagrams.contains(&port);
            Connections::open()?.forget_ports(ipv6, udp, within)?;
        }
    }
    Ok(())
}

fn own_addresses(spec: &EndpointSpec) -> Vec<IpAddr> {
    let families = [false, true].into_iter();
    families.filter_map(|ipv6| spec.address(ipv6)).collect()
}

fn shape(route: &mut Route, index: u32, rate: Option<u64>) -> Result<(), NetworkError> {
    match rate {
        Some(rate) => bound(route, index, rate),
        None => {
            // There may be none: the kernel's words for that are "no such file" and "invalid argument".
            drop(route.unshape(index));
            Ok(())
        }
    }
}

/// Removes an interface; what is gone already is no error.
fn unplug(
    route: &mut Route,
    sandbox: Option<&Sandbox>,
    attached: &Attached,
) -> Result<(), NetworkError> {
    let removed = match (&attached.host_interface, sandbox) {
        (Some(host), _) => route
            .link(host)
            .and_then(|link| route.delete_link(link.index)),
        (None, Some(sandbox)) => {
            let mut state = sandbox.lock();
            let link = state.route.link(&attached.interface);
            link.and_then(|link| state.route.delete_link(link.index))
        }
        // It went with its namespace.
        (None, None) => Ok(()),
    };
    bridge::gone(removed.map_err(Into::into))?;
    if let Some(sandbox) = sandbox {
        sandbox.lock().names.remove(&attached.interface);
    }
    Ok(())
}
