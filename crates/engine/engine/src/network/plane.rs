//! Where networks become interfaces and rules: the one way from the records to the data plane.
//!
//! It is opened when the first network or container needs it, so that an engine whose containers have no network changes
//! nothing on its host.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use havre_api_traits::{ApiError, ApiResult};
use havre_network::{
    BridgeOptions, Driver as Plan, EndpointSpec, IpvlanFlag, IpvlanMode, IpvlanOptions,
    MacvlanMode, MacvlanOptions, NetworkError, NetworkSpec, Plane, PlaneOptions, Reconciled,
    Subnet, Turn,
};
use havre_types::{Classify as _, chain};

use super::join::failed;
use super::options::{self, Bridge, Driver, Vlan};
use super::record::Record;
use super::store::Networks;

/// The networks of this engine in the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// None: networks are records and nothing else.
    options: Option<PlaneOptions>,
    opened: Mutex<Option<Arc<Plane>>>,
    /// What former engines made, until an opening has taken it over.
    adopted: Mutex<Vec<EndpointSpec>>,
}

impl Kernel {
    pub(crate) fn new(options: Option<PlaneOptions>) -> Self {
        Self {
            options,
            opened: Mutex::default(),
            adopted: Mutex::default(),
        }
    }

    /// Whether an engine of before had opened it since the host started.
    pub(crate) fn was_used(&self) -> bool {
        self.options
            .as_ref()
            .is_some_and(|options| options.directory.exists())
    }
}

/// An error about a network and no container: said as the data plane says it.
fn as_it_is(error: &NetworkError) -> ApiError {
    ApiError::new(error.kind(), chain(error))
}

impl Networks {
    /// Whether an engine has changed anything in the kernel since the host started.
    pub(crate) fn were_used(&self) -> bool {
        self.kernel.was_used()
    }

    /// Takes everything out of the kernel, when no container needs it any more.
    pub(crate) fn close(&self) -> ApiResult<()> {
        let opened = self.kernel.opened.lock();
        let plane = opened.unwrap_or_else(PoisonError::into_inner).take();
        let (Some(plane), Some(options)) = (plane, &self.kernel.options) else {
            return Ok(());
        };
        plane.clear().map_err(|error| failed(&error))?;
        fs_err::remove_dir_all(&options.directory)
            .map_err(|error| crate::error::internal("failed to close the networks", &error))
    }

    /// The data plane; the first call makes the kernel what the records say.
    pub(crate) fn plane(&self) -> ApiResult<Arc<Plane>> {
        self.plane_with(Vec::new())
    }

    /// The same, with the ends that former engines made: they stay, at whichever attempt it is opened.
    pub(crate) fn plane_with(&self, ends: Vec<EndpointSpec>) -> ApiResult<Arc<Plane>> {
        let opened = self.kernel.opened.lock();
        let mut opened = opened.unwrap_or_else(PoisonError::into_inner);
        if let Some(plane) = &*opened {
            return Ok(Arc::clone(plane));
        }
        let Some(options) = &self.kernel.options else {
            return Err(ApiError::internal("this engine makes no networks"));
        };
        let adopted = self.kernel.adopted.lock();
        let mut adopted = adopted.unwrap_or_else(PoisonError::into_inner);
        adopted.extend(ends);
        crate::host::make_private_dir(&options.directory)
            .map_err(|error| crate::error::internal("failed to open the networks", &error))?;
        let plane = Plane::open(options.clone()).map_err(|error| failed(&error))?;
        let _turn = turn();
        self.renew_default_bridge(&adopted)
            .map_err(ApiError::internal)?;
        let specs: Vec<NetworkSpec> = self
            .all()
            .iter()
            .filter_map(|entry| self.spec(&entry.record).transpose())
            .collect::<ApiResult<_>>()?;
        let found = plane
            .reconcile(&specs, &adopted)
            .map_err(|error| failed(&error))?;
        adopted.clear();
        tell(&found);
        let plane = Arc::new(plane);
        *opened = Some(Arc::clone(&plane));
        Ok(plane)
    }

    /// While it is kept, no other engine chooses a subnet.
    pub(super) fn turn(&self) -> ApiResult<Option<Turn>> {
        if self.kernel.options.is_none() {
            return Ok(None);
        }
        // It takes a turn of its own when it is opened.
        self.plane()?;
        Ok(turn())
    }

