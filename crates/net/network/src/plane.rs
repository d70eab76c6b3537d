//! The data plane of one engine.

mod endpoints;
mod janitor;
mod reconcile;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_netlink::Route;
use havre_types::Cidr;

use crate::driver::bridge;
use crate::driver::parent::{self, Parent};
use crate::error::NetworkError;
use crate::explain::{self, Explanation};
use crate::firewall::{Firewall, Guard, Health, Settings, Watcher};
use crate::forwarding::Forwarding;
use crate::names;
use crate::sandbox::{Pool, Sandbox, Stock};
use crate::spec::{Attached, Driver, EndpointSpec, NetworkSpec};

use janitor::Janitor;
pub use reconcile::Reconciled;

/// What a data plane is told once.
#[derive(Debug, Clone)]
pub struct PlaneOptions {
    /// The engine's name; names in the kernel derive from it.
    pub instance: String,
    /// Where it keeps the little that must outlive it.
    pub directory: PathBuf,
    /// Whether it may make the host forward packets.
    pub ip_forward: bool,
    /// Whether a host that it made forward packets does so for containers only.
    pub guard_forwarding: bool,
    /// Whether it makes rules for IPv4: without, nothing is translated, masqueraded, allowed or dropped.
    pub rules_ipv4: bool,
    /// The same for IPv6.
    pub rules_ipv6: bool,
    /// Whether published ports may be reached at the containers' own addresses from everywhere.
    pub allow_direct_routing: bool,
    /// How far the host's rules for arriving packets hold for published ports.
    pub guard: Guard,
    /// How many namespaces are made ahead.
    pub pool: usize,
}

impl PlaneOptions {
    /// As an engine uses it when nothing is said.
    #[must_use]
    pub fn new(instance: &str, directory: impl Into<PathBuf>) -> Self {
        Self {
            instance: instance.to_owned(),
            directory: directory.into(),
            ip_forward: true,
            guard_forwarding: true,
            rules_ipv4: true,
            rules_ipv6: true,
            allow_direct_routing: false,
            guard: Guard::default(),
            pool: 3,
        }
    }
}

/// The networks of one engine in the kernel. It works in the network namespace of the thread that opened it, from any
/// thread of that namespace.
#[derive(Debug)]
pub struct Plane {
    options: PlaneOptions,
    core: Mutex<Core>,
    firewall: Arc<Firewall>,
    forwarding: Forwarding,
    pool: Pool,
    janitor: Janitor,
    /// Owned for what it does.
    _watcher: Watcher,
}

/// What is there now.
#[derive(Debug)]
struct Core {
    route: Route,
    networks: BTreeMap<String, Network>,
    /// Networks whose rules hold, but of which the rest could not be made at the start; it is tried again when an end
    /// comes: an interface may appear, a module may be loaded.
    waiting: BTreeMap<String, NetworkSpec>,
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Debug)]
struct Network {
    spec: NetworkSpec,
    base: Base,
}

/// What the ends of a network are made on.
#[derive(Debug)]
enum Base {
    /// The number of the bridge.
    Bridge(u32),
    Parent(Parent),
}

#[derive(Debug)]
struct Endpoint {
    spec: EndpointSpec,
    attached: Attached,
}

