//! The container's configuration: what the user gave, and the image's for all that the user left out.
//!
//! Rules: <https://github.com/moby/moby/blob/master/daemon/commit.go> (`merge`).

use std::collections::BTreeMap;

use havre_api_traits::ApiError;
use havre_engine_types::{ContainerConfig, HealthConfig};
use havre_oci::ImageConfig;

/// Fills `user` from `image`. Without a command in either, Docker's error.
pub(crate) fn merge(
    mut user: ContainerConfig,
    image: &ImageConfig,
) -> Result<ContainerConfig, ApiError> {
    let base = &image.config;
    if user.user.is_empty() {
        user.user.clone_from(&base.user);
    }
    if user.working_dir.is_empty() {
        user.working_dir.clone_from(&base.working_dir);
    }
    if user.stop_signal.is_empty() {
        user.stop_signal.clone_from(&base.stop_signal);
    }
    if user.stop_timeout.is_none() {
        user.stop_timeout = base.stop_timeout;
    }
    user.healthcheck = health(user.healthcheck.take(), base.healthcheck.as_ref());
    user.env = environment(user.env.take(), base.env.as_deref());
    // The command line sends an empty set; Docker shows none then.
    user.volumes = user.volumes.filter(|volumes| !volumes.is_empty());
    user.labels = labels(user.labels.take(), base.labels.as_ref());
    // Docker: an entrypoint given by the user drops the image's command too; `[""]` only resets.
    let no_entrypoint = user.entrypoint.as_ref().is_none_or(Vec::is_empty);
    if no_entrypoint {
        if user.cmd.as_ref().is_none_or(Vec::is_empty) {
            user.cmd.clone_from(&base.cmd);
            user.args_escaped = base.args_escaped;
        }
        if user.entrypoint.is_none() {
            user.entrypoint.clone_from(&base.entrypoint);
        }
    } else if user.entrypoint.as_deref() == Some(&[String::new()]) {
        user.entrypoint = None;
    }
    let words = user
        .entrypoint
        .iter()
        .flatten()
        .chain(user.cmd.iter().flatten());
    if words.count() == 0 {
        return Err(ApiError::invalid("no command specified"));
    }
    Ok(user)
}

/// What the user left out of a check is the image's.
fn health(user: Option<HealthConfig>, image: Option<&HealthConfig>) -> Option<HealthConfig> {
    let (Some(mut check), Some(base)) = (user.clone(), image) else {
        return user.or_else(|| image.cloned());
    };
    let fill = |own: &mut i64, base: i64| {
        if *own == 0 {
            *own = base;
        }
    };
    if check.test.is_empty() {
        check.test.clone_from(&base.test);
    }
    fill(&mut check.interval, base.interval);
    fill(&mut check.timeout, base.timeout);
    fill(&mut check.start_period, base.start_period);
    fill(&mut check.start_interval, base.start_interval);
    fill(&mut check.retries, base.retries);
    Some(check)
}

fn environment(user: Option<Vec<String>>, image: Option<&[String]>) -> Option<Vec<String>> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let Some(mut env) = user else {
        return image.map(<[String]>::to_vec);
    };
    for entry in image.unwrap_or_default() {
        if !env.iter().any(|known| name(known) == name(entry)) {
            env.push(entry.clone());
        }
    }
    Some(env)
}

/// Labels of the image are only labels: nothing of them becomes an annotation (CVE-2024-3154).
fn labels(
    user: Option<BTreeMap<String, String>>,
    image: Option<&BTreeMap<String, String>>,
) -> Option<BTreeMap<String, String>> {
    let mut all = image.cloned().unwrap_or_default();
    all.extend(user.unwrap_or_default());
    Some(all)
}
