//! The list of containers, served from snapshots: a container that hangs cannot hang it.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult, ContainerList};
use havre_engine_types::{ContainerSummary, Filters, NetworkSettingsSummary, SummaryHostConfig};
use havre_types::Timestamp;

use super::inspect::{mount_points, networks};
use super::record::Fixed;
use super::registry::{Container, View};
use super::status::sentence;
use crate::engine::Shared;

const FILTERS: [&str; 14] = [
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

/// What the filters are compared with, looked up once.
struct Query<'a> {
    filters: &'a Filters,
    ancestors: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    only_running: bool,
}

/// Containers that pass, newest first.
pub(super) fn list(
    shared: &Arc<Shared>,
    query: &ContainerList,
) -> ApiResult<Vec<ContainerSummary>> {
    let checked = prepare(shared, query)?;
    let mut found: Vec<(Arc<Container>, Arc<View>)> = shared
        .registry
        .all()
        .into_iter()
        .map(|c| {
            let view = c.now();
            (c, view)
        })
        .collect();
    found.sort_by_key(|(_, view)| std::cmp::Reverse(view.fixed.created));
    found.retain(|(_, view)| !view.state.removed && passes(&checked, view));
    if let Ok(limit) = usize::try_from(query.limit)
        && limit > 0
    {
        found.truncate(limit);
    }
    let now = Timestamp::now();
    Ok(found
        .iter()
        .map(|(_, view)| summary(shared, view, now, query.size))
        .collect())
}

fn prepare<'a>(shared: &Shared, query: &'a ContainerList) -> ApiResult<Query<'a>> {
    let filters = &query.filters;
    filters
        .validate(&FILTERS)
        .map_err(|err| ApiError::from_classified(&err))?;
    for value in filters.values("status") {
        if !STATES.contains(&value) {
            return Err(ApiError::invalid(format!(
                "invalid filter 'status={value}'"
            )));
        }
    }
    for value in filters.values("exited") {
        if value.parse::<i64>().is_err() {
            return Err(ApiError::invalid(format!(
                "invalid filter 'exited={value}'"
            )));
        }
    }
    let moment = |name: &str| -> ApiResult<Option<Timestamp>> {
        let given = filters.values(name).next();
        given
            .map(|text| Ok(shared.registry.find(text)?.fixed().created))
            .transpose()
    };
    let ancestors = filters
        .values("ancestor")
        .filter_map(|name| shared.images.resolve(name).ok())
        .map(|image| image.id().to_string())
        .collect();
    let narrows = ["status", "exited"]
        .iter()
        .any(|name| filters.contains(name));
    Ok(Query {
        filters,
        ancestors,
        before: moment("before")?,
        since: moment("since")?,
        only_running: !query.all && query.limit <= 0 && !narrows,
    })
}

fn passes(query: &Query<'_>, view: &View) -> bool {
    let (fixed, state) = (&*view.fixed, &view.state);
    let filters = query.filters;
    let no_labels = havre_engine_types::StringMap::new();
    if query.only_running && !state.status.is_running() {
        return false;
    }
    let exited = || {
        let ended = !state.status.is_running() && !state.finished_at.is_zero();
        filters.any("exited", |v| ended && v.parse() == Ok(state.exit_code))
    };
    filters.exact("status", state.docker_status())
        && exited()
        && filters.any("id", |v| fixed.id.as_str().starts_with(v))
        && filters.any("name", |v| name_matches(&fixed.name, v))
        && filters.labels("label", fixed.config.labels.as_ref().unwrap_or(&no_labels))
        && (!filters.contains("ancestor") || query.ancestors.contains(&fixed.image.to_string()))
        && filters.any("network", |v| v == fixed.host_config.network_mode)
        && filters.any("health", |v| v == "none")
        && filters.any("is-task", |v| matches!(v, "false" | "0"))
        && filters.any("expose", |_| false)
        && filters.any("publish", |_| false)
        && query.before.is_none_or(|moment| fixed.created < moment)
        && query.since.is_none_or(|moment| fixed.created > moment)
}

/// Docker takes a regular expression; the anchors and a plain text in between are what people use.
fn name_matches(name: &str, pattern: &str) -> bool {
    let (start, rest) = pattern
        .strip_prefix('^')
        .map_or((false, pattern), |rest| (true, rest));
    let (end, text) = rest
        .strip_suffix('$')
        .map_or((false, rest), |text| (true, text));
    let text = text.strip_prefix('/').unwrap_or(text);
    match (start, end) {
        (true, true) => name == text,
        (true, false) => name.starts_with(text),
        (false, true) => name.ends_with(text),
        (false, false) => name.contains(text),
    }
}

fn summary(shared: &Shared, view: &View, now: Timestamp, size: bool) -> ContainerSummary {
    let (fixed, state) = (&*view.fixed, &view.state);
    let usage = if size {
        shared.snapshots.usage(fixed.id.as_str()).ok()
    } else {
        None
    };
    let own = usage
        .and_then(|usage| i64::try_from(usage.bytes).ok())
        .unwrap_or(0);
    let image_size = shared
        .images
        .get(&fixed.image)
        .and_then(|i| i64::try_from(i.size).ok());
    let total = if size {
        own + image_size.unwrap_or(0)
    } else {
        0
    };
    ContainerSummary {
        id: fixed.id.to_string(),
        names: vec![format!("/{}", fixed.name)],
        image: image_name(shared, fixed),
        image_id: fixed.image.to_string(),
        image_manifest_descriptor: None,
        command: command(&fixed.command()),
        created: fixed.created.secs,
        ports: Vec::new(),
        size_rw: own,
        size_root_fs: total,
        labels: fixed.config.labels.clone().unwrap_or_default(),
        state: state.docker_status().to_owned(),
        status: sentence(state, now),
        host_config: SummaryHostConfig {
            network_mode: fixed.host_config.network_mode.clone(),
            annotations: fixed.host_config.annotations.clone(),
        },
        health: None,
        network_settings: Some(NetworkSettingsSummary {
            networks: networks(fixed),
        }),
        mounts: mount_points(fixed),
    }
}

/// The name that was asked for, while it still means the same image.
fn image_name(shared: &Shared, fixed: &Fixed) -> String {
    let given = &fixed.config.image;
    let still = shared
        .images
        .resolve(given)
        .is_ok_and(|image| *image.id() == fixed.image);
    if still {
        given.clone()
    } else {
        fixed.image.to_string()
    }
}

fn command(words: &[String]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(index, word)| {
            if index > 0 && word.contains(' ') {
                format!("'{word}'")
            } else {
                word.clone()
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_with_and_without_anchors() {
        for (pattern, yes) in [
            ("web", true),
            ("^web", true),
            ("^/web-1$", true),
            ("eb-1$", true),
            ("^eb", false),
            ("^web$", false),
        ] {
            assert_eq!(name_matches("web-1", pattern), yes, "{pattern}");
        }
    }

    #[test]
    fn commands_quote_as_dockers() {
        let words = ["sh", "-c", "echo a b"].map(str::to_owned);
        assert_eq!(command(&words), "sh -c 'echo a b'");
    }
}
