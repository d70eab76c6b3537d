//! What the engine's objects take on the disk.
//! <https://github.com/moby/moby/blob/master/daemon/disk_usage.go>

use std::collections::BTreeMap;
use std::sync::Arc;

use havre_api_traits::{ApiResult, ContainerList, UsageQuery};
use havre_engine_types::{ContainerSummary, DiskUsage, Filters, ImageSummary, ObjectUsage};
use havre_types::ChainId;

use crate::container::list_containers;
use crate::engine::Shared;
use crate::images;

pub(super) fn disk_usage(shared: &Arc<Shared>, query: UsageQuery) -> ApiResult<DiskUsage> {
    let images = query.images.then(|| image_usage(shared)).transpose()?;
    let containers = query
        .containers
        .then(|| container_usage(shared))
        .transpose()?;
    Ok(DiskUsage {
        image_usage: images,
        container_usage: containers,
        // Neither volumes nor builds exist here: nothing is what they take.
        volume_usage: query.volumes.then(ObjectUsage::default),
        build_cache_usage: query.build_cache.then(ObjectUsage::default),
    })
}

fn container_usage(shared: &Arc<Shared>) -> ApiResult<ObjectUsage<ContainerSummary>> {
    let everything = ContainerList {
        all: true,
        size: true,
        ..ContainerList::default()
    };
    let items = list_containers(shared, &everything)?;
    let idle = |item: &&ContainerSummary| {
        !matches!(item.state.as_str(), "running" | "paused" | "restarting")
    };
    let sizes = items.iter().map(|item| item.size_rw);
    Ok(ObjectUsage {
        total_count: count(items.len()),
        active_count: count(items.len()) - count(items.iter().filter(idle).count()),
        total_size: sizes.sum(),
        reclaimable: items.iter().filter(idle).map(|item| item.size_rw).sum(),
        items,
    })
}

fn image_usage(shared: &Arc<Shared>) -> ApiResult<ObjectUsage<ImageSummary>> {
    let mut items = images::list(shared, &Filters::default())?;
    let layers: BTreeMap<String, Vec<ChainId>> = shared
        .images
        .images()
        .iter()
        .map(|image| (image.id().to_string(), image.chain_ids()))
        .collect();
    let mut users: BTreeMap<&ChainId, u32> = BTreeMap::new();
    for chain in layers.values().flatten() {
        *users.entry(chain).or_default() += 1;
    }
    let size = |chain: &ChainId| {
        let layer = shared.images.layer(chain);
        layer
            .and_then(|layer| i64::try_from(layer.size).ok())
            .unwrap_or(0)
    };
    for item in &mut items {
        let own = layers.get(&item.id).into_iter().flatten();
        let shared_with = |chain: &&ChainId| users.get(*chain).is_some_and(|count| *count > 1);
        item.shared_size = own.filter(shared_with).map(size).sum();
    }
    let used = |item: &&ImageSummary| item.containers > 0;
    let idle = items.iter().filter(|item| item.containers == 0);
    Ok(ObjectUsage {
        total_count: count(items.len()),
        active_count: count(items.iter().filter(used).count()),
        total_size: users.keys().map(|chain| size(chain)).sum(),
        reclaimable: idle.map(|item| item.size - item.shared_size).sum(),
        items,
    })
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