    /// What the host's own rules keep containers from, in words for whoever looks for the reason.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let opened = self.kernel.opened.lock();
        let plane = opened.unwrap_or_else(PoisonError::into_inner).clone();
        let closed = plane.and_then(|plane| plane.closed_by().ok());
        let prefix = havre_network::names::bridge_prefix(&self.instance);
        let closed = closed.unwrap_or_default().into_iter();
        let told = closed.map(|chain| {
            format!(
                "WARNING: the host's firewall chain \"{chain}\" drops what it does not know: containers reach other \
                 hosts and are reached by them only if it accepts packets from and to interfaces \"{prefix}*\""
            )
        });
        told.collect()
    }

    /// Makes what a network needs on the host. What a failed call made, it took away again.
    pub(super) fn make(&self, record: &Record) -> ApiResult<()> {
        match self.spec(record)? {
            Some(spec) if self.kernel.options.is_some() => self
                .plane()?
                .add_network(&spec)
                .map_err(|error| as_it_is(&error)),
            _ => Ok(()),
        }
    }

    /// Takes it away again. A network of which nothing is there is no error.
    pub(super) fn unmake(&self, record: &Record) -> ApiResult<()> {
        if self.kernel.options.is_none() || self.spec(record)?.is_none() {
            return Ok(());
        }
        let removed = self.plane()?.remove_network(record.id.as_str());
        removed.map_err(|error| as_it_is(&error))
    }

    /// A network as the data plane wants it; None of those that are nothing there.
    fn spec(&self, record: &Record) -> ApiResult<Option<NetworkSpec>> {
        if record.config_only {
            return Ok(None);
        }
        let driver = match Driver::read(&record.driver, &record.options, record.internal)? {
            Driver::Bridge(bridge) => Plan::Bridge(bridge_plan(self.interface(record), bridge)),
            Driver::Macvlan(vlan) => Plan::Macvlan(macvlan_plan(vlan, mtu(record))?),
            Driver::Ipvlan(vlan) => Plan::Ipvlan(ipvlan_plan(vlan, mtu(record))?),
            Driver::Host | Driver::Null => return Ok(None),
        };
        let subnets = |v6: bool| -> Vec<Subnet> {
            let all = record.of_family(v6);
            let told = all.map(|subnet| Subnet {
                cidr: subnet.cidr,
                gateway: match driver {
                    Plan::Bridge(_) => subnet.gateway,
                    _ => subnet.default_gateway(),
                },
            });
            told.collect()
        };
        let (ipv4, ipv6) = (subnets(false), subnets(true));
        Ok(Some(NetworkSpec {
            id: record.id.to_string(),
            name: record.name.clone(),
            driver,
            ipv4,
            ipv6,
            internal: record.is_closed(),
        }))
    }

    /// The host's address of ports of a network that are published without one.
    pub(crate) fn host_binding(&self, record: &Record) -> IpAddr {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        match Driver::read(&record.driver, &record.options, record.internal) {
            Ok(Driver::Bridge(bridge)) => bridge.host_binding.unwrap_or(any),
            _ => any,
        }
    }
}

fn tell(found: &Reconciled) {
    for (network, reason) in &found.failed {
        tracing::error!(network, reason, "a network could not be set up");
    }
    for endpoint in &found.missing {
        tracing::warn!(endpoint, "an interface of a running container is gone");
    }
    if !found.removed.is_empty() {
        tracing::info!(interfaces = ?found.removed, "what was left of networks is removed");
    }
}

fn turn() -> Option<Turn> {
    let taken = Turn::take();
    if !matches!(taken, Ok(Some(_))) {
        tracing::warn!("another engine may choose the same subnets at this moment");
    }
    taken.ok().flatten()
}

fn bridge_plan(interface: String, bridge: Bridge) -> BridgeOptions {
    BridgeOptions {
        interface,
        icc: bridge.icc,
        masquerade: bridge.masquerade,
        host_binding: bridge.host_binding,
        mtu: (bridge.mtu != 0).then_some(bridge.mtu),
        inhibit_ipv4: bridge.inhibit_ipv4,
        gateway_mode_ipv4: bridge.mode_ipv4,
        gateway_mode_ipv6: bridge.mode_ipv6,
        container_iface_prefix: Some(bridge.interface_prefix).filter(|prefix| !prefix.is_empty()),
        trusted_host_interfaces: bridge.trusted_interfaces,
        host_ipv4: bridge.host_ipv4,
        host_ipv6: bridge.host_ipv6,
        anti_spoofing: bridge.anti_spoofing,
    }
}

fn mtu(record: &Record) -> Option<u32> {
    let mtu = record.options.get(options::MTU)?.parse().ok();
    mtu.filter(|mtu| *mtu != 0)
}

fn macvlan_plan(vlan: Vlan, mtu: Option<u32>) -> ApiResult<MacvlanOptions> {
    let mode = match vlan.mode.as_str() {
        "" | "bridge" => MacvlanMode::Bridge,
        "vepa" => MacvlanMode::Vepa,
        "private" => MacvlanMode::Private,
        options::PASSTHRU => MacvlanMode::Passthru { nopromisc: false },
        other => return Err(unknown("macvlan mode", other)),
    };
    Ok(MacvlanOptions {
        parent: vlan.parent,
        mode,
        mtu,
    })
}

fn ipvlan_plan(vlan: Vlan, mtu: Option<u32>) -> ApiResult<IpvlanOptions> {
    let mode = match vlan.mode.as_str() {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3S,
        other => return Err(unknown("ipvlan mode", other)),
    };
    let flag = match vlan.flag.as_str() {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        other => return Err(unknown("ipvlan flag", other)),
    };
    Ok(IpvlanOptions {
        parent: vlan.parent,
        mode,
        flag,
        mtu,
    })
}

fn unknown(what: &str, word: &str) -> ApiError {
    ApiError::invalid(format!("requested {what} '{word}' is not valid"))
}
