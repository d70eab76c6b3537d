//! The first process and exec processes: arguments, environment, directory, identity, rights.

use std::path::PathBuf;

use havre_api_traits::ApiError;
use havre_engine_types::{ContainerConfig, ExecCreateRequest, HostConfig};
use oci_spec::runtime::{BoxBuilder, Process, ProcessBuilder, User, UserBuilder};

use super::HostFacts;
use super::capabilities::{self, Set};
use super::resources::rlimits;
use super::user::Identity;

/// <https://github.com/moby/moby/blob/master/daemon/pkg/oci/defaults.go> (`DefaultPathEnv`)
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process takes from its container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub config: &'a ContainerConfig,
    pub host: &'a HostConfig,
    pub facts: &'a HostFacts,
    pub hostname: &'a str,
    pub caps: &'a Set,
    pub no_new_privileges: bool,
}

/// The container's own process.
pub(crate) fn init(context: Context<'_>, identity: &Identity) -> Result<Process, ApiError> {
    let mut args = context.config.entrypoint.clone().unwrap_or_default();
    args.extend(context.config.cmd.iter().flatten().cloned());
    if args.is_empty() {
        return Err(ApiError::invalid("no command specified"));
    }
    if super::wants_init(context.host, context.facts) {
        args.splice(0..0, [super::INIT.to_owned(), "--".to_owned()]);
    }
    let tty = context.config.tty;
    let mut process = build(&Parts {
        context,
        args,
        env: environment(context, tty),
        cwd: working_directory(&context.config.working_dir)?,
        tty,
        caps: context.caps,
        identity,
    })?;
    let [height, width] = context.host.console_size;
    if tty && height > 0 && width > 0 {
        let size = BoxBuilder::default().height(height).width(width).build();
        let size =
            size.map_err(|err| crate::error::internal("failed to plan the terminal", &err))?;
        process.set_console_size(Some(size));
    }
    Ok(process)
}

/// A process beside it, with the confinement of the container.
pub(crate) fn exec(
    context: Context<'_>,
    request: &ExecCreateRequest,
    identity: &Identity,
) -> Result<Process, ApiError> {
    let args = request.cmd.clone().unwrap_or_default();
    if args.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    let mut env = environment(context, request.tty);
    for entry in request.env.iter().flatten() {
        set(&mut env, entry);
    }
    let held;
    let caps = if request.privileged {
        held = capabilities::held(context.facts.capabilities);
        &held
    } else {
        context.caps
    };
    let directory = if request.working_dir.is_empty() {
        &context.config.working_dir
    } else {
        &request.working_dir
    };
    build(&Parts {
        context,
        args,
        env,
        cwd: working_directory(directory)?,
        tty: request.tty,
        caps,
        identity,
    })
}

struct Parts<'a> {
    context: Context<'a>,
    args: Vec<String>,
    env: Vec<String>,
    cwd: PathBuf,
    tty: bool,
    caps: &'a Set,
    identity: &'a Identity,
}

fn build(parts: &Parts<'_>) -> Result<Process, ApiError> {
    for text in parts.args.iter().chain(&parts.env) {
        if text.contains('\0') {
            return Err(ApiError::invalid(
                "arguments and environment cannot contain a zero byte",
            ));
        }
    }
    let mut builder = ProcessBuilder::default()
        .terminal(parts.tty)
        .user(user(parts.identity)?)
        .args(parts.args.clone())
        .env(parts.env.clone())
        .cwd(parts.cwd.clone())
        .capabilities(capabilities::process(parts.caps, parts.identity.uid)?)
        .rlimits(rlimits(parts.context.host, parts.context.facts)?)
        .no_new_privileges(parts.context.no_new_privileges);
    let adjust = i32::try_from(parts.context.host.oom_score_adj).unwrap_or(0);
    builder = builder.oom_score_adj(adjust);
    builder
        .build()
        .map_err(|err| crate::error::internal("failed to plan the process", &err))
}

fn user(identity: &Identity) -> Result<User, ApiError> {
    UserBuilder::default()
        .uid(identity.uid)
        .gid(identity.gid)
        .additional_gids(identity.groups.clone())
        .build()
        .map_err(|err| crate::error::internal("failed to plan the user", &err))
}

/// Docker's order: PATH, HOSTNAME, TERM, then the image's and the user's, which replace by name. HOME is left to
/// the runtime, which reads it where the process runs.
fn environment(context: Context<'_>, tty: bool) -> Vec<String> {
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={}", context.hostname)];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    for entry in context.config.env.iter().flatten() {
        set(&mut env, entry);
    }
    env
}

/// Replaces or appends; a name without `=` removes.
/// <https://github.com/moby/moby/blob/master/daemon/container/env.go> (`ReplaceOrAppendEnvValues`)
pub(super) fn set(env: &mut Vec<String>, entry: &str) {
    let name = entry.split('=').next().unwrap_or_default();
    let same = |known: &String| known.split('=').next() == Some(name);
    if !entry.contains('=') {
        env.retain(|known| !same(known));
    } else if let Some(known) = env.iter_mut().find(|known| same(known)) {
        entry.clone_into(known);
    } else {
        env.push(entry.to_owned());
    }
}

fn working_directory(text: &str) -> Result<PathBuf, ApiError> {
    if text.is_empty() {
        return Ok(PathBuf::from("/"));
    }
    super::mounts::absolute(text).map_err(|_relative| {
        ApiError::invalid(format!(
            "the working directory '{text}' is invalid, it needs to be an absolute path"
        ))
    })
}
