//! What the actor does to a container that goes on: pause, a new name, new limits, the state of its health.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{Health, HostConfig};
use oci_spec::runtime::LinuxResources;

use super::actor::Actor;
use super::ending;
use super::record::Fixed;
use crate::engine::Shared;
use crate::error::{internal, not_running};
use crate::images::blocking;
use crate::network;
use crate::restart::Policy;
use crate::shim::Shim;
use crate::state::{Event, Status, Step, step};
use crate::{host, plan, update};

impl Actor {
    /// Freezes it.
    pub(super) async fn pause(&mut self) -> ApiResult<()> {
        let next = self.allowed(Event::PauseRequested)?;
        let paused = self.live_shim()?.pause().await;
        paused.map_err(|err| self.failed("cannot pause container", &err))?;
        self.settle(next, "pause");
        Ok(())
    }

    /// Lets it go on.
    pub(super) async fn unpause(&mut self) -> ApiResult<()> {
        let next = self.allowed(Event::UnpauseRequested)?;
        let resumed = self.live_shim()?.resume().await;
        resumed.map_err(|err| self.failed("Cannot unpause container", &err))?;
        self.settle(next, "unpause");
        Ok(())
    }

    fn allowed(&self, event: Event) -> ApiResult<Status> {
        match step(self.state.status, event) {
            Step::To(next) => Ok(next),
            Step::Refuse(why) => Err(self.refused(why)),
            Step::NotModified | Step::EndFirst => Err(ApiError::not_modified()),
        }
    }

    fn live_shim(&self) -> ApiResult<Arc<Shim>> {
        let missing = || not_running(self.fixed.id.as_str());
        self.shim.clone().ok_or_else(missing)
    }

    fn failed(&self, what: &str, err: &ApiError) -> ApiError {
        ApiError::new(
            err.kind,
            format!("{what} {}: {}", self.fixed.id, err.message),
        )
    }

    fn settle(&mut self, next: Status, action: &str) {
        self.state.status = next;
        if next == Status::Paused {
            crate::health::stopped(&mut self.state);
        }
        self.shared.announce(&self.fixed, action, &[]);
        self.publish();
        drop(self.save());
    }