impl Plane {
    /// Opens the sockets and begins to fill the pool. Nothing of what is there is changed: [`Plane::reconcile`] does that.
    pub fn open(options: PlaneOptions) -> Result<Self, NetworkError> {
        let settings = Settings {
            direct_routing: options.allow_direct_routing,
            left_ipv4: !options.rules_ipv4,
            left_ipv6: !options.rules_ipv6,
            ..Settings::default()
        };
        let firewall = Firewall::open(names::table(&options.instance), settings, options.guard)?;
        let firewall = Arc::new(firewall);
        let stock = Stock::open(names::cable_prefix(&options.instance))?;
        Ok(Self {
            core: Mutex::new(Core {
                route: Route::open()?,
                networks: BTreeMap::new(),
                waiting: BTreeMap::new(),
                endpoints: BTreeMap::new(),
            }),
            _watcher: Watcher::start(Arc::clone(&firewall))?,
            firewall,
            janitor: Janitor::start()?,
            forwarding: Forwarding::new(&options.directory, options.ip_forward),
            pool: Pool::start(stock, options.pool)?,
            options,
        })
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what a network needs on the host: its rules, then its bridge or parent.
    pub fn add_network(&self, network: &NetworkSpec) -> Result<(), NetworkError> {
        check(network)?;
        let mut core = self.core();
        let bridged = network.bridge().is_some();
        if bridged {
            self.forward_for(network)?;
            self.firewall.add_network(network)?;
        }
        let base = self.base(&mut core.route, network);
        if base.is_err() && bridged {
            // The error that matters is the first one.
            drop(self.firewall.remove_network(&network.id));
        }
        let id = network.id.clone();
        let spec = network.clone();
        core.networks.insert(id, Network { spec, base: base? });
        Ok(())
    }

    /// Makes or finds what the ends of a network are made on.
    fn base(&self, route: &mut Route, network: &NetworkSpec) -> Result<Base, NetworkError> {
        let instance = &self.options.instance;
        match &network.driver {
            Driver::Bridge(options) => {
                let made = bridge::add(route, instance, network, options);
                if made.is_err() {
                    // Half a bridge is no use; the error that matters is the first one.
                    drop(bridge::remove(route, instance, &options.interface));
                }
                Ok(Base::Bridge(made?))
            }
            Driver::Macvlan(_) | Driver::Ipvlan(_) => {
                Ok(Base::Parent(parent::add(route, instance, network)?))
            }
        }
    }

    /// Makes what could not be made at the start.
    fn make_up(&self, core: &mut Core, id: &str) -> Result<(), NetworkError> {
        let Some(spec) = core.waiting.get(id) else {
            return Ok(());
        };
        let base = self.base(&mut core.route, spec)?;
        if let Some((id, spec)) = core.waiting.remove_entry(id) {
            core.networks.insert(id, Network { spec, base });
        }
        Ok(())
    }

    /// Switches forwarding on for the families of a network that leads out.
    fn forward_for(&self, network: &NetworkSpec) -> Result<(), NetworkError> {
        if network.internal {
            return Ok(());
        }
        let ipv4 = !network.ipv4.is_empty() && self.forwarding.enable(false)?;
        let ipv6 = !network.ipv6.is_empty() && self.forwarding.enable(true)?;
        let guard = self.options.guard_forwarding;
        self.firewall.settle(|settings| {
            settings.guard_ipv4 = guard && (settings.guard_ipv4 || ipv4);
            settings.guard_ipv6 = guard && (settings.guard_ipv6 || ipv6);
        })
    }

    /// Removes what a network had on the host: its bridge or parent first, its rules last.
    pub fn remove_network(&self, id: &str) -> Result<(), NetworkError> {
        let mut core = self.core();
        let core = &mut *core;
        let Some(network) = core.networks.get(id) else {
            if core.waiting.contains_key(id) {
                self.firewall.remove_network(id)?;
                core.waiting.remove(id);
            }
            return Ok(());
        };
        // A connection that goes on would take the way to the default gateway once the bridge is gone.
        let subnets: Vec<Cidr> = network.spec.subnets().map(|one| one.cidr).collect();
        self.janitor
            .wait_for(|address| subnets.iter().any(|cidr| cidr.contains(address)));
        match (&network.base, network.spec.bridge()) {
            (Base::Bridge(_), Some(options)) => {
                bridge::remove(&mut core.route, &self.options.instance, &options.interface)?;
            }
            (Base::Parent(own), _) => {
                let shared = core.networks.iter().any(|(other, network)| {
                    let same = matches!(&network.base, Base::Parent(one) if one.name == own.name);
                    same && other != id
                });
                if !shared {
                    parent::remove(&mut core.route, own)?;
                }
            }
            (Base::Bridge(_), None) => {}
        }
        self.firewall.remove_network(id)?;
        core.networks.remove(id);
        Ok(())
    }

    /// Removes everything that this engine made: the bridges and parents, then the table. A host that it made forward
    /// packets does so no more, unless there are bridges of others that may need it by now: then the guard stays.
    pub fn clear(&self) -> Result<(), NetworkError> {
        let core = self.core();
        let networks = core.networks.keys().chain(core.waiting.keys());
        let networks: Vec<String> = networks.cloned().collect();
        drop(core);
        for id in networks {
            self.remove_network(&id)?;
        }
        let links = self.core().route.links()?;
        let others = links.iter().any(|link| link.kind == "bridge");
        let mut settings = self.firewall.settings();
        if !others {
            for ipv6 in [false, true] {
                if settings.guards(ipv6) || self.forwarding.is_ours(ipv6) {
                    self.forwarding.disable(ipv6)?;
                }
            }
            settings.guard_ipv4 = false;
            settings.guard_ipv6 = false;
        }
        self.firewall.remove(settings)
    }

    /// A namespace for a container: one that was made ahead, or a new one.
    pub fn sandbox(&self) -> Result<Sandbox, NetworkError> {
        self.pool.take()
    }

    /// How many namespaces are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.pool.ready()
    }

    /// Whether the rules are in force.
    #[must_use]
    pub fn health(&self) -> Health {
        self.firewall.health()
    }

    /// The host's chains, by family, table and name, that drop what is forwarded unless they know it: only they can let
    /// containers through.
    pub fn closed_by(&self) -> Result<Vec<String>, NetworkError> {
        Ok(self.firewall.told()?.1.closed())
    }

    /// Who can reach each published port of an end, and which rule says so.
    pub fn explain(&self, endpoint: &str) -> Result<Vec<Explanation>, NetworkError> {
        let (model, others) = self.firewall.told()?;
        explain::explain(&model, &others, endpoint)
    }
}

/// What would reach the kernel as a name.
fn check(network: &NetworkSpec) -> Result<(), NetworkError> {
    let Some(options) = network.bridge() else {
        return Ok(());
    };
    let prefix = options.container_iface_prefix.iter().map(|prefix| {
        // With a number behind it.
        format!("{prefix}0")
    });
    let trusted = options.trusted_host_interfaces.iter().cloned();
    let mut names = prefix.chain(trusted).chain([options.interface.clone()]);
    match names.find(|name| !names::is_interface(name)) {
        Some(name) => Err(NetworkError::InterfaceName(name)),
        None => Ok(()),
    }
}
