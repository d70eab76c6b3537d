//! Names on networks: what the companion process answers for every container. It outlives the engine, and the engine
//! outlives it: whoever comes back tells or is told everything again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use havre_api_traits::{ApiError, ApiResult};
use havre_dns::{Companion, CompanionError, Endpoint, Membership, State, Transport, Zone};
use havre_network::Sandbox;

use super::live::{End, Live, Published};

use crate::engine::Shared;

/// The engine's side of the companion.
#[derive(Debug)]
pub(crate) struct Names {
    program: PathBuf,
    exec_root: PathBuf,
    relaying: Relaying,
    /// What the companion should know at this moment.
    wanted: Mutex<State>,
    companion: tokio::sync::Mutex<Option<Arc<Companion>>>,
}

/// Which published ports the companion passes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relaying {
    /// Those that translation does not serve (`userland-proxy`).
    pub on: bool,
    /// Translation does not serve IPv4 (`iptables=false`).
    pub ipv4: bool,
}

/// A socket of the host whose connections the companion passes on.
struct Relay {
    id: String,
    transport: Transport,
    listener: SocketAddr,
    target: SocketAddr,
}

impl Names {
    pub(crate) fn new(program: PathBuf, exec_root: PathBuf, relaying: Relaying) -> Self {
        Self {
            program,
            exec_root,
            relaying,
            wanted: Mutex::default(),
            companion: tokio::sync::Mutex::default(),
        }
    }

    fn wanted(&self) -> MutexGuard<'_, State> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a container has, without telling anybody: at the start of an engine.
    pub(crate) fn adopt(&self, id: &str, live: &Live, zone: Zone) {
        let mut wanted = self.wanted();
        note(&mut wanted, live);
        for relay in self.relays_of_all(live) {
            wanted.relays.insert(relay.id, relay.target);
        }
        if live.resolves {
            wanted.containers.insert(id.to_owned(), zone);
        }
    }

    fn relays_of_all(&self, live: &Live) -> Vec<Relay> {
        live.ends
            .iter()
            .flat_map(|end| self.relays_of(end))
            .collect()
    }

    fn relays_of(&self, end: &End) -> Vec<Relay> {
        let ports = end.ports.iter().filter(|port| self.relays(port));
        ports.filter_map(|port| relay_of(end, port)).collect()
    }

    /// Whether a published port is relayed where it is not translated.
    pub(crate) fn relays(&self, port: &Published) -> bool {
        let family = port.host.is_ipv6() || self.relaying.ipv4;
        self.relaying.on && family && transport(port).is_some()
    }

    /// Whether anything is to be told at all.
    pub(crate) fn is_used(&self) -> bool {
        let wanted = self.wanted();
        !wanted.containers.is_empty() || !wanted.relays.is_empty()
    }

    /// From now on the container's queries are answered, and others find it.
    pub(crate) async fn enter(
        &self,
        shared: &Arc<Shared>,
        id: &str,
        live: &Live,
        zone: Zone,
        sockets: Option<(OwnedFd, OwnedFd)>,
    ) -> ApiResult<()> {
        let relays = self.relays_of_all(live);
        if !live.resolves && relays.is_empty() {
            return Ok(());
        }
        let companion = self.companion(shared).await?;
        let known = self.wanted().relays.clone();
        self.adopt(id, live, zone.clone());
        for end in live.ends.iter().filter(|end| !end.names.is_empty()) {
            let network = end.network.as_str();
            let told = companion
                .join(network, &end.name, end.id.as_str(), &endpoint(end))
                .await;
            told.map_err(|error| refused(&error))?;
        }
        if let Some((udp, tcp)) = sockets {
            let served = companion.serve(id, &zone, udp, tcp).await;
            served.map_err(|error| refused(&error))?;
        }
        // Connections through those that are there already go on.
        for relay in relays
            .into_iter()
            .filter(|one| !known.contains_key(&one.id))
        {
            start_relay(&companion, live, &relay).await?;
        }
        Ok(())
    }

