//! A container joins its networks before it starts, and parts with them after its end. All of it blocks; all of it is taken
//! back when a step fails.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::EndpointSettings;
use havre_network::ports::Claim;
use havre_network::{EndpointSpec, NetworkError, Plane, Rate, Sandbox};
use havre_types::{Classify as _, EndpointId, ErrorKind};

use super::live::{End, Live, Published};
use super::membership::Addresses;
use super::record::Record;
use super::store::Member;
use super::wanted::{self, Wishes};
use super::ways::Ways;
use super::{is_predefined, ports};
use crate::container::Fixed;
use crate::engine::Shared;

/// A namespace that is connected, and what was taken for it.
#[derive(Debug)]
pub(crate) struct Joined {
    pub sandbox: Sandbox,
    pub live: Live,
    /// Sockets of the companion in it, when names are resolved.
    pub dns: Option<(OwnedFd, OwnedFd)>,
}

/// One network on the way in.
struct Place {
    record: Arc<Record>,
    settings: EndpointSettings,
    /// The default routes lead by it.
    route: (bool, bool),
    /// The host's ports of these families lead to it.
    publish: (bool, bool),
}

/// Connects a new namespace to everything that a container wants; None when it needs none of the engine.
pub(crate) fn join(shared: &Shared, fixed: &Fixed) -> ApiResult<Option<Joined>> {
    let departures = &shared.networks.departures;
    let joined = departures.patiently(|| join_now(shared, fixed));
    joined.map_err(|error| {
        let text = format!("failed to set up container networking: {}", error.message);
        ApiError::new(error.kind, text)
    })
}

fn join_now(shared: &Shared, fixed: &Fixed) -> ApiResult<Option<Joined>> {
    let links = wanted::links(fixed.host_config.links.as_deref().unwrap_or_default());
    for (alias, name) in links {
        let other = shared.registry.find(&name).map_err(|error| {
            ApiError::new(
                error.kind,
                format!("could not get container for {name}: {}", error.message),
            )
        })?;
        if !other.now().state.status.is_running() {
            return Err(ApiError::internal(format!(
                "Cannot link to a non running container: /{name} AS /{}/{alias}",
                fixed.name
            )));
        }
    }
    let wishes = wanted::of(fixed);
    let mut places = places(shared, fixed, &wishes)?;
    if places.is_empty() {
        return Ok(None);
    }
    let plane = shared.networks.plane()?;
    for place in &mut places {
        // The first use may have given the default bridge another subnet.
        if let Some(entry) = shared.networks.get(&place.record.id) {
            place.record = entry.record;
        }
    }
    let sandbox = plane.sandbox().map_err(|error| failed(&error))?;
    let mut live = Live::default();
    match fill(shared, fixed, &plane, &sandbox, places, &mut live) {
        Ok(dns) => Ok(Some(Joined { sandbox, live, dns })),
        Err(error) => {
            part(shared, fixed, &live);
            Err(error)
        }
    }
}

fn fill(
    shared: &Shared,
    fixed: &Fixed,
    plane: &Plane,
    sandbox: &Sandbox,
    places: Vec<Place>,
    live: &mut Live,
) -> ApiResult<Option<(OwnedFd, OwnedFd)>> {
    let (wanted, exposed) = ports::wanted(&fixed.config, &fixed.host_config)?;
    live.exposed = exposed;
    let mut claims = Vec::new();
    for place in places {
        let end = Joining {
            shared,
            fixed,
            plane,
            sandbox,
            place: &place,
        };
        let (end, taken) = end.add(&wanted)?;
        claims.extend(taken);
        live.ends.push(end);
    }
    live.claims = Arc::new(Mutex::new(claims));
    live.resolves = live.ends.iter().any(|end| !end.names.is_empty());
    if !live.resolves {
        return Ok(None);
    }
    sandbox
        .dns_sockets()
        .map(Some)
        .map_err(|error| failed(&error))
}

