//! Networks as lists and `inspect` tell them.
//!
//! Filters: <https://github.com/moby/moby/blob/master/daemon/network/filter.go>

use std::collections::BTreeMap;
use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult, InspectNetwork};
use havre_engine_types::{
    EndpointResource, Filters, IpamStatus, NetworkInspect, NetworkStatus, SubnetStatus,
};
use havre_types::Timestamp;

use super::store::{Entry, Networks};
use super::{is_predefined, no_such_network};
use crate::engine::Shared;
use crate::pattern::Pattern;

const NAMES: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNE_NAMES: [&str; 3] = ["label", "label!", "until"];

/// A request for a list, with its values read.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    filters: &'a Filters,
    /// Only those that nothing uses, or only those that something uses.
    dangling: Option<bool>,
    names: Vec<Pattern>,
    ids: Vec<Pattern>,
    until: Option<Timestamp>,
}

impl<'a> Selection<'a> {
    /// Reads the filters of a list.
    pub(super) fn of_list(filters: &'a Filters) -> ApiResult<Self> {
        filters
            .validate(&NAMES)
            .map_err(|err| ApiError::from_classified(&err))?;
        Self::read(filters, dangling(filters)?)
    }

    /// Reads the filters of a prune: what nothing uses.
    pub(super) fn of_prune(filters: &'a Filters) -> ApiResult<Self> {
        filters
            .validate(&PRUNE_NAMES)
            .map_err(|err| ApiError::from_classified(&err))?;
        Self::read(filters, Some(true))
    }

    fn read(filters: &'a Filters, dangling: Option<bool>) -> ApiResult<Self> {
        let unknown = filters
            .values("type")
            .find(|kind| !matches!(*kind, "builtin" | "custom"));
        if let Some(kind) = unknown {
            return Err(ApiError::invalid(format!(
                "invalid filter: 'type'='{kind}'"
            )));
        }
        let mut given = filters.values("until");
        let until = match (given.next(), given.next()) {
            (None, _) => None,
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("more than one until filter specified"));
            }
            (Some(text), None) => {
                let moment = Timestamp::parse_since(text, Timestamp::now());
                Some(moment.map_err(|err| ApiError::invalid(err.to_string()))?)
            }
        };
        Ok(Self {
            filters,
            dangling,
            names: filters.values("name").map(Pattern::new).collect(),
            ids: filters.values("id").map(Pattern::new).collect(),
            until,
        })
    }

    /// Whether the list shows the network.
    pub(super) fn shows(&self, entry: &Entry) -> bool {
        let record = &entry.record;
        let filters = self.filters;
        let any = |patterns: &[Pattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
        };
        let predefined = is_predefined(&record.name);
        let unused = !predefined && entry.members.is_empty();
        filters.exact("driver", &record.driver)
            && filters.exact("scope", &record.scope)
            && any(&self.names, &record.name)
            && any(&self.ids, record.id.as_str())
            && filters.labels("label", &record.labels)
            && !(filters.contains("label!") && filters.labels("label!", &record.labels))
            && self.dangling.is_none_or(|wanted| wanted == unused)
            && filters.any("type", |kind| (kind == "builtin") == predefined)
            && self.until.is_none_or(|until| record.created <= until)
    }
}

fn dangling(filters: &Filters) -> ApiResult<Option<bool>> {
    let mut given = filters.values("dangling");
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(ApiError::invalid(
            "got more than one value for filter key \"dangling\"",
        )),
        (Some("1" | "true"), None) => Ok(Some(true)),
        (Some("0" | "false"), None) => Ok(Some(false)),
        (Some(_), None) => Err(ApiError::invalid(
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
        )),
    }
}

/// All networks that the filters let through.
pub(super) fn list(shared: &Arc<Shared>, filters: &Filters) -> ApiResult<Vec<NetworkInspect>> {
    let selection = Selection::of_list(filters)?;
    let all = shared.networks.all();
    let shown = all.iter().filter(|entry| selection.shows(entry));
    Ok(shown.map(|entry| told(entry, None)).collect())
}

/// One network.
pub(super) fn inspect(
    shared: &Arc<Shared>,
    name: &str,
    how: &InspectNetwork,
) -> ApiResult<NetworkInspect> {
    let networks: &Networks = &shared.networks;
    let found = networks.find(name).map_err(in_the_words_of_inspect);
    let record = found?;
    if !how.scope.is_empty() && how.scope != record.scope {
        return Err(no_such_network(name));
    }
    let entry = networks
        .get(&record.id)
        .ok_or_else(|| no_such_network(name))?;
    let used = networks.usage(&record);
    let subnets = used.into_iter().map(|(subnet, usage)| {
        let status = SubnetStatus {
            in_use: usage.in_use,
            available: usage.available,
        };
        (subnet, status)
    });
    let status = NetworkStatus {
        ipam: IpamStatus {
            subnets: subnets.collect(),
        },
    };
    Ok(told(&entry, Some(status)))
}

