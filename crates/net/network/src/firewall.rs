//! The engine's table of nftables: what holds now, kept in the kernel. A second one of the same name, for frames on
//! bridges, is there while a network asks for anti-spoofing.
//!
//! What is wanted is a [`Model`]; the kernel has what follows from it. A change is a transaction of elements. When the
//! table is not there any more (`nft flush ruleset`), the whole of it is built again in one transaction.

mod host;
mod model;
#[cfg(test)]
mod policy_test;
mod rules;
mod sources;
mod table;
mod watcher;

use std::sync::{Mutex, MutexGuard, PoisonError};

use havre_netlink::nft::{Batch, Family, Nft, Tables};

use rustix::io::Errno;

use crate::error::NetworkError;
use crate::explain::Others;
use crate::spec::{EndpointSpec, NetworkSpec, Publication};

use host::{Host, Source};
pub(crate) use model::{Model, Settings};
use table::Items;
pub(crate) use watcher::Watcher;

const NF_TABLES: &str = "nf_tables";
/// What the table is made of.
const PARTS: &str =
    "nf_tables with all of nft_chain_nat, nft_ct, nft_fib_inet, nft_masq and nft_nat";
/// What both tables are made of.
const PARTS_FOR_FRAMES: &str = "nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE), with all of nft_chain_nat, nft_ct, nft_fib_inet, nft_masq and nft_nat";

/// How far the administrator's rules for what arrives at this host hold for published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guard {
    /// As far as they drop what arrives by a condition; a chain that drops all that it does not know does not count, as
    /// with Docker.
    #[default]
    Explicit,
    /// All of them: a published port must be allowed where that is the rule.
    Full,
    /// Not at all.
    None,
}

/// Whether the rules are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Somebody removed rules, and they are not yet there again.
    pub degraded: bool,
    /// How often they were put back.
    pub restored: u64,
    /// Rules of the host for arriving packets that could not be made to hold for published ports.
    pub left_out: usize,
}

/// Copies of the host's rules, each simpler than the one before: a kernel may refuse what iptables has.
fn attempts(sources: &[Source], guard: Guard) -> impl Iterator<Item = Host> {
    let with = |extensions| move || host::plan(sources, guard, extensions);
    let none = move || {
        let rules = host::plan(sources, guard, true).rules();
        Host::nothing(rules)
    };
    std::iter::once_with(with(true))
        .chain(std::iter::once_with(with(false)))
        .chain(std::iter::once_with(none))
}

/// The table, and what it follows from.
#[derive(Debug)]
pub(crate) struct Firewall {
    name: String,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    nft: Nft,
    model: Model,
    guard: Guard,
    /// The host's rules of which the table has a copy.
    sources: Vec<Source>,
    /// The kernel may have the table for frames.
    frames: bool,
    health: Health,
}

