//! `run` and `create`.

mod api_socket;

use std::rc::Rc;

use havre_client::{AttachOptions, Client, ClientError, Query, WaitCondition};
use havre_engine_types::ContainerCreateResponse;
use havre_types::{Classify as _, ErrorKind, Platform, Reference};

use super::pull;
use crate::app::App;
use crate::config::{self, ConfigError, CreatePlan, PullPolicy};
use crate::detach_keys::DetachKeys;
use crate::failure::{ENGINE_FAILED, Failure, Outcome};
use crate::flags::Matches;
use crate::help::{self, PROGRAM};
use crate::session::{self, Ended, Kind};
use crate::spec::Command;
use crate::ui::Output;
use crate::{signals, terminal};

/// What the docker command line sends to engines on Windows alone.
const WINDOWS_ONLY: [&str; 4] = ["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"];

/// `create`: makes a container and prints its id.
pub(super) async fn create(
    app: &mut App,
    command: &Command,
    path: &str,
    matches: &Matches,
) -> Outcome {
    let mut plan = plan(app, command, path, matches)?;
    let id = create_container(app, &mut plan).await?;
    app.ui.line(&id);
    Ok(())
}

/// `run`: makes a container, starts it, and stays attached unless told otherwise.
pub(super) async fn run(
    app: &mut App,
    command: &Command,
    path: &str,
    matches: &Matches,
) -> Outcome {
    let mut plan = plan(app, command, path, matches)?;
    let keys = app.detach_keys(matches)?;
    if matches.on("detach") {
        if matches.has("attach") {
            let text = "conflicting options: cannot specify both --attach and --detach";
            return Err(Failure::new(text));
        }
        let config = &mut plan.request.config;
        (
            config.attach_stdin,
            config.attach_stdout,
            config.attach_stderr,
        ) = (false, false, false);
        config.stdin_once = false;
        let id = create_container(app, &mut plan)
            .await
            .map_err(|failure| failure.of_run(path))?;
        app.client
            .container_start(&id, &Query::new())
            .await
            .map_err(|error| Failure::from(error).of_run(path))?;
        app.ui.line(&id);
        return Ok(());
    }
    let config = &plan.request.config;
    if config.attach_stdin && config.tty && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    if let Some((rows, columns)) = config.tty.then(terminal::size).flatten()
        && let Some(host) = &mut plan.request.host_config
    {
        host.console_size = [u32::from(rows), u32::from(columns)];
    }
    let id = create_container(app, &mut plan)
        .await
        .map_err(|failure| failure.of_run(path))?;
    attached(app, matches, &plan, &id, keys, path).await
}

async fn attached(
    app: &mut App,
    matches: &Matches,
    plan: &CreatePlan,
    id: &str,
    (keys, detach_keys): (DetachKeys, String),
    path: &str,
) -> Outcome {
    let config = &plan.request.config;
    let kind = if config.tty {
        Kind::Terminal
    } else {
        Kind::Pipes
    };
    let forwarding = if matches.on_or("sig-proxy", true) {
        Some(app.forward_signals(id)?)
    } else {
        None
    };
    let options = AttachOptions {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        logs: false,
        detach_keys,
    };
    let condition = if matches.on("rm") {
        WaitCondition::Removed
    } else {
        WaitCondition::NextExit
    };
    // Both must be in place before the start; neither depends on the other.
    let (attach, wait) = tokio::join!(
        app.client.container_attach(id, &options),
        app.client.container_wait(id, condition)
    );
    let (hijacked, wait) = (attach?, wait?);
    let mut session = session::start(hijacked, kind, config.attach_stdin, keys)?;
    if let Err(error) = app.client.container_start(id, &Query::new()).await {
        drop(session);
        if matches.on("rm") {
            // The engine removes the container; only then is its name free again.
            app.client.wait_result(wait).await.ok();
        }
        return Err(Failure::from(error).of_run(path));
    }
    let _size = match kind {
        Kind::Terminal => signals::watch_size(&app.client, "containers", id).ok(),
        Kind::Pipes => None,
    };
    let ended = tokio::select! {
        ended = session.wait() => ended,
        () = impatience(forwarding.as_ref()) => {
            return Err(Failure::new("got 3 SIGTERM/SIGINTs, forcefully exiting"));
        }
    };
    session.restore_terminal();
    match ended? {
        Ended::Detached => Ok(()),
        Ended::Output => exit_status(&app.client, wait).await,
    }
}

/// Never returns when signals are not passed on.
pub(super) async fn impatience(forwarding: Option<&signals::Forwarding>) {
    match forwarding {
        Some(forwarding) => forwarding.impatience().await,
        None => std::future::pending().await,
    }
}

/// The exit status of the container as the outcome of this program.
pub(super) async fn exit_status(client: &Client, wait: havre_client::Response) -> Outcome {
    let result = client.wait_result(wait).await.map_err(|error| Failure {
        code: ENGINE_FAILED,
        ..error.into()
    })?;
    match result.error {
        Some(error) if !error.message.is_empty() => Err(Failure::with_code(
            format!("Error waiting for container: {}", error.message),
            ENGINE_FAILED,
        )),
        _ if result.status_code == 0 => Ok(()),
        _ => Err(Failure::exit(result.status_code)),
    }
}

