//! Containers and networks: joined and parted by request, and at the ends of a run.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{
    EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest, PortsExplained,
};
use havre_network::Sandbox;
use tokio::sync::oneshot;

use super::live::{End, Live};
use super::{files, join, wanted, ways};
use crate::container::{Command, Container, Fixed, send};
use crate::engine::Shared;
use crate::images::blocking;

/// Joins a container to a network.
pub(super) async fn connect(
    shared: &Arc<Shared>,
    network: &str,
    request: NetworkConnectRequest,
) -> ApiResult<()> {
    let container = shared.registry.find(&request.container)?;
    let mut settings = request.endpoint_config.unwrap_or_default();
    wanted::clear(&mut settings);
    let network = network.to_owned();
    ask(&container, |reply| Command::Connect {
        network,
        settings: Box::new(settings),
        reply,
    })
    .await
}

/// Takes a container off a network.
pub(super) async fn disconnect(
    shared: &Arc<Shared>,
    network: &str,
    request: NetworkDisconnectRequest,
) -> ApiResult<()> {
    let container = match shared.registry.find(&request.container) {
        Ok(container) => container,
        Err(error) if !request.force => return Err(error),
        Err(_unknown) => {
            shared.networks.find(network)?;
            return Err(ApiError::not_found(format!(
                "endpoint {} not found",
                request.container
            )));
        }
    };
    let (network, force) = (network.to_owned(), request.force);
    ask(&container, |reply| Command::Disconnect {
        network,
        force,
        reply,
    })
    .await
}

async fn ask(
    container: &Container,
    command: impl FnOnce(oneshot::Sender<ApiResult<()>>) -> Command,
) -> ApiResult<()> {
    let (reply, answer) = oneshot::channel();
    send(container, command(reply))?;
    let gone = || crate::error::no_such_container(container.id().as_str());
    answer.await.unwrap_or_else(|_gone| Err(gone()))
}

/// Connects a running container to one more network; what it has afterwards.
pub(crate) async fn connect_live(
    shared: &Arc<Shared>,
    fixed: &Arc<Fixed>,
    pid: u32,
    live: &Live,
    (network, settings): (&str, EndpointSettings),
) -> ApiResult<Live> {
    let record = shared.networks.find(network)?;
    let (kept, subject, before) = (Arc::clone(shared), Arc::clone(fixed), live.clone());
    let joined = blocking(move || {
        let sandbox = Sandbox::of_process(pid).map_err(|error| join::failed(&error))?;
        let end = kept.networks.departures.patiently(|| {
            let (record, settings) = (Arc::clone(&record), settings.clone());
            join::join_one(&kept, &subject, &sandbox, record, settings)
        })?;
        let mut after = before.clone();
        after.resolves |= !end.names.is_empty();
        after.ends.push(end);
        match arrive(&kept, &subject, &sandbox, &before, &mut after) {
            Ok((zone, sockets)) => Ok((after, zone, sockets)),
            Err(error) => {
                take_back(&kept, &subject, &sandbox, after);
                Err(error)
            }
        }
    });
    let (after, zone, sockets) = joined.await?;
    let told = shared
        .names
        .change(shared, fixed.id.as_str(), (live, &after), zone, sockets);
    if let Err(error) = told.await {
        if let Some(end) = after.ends.last() {
            shared.names.forget(end).await;
        }
        let (kept, subject) = (Arc::clone(shared), Arc::clone(fixed));
        let undone = blocking(move || {
            let sandbox = Sandbox::of_process(pid).map_err(|error| join::failed(&error))?;
            take_back(&kept, &subject, &sandbox, after);
            Ok(())
        });
        undone.await?;
        return Err(error);
    }
    if let Some(end) = after.ends.last() {
        announce(shared, fixed, end.network.as_str(), "connect");
    }
    Ok(after)
}

type Sockets = (OwnedFd, OwnedFd);

/// The rest of a connection, once the interface is there.
fn arrive(
    shared: &Shared,
    fixed: &Fixed,
    sandbox: &Sandbox,
    before: &Live,
    after: &mut Live,
) -> ApiResult<(havre_dns::Zone, Option<Sockets>)> {
    ways::settle(shared, fixed, sandbox, after)?;
    let opened = (after.resolves && !before.resolves).then(|| sandbox.dns_sockets());
    let sockets = opened.transpose().map_err(|error| join::failed(&error))?;
    Ok((write_down(shared, fixed, before, after)?, sockets))
}

/// Takes the last end away again. The error that brought us here is the one that matters.
fn take_back(shared: &Shared, fixed: &Fixed, sandbox: &Sandbox, mut live: Live) {
    let before = live.clone();
    let Some(end) = live.ends.pop() else { return };
    if let Err(error) = depart(shared, fixed, sandbox, &end, (&before, &mut live)) {
        tracing::warn!(container = %fixed.id, error = %error.message, "its networks are not all as they were");
    }
}

/// Takes back an end that is in `before` and not in `after` any more, and lets others do what it did.
fn depart(
    shared: &Shared,
    fixed: &Fixed,
    sandbox: &Sandbox,
    gone: &End,
    (before, after): (&Live, &mut Live),
) -> ApiResult<havre_dns::Zone> {
    join::part_one(shared, fixed, gone, Some(sandbox));
    after.parked.extend(gone.ports.iter().cloned());
    let settled = ways::settle(shared, fixed, sandbox, after);
    let zone = write_down(shared, fixed, before, after)?;
    settled.map(|()| zone)
}

