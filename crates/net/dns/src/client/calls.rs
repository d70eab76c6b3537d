//! What a companion can be told, one thing at a time.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::{Companion, CompanionError};
use crate::protocol::Request;
use crate::zone::{Endpoint, Network, Transport, Zone};

impl Companion {
    /// Answers queries that come to these sockets: a bound one and a listening one, of 127.0.0.11 in the container.
    pub async fn serve(
        &self,
        container: &str,
        zone: &Zone,
        udp: OwnedFd,
        tcp: OwnedFd,
    ) -> Result<(), CompanionError> {
        self.serve_with(container, zone, vec![udp, tcp]).await
    }

    pub(super) async fn serve_with(
        &self,
        container: &str,
        zone: &Zone,
        fds: Vec<OwnedFd>,
    ) -> Result<(), CompanionError> {
        let request = Request::Serve {
            container: container.to_owned(),
            zone: zone.clone(),
        };
        self.tell(container, request, fds).await
    }

    /// Changes what a container may resolve.
    pub async fn update(&self, container: &str, zone: &Zone) -> Result<(), CompanionError> {
        let request = Request::Update {
            container: container.to_owned(),
            zone: zone.clone(),
        };
        self.tell(container, request, Vec::new()).await
    }

    /// Closes a container's sockets. Its namespace goes on existing until then. Unknown containers are no error.
    pub async fn stop(&self, container: &str) -> Result<(), CompanionError> {
        let request = Request::Stop {
            container: container.to_owned(),
        };
        self.tell(container, request, Vec::new()).await
    }

    /// Adds a network with its endpoints, or replaces it.
    pub async fn network(&self, id: &str, network: &Network) -> Result<(), CompanionError> {
        let request = Request::Network {
            id: id.to_owned(),
            network: network.clone(),
        };
        self.tell(id, request, Vec::new()).await
    }

    /// Forgets a network and its names.
    pub async fn remove_network(&self, id: &str) -> Result<(), CompanionError> {
        let request = Request::RemoveNetwork { id: id.to_owned() };
        self.tell(id, request, Vec::new()).await
    }

    /// Adds an endpoint to a network that the companion knows, or replaces it.
    pub async fn endpoint(
        &self,
        network: &str,
        id: &str,
        endpoint: &Endpoint,
    ) -> Result<(), CompanionError> {
        let request = Request::Endpoint {
            network: network.to_owned(),
            id: id.to_owned(),
            endpoint: endpoint.clone(),
        };
        self.tell(network, request, Vec::new()).await
    }

    /// Adds or replaces an endpoint, and makes its network known if this is its first: containers that start at the same
    /// time need not agree who comes first.
    pub async fn join(
        &self,
        network: &str,
        name: &str,
        id: &str,
        endpoint: &Endpoint,
    ) -> Result<(), CompanionError> {
        let request = Request::Join {
            network: network.to_owned(),
            name: name.to_owned(),
            id: id.to_owned(),
            endpoint: endpoint.clone(),
        };
        self.tell(network, request, Vec::new()).await
    }

    /// Forgets an endpoint, and its network with the last one.
    pub async fn leave(&self, network: &str, id: &str) -> Result<(), CompanionError> {
        let request = Request::Leave {
            network: network.to_owned(),
            id: id.to_owned(),
        };
        self.tell(network, request, Vec::new()).await
    }

    /// Forgets an endpoint and its names.
    pub async fn remove_endpoint(&self, network: &str, id: &str) -> Result<(), CompanionError> {
        let request = Request::RemoveEndpoint {
            network: network.to_owned(),
            id: id.to_owned(),
        };
        self.tell(network, request, Vec::new()).await
    }

    /// Relays the connections of a listening TCP socket.
    pub async fn relay(
        &self,
        id: &str,
        listener: OwnedFd,
        target: SocketAddr,
    ) -> Result<(), CompanionError> {
        self.relay_with(id, Transport::Tcp, target, vec![listener])
            .await
    }

    /// Relays the datagrams of a bound UDP socket, and what is answered to them.
    pub async fn relay_udp(
        &self,
        id: &str,
        socket: OwnedFd,
        target: SocketAddr,
    ) -> Result<(), CompanionError> {
        self.relay_with(id, Transport::Udp, target, vec![socket])
            .await
    }

    pub(super) async fn relay_with(
        &self,
        id: &str,
        transport: Transport,
        target: SocketAddr,
        fds: Vec<OwnedFd>,
    ) -> Result<(), CompanionError> {
        let request = Request::Relay {
            id: id.to_owned(),
            transport,
            target,
        };
        self.tell(id, request, fds).await
    }

    /// Closes a relay and the connections through it. Unknown relays are no error.
    pub async fn stop_relay(&self, id: &str) -> Result<(), CompanionError> {
        let request = Request::StopRelay { id: id.to_owned() };
        self.tell(id, request, Vec::new()).await
    }
}
