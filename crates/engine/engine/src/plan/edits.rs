//! What devices that were asked for by name add to a specification: environment, mounts, groups and hooks.

use oci_spec::runtime::{Hooks, Spec};

use crate::cdi::{Edits, Moment};

/// Adds everything but the device nodes, which are planned with the others.
pub(super) fn apply(spec: &mut Spec, edits: &Edits) {
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        for entry in &edits.env {
            super::process::set(&mut env, entry);
        }
        process.set_env(Some(env));
        let user = process.user_mut();
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        for group in &edits.groups {
            if !groups.contains(group) {
                groups.push(*group);
            }
        }
        user.set_additional_gids(Some(groups));
    }
    if !edits.mounts.is_empty() {
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.retain(|mount| {
            let same = |edit: &oci_spec::runtime::Mount| edit.destination() == mount.destination();
            !edits.mounts.iter().any(same)
        });
        let mut added = edits.mounts.clone();
        added.sort_by_key(|mount| mount.destination().components().count());
        mounts.extend(added);
        spec.set_mounts(Some(mounts));
    }
    if !edits.hooks.is_empty() {
        spec.set_hooks(Some(hooks(edits)));
    }
}

fn hooks(edits: &Edits) -> Hooks {
    let at = |moment: Moment| {
        let of = edits.hooks.iter().filter(|(when, _)| *when == moment);
        Some(of.map(|(_, hook)| hook.clone()).collect())
    };
    let mut hooks = Hooks::default();
    hooks.set_prestart(at(Moment::Prestart));
    hooks
        .set_create_runtime(at(Moment::CreateRuntime))
        .set_create_container(at(Moment::CreateContainer))
        .set_start_container(at(Moment::StartContainer))
        .set_poststart(at(Moment::Poststart))
        .set_poststop(at(Moment::Poststop));
    hooks
}
