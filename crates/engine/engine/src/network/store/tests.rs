//! Networks found, claimed again after a start, and withdrawn.

use std::net::IpAddr;

use super::super::membership::Addresses;
use super::*;

struct Rig {
    directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Opens the networks as a start of the engine does.
    async fn open(&self, defaults: &NetworkDefaults) -> Result<(Networks, Meta), String> {
        let meta = Meta::open(&self.directory.path().join("meta.db")).unwrap();
        let (networks, batch) =
            open(&meta, defaults, "test", None).map_err(|error| error.to_string())?;
        meta.write(batch).await.unwrap();
        Ok((networks, meta))
    }
}

fn network(name: &str, id: &str, subnet: &str) -> Record {
    let mut text = id.to_owned();
    text.extend(std::iter::repeat_n('0', 64 - id.len()));
    let mut record = Record::bare(text.parse().unwrap(), name, "macvlan");
    let subnet = super::super::record::Subnet::of(subnet.parse().unwrap());
    record.subnets.push(subnet);
    record
}

fn member(name: &str) -> Member {
    Member {
        container: ContainerId::from_bytes([1; 32]),
        name: name.to_owned(),
        mac: None,
        ipv4: None,
        ipv6: None,
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[tokio::test]
async fn predefined_networks_keep_their_ids() {
    let rig = Rig::new();
    let defaults = NetworkDefaults::default();
    let told = |networks: &Networks| -> Vec<_> {
        networks
            .all()
            .iter()
            .map(|entry| entry.record.told())
            .collect()
    };
    let first = told(&rig.open(&defaults).await.unwrap().0);
    let names: Vec<(&str, &str)> = first
        .iter()
        .map(|network| (network.name.as_str(), network.driver.as_str()))
        .collect();
    assert_eq!(
        names,
        [("host", "host"), ("none", "null"), ("bridge", "bridge")]
    );
    assert_eq!(told(&rig.open(&defaults).await.unwrap().0), first);
    // Switched off and on again, the default bridge is the same.
    let off = NetworkDefaults {
        bridge: DefaultBridge::Absent,
        ..NetworkDefaults::default()
    };
    assert_eq!(told(&rig.open(&off).await.unwrap().0).len(), 2);
    assert_eq!(told(&rig.open(&defaults).await.unwrap().0), first);
}

#[tokio::test]
async fn the_default_bridge_follows_the_settings() {
    let rig = Rig::new();
    let bridge = |networks: &Networks| networks.find("bridge").unwrap();
    let defaults = NetworkDefaults {
        bip: "10.200.0.1/16".parse().ok(),
        fixed_cidr: "10.200.4.0/24".parse().ok(),
        default_gateway: ip("10.200.0.9"),
        icc: false,
        mtu: 1400,
        ipv6: true,
        ..NetworkDefaults::default()
    };
    let (networks, _meta) = rig.open(&defaults).await.unwrap();
    let record = bridge(&networks);
    let told = record.told();
    let config = told.ipam.config.unwrap();
    let first = &config[0];
    assert_eq!(
        (
            first.subnet.as_str(),
            first.ip_range.as_str(),
            first.gateway.as_str()
        ),
        ("10.200.0.0/16", "10.200.4.0/24", "10.200.0.1")
    );
    assert_eq!(
        first.aux_addresses.as_ref().unwrap()["DefaultGatewayIPv4"],
        "10.200.0.9"
    );
    assert!(config[1].subnet.starts_with("fd") && config[1].subnet.ends_with("::/64"));
    insta::assert_debug_snapshot!(told.options);
    assert_eq!(record.subnets[0].default_gateway(), ip("10.200.0.9"));
    let taken = networks.take(&record, (None, None)).unwrap();
    assert_eq!(taken.ipv4.unwrap().to_string(), "10.200.4.0/16");
    drop(networks);
    // What nobody asks for any more goes; the subnet stays until something else is wanted.
    let (networks, _meta) = rig.open(&NetworkDefaults::default()).await.unwrap();
    let record = bridge(&networks);
    assert_eq!(record.subnets.len(), 1);
    assert_eq!(record.subnets[0].cidr, "10.200.0.0/16".parse().unwrap());
    assert_eq!(record.subnets[0].range, None);
    drop(networks);
    let wrong = NetworkDefaults {
        bip: "10.201.0.1/16".parse().ok(),
        default_gateway: ip("10.9.0.1"),
        ..NetworkDefaults::default()
    };
    assert_eq!(
        rig.open(&wrong).await.unwrap_err(),
        "failed to set up networks: error creating default \"bridge\" network: default gateway ip must be part of the \
         network"
    );
}

#[tokio::test]
async fn pools_are_the_administrators() {
    let rig = Rig::new();
    let defaults = NetworkDefaults {
        address_pools: vec![havre_network::ipam::Pool {
            base: "10.77.0.0/16".parse().unwrap(),
            size: 24,
        }],
        ipv6: true,
        ..NetworkDefaults::default()
    };
    let (networks, _meta) = rig.open(&defaults).await.unwrap();
    let record = networks.find("bridge").unwrap();
    assert_eq!(record.subnets[0].cidr, "10.77.0.0/24".parse().unwrap());
    assert!(record.subnets[1].cidr.to_string().starts_with("fd"));
}

#[tokio::test]
async fn networks_are_found_as_docker_finds_them() {
    let rig = Rig::new();
    let off = NetworkDefaults {
        bridge: DefaultBridge::Absent,
        ..NetworkDefaults::default()
    };
    let (networks, _meta) = rig.open(&off).await.unwrap();
    networks.insert(network("web", "abc1", "10.1.0.0/24"));
    networks.insert(network("abc2", "abd1", "10.2.0.0/24"));
    networks.insert(network("db", "abc2", "10.3.0.0/24"));
    let name = |term: &str| networks.find(term).map(|found| found.name.clone());
    let failure = |term: &str| name(term).unwrap_err().message;
    assert_eq!(name("web").unwrap(), "web");
    assert_eq!(name("abc1").unwrap(), "web");
    assert_eq!(
        name("abc2").unwrap(),
        "abc2",
        "a name before the beginning of an id"
    );
    assert_eq!(name(&format!("abc2{}", "0".repeat(60))).unwrap(), "db");
    assert_eq!(
        failure("abc"),
        "network abc is ambiguous (2 matches found based on ID prefix)"
    );
    assert_eq!(failure("nope"), "network nope not found");
    assert_eq!(failure(""), "network  not found");
}

#[tokio::test]
async fn a_network_in_use_stays_and_its_addresses_come_back() {
    let rig = Rig::new();
    let (networks, meta) = rig.open(&NetworkDefaults::default()).await.unwrap();
    let record = network("web", "abc1", "10.1.0.0/30");
    networks.claim(&record);
    let record = networks.insert(record);
    let (first, second) = (
        EndpointId::from_bytes([2; 32]),
        EndpointId::from_bytes([3; 32]),
    );
    let addresses = networks.take(&record, (ip("10.1.0.2"), None)).unwrap();
    assert_eq!(addresses.ipv4.unwrap().to_string(), "10.1.0.2/30");
    networks
        .join(&record.id, first.clone(), member("one"))
        .unwrap();
    networks
        .join(&record.id, second.clone(), member("two"))
        .unwrap();
    let refusal = networks.withdraw(&record.id).unwrap_err().message;
    assert_eq!(
        refusal,
        "error while removing network: network web has active endpoints (name:\"one\" id:\"020202020202\", name:\"two\" \
         id:\"030303030303\")"
    );
    let wish = |address| {
        networks
            .take(&record, (ip(address), None))
            .map_err(|err| err.message)
    };
    assert_eq!(wish("10.1.0.2").unwrap_err(), "Address already in use");
    assert_eq!(
        wish("10.9.0.2").unwrap_err(),
        "invalid address 10.9.0.2: It does not belong to any of this network's subnets"
    );
    wish("10.1.0.1").unwrap();
    assert_eq!(
        networks.take(&record, (None, None)).unwrap_err().message,
        format!(
            "no available IPv4 addresses on this network's address pools: web ({})",
            record.id
        )
    );
    networks.give_back(&record, &addresses);
    assert_eq!(networks.take(&record, (None, None)).unwrap(), addresses);
    assert_eq!(networks.leave(&record.id, &first).unwrap().name, "one");
    networks.leave(&record.id, &second).unwrap();
    networks.withdraw(&record.id).unwrap();
    networks.find("web").unwrap_err();
    networks
        .join(&record.id, first, member("late"))
        .unwrap_err();
    networks.release_subnets(&record);
    assert_eq!(networks.usage(&record), BTreeMap::new());
    assert_eq!(Addresses::default().ipv4, None);
    drop(meta);
}

#[tokio::test]
async fn claims_are_made_again_after_a_start() {
    let rig = Rig::new();
    let (networks, meta) = rig.open(&NetworkDefaults::default()).await.unwrap();
    let mut record = network("web", "abc1", "10.1.0.0/24");
    record.subnets[0].gateway = ip("10.1.0.1");
    meta.write(put(Batch::new(), &record).unwrap())
        .await
        .unwrap();
    drop((networks, meta));
    let (networks, _meta) = rig.open(&NetworkDefaults::default()).await.unwrap();
    let overlapping = networks.with_space(|space| {
        space.request(PoolRequest {
            subnet: "10.1.0.0/16".parse().ok(),
            ..PoolRequest::default()
        })
    });
    assert_eq!(overlapping, Err(IpamError::Overlap));
    let taken = networks.take(&record, (None, None)).unwrap();
    assert_eq!(taken.ipv4.unwrap().to_string(), "10.1.0.2/24");
}
