//! Networks made: what was asked for becomes a record, subnets and addresses are chosen, the data plane is told, and then
//! everybody may see it.
//!
//! <https://github.com/moby/moby/blob/master/daemon/libnetwork/controller.go> (`NewNetwork`), and `CreateNetwork` of the
//! drivers beside it.

use std::net::IpAddr;
use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{NetworkCreateRequest, NetworkCreateResponse};
use havre_meta::Batch;
use havre_types::{Cidr, NetworkId};

use super::addresses;
use super::options::{Driver, PASSTHRU, Vlan, no_plugin};
use super::record::{Record, Subnet};
use super::request::{self, Wanted, check_configuration, forbidden};
use super::store::{Networks, new_id, put};
use crate::engine::Shared;
use crate::images::blocking;

/// Makes a network.
pub(super) async fn create(
    shared: &Arc<Shared>,
    request: NetworkCreateRequest,
) -> ApiResult<NetworkCreateResponse> {
    let wanted = request::read(request, &shared.config.network)?;
    let networks = &shared.networks;
    let _one_after_the_other = networks.changing.lock().await;
    if networks
        .all()
        .iter()
        .any(|entry| entry.record.name == wanted.name)
    {
        return Err(ApiError::conflict(format!(
            "network with name {} already exists",
            wanted.name
        )));
    }
    check_configuration(&wanted)?;
    let record = if wanted.config_only {
        Arc::new(configuration(wanted, new_id()?))
    } else {
        let shared = Arc::clone(shared);
        // Routes are read, interfaces are made.
        blocking(move || set_up(&shared.networks, wanted)).await?
    };
    shared.announce_network(&record, "create", &[]);
    let written = match put(Batch::new(), &record) {
        Ok(batch) => {
            let written = shared.meta.write(shared.bus.save(batch)).await;
            written
                .map_err(|err| crate::error::internal("failed to write the network's record", &err))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        undo(shared, record).await;
        return Err(error);
    }
    let id = record.id.to_string();
    networks.restore(&record);
    Ok(NetworkCreateResponse {
        id,
        warning: String::new(),
    })
}

/// Takes back what was made for a network whose record could not be written.
async fn undo(shared: &Arc<Shared>, record: Arc<Record>) {
    shared.announce_network(&record, "destroy", &[]);
    shared.networks.release_subnets(&record);
    let kept = Arc::clone(shared);
    if let Err(error) = blocking(move || kept.networks.unmake(&record)).await {
        tracing::warn!(
            error = error.message,
            "a network that was not made is left for the next start"
        );
    }
}

/// A configuration for other networks: nothing is chosen yet.
fn configuration(wanted: Wanted, id: NetworkId) -> Record {
    let mut record = Record::bare(id, &wanted.name, "null");
    record.enable_ipv4 = wanted.enable_ipv4;
    record.enable_ipv6 = wanted.enable_ipv6;
    record.config_only = true;
    record.options = wanted.options;
    record.labels = wanted.labels;
    record.ipam_driver = wanted.ipam_driver;
    record.ipam_options = wanted.ipam_options;
    record.wanted = wanted.given;
    record
}

/// Chooses what was left open and tells the data plane. What fails leaves nothing behind.
fn set_up(networks: &Networks, mut wanted: Wanted) -> ApiResult<Arc<Record>> {
    // Before anything else: a driver that does not exist.
    if !matches!(
        wanted.driver.as_str(),
        "bridge" | "macvlan" | "ipvlan" | "host" | "null"
    ) {
        return Err(no_plugin(&wanted.driver));
    }
    if wanted.ingress {
        return Err(forbidden(
            "Ingress network can only be global scope network",
        ));
    }
    if !wanted.config_from.is_empty() {
        take_over(networks, &mut wanted)?;
    }
    if wanted.scope == "swarm" {
        return Err(forbidden(
            "cannot create a swarm scoped network when swarm is not active",
        ));
    }
    let driver = Driver::read(&wanted.driver, &wanted.options, wanted.internal)?;
    if matches!(driver, Driver::Host | Driver::Null) {
        return Err(forbidden(format!(
            "only one instance of \"{}\" network is allowed",
            wanted.driver
        )));
    }
    check_families(&wanted, &driver)?;
    let mut record = Record::bare(new_id()?, &wanted.name, &wanted.driver);
    if !wanted.scope.is_empty() {
        record.scope.clone_from(&wanted.scope);
    }
    record.enable_ipv4 = wanted.enable_ipv4;
    record.enable_ipv6 = wanted.enable_ipv6;
    record.internal = wanted.internal;
    record.attachable = wanted.attachable;
    let _turn = networks.turn()?;
    record.subnets = addresses::choose(networks, &wanted, &driver)?;
    record.config_from = wanted.config_from;
    record.options = wanted.options;
    record.labels = wanted.labels;
    record.ipam_driver = wanted.ipam_driver;
    record.ipam_options = wanted.ipam_options;
    let made = check_conflicts(networks, &record, &driver).and_then(|()| networks.make(&record));
    match made {
        Ok(()) => Ok(Arc::new(record)),
        Err(error) => {
            networks.release_subnets(&record);
            Err(error)
        }
    }
}

/// Takes over the configuration of another network.
fn take_over(networks: &Networks, wanted: &mut Wanted) -> ApiResult<()> {
    let all = networks.all();
    let from = all
        .iter()
        .map(|entry| &entry.record)
        .find(|record| record.config_only && record.name == wanted.config_from)
        .ok_or_else(|| {
            ApiError::not_found(format!(
                "configuration network {:?} does not exist",
                wanted.config_from
            ))
        })?;
    wanted.enable_ipv4 = from.enable_ipv4;
    wanted.enable_ipv6 = from.enable_ipv6;
    wanted.labels.clone_from(&from.labels);
    wanted.options.clone_from(&from.options);
    let ipam = from.told().ipam;
    wanted.subnets = request::subnets(&ipam, from.enable_ipv6)?;
    wanted.ipam_driver = ipam.driver;
    wanted.ipam_options = ipam.options;
    Ok(())
}

fn check_families(wanted: &Wanted, driver: &Driver) -> ApiResult<()> {
    match wanted.ipam_driver.as_str() {
        "default" => {}
        "null" if wanted.enable_ipv4 => return Err(ApiError::invalid("ipv4 pool is empty")),
        "null" if wanted.enable_ipv6 => return Err(ApiError::invalid("ipv6 pool is empty")),
        "null" => {}
        other => return Err(no_plugin(other)),
    }
    if !matches!(driver, Driver::Bridge(_)) {
        return Ok(());
    }
    if !wanted.enable_ipv4 && !wanted.enable_ipv6 {
        return Err(ApiError::invalid("IPv4 or IPv6 must be enabled"));
    }
    Ok(())
}

/// What makes a network impossible beside those that there are, or at all.
fn check_conflicts(networks: &Networks, record: &Record, driver: &Driver) -> ApiResult<()> {
    match driver {
        Driver::Bridge(_) => check_bridge(networks, record),
        Driver::Macvlan(vlan) | Driver::Ipvlan(vlan) => check_parent(networks, record, vlan),
        Driver::Host | Driver::Null => Ok(()),
    }
}

/// Networks that cannot share their parent: all ipvlan interfaces of one have one mode, and macvlan's passthru takes it
/// over. Texts: `createNetwork` in `macvlan_network.go` and `ipvlan_network.go` beside the bridge's driver; Docker calls it
/// a fault of its own (500).
fn check_parent(networks: &Networks, record: &Record, own: &Vlan) -> ApiResult<()> {
    let Some(parent) = &own.parent else {
        return Ok(());
    };
    for entry in networks.all() {
        let other = &entry.record;
        let read = Driver::read(&other.driver, &other.options, other.internal);
        let (Ok(Driver::Macvlan(theirs) | Driver::Ipvlan(theirs)), true) =
            (read, other.driver == record.driver)
        else {
            continue;
        };
        if theirs.parent.as_ref() != Some(parent) {
            continue;
        }
        let id = &other.id;
        let text = if record.driver == "ipvlan" {
            let short = id.short();
            format!("network di-{short} is already using parent interface {parent}")
        } else if own.mode == PASSTHRU {
            format!(
                "cannot use mode passthru, macvlan network {id} is already using parent interface {parent}"
            )
        } else if theirs.mode == PASSTHRU {
            format!(
                "macvlan network {id} is already using parent interface {parent} in mode passthru"
            )
        } else {
            continue;
        };
        return Err(ApiError::conflict(text));
    }
    Ok(())
}

/// What makes a bridge network impossible.
fn check_bridge(networks: &Networks, record: &Record) -> ApiResult<()> {
    for v6 in [false, true] {
        if record.of_family(v6).count() > 1 {
            return Err(forbidden("bridge driver doesn't support multiple subnets"));
        }
    }
    for subnet in record.of_family(true) {
        check_ipv6(subnet)?;
    }
    let interface = networks.interface(record);
    for entry in networks.all() {
        let other = &entry.record;
        if other.driver != "bridge" {
            continue;
        }
        let overlap = |v6| {
            let mut own = record.of_family(v6);
            own.any(|subnet| {
                other
                    .of_family(v6)
                    .any(|theirs| theirs.cidr.overlaps(subnet.cidr))
            })
        };
        let theirs = networks.interface(other);
        let why = if interface == theirs {
            "networks have same bridge name"
        } else if overlap(false) {
            "networks have overlapping IPv4"
        } else if overlap(true) {
            "networks have overlapping IPv6"
        } else {
            continue;
        };
        return Err(forbidden(format!(
            "cannot create network {} ({interface}): conflicts with network {} ({theirs}): {why}",
            record.id, other.id
        )));
    }
    Ok(())
}

/// <https://github.com/moby/moby/blob/master/daemon/libnetwork/drivers/bridge/bridge_linux.go> (`validateIPv6Subnet`)
fn check_ipv6(subnet: &Subnet) -> ApiResult<()> {
    let address = subnet.gateway.unwrap_or(subnet.cidr.address());
    let shown = format!("{address}/{}", subnet.cidr.prefix());
    if address.is_multicast() {
        return Err(ApiError::invalid(format!(
            "multicast subnet '{shown}' is not allowed"
        )));
    }
    let link_local = Cidr::new(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 64);
    if link_local.is_some_and(|all| all != subnet.cidr && all.overlaps(subnet.cidr)) {
        return Err(ApiError::invalid(format!(
            "'{shown}' clashes with the Link-Local prefix 'fe80::/64'"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
