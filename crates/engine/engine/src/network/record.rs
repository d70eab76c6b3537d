//! What is written down about a network: everything that its creation decided. It never changes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use havre_engine_types::{ConfigReference, Ipam, IpamConfig, NetworkSummary, StringMap};
use havre_network::ipam::PoolId;
use havre_types::{Cidr, NetworkId, Timestamp};
use serde::{Deserialize, Serialize};

use super::options::Driver;

/// Kind of the documents in the metadata store.
pub(crate) const KIND: &str = "network";
/// The version of the document; a newer one is left alone and named.
const VERSION: u32 = 1;

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: NetworkId,
    pub name: String,
    pub created: Timestamp,
    /// `bridge`, `macvlan`, `ipvlan`, `host` or `null`.
    pub driver: String,
    pub scope: String,
    pub enable_ipv4: bool,
    pub enable_ipv6: bool,
    pub internal: bool,
    pub attachable: bool,
    /// Only a configuration that other networks take over.
    pub config_only: bool,
    /// The name of the network whose configuration this one took over.
    pub config_from: String,
    /// The driver's options, as they were given.
    pub options: StringMap,
    pub labels: StringMap,
    pub ipam_driver: String,
    pub ipam_options: Option<StringMap>,
    /// In the order in which they are shown.
    pub subnets: Vec<Subnet>,
    /// Of a configuration alone: the subnets that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<IpamConfig>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    pub cidr: Cidr,
    /// Addresses are chosen from this part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Cidr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The user named the subnet; only then an end's address can be asked for.
    #[serde(default = "yes")]
    pub asked: bool,
    /// The user named the gateway. One that was chosen in a subnet of the user's is not shown, as with Docker.
    #[serde(default = "yes")]
    pub gateway_asked: bool,
    /// Addresses of others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aux: BTreeMap<String, IpAddr>,
}

/// Of records that do not say it.
fn yes() -> bool {
    true
}

impl Subnet {
    /// A subnet that somebody asked for, and nothing else.
    pub(crate) fn of(cidr: Cidr) -> Self {
        Self {
            cidr,
            range: None,
            gateway: None,
            asked: true,
            gateway_asked: true,
            aux: BTreeMap::new(),
        }
    }

    /// Its claim to addresses.
    pub(crate) fn pool(&self) -> PoolId {
        PoolId {
            subnet: self.cidr,
            range: self.range,
        }
    }

    fn told(&self) -> IpamConfig {
        let text = |address: &dyn ToString| address.to_string();
        let aux = self
            .aux
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()));
        IpamConfig {
            subnet: self.cidr.to_string(),
            ip_range: self
                .range
                .as_ref()
                .map(|range| text(range))
                .unwrap_or_default(),
            gateway: self
                .gateway
                .as_ref()
                .filter(|_| self.gateway_asked || !self.asked)
                .map(|gateway| text(gateway))
                .unwrap_or_default(),
            aux_addresses: (!self.aux.is_empty()).then(|| aux.collect()),
        }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(flatten)]
    record: &'a Record,
}

#[derive(Deserialize)]
struct Read {
    version: u32,
    #[serde(flatten)]
    record: Record,
}

