//! All networks in memory: found by name, id or the beginning of an id, each with who is on it, and their addresses.
//!
//! The lock is held only to look or to change the maps. Addresses in use are not written down here: who has one writes
//! it into its own record, and `Networks::take` claims it again after a start.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_api_traits::{ApiError, ApiResult};
use havre_meta::{Batch, Meta};
use havre_network::PlaneOptions;
use havre_network::ipam::{AddressSpace, IpamError, PoolRequest, Pools, unique_local};
use havre_network::ports::Ports;
use havre_types::{Cidr, ContainerId, Digest, EndpointId, MacAddress, NetworkId};

use super::defaults::{DefaultBridge, NetworkDefaults};
use super::departures::Departures;
use super::no_such_network;
use super::plane::Kernel;
use super::record::{KIND, Record};
use super::request::forbidden;
use super::{addresses, default_bridge};
use crate::engine::OpenError;

/// The networks of an engine.
#[derive(Debug)]
pub(crate) struct Networks {
    inner: Mutex<Inner>,
    /// Held while a network is made or removed: one after the other.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) kernel: Kernel,
    /// Ports of the host that containers have.
    pub(crate) ports: Ports,
    pub(crate) departures: Arc<Departures>,
    /// Some container is linked to another.
    pub(crate) has_links: AtomicBool,
    /// What the administrator wants of the default bridge.
    pub(super) defaults: NetworkDefaults,
    /// Tells this engine's interfaces from others.
    pub(super) instance: String,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub all: BTreeMap<NetworkId, Entry>,
    pub space: AddressSpace,
}

/// A network and who is on it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub record: Arc<Record>,
    pub members: BTreeMap<EndpointId, Member>,
}

/// A container's end of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub container: ContainerId,
    /// The container's name.
    pub name: String,
    pub mac: Option<MacAddress>,
    pub ipv4: Option<Cidr>,
    pub ipv6: Option<Cidr>,
}

/// Takes up the networks of former runs and makes sure of the predefined ones. The batch is to be written.
pub(crate) fn open(
    meta: &Meta,
    defaults: &NetworkDefaults,
    instance: &str,
    plane: Option<PlaneOptions>,
) -> Result<(Networks, Batch), OpenError> {
    let documents = meta
        .list(KIND)
        .map_err(|source| OpenError::Read { source })?;
    let mut records: Vec<Record> = Vec::with_capacity(documents.len() + 3);
    for document in documents {
        match Record::from_json(&document.body) {
            Ok(record) => records.push(record),
            Err(reason) => tracing::error!(
                network = document.id,
                reason,
                "record cannot be read: left alone"
            ),
        }
    }
    records.sort_by_key(|record| record.created);
    let failed = |reason: String| OpenError::Networks { reason };
    let mut batch = Batch::new();
    for (name, driver) in [("host", "host"), ("none", "null")] {
        if !records.iter().any(|record| record.name == name) {
            let record = Record::bare(new_id().map_err(|err| failed(err.message))?, name, driver);
            batch = put(batch, &record).map_err(|err| failed(err.message))?;
            records.push(record);
        }
    }
    let pools = pools(defaults, &records).map_err(failed)?;
    let networks = Networks {
        inner: Mutex::new(Inner {
            all: BTreeMap::new(),
            space: AddressSpace::new(pools),
        }),
        changing: tokio::sync::Mutex::new(()),
        kernel: Kernel::new(plane),
        ports: Ports::new(),
        departures: Arc::default(),
        has_links: AtomicBool::new(false),
        defaults: defaults.clone(),
        instance: instance.to_owned(),
    };
    let (bridges, others): (Vec<Record>, Vec<Record>) = records
        .into_iter()
        .partition(|record| record.name == "bridge");
    for record in others {
        networks.claim(&record);
        networks.insert(record);
    }
    if defaults.bridge != DefaultBridge::Absent {
        let old = bridges.into_iter().next();
        let id = old.as_ref().map_or_else(new_id, |old| Ok(old.id.clone()));
        let id = id.map_err(|err| failed(err.message))?;
        let record = default_bridge::record(&networks, old.as_ref(), id, defaults)
            .map_err(|why| failed(format!("error creating default \"bridge\" network: {why}")))?;
        if old.as_ref() != Some(&record) {
            batch = put(batch, &record).map_err(|err| failed(err.message))?;
        }
        networks.insert(record);
    }
    Ok((networks, batch))
}

/// The pools that subnets are chosen from. The block of IPv6 derives from an id that is this engine's alone.
fn pools(defaults: &NetworkDefaults, records: &[Record]) -> Result<Pools, String> {
    let none = records
        .iter()
        .find(|record| record.driver == "null" && !record.config_only);
    let seed = none.map(|record| record.id.to_string()).unwrap_or_default();
    let digest = Digest::sha256_of(seed.as_bytes());
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digest.hex().as_bytes().chunks(2)) {
        let text = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(text, 16).unwrap_or_default();
    }
    let local = unique_local(&bytes);
    if defaults.address_pools.is_empty() {
        return Ok(Pools::docker(local));
    }
    let own = defaults.address_pools.iter().copied();
    let pools = Pools::new(own.clone()).map_err(|err| err.to_string())?;
    if pools.has_v6() {
        return Ok(pools);
    }
    let six = havre_network::ipam::Pool {
        base: local,
        size: 64,
    };
    Pools::new(own.chain([six])).map_err(|err| err.to_string())
}

pub(super) fn new_id() -> ApiResult<NetworkId> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|err| crate::error::internal("failed to read random bytes", &err))?;
    Ok(NetworkId::from_bytes(bytes))
}