/// `inspect` turns the sentence about an ambiguous prefix round.
fn in_the_words_of_inspect(error: ApiError) -> ApiError {
    let parts = error.message.split_once(" (");
    match parts.and_then(|(what, why)| Some((what, why.strip_suffix(')')?))) {
        Some((what, why)) => ApiError::new(error.kind, format!("{why}: {what}")),
        None => error,
    }
}

fn told(entry: &Entry, status: Option<NetworkStatus>) -> NetworkInspect {
    let text = |cidr: Option<havre_types::Cidr>| cidr.map(|cidr| cidr.to_string());
    let ends = entry.members.iter().map(|(id, member)| {
        let end = EndpointResource {
            name: member.name.clone(),
            endpoint_id: id.to_string(),
            mac_address: member.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            ipv4_address: text(member.ipv4).unwrap_or_default(),
            ipv6_address: text(member.ipv6).unwrap_or_default(),
        };
        (member.container.to_string(), end)
    });
    let containers: BTreeMap<String, EndpointResource> = ends.collect();
    NetworkInspect {
        network: entry.record.told(),
        containers,
        services: None,
        status,
    }
}

#[cfg(test)]
mod tests {
    use havre_types::NetworkId;

    use super::super::record::Record;
    use super::*;

    fn entry(name: &str, driver: &str, label: &str) -> Entry {
        let id = NetworkId::from_bytes([u8::try_from(name.len()).unwrap(); 32]);
        let mut record = Record::bare(id, name, driver);
        record.labels = [(label.to_owned(), "yes".to_owned())].into();
        Entry {
            record: Arc::new(record),
            members: BTreeMap::new(),
        }
    }

    fn shown(json: &str) -> Result<Vec<String>, String> {
        let all = [
            entry("bridge", "bridge", "a"),
            entry("none", "null", "b"),
            entry("web-front", "bridge", "a"),
            entry("vlan", "macvlan", "c"),
        ];
        let filters = Filters::parse(json).unwrap();
        let selection = Selection::of_list(&filters).map_err(|err| err.message)?;
        let names = all.iter().filter(|entry| selection.shows(entry));
        Ok(names.map(|entry| entry.record.name.clone()).collect())
    }

    #[test]
    fn the_seven_filters() {
        for (json, names) in [
            ("{}", vec!["bridge", "none", "web-front", "vlan"]),
            (r#"{"driver":["bridge"]}"#, vec!["bridge", "web-front"]),
            (r#"{"driver":["null","macvlan"]}"#, vec!["none", "vlan"]),
            (r#"{"name":["web"]}"#, vec!["web-front"]),
            (r#"{"name":["^web$"]}"#, vec![]),
            (r#"{"name":["["]}"#, vec![]),
            (r#"{"id":["0606"]}"#, vec!["bridge"]),
            (r#"{"label":["a"]}"#, vec!["bridge", "web-front"]),
            (r#"{"label":["a=no"]}"#, vec![]),
            (r#"{"scope":["swarm"]}"#, vec![]),
            (
                r#"{"scope":["local"],"type":["custom"]}"#,
                vec!["web-front", "vlan"],
            ),
            (r#"{"type":["builtin"]}"#, vec!["bridge", "none"]),
            (r#"{"dangling":["true"]}"#, vec!["web-front", "vlan"]),
            (r#"{"dangling":["0"]}"#, vec!["bridge", "none"]),
        ] {
            assert_eq!(shown(json).unwrap(), names, "{json}");
        }
    }

    #[test]
    fn refusals_have_dockers_words() {
        for (json, text) in [
            (r#"{"foo":["a"]}"#, "invalid filter 'foo'"),
            (r#"{"until":["1h"]}"#, "invalid filter 'until'"),
            (r#"{"type":["a"]}"#, "invalid filter: 'type'='a'"),
            (
                r#"{"dangling":["a"]}"#,
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
            ),
            (
                r#"{"dangling":["1","0"]}"#,
                "got more than one value for filter key \"dangling\"",
            ),
        ] {
            assert_eq!(shown(json).unwrap_err(), text);
        }
        let filters = Filters::parse(r#"{"until":["1h","2h"]}"#).unwrap();
        let error = Selection::of_prune(&filters).unwrap_err();
        assert_eq!(error.message, "more than one until filter specified");
    }
}