impl Record {
    /// A network that only has a name and a driver.
    pub(crate) fn bare(id: NetworkId, name: &str, driver: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            created: Timestamp::now(),
            driver: driver.to_owned(),
            scope: "local".to_owned(),
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            config_only: false,
            config_from: String::new(),
            options: StringMap::new(),
            labels: StringMap::new(),
            ipam_driver: "default".to_owned(),
            ipam_options: None,
            subnets: Vec::new(),
            wanted: Vec::new(),
        }
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Written {
            version: VERSION,
            record: self,
        })
    }

    /// Reads a document; the text says what is wrong with it.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, String> {
        let read: Read = serde_json::from_slice(body).map_err(|err| err.to_string())?;
        if read.version == VERSION {
            Ok(read.record)
        } else {
            Err(format!("version {} is not known", read.version))
        }
    }

    /// Its subnets of one family.
    pub(crate) fn of_family(&self, v6: bool) -> impl Iterator<Item = &Subnet> {
        self.subnets
            .iter()
            .filter(move |subnet| subnet.cidr.address().is_ipv6() == v6)
    }

    /// The driver with its options; None of a record whose options cannot be read.
    fn driver(&self) -> Option<Driver> {
        Driver::read(&self.driver, &self.options, self.internal).ok()
    }

    /// Nothing leads out of it: the user said so, or its parent leads nowhere.
    pub(crate) fn is_closed(&self) -> bool {
        self.internal || self.driver().is_some_and(|driver| driver.leads_nowhere())
    }

    /// Its default routes lead by the interface, to no gateway.
    fn needs_no_gateway(&self) -> bool {
        self.driver().is_some_and(|driver| driver.routes_alone())
    }

    /// Whether a default route of this family may lead by it.
    pub(crate) fn leads_out(&self, v6: bool) -> bool {
        if self.is_closed() {
            return false;
        }
        let any = self.needs_no_gateway();
        self.of_family(v6)
            .any(|subnet| any || subnet.default_gateway().is_some())
    }

    /// Where an end with this address sends what goes outside.
    pub(crate) fn gateway_of(&self, address: IpAddr) -> Option<IpAddr> {
        if self.is_closed() || self.needs_no_gateway() {
            return None;
        }
        let mut subnets = self.subnets.iter();
        let own = subnets.find(|subnet| subnet.cidr.contains(address))?;
        own.default_gateway()
    }

    /// Whether ports of its ends can be published: only the host's own bridges have them, as with Docker.
    pub(crate) fn publishes(&self) -> bool {
        self.driver == "bridge"
    }

    /// As lists and `inspect` tell it.
    pub(crate) fn told(&self) -> NetworkSummary {
        let subnets: Vec<IpamConfig> = if self.config_only {
            self.wanted.clone()
        } else {
            self.subnets.iter().map(Subnet::told).collect()
        };
        NetworkSummary {
            name: self.name.clone(),
            id: self.id.to_string(),
            created: self.created,
            scope: self.scope.clone(),
            driver: self.driver.clone(),
            enable_ipv4: self.enable_ipv4,
            enable_ipv6: self.enable_ipv6,
            ipam: Ipam {
                driver: self.ipam_driver.clone(),
                options: self.ipam_options.clone(),
                config: (!subnets.is_empty()).then_some(subnets),
            },
            internal: self.internal,
            attachable: self.attachable,
            ingress: false,
            config_from: ConfigReference {
                network: self.config_from.clone(),
            },
            config_only: self.config_only,
            options: self.options.clone(),
            labels: self.labels.clone(),
            peers: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut record = Record::bare(NetworkId::from_bytes([3; 32]), "web", "bridge");
        record.subnets.push(Subnet {
            range: "10.1.0.0/25".parse().ok(),
            gateway: "10.1.0.1".parse().ok(),
            aux: [("router".to_owned(), "10.1.0.9".parse().unwrap())].into(),
            ..Subnet::of("10.1.0.0/24".parse().unwrap())
        });
        record
            .subnets
            .push(Subnet::of("fd00::/64".parse().unwrap()));
        let body = record.to_json().unwrap();
        assert_eq!(Record::from_json(&body).unwrap(), record);
        let newer = String::from_utf8(body)
            .unwrap()
            .replace("\"version\":1", "\"version\":2");
        assert_eq!(
            Record::from_json(newer.as_bytes()).unwrap_err(),
            "version 2 is not known"
        );
        let told = record.told().ipam.config.unwrap();
        insta::assert_snapshot!(serde_json::to_string(&told).unwrap());
    }

    #[test]
    fn a_way_out_depends_on_parent_mode_and_gateway() {
        let record = |driver: &str, options: &[(&str, &str)], gateway: bool| {
            let mut record = Record::bare(NetworkId::from_bytes([3; 32]), "x", driver);
            let pairs = options.iter();
            record.options = pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            record.subnets.push(Subnet {
                gateway: gateway.then(|| "10.1.0.1".parse().unwrap()),
                ..Subnet::of("10.1.0.0/24".parse().unwrap())
            });
            record
        };
        let parent = ("parent", "eth0");
        let (l3, l3s) = (("ipvlan_mode", "l3"), ("ipvlan_mode", "l3s"));
        for (driver, options, gateway, leads, shown) in [
            ("bridge", vec![], true, true, true),
            ("macvlan", vec![parent], true, true, true),
            ("macvlan", vec![parent], false, false, false),
            ("macvlan", vec![], true, false, false),
            ("ipvlan", vec![parent], true, true, true),
            ("ipvlan", vec![parent], false, false, false),
            ("ipvlan", vec![], true, false, false),
            ("ipvlan", vec![("parent", "")], true, false, false),
            ("ipvlan", vec![parent, l3], false, true, false),
            ("ipvlan", vec![parent, l3s], true, true, false),
            ("ipvlan", vec![l3], true, false, false),
        ] {
            let mut record = record(driver, &options, gateway);
            let address = "10.1.0.7".parse().unwrap();
            let found = (
                record.leads_out(false),
                record.gateway_of(address).is_some(),
            );
            assert_eq!(found, (leads, shown), "{driver} {options:?} {gateway}");
            assert!(!record.leads_out(true));
            record.internal = true;
            assert!(!record.leads_out(false) && record.gateway_of(address).is_none());
        }
    }
}