pub(super) fn put(batch: Batch, record: &Record) -> ApiResult<Batch> {
    let body = record
        .to_json()
        .map_err(|err| crate::error::internal("failed to write the network's record", &err))?;
    Ok(batch.put(KIND, record.id.as_str(), body))
}

impl Networks {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds by full id, then name, then the beginning of an id.
    /// <https://github.com/moby/moby/blob/master/daemon/network.go> (`FindNetwork`)
    pub(crate) fn find(&self, term: &str) -> ApiResult<Arc<Record>> {
        let inner = self.lock();
        let records = || inner.all.values().map(|entry| &entry.record);
        if let Some(found) = records().find(|record| record.id.as_str() == term) {
            return Ok(Arc::clone(found));
        }
        if let Some(found) = records().find(|record| record.name == term) {
            return Ok(Arc::clone(found));
        }
        let matching: Vec<&Arc<Record>> = records()
            .filter(|record| !term.is_empty() && record.id.as_str().starts_with(term))
            .collect();
        match matching.as_slice() {
            [] => Err(no_such_network(term)),
            [one] => Ok(Arc::clone(one)),
            several => Err(ApiError::invalid(format!(
                "network {term} is ambiguous ({} matches found based on ID prefix)",
                several.len()
            ))),
        }
    }

    /// The network of an id.
    pub(crate) fn get(&self, id: &NetworkId) -> Option<Entry> {
        self.lock().all.get(id).cloned()
    }

    /// All networks as they are now, oldest first.
    pub(crate) fn all(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.lock().all.values().cloned().collect();
        all.sort_by_key(|entry| entry.record.created);
        all
    }

    pub(super) fn insert(&self, record: Record) -> Arc<Record> {
        let record = Arc::new(record);
        let entry = Entry {
            record: Arc::clone(&record),
            members: BTreeMap::new(),
        };
        self.lock().all.insert(record.id.clone(), entry);
        record
    }

    /// Takes a network out of the lists if nothing is on it: from then on nobody finds it. Its addresses stay taken.
    pub(super) fn withdraw(&self, id: &NetworkId) -> ApiResult<Arc<Record>> {
        let mut inner = self.lock();
        let Some(entry) = inner.all.get(id) else {
            return Err(no_such_network(id.as_str()));
        };
        let record = Arc::clone(&entry.record);
        if !entry.members.is_empty() {
            let ends = entry
                .members
                .iter()
                .map(|(id, member)| format!("name:{:?} id:{:?}", member.name, id.short()));
            let ends: Vec<String> = ends.collect();
            return Err(forbidden(format!(
                "error while removing network: network {} has active endpoints ({})",
                record.name,
                ends.join(", ")
            )));
        }
        let others = || inner.all.values().map(|entry| &entry.record);
        if record.config_only && others().any(|other| other.config_from == record.name) {
            return Err(forbidden(format!(
                "error while removing network: configuration network {:?} is in use",
                record.name
            )));
        }
        inner.all.remove(id);
        Ok(record)
    }

    /// Puts a network back that could not be removed.
    pub(super) fn restore(&self, record: &Arc<Record>) {
        let entry = Entry {
            record: Arc::clone(record),
            members: BTreeMap::new(),
        };
        self.lock().all.insert(record.id.clone(), entry);
    }

    /// Works on the addresses under the lock.
    pub(super) fn with_space<T>(&self, work: impl FnOnce(&mut AddressSpace) -> T) -> T {
        work(&mut self.lock().space)
    }

    /// Gives up a network's subnets.
    pub(super) fn release_subnets(&self, record: &Record) {
        self.with_space(|space| {
            for subnet in &record.subnets {
                addresses::release(space, subnet);
            }
        });
    }

    /// Claims the subnets of a record that was read, with its gateways and the addresses of others.
    pub(super) fn claim(&self, record: &Record) {
        let claimed = self.with_space(|space| -> Result<(), IpamError> {
            for subnet in &record.subnets {
                space.request(PoolRequest {
                    subnet: Some(subnet.cidr),
                    range: subnet.range,
                    ..PoolRequest::default()
                })?;
                for address in subnet.gateway.iter().chain(subnet.aux.values()) {
                    space.allocate(&subnet.pool(), Some(*address))?;
                }
            }
            Ok(())
        });
        if let Err(error) = claimed {
            tracing::error!(network = record.name, %error, "the network's addresses are not its own");
        }
    }

    /// Whether names of containers are resolved on the default bridge.
    pub(crate) fn resolves_on_bridge(&self) -> bool {
        self.defaults.default_dns
    }

    /// The host's interface of a bridge network.
    pub(crate) fn interface(&self, record: &Record) -> String {
        let named = record.options.get(super::options::BRIDGE_NAME);
        match named.filter(|name| !name.is_empty()) {
            Some(name) => name.clone(),
            None => self.interface_of(&record.id),
        }
    }

    pub(super) fn interface_of(&self, id: &NetworkId) -> String {
        havre_network::names::bridge(&self.instance, id.as_str())
    }

    /// How much of each subnet of a network is in use.
    pub(super) fn usage(&self, record: &Record) -> BTreeMap<String, havre_network::ipam::Usage> {
        let inner = self.lock();
        let used = record.subnets.iter().filter_map(|subnet| {
            let usage = inner.space.usage(&subnet.pool())?;
            Some((subnet.cidr.to_string(), usage))
        });
        used.collect()
    }
}

#[cfg(test)]
mod tests;