    /// A container that runs is on one network more or less, or has another name.
    pub(crate) async fn change(
        &self,
        shared: &Arc<Shared>,
        id: &str,
        (before, live): (&Live, &Live),
        zone: Zone,
        sockets: Option<(OwnedFd, OwnedFd)>,
    ) -> ApiResult<()> {
        let kept: BTreeSet<String> = self
            .relays_of_all(live)
            .into_iter()
            .map(|one| one.id)
            .collect();
        let moved = self.relays_of_all(before).into_iter();
        let moved = moved.map(|one| one.id).filter(|id| !kept.contains(id));
        self.stop_relays(moved.collect()).await;
        if sockets.is_none() && self.wanted().containers.contains_key(id) {
            let companion = self.companion(shared).await?;
            let told = companion.update(id, &zone).await;
            told.map_err(|error| refused(&error))?;
        }
        self.enter(shared, id, live, zone, sockets).await
    }

    /// Nobody finds the container any more, and its sockets are closed.
    pub(crate) async fn leave(&self, id: &str, live: &Live) {
        for end in &live.ends {
            self.forget(end).await;
        }
        if !live.resolves {
            return;
        }
        self.wanted().containers.remove(id);
        let companion = self.companion.lock().await.clone();
        if let Some(companion) = companion {
            quiet(companion.stop(id).await);
        }
    }

    /// Nobody finds this end any more.
    pub(crate) async fn forget(&self, end: &End) {
        let (network, relays) = (end.network.as_str(), self.relays_of(end));
        if end.names.is_empty() && relays.is_empty() {
            return;
        }
        self.stop_relays(relays.into_iter().map(|one| one.id).collect())
            .await;
        {
            let mut wanted = self.wanted();
            let known = wanted.networks.get_mut(network);
            let empty = known.is_some_and(|known| {
                known.endpoints.remove(end.id.as_str());
                known.endpoints.is_empty()
            });
            if empty {
                wanted.networks.remove(network);
            }
        }
        let Some(companion) = self.companion.lock().await.clone() else {
            return;
        };
        if !end.names.is_empty() {
            quiet(companion.leave(network, end.id.as_str()).await);
        }
    }

    async fn stop_relays(&self, ids: Vec<String>) {
        for id in &ids {
            self.wanted().relays.remove(id);
        }
        let companion = self.companion.lock().await.clone();
        for id in ids {
            if let Some(companion) = &companion {
                quiet(companion.stop_relay(&id).await);
            }
        }
    }

    /// The companion, found or started; one that is new to us is told everything first.
    async fn companion(&self, shared: &Arc<Shared>) -> ApiResult<Arc<Companion>> {
        let mut held = self.companion.lock().await;
        if let Some(companion) = &*held {
            return Ok(Arc::clone(companion));
        }
        let started = Companion::connect_or_start(&self.exec_root, &self.program).await;
        let companion = Arc::new(started.map_err(|error| refused(&error))?);
        self.tell_everything(shared, &companion).await?;
        *held = Some(Arc::clone(&companion));
        drop(held);
        watch(shared, &companion);
        Ok(companion)
    }

    /// Connects again, or starts a new one, when there is something to answer for.
    pub(crate) async fn recover(&self, shared: &Arc<Shared>) {
        if self.is_used()
            && let Err(error) = self.companion(shared).await
        {
            tracing::error!(error = %error.message, "names of containers are not resolved");
        }
    }

    async fn tell_everything(&self, shared: &Arc<Shared>, companion: &Companion) -> ApiResult<()> {
        let state = self.wanted().clone();
        let missing = companion
            .sync(&state)
            .await
            .map_err(|error| refused(&error))?;
        for id in missing.containers {
            let Some(zone) = state.containers.get(&id) else {
                continue;
            };
            if let Err(error) = serve_again(shared, companion, &id, zone).await {
                tracing::error!(container = id, error = %error.message, "its names are not resolved");
            }
        }
        for container in shared.registry.all() {
            let Some(live) = container.now().state.live.clone() else {
                continue;
            };
            for relay in self.relays_of_all(&live) {
                if missing.relays.contains(&relay.id) {
                    start_relay(companion, &live, &relay).await?;
                }
            }
        }
        Ok(())
    }
}