impl Firewall {
    /// Opens a socket in the calling thread's namespace; nothing is changed yet.
    pub(crate) fn open(
        name: String,
        settings: Settings,
        guard: Guard,
    ) -> Result<Self, NetworkError> {
        let mut nft = Nft::open().map_err(NetworkError::without(NF_TABLES))?;
        let mut model = Model {
            settings,
            ..Model::default()
        };
        // The table of a former engine may say that it made the host forward packets.
        let sets = match nft.foreign_sets(Tables::Inet, &name) {
            Err(error) if error.is_absent() => Vec::new(),
            // What netfilter says when nobody there knows of tables.
            Err(error) if error.errno() == Some(Errno::INVAL) => {
                return Err(NetworkError::Unsupported(NF_TABLES));
            }
            other => other?,
        };
        for set in sets {
            for (ipv6, mark) in rules::GUARDS {
                if set.name == mark {
                    model.settings.guard_ipv4 |= !ipv6;
                    model.settings.guard_ipv6 |= ipv6;
                }
            }
        }
        let frames = nft.tables(Family::Bridge)?.contains(&name);
        Ok(Self {
            name,
            inner: Mutex::new(Inner {
                nft,
                model,
                guard,
                sources: Vec::new(),
                frames,
                health: Health::default(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self) -> Batch {
        Batch::new(Family::Inet, &self.name)
    }

    fn frames(&self) -> Batch {
        Batch::new(Family::Bridge, &self.name)
    }

    /// The number by which events name the engine's socket.
    fn port(&self) -> Result<u32, NetworkError> {
        Ok(self.lock().nft.port()?)
    }

    /// Whether the rules are in force.
    pub(crate) fn health(&self) -> Health {
        self.lock().health
    }

    /// Builds the table anew, in one step, with a copy of the host's rules as they are now.
    fn rebuild(&self, inner: &mut Inner) -> Result<(), NetworkError> {
        let sources = self.sources(inner);
        let mut outcome = Ok(());
        for host in attempts(&sources, inner.guard) {
            outcome = self.build(inner, &host);
            if outcome.is_ok() {
                inner.health.degraded = false;
                break;
            }
        }
        inner.sources = sources;
        outcome
    }

    /// The host's rules, where somebody wants them; what cannot be read is not there.
    fn sources(&self, inner: &mut Inner) -> Vec<Source> {
        if inner.guard == Guard::None {
            return Vec::new();
        }
        host::read(&mut inner.nft, &self.name).unwrap_or_default()
    }

    fn build(&self, inner: &mut Inner, host: &Host) -> Result<(), NetworkError> {
        let mut batch = self.batch();
        batch.remove_table();
        batch.add_table();
        inner.model.table().write(&mut batch);
        host.write(&mut batch);
        let checks = inner.model.checks_sources();
        // A kernel may lack nftables for bridges: where nobody wants it, nobody asks for it.
        if inner.frames || checks {
            let mut frames = self.frames();
            frames.remove_table();
            if checks {
                frames.add_table();
                inner.model.sources().write(&mut frames);
            }
            batch.append(frames);
        }
        let made = inner.nft.commit(batch);
        // It needs nothing that it does not make itself: what is missing is a part of the kernel.
        let parts = if checks { PARTS_FOR_FRAMES } else { PARTS };
        made.map_err(|error| match error.is_absent() {
            true => NetworkError::Unsupported(parts),
            false => NetworkError::without(parts)(error),
        })?;
        inner.frames = checks;
        inner.health.left_out = host.left_out;
        Ok(())
    }

    /// Looks whether the host's rules are still those that were copied.
    fn look(&self) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        if inner.model.networks.is_empty() {
            return Ok(());
        }
        let sources = self.sources(&mut inner);
        if sources == inner.sources {
            return Ok(());
        }
        self.rebuild(&mut inner)
    }

    /// Puts the rules back that somebody removed.
    fn restore(&self) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        inner.health.degraded = true;
        self.rebuild(&mut inner)?;
        inner.health.restored += 1;
        Ok(())
    }

    /// Replaces everything.
    pub(crate) fn replace<'a>(
        &self,
        networks: &[NetworkSpec],
        endpoints: &[EndpointSpec],
        cable: impl Fn(&EndpointSpec) -> Option<&'a str>,
    ) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let networks = networks.iter().map(|one| (one.id.clone(), one.clone()));
        inner.model.networks = networks.collect();
        let model = &inner.model;
        let checked = endpoints.iter().filter_map(|end| {
            let items = model.of_cable(cable(end)?, end)?;
            Some((end.id.clone(), items))
        });
        let cables = checked.collect();
        inner.model.cables = cables;
        let endpoints = endpoints.iter().map(|one| (one.id.clone(), one.clone()));
        inner.model.endpoints = endpoints.collect();
        self.rebuild(&mut inner)
    }

    /// Sets what holds for all networks.
    pub(crate) fn settle(&self, change: impl FnOnce(&mut Settings)) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let before = inner.model.settings;
        change(&mut inner.model.settings);
        if inner.model.settings == before {
            return Ok(());
        }
        self.rebuild(&mut inner)
    }

    /// A transaction; a table that is gone is built anew instead, from the model as it is by then.
    fn commit(&self, inner: &mut Inner, batch: Batch) -> Result<(), NetworkError> {
        match inner.nft.commit(batch) {
            Err(error) if error.is_absent() || error.exists() => self.rebuild(inner),
            other => Ok(other?),
        }
    }

    fn added(
        &self,
        inner: &mut Inner,
        mut batch: Batch,
        items: &Items,
    ) -> Result<(), NetworkError> {
        table::add(&mut batch, items);
        self.commit(inner, batch)
    }

    fn removed(
        &self,
        inner: &mut Inner,
        mut batch: Batch,
        items: &Items,
    ) -> Result<(), NetworkError> {
        table::remove(&mut batch, items);
        self.commit(inner, batch)
    }

