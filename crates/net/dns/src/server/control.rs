//! What engines say: one request after the other, each answered. Only root and the own user are listened to.

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::{io, process};

use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::{Container, Shared, relay::Relay};
use crate::protocol::{Answer, Owner, Request, VERSION, receive, send};
use crate::zone::{Held, State, Transport};

pub(super) async fn converse(shared: Rc<Shared>, stream: UnixStream) {
    let peer = havre_sys::net::peer_cred(stream.as_fd());
    if !peer.is_ok_and(|peer| peer.uid.is_root() || peer.uid == geteuid()) {
        return;
    }
    shared.engines.set(shared.engines.get() + 1);
    // An engine that was killed just stops; the next one says everything again.
    drop(serve(&shared, &stream).await);
    shared.engines.set(shared.engines.get() - 1);
    shared.changed.notify_one();
}

async fn serve(shared: &Rc<Shared>, stream: &UnixStream) -> io::Result<()> {
    while let Some((request, fds)) = receive(stream).await? {
        if matches!(request, Request::TakeBack) {
            give_back(shared, stream).await?;
            return send(stream, &Answer::Done, &[]).await;
        }
        let answer =
            obey(shared, request, fds).unwrap_or_else(|message| Answer::Refused { message });
        send(stream, &answer, &[]).await?;
        shared.changed.notify_one();
    }
    Ok(())
}

fn obey(shared: &Rc<Shared>, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, String> {
    if shared.leaving.get() {
        return Err("the sockets were given back".to_owned());
    }
    let mut table = shared.table.borrow_mut();
    match request {
        Request::Hello | Request::TakeBack => {
            return Ok(Answer::Hello {
                version: VERSION.to_owned(),
                pid: i32::try_from(process::id()).map_err(|error| error.to_string())?,
            });
        }
        Request::Sync(state) => {
            drop(table);
            return Ok(Answer::Held(sync(shared, state)));
        }
        Request::Network { id, network } => table.set_network(&id, network),
        Request::RemoveNetwork { id } => table.remove_network(&id),
        Request::Endpoint {
            network,
            id,
            endpoint,
        } => {
            if !table.set_endpoint(&network, &id, endpoint) {
                return Err(format!("no network {network}"));
            }
        }
        Request::Join {
            network,
            name,
            id,
            endpoint,
        } => table.join(&network, &name, &id, endpoint),
        Request::Leave { network, id } => table.leave(&network, &id),
        Request::RemoveEndpoint { network, id } => table.remove_endpoint(&network, &id),
        Request::Serve { container, zone } => {
            let new = Container::new(zone, fds).map_err(|error| error.to_string())?;
            let new = Rc::new(new);
            new.start(shared);
            let old = shared.containers.borrow_mut().insert(container, new);
            old.iter().for_each(|old| old.stop());
        }
        Request::Update { container, zone } => {
            let containers = shared.containers.borrow();
            let known = containers.get(&container);
            let known = known.ok_or_else(|| format!("no container {container}"))?;
            known.zone.replace(zone);
        }
        Request::Stop { container } => {
            let old = shared.containers.borrow_mut().remove(&container);
            old.iter().for_each(|old| old.stop());
        }
        Request::Relay {
            id,
            transport,
            target,
        } => {
            let new = Relay::new(transport, target, fds).map_err(|error| error.to_string())?;
            let new = Rc::new(new);
            new.start(shared);
            let old = shared.relays.borrow_mut().insert(id, new);
            old.iter().for_each(|old| old.stop());
        }
        Request::StopRelay { id } => {
            let old = shared.relays.borrow_mut().remove(&id);
            old.iter().for_each(|old| old.stop());
        }
    }
    Ok(Answer::Done)
}

/// Makes what is held like `state` as far as there are sockets, and says for whom there are.
fn sync(shared: &Shared, state: State) -> Held {
    let mut table = shared.table.borrow_mut();
    table.retain(|id| state.networks.contains_key(id));
    for (id, network) in state.networks {
        table.set_network(&id, network);
    }
    let mut containers = shared.containers.borrow_mut();
    containers.retain(|id, container| {
        let zone = state.containers.get(id);
        match zone {
            Some(zone) => drop(container.zone.replace(zone.clone())),
            None => container.stop(),
        }
        zone.is_some()
    });
    let mut relays = shared.relays.borrow_mut();
    relays.retain(|id, relay| {
        let wanted = state.relays.get(id) == Some(&relay.target);
        if !wanted {
            relay.stop();
        }
        wanted
    });
    Held {
        containers: containers.keys().cloned().collect(),
        relays: relays.keys().cloned().collect(),
    }
}

/// Sends all sockets to an engine that will give them to another companion. Nothing is taken from them any more; what comes
/// meanwhile waits in them.
async fn give_back(shared: &Shared, stream: &UnixStream) -> io::Result<()> {
    shared.leaving.set(true);
    shared.changed.notify_one();
    let containers = shared.containers.take();
    let relays = shared.relays.take();
    containers.values().for_each(|one| one.listening.stop());
    relays.values().for_each(|one| one.pause());
    for (id, container) in &containers {
        let fds = [container.udp.as_fd(), container.tcp.as_fd()];
        send(stream, &Answer::Socket(Owner::Container(id.clone())), &fds).await?;
    }
    for (id, relay) in &relays {
        let owner = Owner::Relay {
            id: id.clone(),
            transport: match relay.is_tcp() {
                true => Transport::Tcp,
                false => Transport::Udp,
            },
        };
        send(stream, &Answer::Socket(owner), &[relay.socket()]).await?;
    }
    shared.retired.borrow_mut().extend(relays.into_values());
    Ok(())
}
