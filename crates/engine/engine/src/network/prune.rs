//! Networks removed: by name, or all that nothing uses.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{Filters, NetworkPruneResponse};
use havre_meta::Batch;

use super::is_predefined;
use super::list::Selection;
use super::record::{KIND, Record};
use super::request::forbidden;
use crate::engine::Shared;
use crate::images::blocking;

/// Removes the network that a user calls `name`.
pub(super) async fn remove(shared: &Arc<Shared>, name: &str) -> ApiResult<()> {
    let record = shared.networks.find(name)?;
    remove_record(shared, &record).await
}

async fn remove_record(shared: &Arc<Shared>, record: &Arc<Record>) -> ApiResult<()> {
    if is_predefined(&record.name) {
        return Err(forbidden(format!(
            "{} is a pre-defined network and cannot be removed",
            record.name
        )));
    }
    let networks = &shared.networks;
    let entry = networks.get(&record.id);
    if entry.is_some_and(|entry| !entry.members.is_empty()) {
        let departures = Arc::clone(&networks.departures);
        blocking(move || Ok(departures.wait())).await?;
    }
    let _one_after_the_other = networks.changing.lock().await;
    let record = networks.withdraw(&record.id)?;
    if let Err(error) = take_down(shared, &record).await {
        networks.restore(&record);
        return Err(ApiError::new(
            error.kind,
            format!("error while removing network: {}", error.message),
        ));
    }
    networks.release_subnets(&record);
    Ok(())
}

/// Takes the interfaces and rules away, then the record: after a crash between the two they are made again.
async fn take_down(shared: &Arc<Shared>, record: &Arc<Record>) -> ApiResult<()> {
    if !record.config_only {
        let (kept, gone) = (Arc::clone(shared), Arc::clone(record));
        blocking(move || kept.networks.unmake(&gone)).await?;
        // Docker says nothing about a configuration's end.
        shared.announce_network(record, "destroy", &[]);
    }
    let batch = Batch::new().delete(KIND, record.id.as_str());
    let written = shared.meta.write(shared.bus.save(batch)).await;
    written.map_err(|err| crate::error::internal("failed to remove the network's record", &err))
}

/// Removes the networks that nothing uses and that the filters let through. Configurations stay.
pub(super) async fn prune(
    shared: &Arc<Shared>,
    filters: &Filters,
) -> ApiResult<NetworkPruneResponse> {
    let selection = Selection::of_prune(filters)?;
    let mut answer = NetworkPruneResponse::default();
    for entry in shared.networks.all() {
        if entry.record.config_only || !selection.shows(&entry) {
            continue;
        }
        match remove_record(shared, &entry.record).await {
            Ok(()) => {
                let deleted = answer.networks_deleted.get_or_insert_default();
                deleted.push(entry.record.name.clone());
            }
            // Somebody joined or removed it meanwhile.
            Err(err) => {
                tracing::info!(network = entry.record.name, error = %err.message, "not pruned");
            }
        }
    }
    shared.announce_prune("network", 0);
    Ok(answer)
}