    /// Lets a network's rules hold; to be called before its bridge is there.
    pub(crate) fn add_network(&self, network: &NetworkSpec) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let items = inner.model.of_network(network);
        inner
            .model
            .networks
            .insert(network.id.clone(), network.clone());
        let done = if inner.model.checks_sources() == inner.frames {
            self.added(&mut inner, self.batch(), &items)
        } else {
            self.rebuild(&mut inner)
        };
        if done.is_err() {
            inner.model.networks.remove(&network.id);
        }
        done
    }

    /// Forgets a network; to be called when its bridge is gone.
    pub(crate) fn remove_network(&self, id: &str) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let Some(network) = inner.model.networks.remove(id) else {
            return Ok(());
        };
        if inner.model.checks_sources() != inner.frames {
            return self.rebuild(&mut inner);
        }
        let items = inner.model.of_network(&network);
        self.removed(&mut inner, self.batch(), &items)
    }

    /// Lets an end send from its own addresses alone, where its network asks for that; to be called before its cable is
    /// on the bridge.
    pub(crate) fn add_cable(&self, cable: &str, end: &EndpointSpec) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let Some(items) = inner.model.of_cable(cable, end) else {
            return Ok(());
        };
        inner.model.cables.insert(end.id.clone(), items.clone());
        let done = self.added(&mut inner, self.frames(), &items);
        if done.is_err() {
            inner.model.cables.remove(&end.id);
        }
        done
    }

    /// Forgets the cable of an end; to be called when it is gone.
    pub(crate) fn remove_cable(&self, end: &str) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        match inner.model.cables.remove(end) {
            Some(items) => self.removed(&mut inner, self.frames(), &items),
            None => Ok(()),
        }
    }

    /// Lets an end's published ports lead to it.
    pub(crate) fn add_endpoint(&self, end: &EndpointSpec) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let items = inner.model.of_publications(end, &end.publications);
        inner.model.endpoints.insert(end.id.clone(), end.clone());
        let done = self.added(&mut inner, self.batch(), &items);
        if done.is_err() {
            inner.model.endpoints.remove(&end.id);
        }
        done
    }

    /// Forgets an end with its published ports.
    pub(crate) fn remove_endpoint(&self, id: &str) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let Some(end) = inner.model.endpoints.remove(id) else {
            return Ok(());
        };
        let items = inner.model.of_publications(&end, &end.publications);
        self.removed(&mut inner, self.batch(), &items)
    }

    /// Changes which ports of an end are published, in one transaction.
    pub(crate) fn publish(&self, id: &str, ports: Vec<Publication>) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let model = &inner.model;
        let end = model.endpoints.get(id);
        let end = end.ok_or_else(|| NetworkError::UnknownEndpoint(id.to_owned()))?;
        let mut old = model.of_publications(end, &end.publications);
        let mut new = model.of_publications(end, &ports);
        for (set, items) in &mut new {
            let Some(had) = old.get_mut(set) else {
                continue;
            };
            let kept: Vec<_> = items.intersection(had).cloned().collect();
            for item in kept {
                items.remove(&item);
                had.remove(&item);
            }
        }
        let mut batch = self.batch();
        table::remove(&mut batch, &old);
        table::add(&mut batch, &new);
        let before = inner.model.endpoints.get_mut(id).map(|end| {
            let before = end.publications.clone();
            end.publications = ports;
            before
        });
        let done = self.commit(&mut inner, batch);
        if let (Err(_), Some(end), Some(before)) =
            (&done, inner.model.endpoints.get_mut(id), before)
        {
            end.publications = before;
        }
        done
    }

    /// What the rules follow from, and what others have to say.
    pub(crate) fn told(&self) -> Result<(Model, Others), NetworkError> {
        let mut inner = self.lock();
        let mut chains = Vec::new();
        for (family, word) in [
            (Tables::Inet, "inet"),
            (Tables::Ipv4, "ip"),
            (Tables::Ipv6, "ip6"),
        ] {
            let found = inner.nft.foreign_chains(family)?;
            let others = found.into_iter().filter(|chain| chain.table != self.name);
            chains.extend(others.map(|chain| (word, chain)));
        }
        let guard = inner.guard;
        Ok((inner.model.clone(), Others { chains, guard }))
    }

    /// What holds for all networks.
    pub(crate) fn settings(&self) -> Settings {
        self.lock().model.settings
    }

    /// Removes the tables; as long as one guards a family that is forwarded, that part of it stays.
    pub(crate) fn remove(&self, settings: Settings) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        inner.model.networks.clear();
        inner.model.endpoints.clear();
        inner.model.cables.clear();
        inner.model.settings = settings;
        if settings.guards(false) || settings.guards(true) {
            return self.rebuild(&mut inner);
        }
        let mut batch = self.batch();
        batch.remove_table();
        if inner.frames {
            let mut frames = self.frames();
            frames.remove_table();
            batch.append(frames);
        }
        inner.nft.commit(batch)?;
        inner.frames = false;
        Ok(())
    }
}