fn plan(app: &App, command: &Command, path: &str, matches: &Matches) -> Outcome<CreatePlan> {
    if let Some(flag) = WINDOWS_ONLY.iter().find(|flag| matches.has(flag)) {
        return Err(Failure::new(format!(
            "\"--{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
        )));
    }
    let mut plan = config::plan(matches, &app.environment).map_err(|error| match error {
        ConfigError::Flag(error) => Failure::with_code(
            help::wrong_flag(command, path, &error.to_string()),
            ENGINE_FAILED,
        ),
        ConfigError::Problem(text) => Failure::with_code(
            format!("{PROGRAM}: {text}\n\nRun '{PROGRAM} {path} --help' for more information"),
            ENGINE_FAILED,
        ),
    })?;
    let env = plan.request.config.env.get_or_insert_default();
    let host = app.client.endpoint().to_string();
    env.extend(app.config.proxy_variables(&host, env));
    if env.is_empty() {
        plan.request.config.env = None;
    }
    Ok(plan)
}

/// Makes the container; pulls the image first when that is asked for or needed.
async fn create_container(app: &mut App, plan: &mut CreatePlan) -> Outcome<String> {
    if !plan.platform.is_empty() {
        Platform::parse(&plan.platform)
            .map_err(|error| Failure::new(format!("error parsing specified platform: {error}")))?;
    }
    let cidfile = CidFile::open(&plan.cidfile)?;
    let credentials = if plan.use_api_socket {
        api_socket::add(app, plan)?
    } else {
        None
    };
    let image = &plan.request.config.image;
    // An image named by its id cannot be pulled, and the engine knows best what it means.
    let name = Reference::parse_any(image).map_err(|error| Failure::new(error.to_string()))?;
    if plan.pull == PullPolicy::Always {
        pull_image(app, plan).await?;
    }
    let response = match request(app, plan).await? {
        Err(error) if error.kind() == ErrorKind::NotFound && plan.pull == PullPolicy::Missing => {
            let havre_types::reference::AnyReference::Name(name) = name else {
                return Err(error.into());
            };
            if !says_no_image(&error) {
                return Err(error.into());
            }
            if !plan.quiet {
                let familiar = name.with_default_tag().familiar();
                app.ui
                    .complain(&format!("Unable to find image '{familiar}' locally"));
            }
            pull_image(app, plan).await?;
            request(app, plan).await??
        }
        other => other?,
    };
    for warning in &response.warnings {
        app.ui.complain(&format!("WARNING: {warning}"));
    }
    if let Some(credentials) = credentials
        && let Err(failure) = api_socket::put(&app.client, &response.id, &credentials).await
    {
        let cause = failure.message;
        app.ui.complain(&format!(
            "WARNING: injecting docker config.json into container failed: {cause}"
        ));
    }
    cidfile.write(&response.id)?;
    Ok(response.id)
}

/// Sends the request; starts an engine when nobody listens. The inner error is the engine's.
async fn request(
    app: &mut App,
    plan: &CreatePlan,
) -> Outcome<Result<ContainerCreateResponse, ClientError>> {
    let client = Rc::clone(&app.client);
    match client
        .container_create(&plan.name, &plan.platform, &plan.request)
        .await
    {
        Err(error) if error.is_nobody_there() => {
            app.start_engine(error).await?;
            Ok(client
                .container_create(&plan.name, &plan.platform, &plan.request)
                .await)
        }
        other => Ok(other),
    }
}

/// A missing network or volume is "not found" too; pulling would not help then. It may for an image that is there
/// for another platform only.
fn says_no_image(error: &ClientError) -> bool {
    error.engine_message().is_some_and(|message| {
        let message = message.to_lowercase();
        message.contains("no such image") || message.starts_with("image with reference ")
    })
}

async fn pull_image(app: &mut App, plan: &CreatePlan) -> Outcome {
    let output = (!plan.quiet).then_some(Output::Err);
    pull::image(app, &plan.request.config.image, &plan.platform, output).await
}

/// The file that gets the container's id. It must not exist, so that two runs do not take it for theirs.
struct CidFile(Option<fs_err::File>);

impl CidFile {
    fn open(path: &str) -> Outcome<Self> {
        if path.is_empty() {
            return Ok(Self(None));
        }
        let options = fs_err::OpenOptions::new()
            .write(true)
            .create_new(true)
            .clone();
        match options.open(path) {
            Ok(file) => Ok(Self(Some(file))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Failure::new(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                )))
            }
            Err(error) => Err(Failure::new(format!(
                "failed to create the container ID file: {error}"
            ))),
        }
    }

    fn write(self, id: &str) -> Outcome {
        use std::io::Write as _;
        match self.0 {
            Some(mut file) => file.write_all(id.as_bytes()).map_err(|error| {
                Failure::new(format!(
                    "failed to write the container ID to the file: {error}"
                ))
            }),
            None => Ok(()),
        }
    }
}
