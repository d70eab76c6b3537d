//! Pause, rename, update and prune: what is asked is checked here, and done by the container's actor.

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, Containers as _, Lifecycle, RemoveContainer};
use havre_engine_types::{ContainerPruneResponse, Filters, HostConfig};
use havre_types::Timestamp;
use tokio::sync::oneshot;

use super::actor::Command;
use super::operations::{gone, send};
use super::registry::View;
use crate::engine::Engine;
use crate::state::Status;
use crate::{names, update};

/// <https://github.com/moby/moby/blob/master/daemon/prune.go> (`containersAcceptedFilters`)
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

#[async_trait]
impl Lifecycle for Engine {
    async fn pause(&self, id: &str) -> ApiResult<()> {
        self.ask(id, |reply| Command::Pause { reply }).await
    }

    async fn unpause(&self, id: &str) -> ApiResult<()> {
        self.ask(id, |reply| Command::Unpause { reply }).await
    }

    async fn rename(&self, id: &str, name: &str) -> ApiResult<()> {
        let bare = |text: &str| text.trim().trim_start_matches('/').to_owned();
        if bare(id).is_empty() || bare(name).is_empty() {
            return Err(ApiError::invalid("Neither old nor new names may be empty"));
        }
        let container = self.shared.registry.find(id)?;
        // Docker puts the slash before the name, and only then looks at it.
        let wanted = name.trim();
        let whole = format!("/{}", wanted.strip_prefix('/').unwrap_or(wanted));
        let name = names::check(&whole).map_err(|err| {
            let text = format!("Error when allocating new name: {}", err.message);
            ApiError::new(err.kind, text)
        })?;
        let name = name.to_owned();
        self.ask(container.id().as_str(), |reply| Command::Rename {
            name,
            reply,
        })
        .await
    }

    async fn update(&self, id: &str, mut wanted: HostConfig) -> ApiResult<Vec<String>> {
        let warnings = update::check(&mut wanted, &self.shared.facts)?;
        let wanted = Box::new(wanted);
        self.ask(id, |reply| Command::Update { wanted, reply })
            .await?;
        Ok(warnings)
    }

    async fn prune(&self, filters: Filters) -> ApiResult<ContainerPruneResponse> {
        filters
            .validate(&PRUNE_FILTERS)
            .map_err(|err| ApiError::from_classified(&err))?;
        let until = until(&filters)?;
        let mut answer = ContainerPruneResponse::default();
        for container in self.shared.registry.all() {
            let view = container.now();
            if !is_pruned(&view, &filters, until) {
                continue;
            }
            let id = container.id().as_str();
            let (shared, key) = (std::sync::Arc::clone(&self.shared), id.to_owned());
            let usage = crate::images::blocking(move || Ok(shared.snapshots.usage(&key).ok()));
            let size = usage.await?.map_or(0, |usage| usage.bytes);
            match self.remove(id, RemoveContainer::default()).await {
                Ok(()) => {
                    answer.space_reclaimed += size;
                    let deleted = answer.containers_deleted.get_or_insert_default();
                    deleted.push(id.to_owned());
                }
                // Somebody started or removed it meanwhile.
                Err(err) => {
                    tracing::info!(container = id, error = %err.message, "not pruned");
                }
            }
        }
        self.shared
            .announce_prune("container", answer.space_reclaimed);
        Ok(answer)
    }
}

impl Engine {
    pub(super) async fn ask(
        &self,
        id: &str,
        command: impl FnOnce(oneshot::Sender<ApiResult<()>>) -> Command,
    ) -> ApiResult<()> {
        let container = self.shared.registry.find(id)?;
        let (reply, answer) = oneshot::channel();
        // A start that is under way is waited for by the order of the actor's commands.
        send(&container, command(reply))?;
        answer.await.unwrap_or_else(|_gone| Err(gone(&container)))
    }
}

/// The moment that `until` names; Docker takes one.
fn until(filters: &Filters) -> ApiResult<Option<Timestamp>> {
    let mut given = filters.values("until");
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(ApiError::invalid("more than one until filter specified")),
        (Some(text), None) => Timestamp::parse_since(text, Timestamp::now())
            .map(Some)
            .map_err(|err| ApiError::invalid(err.to_string())),
    }
}

fn is_pruned(view: &View, filters: &Filters, until: Option<Timestamp>) -> bool {
    let none = havre_engine_types::StringMap::new();
    let labels = view.fixed.config.labels.as_ref().unwrap_or(&none);
    let state = &view.state;
    let rests = matches!(
        state.status,
        Status::Created | Status::Exited | Status::Dead
    );
    rests
        && !state.removed
        && until.is_none_or(|until| view.fixed.created <= until)
        && filters.labels("label", labels)
        && !(filters.contains("label!") && filters.labels("label!", labels))
}
