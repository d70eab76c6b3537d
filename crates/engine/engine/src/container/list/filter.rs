//! Which containers a list shows: Docker's fifteen filters.
//! <https://github.com/moby/moby/blob/master/daemon/list.go>
//!
//! Every value is read before the first container is looked at, so that a bad one is refused whatever exists.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult, ContainerList};
use havre_engine_types::{Filters, StringMap};
use havre_types::Timestamp;

use super::super::inspect::mount_points;
use super::super::record::Fixed;
use super::super::registry::{Container, View};
use super::super::status::health;
use crate::engine::Shared;
use crate::network::{self, Live};
use crate::pattern::Pattern;

const NAMES: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// A request for a list, with everything that its filters name looked up.
pub(super) struct Selection<'a> {
    shared: &'a Shared,
    filters: &'a Filters,
    ancestors: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    exited: Vec<i64>,
    names: Option<Vec<Pattern>>,
    /// The full ids that the `id` filter's prefixes mean.
    ids: Option<Vec<String>>,
    only_running: bool,
    /// `is-task=true`, or a port: nothing that exists here can match.
    never: bool,
}

impl<'a> Selection<'a> {
    /// Reads and checks the filters.
    pub(super) fn new(
        shared: &'a Shared,
        all: &[(Arc<Container>, Arc<View>)],
        query: &'a ContainerList,
    ) -> ApiResult<Self> {
        let filters = &query.filters;
        filters
            .validate(&NAMES)
            .map_err(|err| ApiError::from_classified(&err))?;
        one_of(filters, "status", "state", &STATES)?;
        one_of(filters, "health", "health", &HEALTH)?;
        let tasks = filters
            .boolean("is-task", false)
            .map_err(|err| ApiError::from_classified(&err))?;
        for name in ["publish", "expose"] {
            filters.values(name).try_for_each(|v| ports(name, v))?;
        }
        let moment = |name: &str| -> ApiResult<Option<Timestamp>> {
            let given = filters.values(name).next();
            given
                .map(|text| Ok(shared.registry.find(text)?.fixed().created))
                .transpose()
        };
        let set = |name: &str| filters.values(name).next().is_some();
        Ok(Self {
            filters,
            ancestors: ancestors(shared, filters),
            before: moment("before")?,
            since: moment("since")?,
            exited: exit_codes(filters)?,
            names: set("name").then(|| filters.values("name").map(Pattern::new).collect()),
            ids: set("id").then(|| {
                let prefixes = filters.values("id");
                prefixes.filter_map(|prefix| only(all, prefix)).collect()
            }),
            only_running: !query.all && query.limit <= 0 && !set("status"),
            shared,
            // There are no clusters here.
            never: tasks,
        })
    }

    /// Whether the list shows the container.
    pub(super) fn shows(&self, view: &View) -> bool {
        let (fixed, state) = (&*view.fixed, &view.state);
        let filters = self.filters;
        if self.never || (self.only_running && !state.status.is_running()) {
            return false;
        }
        let no_labels = StringMap::new();
        let labels = fixed.config.labels.as_ref().unwrap_or(&no_labels);
        let ended = || !state.status.is_running() && !state.started_at.is_zero();
        let id = fixed.id.as_str();
        filters.exact("status", state.docker_status())
            && (self.exited.is_empty() || (ended() && self.exited.contains(&state.exit_code)))
            && self
                .ids
                .as_ref()
                .is_none_or(|ids| ids.iter().any(|i| i == id))
            && self.named(&fixed.name)
            && filters.labels("label", labels)
            && (!filters.contains("ancestor") || self.ancestors.contains(&fixed.image.to_string()))
            && filters.exact("health", health(state))
            && self.has_network(fixed, state.live.as_deref())
            && self.has_ports(fixed, state.live.as_deref())
            && self.has_volume(fixed)
            && self.before.is_none_or(|moment| fixed.created < moment)
            && self.since.is_none_or(|moment| fixed.created > moment)
    }

    fn named(&self, name: &str) -> bool {
        let Some(names) = &self.names else {
            return true;
        };
        let slashed = format!("/{name}");
        names
            .iter()
            .any(|wanted| wanted.matches(name) || wanted.matches(&slashed))
    }

    fn has_network(&self, fixed: &Fixed, live: Option<&Live>) -> bool {
        if !self.filters.contains("network") {
            return true;
        }
        let networks = network::endpoints(self.shared, fixed, live);
        self.filters.values("network").any(|wanted| {
            networks.contains_key(wanted)
                || networks
                    .values()
                    .any(|network| network.network_id.starts_with(wanted))
        })
    }

