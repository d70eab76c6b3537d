//! macvlan and ipvlan: interfaces on a parent of the host, made directly inside.

use std::os::fd::BorrowedFd;

use havre_netlink::{Kind, LinkChange, NewLink, Route};
use rustix::io::Errno;

use super::VETH;
use super::inner::Inner;
use crate::error::NetworkError;
use crate::names;
use crate::sandbox::Sandbox;
use crate::spec::{Attached, Driver, EndpointSpec, IpvlanFlag, NetworkSpec};

/// The parent of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) name: String,
    /// This engine made it, so it also removes it.
    pub(crate) ours: bool,
}

/// Finds the parent of a network; a VLAN of an interface, or the dummy of a network without a parent, is made.
pub(crate) fn add(
    route: &mut Route,
    instance: &str,
    network: &NetworkSpec,
) -> Result<Parent, NetworkError> {
    let wanted = match &network.driver {
        Driver::Macvlan(options) => options.parent.clone(),
        Driver::Ipvlan(options) => options.parent.clone(),
        Driver::Bridge(_) => None,
    };
    let name = match &wanted {
        Some(name) if !names::is_interface(name) => {
            return Err(NetworkError::InterfaceName(name.clone()));
        }
        Some(name) if name == "lo" => {
            let text = "loopback interface is not a valid macvlan parent link";
            return Err(NetworkError::Parent(text.to_owned()));
        }
        Some(name) => name.clone(),
        None => names::dummy(instance, &network.id),
    };
    match route.link(&name) {
        Ok(link) => {
            return Ok(Parent {
                // Nobody else gives such a name.
                ours: wanted.is_none() || link.alias == super::bridge::alias(instance),
                name,
            });
        }
        Err(error) if error.is_absent() => {}
        Err(error) => return Err(error.into()),
    }
    // Under a name that no one else has, until it says whose it is: an engine that is killed meanwhile leaves nothing that
    // looks like the user's.
    let first = names::dummy(instance, &network.id);
    if let Ok(begun) = route.link(&first) {
        route.delete_link(begun.index)?;
    }
    match &wanted {
        Some(wanted) => vlan(route, &first, wanted)?,
        None => lonely(route, &first)?,
    }
    let link = route.link(&first)?;
    if let Err(error) = hand_over(route, instance, link.index, &name) {
        // The error that matters is the first one.
        drop(route.delete_link(link.index));
        return Err(error);
    }
    Ok(Parent { name, ours: true })
}

/// Gives a new interface its mark and its name, and sets it up.
fn hand_over(
    route: &mut Route,
    instance: &str,
    index: u32,
    name: &str,
) -> Result<(), NetworkError> {
    let mark = super::bridge::alias(instance);
    let marked = LinkChange {
        alias: Some(&mark),
        ..LinkChange::default()
    };
    route.change_link(index, &marked)?;
    let named = LinkChange {
        name: Some(name),
        ..LinkChange::default()
    };
    route.change_link(index, &named)?;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    Ok(route.change_link(index, &up)?)
}

/// Makes an interface that leads nowhere: a dummy, or where the kernel has none a cable to itself.
fn lonely(route: &mut Route, name: &str) -> Result<(), NetworkError> {
    match route.create_link(&NewLink::new(name, Kind::Other("dummy"))) {
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => {}
        other => return Ok(other?),
    }
    let other = name.replacen("hd", "hq", 1);
    let peer = NewLink::new(&other, Kind::Other(""));
    let made = route.create_link(&NewLink::new(name, Kind::Veth(&peer)));
    made.map_err(NetworkError::without(VETH))?;
    let index = route.link(&other)?.index;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    Ok(route.change_link(index, &up)?)
}

