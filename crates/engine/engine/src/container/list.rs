//! The list of containers, served from snapshots: a container that hangs cannot hang it.

mod filter;

use std::sync::Arc;

use havre_api_traits::{ApiResult, ContainerList};
use havre_engine_types::{
    ContainerSummary, HealthSummary, NetworkSettingsSummary, SummaryHostConfig,
};
use havre_types::Timestamp;

use self::filter::Selection;
use super::inspect::mount_points;
use super::record::Fixed;
use super::registry::{Container, View};
use super::status::{health, sentence};
use crate::engine::Shared;
use crate::network;

/// Containers that pass, newest first.
pub(crate) fn list(
    shared: &Arc<Shared>,
    query: &ContainerList,
) -> ApiResult<Vec<ContainerSummary>> {
    let mut found: Vec<(Arc<Container>, Arc<View>)> = shared
        .registry
        .all()
        .into_iter()
        .map(|c| {
            let view = c.now();
            (c, view)
        })
        .filter(|(_, view)| !view.state.removed)
        .collect();
    let selection = Selection::new(shared, &found, query)?;
    found.sort_by_key(|(_, view)| std::cmp::Reverse(view.fixed.created));
    found.retain(|(_, view)| selection.shows(view));
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
        ports: network::shown_ports(state.live.as_deref()),
        size_rw: own,
        size_root_fs: total,
        labels: fixed.config.labels.clone().unwrap_or_default(),
        state: state.docker_status().to_owned(),
        status: sentence(state, now),
        host_config: SummaryHostConfig {
            network_mode: fixed.host_config.network_mode.clone(),
            annotations: fixed.host_config.annotations.clone(),
        },
        health: Some(HealthSummary {
            status: health(state).to_owned(),
            failing_streak: state.health.as_ref().map_or(0, |h| h.failing_streak),
        }),
        network_settings: Some(NetworkSettingsSummary {
            networks: network::endpoints(shared, fixed, state.live.as_deref()),
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
    fn commands_quote_as_dockers() {
        let words = ["sh", "-c", "echo a b"].map(str::to_owned);
        assert_eq!(command(&words), "sh -c 'echo a b'");
    }
}
