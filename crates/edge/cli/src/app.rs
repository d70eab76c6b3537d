//! From the command line to a command: global flags, the engine's address, help, and the exit code.

use std::rc::Rc;

use havre_client::{Client, ClientError, Endpoint};

use crate::commands;
use crate::config::Environment;
use crate::failure::{ENGINE_FAILED, Failure, Outcome};
use crate::flags::{self, Matches};
use crate::help::{self, PROGRAM};
use crate::spec::{self, Command, Found, GLOBAL};
use crate::ui::Ui;
use crate::{engine_start, signals};

/// Where the engine listens when nobody says otherwise.
const DEFAULT_HOST: &str = "unix:///run/havre/havre.sock";

/// What a command works with.
pub(crate) struct App {
    pub ui: Ui,
    pub client: Rc<Client>,
    pub environment: Environment,
    /// Whether an engine may be started: nobody named one.
    may_start: bool,
}

/// Runs a command line; the exit code.
pub(crate) async fn run(args: &[String], environment: Environment, mut ui: Ui) -> u8 {
    match dispatch(args, environment, &mut ui).await {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.message.is_empty() {
                ui.complain(&failure.message);
            }
            failure.code
        }
    }
}

async fn dispatch(args: &[String], environment: Environment, ui: &mut Ui) -> Outcome {
    let global = flags::parse(GLOBAL, args, false).map_err(|error| {
        let usage = format!("Usage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]");
        Failure::with_code(
            format!("{error}\n\n{usage}\n\nRun '{PROGRAM} --help' for more information"),
            ENGINE_FAILED,
        )
    })?;
    if global.on("version") {
        ui.line(&commands::version_line());
        return Ok(());
    }
    let words = match global.args.split_first() {
        Some((first, rest)) if first == "help" => {
            show_help(ui, rest);
            return Ok(());
        }
        None => {
            show_help(ui, &[]);
            return Ok(());
        }
        Some(_) if global.help => &[],
        Some(_) => global.args.as_slice(),
    };
    if global.help {
        show_help(ui, words);
        return Ok(());
    }
    match spec::find(words) {
        Found::Command(command, path) => {
            let rest = &words[path.split(' ').count()..];
            let Some(matches) = parse_command(ui, command, path, rest)? else {
                return Ok(());
            };
            let mut app = App::new(std::mem::replace(ui, Ui::new()), &global, environment)?;
            let outcome = commands::run(&mut app, command, path, &matches).await;
            *ui = app.ui;
            outcome
        }
        Found::Group(group) => match words.get(1).filter(|word| !word.starts_with('-')) {
            None => {
                ui.print(&help::group(group));
                Ok(())
            }
            Some(_) => Err(Failure::new(format!(
                "{PROGRAM}: unknown command: {PROGRAM} {}\n\nUsage:  {PROGRAM} {name}\n\nRun '{PROGRAM} {name} --help' for more information",
                words[..2].join(" "),
                name = group.name,
            ))),
        },
        Found::Nothing => Err(Failure::new(format!(
            "{PROGRAM}: unknown command: {PROGRAM} {}\n\nRun '{PROGRAM} --help' for more information",
            words.first().map_or("", String::as_str),
        ))),
    }
}

/// The flags of a command, checked; `None` when help was shown instead.
fn parse_command(
    ui: &mut Ui,
    command: &Command,
    path: &str,
    args: &[String],
) -> Outcome<Option<Matches>> {
    let matches = flags::parse(command.flags, args, command.interspersed).map_err(|error| {
        Failure::with_code(
            help::wrong_flag(command, path, &error.to_string()),
            ENGINE_FAILED,
        )
    })?;
    if matches.help || matches.on("help") {
        let text = help::command(command, path, ui.width());
        ui.print(&text);
        return Ok(None);
    }
    match help::wrong_arity(command, path, matches.args.len()) {
        Some(complaint) => Err(Failure::new(complaint)),
        None => Ok(Some(matches)),
    }
}

fn show_help(ui: &mut Ui, words: &[String]) {
    let text = match spec::find(words) {
        Found::Command(command, path) => help::command(command, path, ui.width()),
        Found::Group(group) => help::group(group),
        Found::Nothing => help::front_page(ui.width()),
    };
    ui.print(&text);
}

impl App {
    fn new(ui: Ui, global: &Matches, environment: Environment) -> Outcome<Self> {
        let from_environment = ["HAVRE_HOST", "DOCKER_HOST"]
            .iter()
            .find_map(|name| environment.get(*name).filter(|value| !value.is_empty()));
        let named = global
            .list("host")
            .last()
            .or(from_environment.map(String::as_str));
        let endpoint = Endpoint::parse(named.unwrap_or(DEFAULT_HOST))
            .map_err(|error| Failure::new(error.to_string()))?;
        let may_start = named.is_none();
        Ok(Self {
            ui,
            client: Rc::new(Client::new(endpoint)),
            environment,
            may_start,
        })
    }

    /// Starts an engine when that may help against the error; the error itself when not.
    pub(crate) async fn start_engine(&mut self, error: ClientError) -> Outcome {
        if !self.may_start || !error.is_nobody_there() {
            return Err(error.into());
        }
        self.may_start = false;
        let path = self.environment.get("PATH").map(std::ffi::OsStr::new);
        engine_start::start(&mut self.ui, &self.client, path)
            .await
            .map_err(|cause| Failure::new(format!("{}\n{cause:#}", Failure::from(error).message)))
    }

    /// Passes this program's signals on to the container.
    pub(crate) fn forward_signals(&self, container: &str) -> Outcome<signals::Forwarding> {
        signals::forward(&self.client, container)
            .map_err(|error| Failure::new(format!("failed to catch signals: {error}")))
    }
}