/// Takes a running container off a network; what it has afterwards.
pub(crate) async fn disconnect_live(
    shared: &Arc<Shared>,
    fixed: &Arc<Fixed>,
    pid: u32,
    live: &Live,
    network: &str,
) -> ApiResult<Live> {
    let record = shared.networks.find(network)?;
    let Some(end) = live.on(&record.id).cloned() else {
        return Err(ApiError::internal(format!(
            "container {} is not connected to network {}",
            fixed.id, record.name
        )));
    };
    let (kept, subject, before, gone) = (
        Arc::clone(shared),
        Arc::clone(fixed),
        live.clone(),
        end.clone(),
    );
    let parted = blocking(move || {
        let sandbox = Sandbox::of_process(pid).map_err(|error| join::failed(&error))?;
        let mut after = before.clone();
        after.ends.retain(|end| end.id != gone.id);
        let departed = depart(&kept, &subject, &sandbox, &gone, (&before, &mut after));
        // It is off the network, whatever else did not go as it should.
        let zone = departed.or_else(|error| {
            tracing::warn!(container = %subject.id, error = %error.message, "its other networks are not all as they should be");
            files::zone(&kept, &subject, &after)
        });
        Ok((after, zone?))
    });
    let (after, zone) = parted.await?;
    shared.names.forget(&end).await;
    let told = shared
        .names
        .change(shared, fixed.id.as_str(), (live, &after), zone, None);
    told.await?;
    announce(shared, fixed, end.network.as_str(), "disconnect");
    Ok(after)
}

/// What changed of a running container's networks: told to its programs and to the next engine.
fn write_down(
    shared: &Shared,
    fixed: &Fixed,
    before: &Live,
    after: &Live,
) -> ApiResult<havre_dns::Zone> {
    let zone = files::change(shared, fixed, before, after)?;
    keep(shared, fixed, after)?;
    Ok(zone)
}

fn keep(shared: &Shared, fixed: &Fixed, live: &Live) -> ApiResult<()> {
    live.write(&shared.places.bundle(&fixed.id))
        .map_err(|error| crate::error::internal("failed to write the container's networks", &error))
}

/// Everything that a container had of networks goes, after its end.
pub(crate) async fn quit(shared: &Arc<Shared>, fixed: &Arc<Fixed>, live: &Arc<Live>) {
    shared.names.leave(fixed.id.as_str(), live).await;
    let (kept, subject, gone) = (Arc::clone(shared), Arc::clone(fixed), Arc::clone(live));
    let parted = tokio::task::spawn_blocking(move || {
        gone.release_claims();
        join::part(&kept, &subject, &gone);
    });
    if let Err(error) = parted.await {
        tracing::error!(container = %fixed.id, %error, "networks are left for the next start");
    }
    for end in &live.ends {
        announce(shared, fixed, end.network.as_str(), "disconnect");
    }
}

/// Gives a running container's interfaces the bandwidth that is allowed now.
pub(crate) async fn limit(
    shared: &Arc<Shared>,
    fixed: &Arc<Fixed>,
    pid: u32,
    live: &Live,
) -> ApiResult<Live> {
    let (kept, subject, mut after) = (Arc::clone(shared), Arc::clone(fixed), live.clone());
    blocking(move || {
        let rate = join::rate_of(&subject.host_config);
        let unchanged = |end: &End| {
            let now = rate.unwrap_or_default();
            (end.receive, end.send) == (now.receive, now.send)
        };
        if after.ends.iter().all(unchanged) {
            return Ok(after);
        }
        let plane = kept.networks.plane()?;
        let sandbox = Sandbox::of_process(pid).map_err(|error| join::failed(&error))?;
        for end in &mut after.ends {
            plane
                .set_rate(&sandbox, end.id.as_str(), rate)
                .map_err(|error| join::failed(&error))?;
            end.receive = rate.and_then(|rate| rate.receive);
            end.send = rate.and_then(|rate| rate.send);
        }
        keep(&kept, &subject, &after)?;
        Ok(after)
    })
    .await
}

/// Lets others find a running container by its new name.
pub(crate) async fn rename(
    shared: &Arc<Shared>,
    fixed: &Arc<Fixed>,
    live: &Live,
) -> ApiResult<Live> {
    let wishes = wanted::of(fixed);
    let mut after = live.clone();
    for end in &mut after.ends {
        if let Some(settings) = wishes.get(&end.name).filter(|_| !end.names.is_empty()) {
            end.names = wanted::names(fixed, settings);
        }
        let member = join::member(fixed, end);
        shared.networks.join(&end.network, end.id.clone(), member)?;
    }
    let (kept, subject, before, renamed) = (
        Arc::clone(shared),
        Arc::clone(fixed),
        live.clone(),
        after.clone(),
    );
    let zone = blocking(move || write_down(&kept, &subject, &before, &renamed)).await?;
    let told = shared
        .names
        .change(shared, fixed.id.as_str(), (live, &after), zone, None);
    told.await?;
    Ok(after)
}

/// Publishes that a container came to a network or left it.
pub(crate) fn announce(shared: &Shared, fixed: &Fixed, network: &str, action: &str) {
    if let Ok(record) = shared.networks.find(network) {
        shared.announce_network(&record, action, &[("container", fixed.id.as_str())]);
    }
}

/// Who can reach which port of a container.
pub(super) async fn explain_ports(
    shared: &Arc<Shared>,
    container: &str,
) -> ApiResult<PortsExplained> {
    let container = shared.registry.find(container)?;
    let view = container.now();
    let Some(live) = view.state.live.clone() else {
        return Ok(PortsExplained::default());
    };
    let kept = Arc::clone(shared);
    blocking(move || super::explained::explain(&kept, &live)).await
}