/// Makes `eth0.10`, under another name first. The texts are Docker's
/// (<https://github.com/moby/moby/blob/master/daemon/libnetwork/drivers/macvlan/macvlan_setup.go>).
fn vlan(route: &mut Route, first: &str, name: &str) -> Result<(), NetworkError> {
    let invalid = |text: String| Err(NetworkError::Parent(text));
    if !name.contains('.') {
        return invalid(format!(
            "invalid subinterface vlan name {name}, example formatting is eth0.10"
        ));
    }
    let mut parts = name.split('.');
    let (Some(parent), Some(number), None) = (parts.next(), parts.next(), parts.next()) else {
        return invalid(format!(
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
        ));
    };
    let Ok(id) = number.parse::<i64>() else {
        return invalid(format!(
            "unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)"
        ));
    };
    let link = match route.link(parent) {
        Err(error) if error.is_absent() => {
            return invalid(format!(
                "-o parent interface was not found on the host: {parent}"
            ));
        }
        other => other?,
    };
    let Some(id) = u16::try_from(id).ok().filter(|id| (1..=4094).contains(id)) else {
        return invalid(format!("vlan id must be between 1-4094, received: {id}"));
    };
    let kind = Kind::Vlan {
        parent: link.index,
        id,
    };
    let made = route.create_link(&NewLink::new(first, kind));
    made.map_err(NetworkError::without("VLAN interfaces"))
}

/// Removes a parent that this engine made and that no other network uses.
pub(crate) fn remove(route: &mut Route, parent: &Parent) -> Result<(), NetworkError> {
    if !parent.ours {
        return Ok(());
    }
    let removed = route
        .link(&parent.name)
        .and_then(|link| route.delete_link(link.index));
    super::bridge::gone(removed.map_err(Into::into))
}

/// What an end on a parent needs.
pub(crate) struct Joining<'a> {
    pub(crate) network: &'a NetworkSpec,
    pub(crate) parent: &'a str,
    pub(crate) spec: &'a EndpointSpec,
}

impl Joining<'_> {
    /// Makes the interface inside.
    pub(crate) fn attach(
        &self,
        outside: &mut Route,
        sandbox: &Sandbox,
    ) -> Result<Attached, NetworkError> {
        if matches!(self.network.driver, Driver::Ipvlan(_)) && self.spec.mac.is_some() {
            let text = "ipvlan interfaces do not support custom mac address assignment";
            return Err(NetworkError::Impossible(text));
        }
        let mut state = sandbox.lock();
        // The cable of the pool has no use here, and its name is wanted.
        state.discard(outside)?;
        let name = state.name(self.spec.interface.as_deref(), "eth")?;
        let parent = match outside.link(self.parent) {
            Err(error) if error.is_absent() => {
                return Err(NetworkError::NoParent(self.parent.to_owned()));
            }
            other => other?,
        };
        let made = outside.create_link(&self.link(&name, parent.index, sandbox.fd()));
        if let Err(error) = made {
            let driver = match &self.network.driver {
                Driver::Ipvlan(_) => "ipvlan",
                Driver::Macvlan(_) | Driver::Bridge(_) => "macvlan",
            };
            return Err(match error.errno() {
                Some(Errno::BUSY) => NetworkError::ParentBusy(driver),
                _ => NetworkError::without(driver)(error),
            });
        }
        let link = state.route.link(&name)?;
        let inner = Inner {
            network: self.network,
            spec: self.spec,
            name: &name,
            index: link.index,
            mtu: None,
            prepared: false,
        };
        if let Err(error) = inner.configure(sandbox, &mut state.route) {
            // The error that matters is the first one.
            drop(state.route.delete_link(link.index));
            return Err(error);
        }
        let mac = match &self.network.driver {
            Driver::Ipvlan(_) => None,
            Driver::Bridge(_) | Driver::Macvlan(_) => self.spec.mac.or(link.address),
        };
        state.names.insert(name.clone());
        Ok(Attached {
            interface: name,
            host_interface: None,
            mac,
        })
    }

    fn link<'a>(&self, name: &'a str, parent: u32, inside: BorrowedFd<'a>) -> NewLink<'a> {
        let (kind, mtu) = match &self.network.driver {
            Driver::Ipvlan(options) => {
                let flags = match options.flag {
                    IpvlanFlag::Bridge => 0,
                    IpvlanFlag::Private => 1,
                    IpvlanFlag::Vepa => 2,
                };
                let mode = options.mode;
                let kind = Kind::Ipvlan {
                    parent,
                    mode,
                    flags,
                };
                (kind, options.mtu)
            }
            Driver::Macvlan(options) => {
                let mode = options.mode;
                (Kind::Macvlan { parent, mode }, options.mtu)
            }
            Driver::Bridge(options) => (Kind::Other("dummy"), options.mtu),
        };
        NewLink {
            mtu,
            namespace: Some(inside),
            ..NewLink::new(name, kind)
        }
    }
}