/// Opens new sockets in a running container.
async fn serve_again(
    shared: &Shared,
    companion: &Companion,
    id: &str,
    zone: &Zone,
) -> ApiResult<()> {
    let pid = shared.registry.find(id)?.now().state.pid;
    let opened = crate::images::blocking(move || {
        let sandbox = Sandbox::of_process(pid).map_err(|error| super::join::failed(&error))?;
        sandbox
            .dns_sockets()
            .map_err(|error| super::join::failed(&error))
    });
    let (udp, tcp) = opened.await?;
    companion
        .serve(id, zone, udp, tcp)
        .await
        .map_err(|error| refused(&error))
}

/// Replaces a companion that ends.
fn watch(shared: &Arc<Shared>, companion: &Arc<Companion>) {
    let (weak, companion): (Weak<Shared>, _) = (Arc::downgrade(shared), Arc::clone(companion));
    let stopping = shared.stopping.clone();
    shared.tasks.spawn(async move {
        tokio::select! {
            () = companion.gone() => {}
            () = stopping.cancelled() => return,
        }
        let Some(shared) = weak.upgrade() else { return };
        tracing::warn!("the network companion ended: another one takes over");
        *shared.names.companion.lock().await = None;
        shared.names.recover(&shared).await;
    });
}

/// What the networks of a container say of it.
fn note(wanted: &mut State, live: &Live) {
    for end in live.ends.iter().filter(|end| !end.names.is_empty()) {
        let network = wanted.networks.entry(end.network.to_string()).or_default();
        network.name.clone_from(&end.name);
        network.endpoints.insert(end.id.to_string(), endpoint(end));
    }
}

fn endpoint(end: &End) -> Endpoint {
    Endpoint {
        names: end.names.clone(),
        addresses: end.all_addresses(),
    }
}

/// The networks whose names a container may resolve, the one of its default route first.
pub(crate) fn memberships(live: &Live) -> Vec<Membership> {
    let mut ends: Vec<&End> = live
        .ends
        .iter()
        .filter(|end| !end.names.is_empty())
        .collect();
    ends.sort_by_key(|end| !(end.default_route.0 || end.default_route.1));
    ends.iter()
        .map(|end| Membership {
            links: end.links.clone(),
            ..Membership::of(end.network.as_str())
        })
        .collect()
}

/// None of a protocol that nobody relays.
fn transport(port: &Published) -> Option<Transport> {
    match port.protocol.as_str() {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        _ => None,
    }
}

/// The relay of a published port: of IPv6's loopback address, to a container without IPv6, or where nothing is translated.
fn relay_of(end: &End, port: &Published) -> Option<Relay> {
    let (first, second) = if port.host.is_ipv6() {
        (end.ipv6, end.ipv4)
    } else {
        (end.ipv4, end.ipv6)
    };
    let target = first.or(second)?.address();
    let transport = transport(port)?;
    Some(Relay {
        id: format!(
            "{}/{}/{}/{}",
            end.id, port.host, port.host_port, port.protocol
        ),
        transport,
        listener: SocketAddr::new(port.host, port.host_port),
        target: SocketAddr::new(target, port.container_port),
    })
}

async fn start_relay(companion: &Companion, live: &Live, relay: &Relay) -> ApiResult<()> {
    let found = live
        .claims()
        .iter()
        .find_map(|claim| claim.listener(relay.listener).transpose());
    let Some(listener) = found else {
        return Ok(());
    };
    let listener = listener
        .map_err(|error| crate::error::internal("failed to listen at a published port", &error))?;
    let started = match relay.transport {
        Transport::Tcp => companion.relay(&relay.id, listener, relay.target).await,
        Transport::Udp => companion.relay_udp(&relay.id, listener, relay.target).await,
    };
    started.map_err(|error| refused(&error))
}

fn quiet(outcome: Result<(), CompanionError>) {
    if let Err(error) = outcome {
        // A companion that is gone is told everything by the next one's start.
        tracing::debug!(%error, "the companion was not told");
    }
}

fn refused(error: &CompanionError) -> ApiError {
    crate::error::internal("failed to set up the container's names", error)
}
