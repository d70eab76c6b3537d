//! `attach` and `start`.

use havre_client::{AttachOptions, Query, WaitCondition};
use serde_json::Value;

use super::run::{exit_status, impatience};
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;
use crate::session::{self, Ended, Kind};
use crate::{signals, terminal};

/// What attaching needs to know of a container.
struct Target {
    id: String,
    tty: bool,
    open_stdin: bool,
    auto_remove: bool,
    state: String,
}

impl Target {
    async fn inspect(app: &App, name: &str) -> Outcome<Self> {
        let value = app.client.container_inspect(name, false).await?;
        let on = |pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_bool)
                .unwrap_or(false)
        };
        let text = |pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Self {
            id: text("/Id"),
            tty: on("/Config/Tty"),
            open_stdin: on("/Config/OpenStdin"),
            auto_remove: on("/HostConfig/AutoRemove"),
            state: text("/State/Status"),
        })
    }

    fn kind(&self) -> Kind {
        if self.tty {
            Kind::Terminal
        } else {
            Kind::Pipes
        }
    }
}

/// `attach CONTAINER`
pub(super) async fn attach(app: &mut App, matches: &Matches) -> Outcome {
    let name = matches.args.first().map_or("", String::as_str);
    let (keys, key_text) = app.detach_keys(matches)?;
    let target = Target::inspect(app, name).await?;
    match target.state.as_str() {
        "running" => {}
        "paused" => {
            return Err(Failure::new(
                "You cannot attach to a paused container, unpause it first",
            ));
        }
        "restarting" => {
            return Err(Failure::new(
                "You cannot attach to a restarting container, wait until it is running",
            ));
        }
        _ => {
            return Err(Failure::new(
                "You cannot attach to a stopped container, start it first",
            ));
        }
    }
    let input = !matches.on("no-stdin");
    if input && target.tty && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let forward = matches.on_or("sig-proxy", true) && !target.tty;
    let forwarding = if forward {
        Some(app.forward_signals(&target.id)?)
    } else {
        None
    };
    let options = options(key_text, input && target.open_stdin);
    let (attach, wait) = tokio::join!(
        app.client.container_attach(&target.id, &options),
        app.client
            .container_wait(&target.id, WaitCondition::NotRunning),
    );
    let mut session = session::start(attach?, target.kind(), options.stdin, keys)?;
    let _size = match target.kind() {
        Kind::Terminal => {
            nudge(app, &target.id).await;
            signals::watch_size(&app.client, "containers", &target.id).ok()
        }
        Kind::Pipes => None,
    };
    finish(app, &mut session, forwarding.as_ref(), wait?).await
}

/// A program that draws on a terminal draws again when the size changes; one that was drawn for somebody else shows
/// nothing until then. So the size is first set to a wrong one.
async fn nudge(app: &App, id: &str) {
    if let Some((rows, columns)) = terminal::size() {
        // The right size follows; whether this one was taken does not matter.
        app.client
            .resize(
                "containers",
                id,
                rows.saturating_add(1),
                columns.saturating_add(1),
            )
            .await
            .ok();
    }
}

/// `start CONTAINER…`
pub(super) async fn start(app: &mut App, matches: &Matches) -> Outcome {
    let (keys, key_text) = app.detach_keys(matches)?;
    if !matches.on("attach") && !matches.on("interactive") {
        return start_all(app, matches).await;
    }
    let [name] = matches.args.as_slice() else {
        return Err(Failure::new(
            "you cannot start and attach multiple containers at once",
        ));
    };
    let target = Target::inspect(app, name).await?;
    let input = matches.on("interactive") && target.open_stdin;
    if input && target.tty && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let forwarding = if target.tty {
        None
    } else {
        Some(app.forward_signals(&target.id)?)
    };
    let options = options(key_text, input);
    let condition = if target.auto_remove {
        WaitCondition::Removed
    } else {
        WaitCondition::NextExit
    };
    let (attach, wait) = tokio::join!(
        app.client.container_attach(&target.id, &options),
        app.client.container_wait(&target.id, condition),
    );
    let (hijacked, wait) = (attach?, wait?);
    let mut session = session::start(hijacked, target.kind(), input, keys)?;
    if let Err(error) = app
        .client
        .container_start(&target.id, &from_checkpoint(matches))
        .await
    {
        drop(session);
        return Err(error.into());
    }
    let _size = match target.kind() {
        Kind::Terminal => signals::watch_size(&app.client, "containers", &target.id).ok(),
        Kind::Pipes => None,
    };
    finish(app, &mut session, forwarding.as_ref(), wait).await
}

/// Where `start` goes on from.
fn from_checkpoint(matches: &Matches) -> Query {
    Query::new()
        .text("checkpoint", matches.text_or_empty("checkpoint"))
        .text("checkpoint-dir", matches.text_or_empty("checkpoint-dir"))
}

fn options(detach_keys: String, stdin: bool) -> AttachOptions {
    AttachOptions {
        stdin,
        stdout: true,
        stderr: true,
        logs: false,
        detach_keys,
    }
}

async fn finish(
    app: &App,
    session: &mut session::Session,
    forwarding: Option<&signals::Forwarding>,
    wait: havre_client::Response,
) -> Outcome {
    let ended = tokio::select! {
        ended = session.wait() => ended,
        () = impatience(forwarding) => Err(Failure::new("got 3 SIGTERM/SIGINTs, forcefully exiting")),
    };
    session.restore_terminal();
    match ended? {
        Ended::Detached => Err(Failure::new("read escape sequence")),
        Ended::Output => exit_status(&app.client, wait).await,
    }
}

async fn start_all(app: &mut App, matches: &Matches) -> Outcome {
    if matches.has("checkpoint") && matches.args.len() > 1 {
        return Err(Failure::new(
            "you cannot restore multiple containers at once",
        ));
    }
    let query = from_checkpoint(matches);
    let mut failed = Vec::new();
    for name in &matches.args {
        match app.client.container_start(name, &query).await {
            Ok(()) => app.ui.line(name),
            Err(error) => {
                let failure = Failure::from(error);
                app.ui.complain(&failure.message);
                failed.push(name.clone());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}
