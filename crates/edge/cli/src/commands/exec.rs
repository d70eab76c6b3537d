//! `exec`.

use havre_engine_types::{ExecCreateRequest, ExecStartRequest};

use crate::app::App;
use crate::config::{self, ConfigError};
use crate::detach_keys::DetachKeys;
use crate::failure::{ENGINE_FAILED, Failure, Outcome};
use crate::flags::Matches;
use crate::help;
use crate::session::{self, Ended, Kind};
use crate::spec::Command;
use crate::{signals, terminal};

/// `exec CONTAINER COMMAND [ARG…]`
pub(super) async fn exec(
    app: &mut App,
    command: &Command,
    path: &str,
    matches: &Matches,
) -> Outcome {
    let Some((container, argv)) = matches.args.split_first() else {
        return Ok(());
    };
    let (keys, key_text) = app.detach_keys(matches)?;
    let env = config::collect_env(matches, &app.environment).map_err(|error| match error {
        ConfigError::Flag(error) => Failure::with_code(
            help::wrong_flag(command, path, &error.to_string()),
            ENGINE_FAILED,
        ),
        ConfigError::Problem(text) => Failure::new(text),
    })?;
    let detach = matches.on("detach");
    let tty = matches.on("tty");
    let input = matches.on("interactive") && !detach;
    if input && tty && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let console_size = tty
        .then(terminal::size)
        .flatten()
        .map(|(rows, columns)| [u32::from(rows), u32::from(columns)]);
    let request = ExecCreateRequest {
        user: matches.text_or_empty("user").to_owned(),
        privileged: matches.on("privileged"),
        tty,
        console_size,
        attach_stdin: input,
        attach_stderr: !detach,
        attach_stdout: !detach,
        detach_keys: key_text,
        env: (!env.is_empty()).then_some(env),
        working_dir: matches.text_or_empty("workdir").to_owned(),
        cmd: Some(argv.to_vec()),
    };
    let id = app.client.exec_create(container, &request).await?.id;
    let start = ExecStartRequest {
        detach,
        tty,
        console_size,
    };
    if detach {
        return app
            .client
            .exec_start_detached(&id, &start)
            .await
            .map_err(Failure::from);
    }
    attached(app, &id, &start, input, keys).await
}

async fn attached(
    app: &mut App,
    id: &str,
    start: &ExecStartRequest,
    input: bool,
    keys: DetachKeys,
) -> Outcome {
    let kind = if start.tty {
        Kind::Terminal
    } else {
        Kind::Pipes
    };
    let hijacked = app
        .client
        .exec_start(id, start)
        .await
        .map_err(failure_of_start)?;
    let mut session = session::start(hijacked, kind, input, keys)?;
    let _size = match kind {
        Kind::Terminal if terminal::stdin_is_terminal() => {
            signals::watch_size(&app.client, "exec", id).ok()
        }
        Kind::Terminal | Kind::Pipes => None,
    };
    let ended = session.wait().await;
    session.restore_terminal();
    match ended? {
        Ended::Detached => Err(Failure::new("read escape sequence")),
        Ended::Output => match app.client.exec_inspect(id).await?.exit_code {
            Some(0) | None => Ok(()),
            Some(code) => Err(Failure::exit(code)),
        },
    }
}

/// The exit code says whether the command was missing or could not be executed, as a shell's would.
fn failure_of_start(error: havre_client::ClientError) -> Failure {
    let failure = Failure::from(error);
    let code = failure.clone().of_run("exec").code;
    Failure {
        code: if code == ENGINE_FAILED { 1 } else { code },
        ..failure
    }
}