/// The networks with interfaces, the one of the network mode first; each told whether the default routes lead by it.
fn places(shared: &Shared, fixed: &Fixed, wishes: &Wishes) -> ApiResult<Vec<Place>> {
    let mode = fixed.host_config.network_mode.as_str();
    let mut places = Vec::new();
    for (name, settings) in wishes {
        let record = match shared.networks.find(name) {
            Ok(record) => record,
            // The administrator wants no default bridge: its containers have no network.
            Err(_) if name == "bridge" => continue,
            Err(error) => return Err(error),
        };
        if matches!(record.driver.as_str(), "host" | "null") {
            continue;
        }
        if record.config_only {
            return Err(ApiError::new(
                ErrorKind::Forbidden,
                format!("cannot attach to configuration network: {}", record.name),
            ));
        }
        wanted::check(Some(&record), name, settings)?;
        places.push(Place {
            record,
            settings: settings.clone(),
            route: (false, false),
            publish: (false, false),
        });
    }
    let first =
        |place: &Place| place.record.name == mode || place.record.id.as_str().starts_with(mode);
    places.sort_by_key(|place| !first(place));
    let networks: Vec<_> = places
        .iter()
        .map(|place| (Arc::clone(&place.record), place.settings.gw_priority))
        .collect();
    let ways = Ways::of(&networks);
    for (number, place) in places.iter_mut().enumerate() {
        place.route = ways.routes(number);
        place.publish = ways.ports(number, &place.record);
    }
    Ok(places)
}

/// Connects a namespace to one more network: for a container that runs. Nothing leads by it yet.
pub(crate) fn join_one(
    shared: &Shared,
    fixed: &Fixed,
    sandbox: &Sandbox,
    record: Arc<Record>,
    settings: EndpointSettings,
) -> ApiResult<End> {
    wanted::check(Some(&record), &record.name, &settings)?;
    let place = Place {
        record,
        settings,
        route: (false, false),
        publish: (false, false),
    };
    let plane = shared.networks.plane()?;
    let joining = Joining {
        shared,
        fixed,
        plane: &plane,
        sandbox,
        place: &place,
    };
    joining.add(&[]).map(|(end, _no_claims)| end)
}

struct Joining<'a> {
    shared: &'a Shared,
    fixed: &'a Fixed,
    plane: &'a Plane,
    sandbox: &'a Sandbox,
    place: &'a Place,
}

impl Joining<'_> {
    /// Addresses, ports, interface, membership; nothing of it stays when one fails.
    fn add(&self, publish: &[ports::Wanted]) -> ApiResult<(End, Vec<Claim>)> {
        let networks = &self.shared.networks;
        let record = &self.place.record;
        let addresses = networks.take(record, wanted::addresses(&self.place.settings))?;
        let added = self.add_at(addresses, publish);
        if added.is_err() {
            networks.give_back(record, &addresses);
        }
        added
    }

    fn add_at(
        &self,
        addresses: Addresses,
        publish: &[ports::Wanted],
    ) -> ApiResult<(End, Vec<Claim>)> {
        let Place {
            record,
            settings,
            route,
            publish: families,
        } = self.place;
        let networks = &self.shared.networks;
        let own = addresses.hosts();
        let default = networks.host_binding(record);
        let id = new_endpoint_id()?;
        let (claims, published) = ports::claim(&networks.ports, publish, own, default, *families)
            .map_err(|error| ports::refused(&error, self.fixed, &id))?;
        let limits = &self.fixed.host_config;
        let rate = rate_of(limits);
        let spec = EndpointSpec {
            network: record.id.to_string(),
            id: id.to_string(),
            mac: wanted::mac(settings)?,
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
            link_local: wanted::link_local(settings),
            interface: wanted::interface(settings),
            default_route: *route,
            sysctls: wanted::sysctls(settings),
            publications: published.iter().filter_map(Published::plan).collect(),
            rate,
        };
        let attached = self
            .plane
            .attach(self.sandbox, &spec)
            .map_err(|error| failed(&error))?;
        let gateway = |address: Option<IpAddr>| record.gateway_of(address?);
        let resolved = !is_predefined(&record.name) || networks.resolves_on_bridge();
        let end = End {
            network: record.id.clone(),
            name: record.name.clone(),
            id: id.clone(),
            mac: attached.mac,
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
            link_local: wanted::link_local(settings),
            gateway_ipv4: gateway(own.0),
            gateway_ipv6: gateway(own.1),
            interface: attached.interface,
            gw_priority: settings.gw_priority,
            default_route: *route,
            ports: published,
            names: if resolved {
                wanted::names(self.fixed, settings)
            } else {
                Vec::new()
            },
            links: wanted::links(settings.links.as_deref().unwrap_or_default()),
            receive: rate.and_then(|rate| rate.receive),
            send: rate.and_then(|rate| rate.send),
        };
        if let Err(error) = networks.join(&record.id, id, member(self.fixed, &end)) {
            // Removed in this moment.
            drop(self.plane.detach(Some(self.sandbox), &spec.id));
            return Err(error);
        }
        Ok((end, claims))
    }
}