    /// `publish` is about the container's port that something of the host leads to, `expose` about any that it names.
    fn has_ports(&self, fixed: &Fixed, live: Option<&Live>) -> bool {
        let published = network::shown_ports(live);
        let exposed = fixed.config.exposed_ports.iter().flatten();
        let exposed: Vec<&str> = exposed.map(|(key, _)| key.as_str()).collect();
        let all = |name: &str, has: &dyn Fn(u16, &str) -> bool| {
            let mut wanted = self.filters.values(name).peekable();
            wanted.peek().is_none()
                || wanted.any(|text| {
                    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let bounds = first.parse().ok().zip(last.parse().ok());
                    bounds.is_some_and(|(first, last): (u16, u16)| {
                        (first..=last).any(|port| has(port, protocol))
                    })
                })
        };
        all("publish", &|number, protocol| {
            published.iter().any(|port| {
                port.public_port != 0 && port.private_port == number && port.kind == protocol
            })
        }) && all("expose", &|number, protocol| {
            exposed.contains(&format!("{number}/{protocol}").as_str())
        })
    }

    /// A volume's name, what is mounted, or where it is mounted.
    fn has_volume(&self, fixed: &Fixed) -> bool {
        if !self.filters.contains("volume") {
            return true;
        }
        let mounts = mount_points(fixed);
        self.filters.values("volume").any(|wanted| {
            mounts.iter().any(|mount| {
                let name = if mount.name.is_empty() {
                    &mount.source
                } else {
                    &mount.name
                };
                name == wanted || mount.destination == wanted
            })
        })
    }
}

/// The images that the filter names; a name without an image matches nothing.
fn ancestors(shared: &Shared, filters: &Filters) -> Vec<String> {
    filters
        .values("ancestor")
        .filter_map(|name| shared.images.resolve(name).ok())
        .map(|image| image.id().to_string())
        .collect()
}

/// The one container whose id begins so.
fn only(all: &[(Arc<Container>, Arc<View>)], prefix: &str) -> Option<String> {
    let mut found = all
        .iter()
        .map(|(_, view)| view.fixed.id.as_str())
        .filter(|id| !prefix.is_empty() && id.starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(id), None) => Some(id.to_owned()),
        _ => None,
    }
}

fn one_of(filters: &Filters, name: &str, what: &str, known: &[&str]) -> ApiResult<()> {
    match filters.values(name).find(|value| !known.contains(value)) {
        None => Ok(()),
        Some(value) => Err(ApiError::invalid(format!(
            "invalid filter '{name}={value}': invalid value for {what} ({value}): must be one of {}",
            known.join(", ")
        ))),
    }
}

fn exit_codes(filters: &Filters) -> ApiResult<Vec<i64>> {
    let read = |value: &str| {
        value.parse::<i64>().map_err(|err| {
            ApiError::invalid(format!(
                "invalid filter 'exited={value}': strconv.Atoi: parsing {value:?}: {}",
                go_words(&err)
            ))
        })
    };
    filters.values("exited").map(read).collect()
}

/// Checks a port or a range of ports, `80`, `80/tcp`, `80-90/udp`, in the words of
/// <https://github.com/docker/go-connections/blob/main/nat/parse.go>.
fn ports(name: &str, value: &str) -> ApiResult<()> {
    if value.contains(':') {
        return Err(ApiError::invalid(format!(
            "filter for '{name}' should not contain ':': {value}"
        )));
    }
    let fail = |why: String| {
        Err(ApiError::invalid(format!(
            "error while looking up for {name} {value}: {why}"
        )))
    };
    let range = value.split('/').next().unwrap_or("");
    if range.is_empty() {
        return fail("Empty string specified for ports.".to_owned());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let read = |text: &str| {
        text.parse::<u16>()
            .map_err(|err| format!("strconv.ParseUint: parsing {text:?}: {}", go_words(&err)))
    };
    match (read(first), read(last)) {
        (Err(why), _) | (Ok(_), Err(why)) => fail(why),
        (Ok(first), Ok(last)) if last < first => {
            fail(format!("Invalid range specified for the Port: {range}"))
        }
        (Ok(_), Ok(_)) => Ok(()),
    }
}

/// Go's words for a number that does not parse.
fn go_words(err: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match err.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_get_dockers_words() {
        for (value, why) in [
            ("a:1", "filter for 'expose' should not contain ':': a:1"),
            (
                "foo",
                "error while looking up for expose foo: strconv.ParseUint: parsing \"foo\": invalid syntax",
            ),
            (
                "70000",
                "error while looking up for expose 70000: strconv.ParseUint: parsing \"70000\": value out of range",
            ),
            (
                "1-x",
                "error while looking up for expose 1-x: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (
                "90-80",
                "error while looking up for expose 90-80: Invalid range specified for the Port: 90-80",
            ),
            (
                "",
                "error while looking up for expose : Empty string specified for ports.",
            ),
        ] {
            assert_eq!(ports("expose", value).unwrap_err().message, why);
        }
        for value in ["80", "80/tcp", "80-90/udp", "0"] {
            ports("expose", value).unwrap();
        }
        let filters = Filters::parse(r#"{"exited":["x"],"status":["x"]}"#).unwrap();
        assert_eq!(
            exit_codes(&filters).unwrap_err().message,
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            one_of(&filters, "status", "state", &STATES)
                .unwrap_err()
                .message,
            "invalid filter 'status=x': invalid value for state (x): must be one of created, running, paused, restarting, removing, exited, dead"
        );
    }
}
