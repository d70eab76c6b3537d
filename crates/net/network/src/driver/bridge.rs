//! A switch of this host, and cables from it into namespaces.

use havre_netlink::{Kind, Link, LinkChange, NewLink, Port, Route};
use havre_types::{Cidr, MacAddress};

use super::inner::Inner;
use super::{VETH, bound, mac_of};
use crate::error::NetworkError;
use crate::inside::{parameter, set_if_there, set_parameter};
use crate::names;
use crate::sandbox::{Cable, FIRST, Sandbox, State};
use crate::spec::{Attached, BridgeOptions, EndpointSpec, GatewayMode, NetworkSpec};

/// What packets have when nobody says otherwise.
const MTU: u32 = 1500;

/// Makes the bridge of a network, or makes one that is there what it must be; its number. Its rules hold already.
pub(crate) fn add(
    route: &mut Route,
    instance: &str,
    network: &NetworkSpec,
    options: &BridgeOptions,
) -> Result<u32, NetworkError> {
    let name = options.interface.as_str();
    if !names::is_interface(name) {
        return Err(NetworkError::InterfaceName(name.to_owned()));
    }
    let link = match route.link(name) {
        Ok(link) => link,
        Err(error) if error.is_absent() => make(route, instance, options)?,
        Err(error) => return Err(error.into()),
    };
    if link.kind != "bridge" {
        return Err(NetworkError::OtherKind {
            name: link.name,
            found: link.kind,
        });
    }
    parameters(network, options)?;
    addresses(route, instance, &link, &wanted(network, options))?;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    route.change_link(link.index, &up)?;
    Ok(link.index)
}

fn make(route: &mut Route, instance: &str, options: &BridgeOptions) -> Result<Link, NetworkError> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| NetworkError::System {
        action: format!("make up an address for bridge {}", options.interface),
        source: std::io::Error::other(error.to_string()),
    })?;
    // With an address of its own the bridge keeps it, whatever is plugged in.
    let made = route.create_link(&NewLink {
        address: Some(MacAddress::local(bytes)),
        mtu: Some(options.mtu.unwrap_or(MTU)),
        ..NewLink::new(&options.interface, Kind::Bridge)
    });
    made.map_err(NetworkError::without("bridges"))?;
    let link = route.link(&options.interface)?;
    let mark = alias(instance);
    let change = LinkChange {
        alias: Some(&mark),
        ..LinkChange::default()
    };
    route.change_link(link.index, &change)?;
    Ok(Link {
        alias: mark,
        ..link
    })
}

/// How a bridge tells whose it is; one without it was made by somebody else, who removes it.
pub(crate) fn alias(instance: &str) -> String {
    format!("engine {instance}")
}