    /// Takes another name. The record is safe before the old name is free for others.
    pub(super) async fn rename(&mut self, name: String) -> ApiResult<()> {
        if self.state.removed {
            return Err(crate::error::no_such_container(self.fixed.id.as_str()));
        }
        let old = self.fixed.name.clone();
        if name == old {
            return Err(ApiError::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        let names = &self.shared.registry.names;
        names.reserve(&name, &self.fixed.id).map_err(|err| {
            let text = format!("Error when allocating new name: {}", err.message);
            ApiError::new(err.kind, text)
        })?;
        let fixed = Fixed {
            name: name.clone(),
            ..(*self.fixed).clone()
        };
        let old_name = format!("/{old}");
        let happened = ("rename", [("oldName", old_name.as_str())]);
        if let Err(err) = self.replace(fixed, Some(happened)).await {
            self.shared.registry.names.release(&name, &self.fixed.id);
            return Err(err);
        }
        self.shared.registry.names.release(&old, &self.fixed.id);
        if let Some(live) = self.state.live.clone() {
            let (shared, fixed) = (Arc::clone(&self.shared), Arc::clone(&self.fixed));
            let renamed = network::rename(&shared, &fixed, &live).await?;
            self.state.live = Some(Arc::new(renamed));
            self.publish();
        }
        Ok(())
    }

    /// Takes other limits and another restart policy, at once when it runs, else at its next start.
    pub(super) async fn update(&mut self, wanted: &HostConfig) -> ApiResult<()> {
        if self.state.removed || matches!(self.state.status, Status::Removing | Status::Dead) {
            let text = "container is marked for removal and cannot be \"update\"";
            return Err(self.cannot_update(&ApiError::internal(text)));
        }
        let merged = update::merge(&self.fixed.host_config, wanted)
            .map_err(|err| self.cannot_update(&err))?;
        let policy = &merged.restart_policy;
        let policy = Policy::parse(&policy.name, policy.maximum_retry_count)?;
        let before = Arc::clone(&self.fixed);
        let fixed = Fixed {
            host_config: merged,
            ..(*before).clone()
        };
        self.replace(fixed, None)
            .await
            .map_err(|err| self.cannot_update(&err))?;
        if let Err(err) = self.apply_limits(wanted).await {
            if let Err(lost) = self.replace((*before).clone(), None).await {
                tracing::warn!(container = %self.fixed.id, error = %lost.message, "limits that do not hold stay recorded");
            }
            return Err(self.cannot_update(&err));
        }
        self.policy = policy;
        self.shared.announce(&self.fixed, "update", &[]);
        drop(self.save());
        Ok(())
    }

    /// Gives a running container its new limits.
    async fn apply_limits(&mut self, wanted: &HostConfig) -> ApiResult<()> {
        if !self.state.status.has_process() || !update::limits_anything(wanted) {
            return Ok(());
        }
        let (shared, fixed) = (Arc::clone(&self.shared), Arc::clone(&self.fixed));
        // A path of a device may lie anywhere.
        let resources = blocking(move || limits(&shared, &fixed)).await?;
        let body = serde_json::to_vec(&resources)
            .map_err(|err| internal("failed to write the limits", &err))?;
        self.live_shim()?.update(body).await?;
        let Some(live) = self.state.live.clone() else {
            return Ok(());
        };
        let (shared, fixed) = (Arc::clone(&self.shared), Arc::clone(&self.fixed));
        let limited = network::limit(&shared, &fixed, self.state.pid, &live).await?;
        self.state.live = Some(Arc::new(limited));
        self.publish();
        Ok(())
    }

    fn cannot_update(&self, err: &ApiError) -> ApiError {
        self.failed("Cannot update container", err)
    }

    /// Writes down another version of what was decided, with the event that tells of it, and waits until it is safe.
    pub(super) async fn replace(
        &mut self,
        fixed: Fixed,
        happened: Option<(&str, [(&str, &str); 1])>,
    ) -> ApiResult<()> {
        let before = std::mem::replace(&mut self.fixed, Arc::new(fixed));
        self.publish();
        if let Some((action, attributes)) = happened {
            self.shared.announce(&self.fixed, action, &attributes);
        }
        let saved = match self.save() {
            Some(pending) => pending
                .await
                .map_err(|err| internal("failed to write the record", &err)),
            None => Err(ApiError::internal("failed to write the record")),
        };
        if saved.is_err() {
            self.fixed = before;
            self.publish();
        }
        saved
    }

    /// Takes over what a check found, and tells the world when it changes anything.
    pub(super) fn health(&mut self, health: Health) {
        if self.state.status != Status::Running {
            // It was paused while the check ran.
            return;
        }
        let before = self.state.health.as_ref().map(|health| &health.status);
        let changed = before != Some(&health.status);
        let action = format!("health_status: {}", health.status);
        self.state.health = Some(health);
        self.publish();
        if changed {
            self.shared.announce(&self.fixed, &action, &[]);
            drop(self.save());
        }
        self.end_when_unhealthy();
    }

    /// `--restart on-unhealthy`: ends it as `stop` would; its end then starts it again.
    fn end_when_unhealthy(&mut self) {
        let is_unhealthy = self
            .state
            .health
            .as_ref()
            .is_some_and(|health| health.status == "unhealthy");
        if !is_unhealthy
            || self.unhealthy
            || self.no_restart
            || self.state.status != Status::Running
            || !self.policy.ends_unhealthy(self.state.restart_count)
        {
            return;
        }
        self.unhealthy = true;
        let (shared, container) = (Arc::clone(&self.shared), Arc::clone(&self.container));
        let exits = self.state.exits;
        self.shared.tasks.spawn(async move {
            if let Err(err) = ending::end_softly(&shared, &container, exits).await {
                tracing::warn!(container = %container.id(), error = %err.message, "an unhealthy container does not end");
            }
        });
    }
}

/// The limits of a container that runs.
fn limits(shared: &Shared, fixed: &Fixed) -> ApiResult<LinuxResources> {
    let host = &fixed.host_config;
    let mut resources = plan::limits(host, &shared.facts, Vec::new())?;
    if let Some(io) = plan::device_io(host, &host::numbers(host)?)? {
        resources.set_block_io(Some(io));
    }
    // Which devices it may use does not change, and an empty list would mean none.
    resources.set_devices(None);
    Ok(resources)
}