/// A bound of the container's bandwidth, the same for each of its interfaces.
pub(crate) fn rate_of(host: &havre_engine_types::HostConfig) -> Option<Rate> {
    let some = |rate: u64| (rate != 0).then_some(rate);
    let (receive, send) = (some(host.network_receive_bps), some(host.network_send_bps));
    (receive.is_some() || send.is_some()).then_some(Rate { receive, send })
}

pub(crate) fn member(fixed: &Fixed, end: &End) -> Member {
    Member {
        container: fixed.id.clone(),
        name: fixed.name.clone(),
        mac: end.mac,
        ipv4: end.ipv4,
        ipv6: end.ipv6,
    }
}

/// Takes everything back that a container had. What cannot be taken back is told and left for the next start.
pub(crate) fn part(shared: &Shared, fixed: &Fixed, live: &Live) {
    for end in &live.ends {
        part_one(shared, fixed, end, None);
    }
}

/// Takes back one end. The namespace is given when it stays.
pub(crate) fn part_one(shared: &Shared, fixed: &Fixed, end: &End, sandbox: Option<&Sandbox>) {
    let networks = &shared.networks;
    let detached = networks.plane().and_then(|plane| {
        plane
            .detach(sandbox, end.id.as_str())
            .map_err(|error| failed(&error))
    });
    if let Err(error) = detached {
        // Its addresses stay taken, because something may still have them.
        tracing::warn!(container = %fixed.id, network = end.name, error = %error.message, "an end is left for the next start");
        return;
    }
    // Once: somebody else may have the addresses by now.
    let left = networks.leave(&end.network, &end.id);
    if let (Some(_), Some(entry)) = (left, networks.get(&end.network)) {
        networks.give_back(&entry.record, &end.addresses());
    }
}

/// Takes up what a former engine had made: addresses, membership, ports of the host.
pub(crate) fn adopt(shared: &Shared, fixed: &Fixed, live: &mut Live) {
    let networks = &shared.networks;
    if fixed
        .host_config
        .links
        .as_ref()
        .is_some_and(|links| !links.is_empty())
    {
        networks.has_links.store(true, Ordering::Relaxed);
    }
    live.ends.retain(|end| {
        let Some(entry) = networks.get(&end.network) else {
            tracing::error!(container = %fixed.id, network = end.name, "the network of a running container is gone");
            return false;
        };
        let wanted = (end.ipv4.map(|cidr| cidr.address()), end.ipv6.map(|cidr| cidr.address()));
        let taken = networks.take(&entry.record, wanted);
        if let Err(error) = taken {
            tracing::error!(container = %fixed.id, network = end.name, error = %error.message, "an address has two owners");
        }
        networks.join(&end.network, end.id.clone(), member(fixed, end)).is_ok()
    });
    let mut claims = Vec::new();
    for end in &live.ends {
        let own = end.addresses().hosts();
        let wanted: Vec<ports::Wanted> = end
            .ports
            .iter()
            .filter_map(|port| {
                Some(ports::Wanted {
                    protocol: super::live::protocol(&port.protocol)?,
                    container_port: port.container_port,
                    host: Some(port.host),
                    host_ports: Some(port.host_port..=port.host_port),
                })
            })
            .collect();
        for want in wanted {
            // The companion relays these, and kept their sockets.
            let relayed = want.host.is_some_and(|host| host.is_ipv6());
            match ports::claim(
                &networks.ports,
                &[want],
                own,
                IpAddr::from([0, 0, 0, 0]),
                (true, true),
            ) {
                Ok((taken, _same)) => claims.extend(taken),
                Err(error) if relayed => {
                    tracing::debug!(container = %fixed.id, error = %error.message, "a relayed port");
                }
                // The rules lead there all the same; only the other program's own answers are lost to it.
                Err(error) => {
                    tracing::warn!(container = %fixed.id, error = %error.message, "a published port was taken while the engine was away");
                }
            }
        }
    }
    live.claims = Arc::new(Mutex::new(claims));
}

fn new_endpoint_id() -> ApiResult<EndpointId> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| crate::error::internal("failed to make an id", &error))?;
    Ok(EndpointId::from_bytes(bytes))
}

pub(crate) fn failed(error: &NetworkError) -> ApiError {
    let mut text = format!("failed to set up container networking: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let kind = match error.kind() {
        ErrorKind::NotFound => ErrorKind::Internal,
        kind => kind,
    };
    ApiError::new(kind, text)
}