fn parameters(network: &NetworkSpec, options: &BridgeOptions) -> Result<(), NetworkError> {
    let name = options.interface.as_str();
    let ipv6 = !network.ipv6.is_empty() && options.gateway_mode_ipv6 != GatewayMode::Isolated;
    for (key, value) in [
        ("accept_ra", "0"),
        ("disable_ipv6", if ipv6 { "0" } else { "1" }),
    ] {
        let path = format!("net/ipv6/conf/{name}/{key}");
        if parameter(&path).is_some_and(|now| now != value) {
            set_if_there(&path, value)?;
        }
    }
    if !network.ipv4.is_empty() && !network.internal {
        // The host reaches published ports at 127.0.0.1; the table's chain `raw` keeps containers out.
        set_parameter(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    }
    Ok(())
}

/// The host's addresses on the bridge.
fn wanted(network: &NetworkSpec, options: &BridgeOptions) -> Vec<Cidr> {
    let mut found = Vec::new();
    for (ipv6, subnets) in [(false, &network.ipv4), (true, &network.ipv6)] {
        let inhibited = !ipv6 && options.inhibit_ipv4;
        if inhibited || options.mode(ipv6) == GatewayMode::Isolated {
            continue;
        }
        found.extend(subnets.iter().filter_map(|subnet| {
            let gateway = subnet.gateway?;
            Cidr::new(gateway, subnet.cidr.prefix())
        }));
    }
    found
}

/// Gives the bridge its addresses; on one of ours others go.
fn addresses(
    route: &mut Route,
    instance: &str,
    link: &Link,
    wanted: &[Cidr],
) -> Result<(), NetworkError> {
    let mut present = route.addresses()?;
    present.retain(|address| address.index == link.index);
    if link.alias == alias(instance) {
        for old in &present {
            if !old.link_local && !wanted.contains(&old.cidr) {
                route.delete_address(link.index, old.cidr)?;
            }
        }
    }
    for cidr in wanted {
        if !present.iter().any(|address| address.cidr == *cidr) {
            route.add_address(link.index, *cidr)?;
        }
    }
    Ok(())
}

/// Removes a bridge that this engine made.
pub(crate) fn remove(route: &mut Route, instance: &str, name: &str) -> Result<(), NetworkError> {
    match route.link(name) {
        Ok(link) if link.kind == "bridge" && link.alias == alias(instance) => {
            gone(route.delete_link(link.index).map_err(Into::into))
        }
        Ok(_somebody_elses) => Ok(()),
        Err(error) => gone(Err(error.into())),
    }
}

/// What is not there need not be removed.
pub(crate) fn gone(outcome: Result<(), NetworkError>) -> Result<(), NetworkError> {
    match outcome {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

/// What a port may. A container reaches its own published ports through the port that it is on when br_netfilter keeps
/// such packets on the bridge.
pub(crate) fn port(options: &BridgeOptions) -> Port {
    Port {
        hairpin: true,
        isolated: !options.icc,
    }
}

/// What an end on a bridge needs.
pub(crate) struct Joining<'a> {
    pub(crate) network: &'a NetworkSpec,
    pub(crate) options: &'a BridgeOptions,
    /// The number of the bridge.
    pub(crate) bridge: u32,
    pub(crate) spec: &'a EndpointSpec,
    /// A free name for the host's end, should one be made.
    pub(crate) host: String,
    /// What must hold before the host's end, whose name it is told, is on the bridge.
    pub(crate) before: &'a dyn Fn(&str) -> Result<(), NetworkError>,
}

impl Joining<'_> {
    /// Connects a namespace to the bridge.
    pub(crate) fn attach(
        &self,
        outside: &mut Route,
        sandbox: &Sandbox,
    ) -> Result<Attached, NetworkError> {
        let mut state = sandbox.lock();
        let prefix = self.options.container_iface_prefix.as_deref();
        let name = state.name(self.spec.interface.as_deref(), prefix.unwrap_or("eth"))?;
        let fits = name == FIRST;
        if !fits {
            state.discard(outside)?;
        }
        let (cable, prepared) = match state.cable.take() {
            Some(cable) => (cable, true),
            None => (self.lay(outside, sandbox, &mut state, &name)?, false),
        };
        let plug = (&cable, name.as_str(), prepared);
        let ready = (self.before)(&cable.host);
        let done = ready.and_then(|()| self.connect(outside, sandbox, &mut state, plug));
        if let Err(error) = done {
            // The error that matters is the first one.
            drop(outside.delete_link(cable.host_index));
            return Err(error);
        }
        state.names.insert(name.clone());
        Ok(Attached {
            interface: name,
            host_interface: Some(cable.host),
            mac: mac_of(self.spec),
        })
    }

    /// A cable whose inner end has its final name; both ends are down.
    fn lay(
        &self,
        outside: &mut Route,
        sandbox: &Sandbox,
        state: &mut State,
        name: &str,
    ) -> Result<Cable, NetworkError> {
        let peer = NewLink {
            namespace: Some(sandbox.fd()),
            ..NewLink::new(name, Kind::Other(""))
        };
        let made = outside.create_link(&NewLink::new(&self.host, Kind::Veth(&peer)));
        made.map_err(NetworkError::without(VETH))?;
        let found = outside.link(&self.host).and_then(|link| {
            let inner = state.route.link(name)?;
            Ok((link.index, inner.index))
        });
        let (host_index, index) = found?;
        Ok(Cable {
            host: self.host.clone(),
            host_index,
            index,
        })
    }

    fn connect(
        &self,
        outside: &mut Route,
        sandbox: &Sandbox,
        state: &mut State,
        (cable, name, prepared): (&Cable, &str, bool),
    ) -> Result<(), NetworkError> {
        let mtu = self.options.mtu.filter(|mtu| *mtu != MTU);
        let change = LinkChange {
            up: Some(true),
            master: Some(self.bridge),
            mtu,
            alias: Some(&self.spec.id),
            ..LinkChange::default()
        };
        outside.change_link(cable.host_index, &change)?;
        outside.change_port(cable.host_index, port(self.options))?;
        if let Some(rate) = self.spec.rate.and_then(|rate| rate.receive) {
            bound(outside, cable.host_index, rate)?;
        }
        let inner = Inner {
            network: self.network,
            spec: self.spec,
            name,
            index: cable.index,
            mtu,
            prepared,
        };
        inner.configure(sandbox, &mut state.route)
    }
}
