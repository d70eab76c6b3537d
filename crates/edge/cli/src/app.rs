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
    /// The directory of Docker's configuration, when a flag names it.
    pub config_dir: Option<String>,
    /// Whether an engine may be started: nobody named one.
    may_start: bool,
}

/// What a command line asks for.
enum Task {
    /// Text to print.
    Print(String),
    /// A command to run.
    Run {
        command: &'static Command,
        path: &'static str,
        matches: Matches,
        global: Matches,
    },
}

/// Runs a command line; the exit code.
pub(crate) async fn run(args: &[String], environment: Environment, mut ui: Ui) -> u8 {
    let task = match interpret(args, ui.width()) {
        Ok(task) => task,
        Err(failure) => return report(&mut ui, &failure),
    };
    let (command, path, matches, global) = match task {
        Task::Print(text) => {
            ui.print(&text);
            return 0;
        }
        Task::Run {
            command,
            path,
            matches,
            global,
        } => (command, path, matches, global),
    };
    let (client, may_start) = match client(&global, &environment) {
        Ok(client) => client,
        Err(failure) => return report(&mut ui, &failure),
    };
    let config_dir = global.text("config").map(str::to_owned);
    let mut app = App {
        ui,
        client,
        environment,
        config_dir,
        may_start,
    };
    match commands::run(&mut app, command, path, &matches).await {
        Ok(()) => 0,
        Err(failure) => report(&mut app.ui, &failure),
    }
}

fn report(ui: &mut Ui, failure: &Failure) -> u8 {
    if !failure.message.is_empty() {
        ui.complain(&failure.message);
    }
    failure.code
}

fn interpret(args: &[String], width: usize) -> Outcome<Task> {
    let global = flags::parse(GLOBAL, args, false).map_err(|error| {
        let usage = format!("Usage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]");
        let text = format!("{error}\n\n{usage}\n\nRun '{PROGRAM} --help' for more information");
        Failure::with_code(text, ENGINE_FAILED)
    })?;
    if global.on("version") {
        return Ok(Task::Print(format!("{}\n", commands::version_line())));
    }
    let words = match global.args.split_first() {
        _ if global.help => return Ok(Task::Print(help_of(&[], width))),
        None => return Ok(Task::Print(help_of(&[], width))),
        Some((first, rest)) if first == "help" => return Ok(Task::Print(help_of(rest, width))),
        Some(_) => global.args.as_slice(),
    };
    match spec::find(words) {
        Found::Command(command, path) => {
            let rest = &words[path.split(' ').count()..];
            let matches =
                flags::parse(command.flags, rest, command.interspersed).map_err(|error| {
                    Failure::with_code(
                        help::wrong_flag(command, path, &error.to_string()),
                        ENGINE_FAILED,
                    )
                })?;
            if matches.help || matches.on("help") {
                return Ok(Task::Print(help::command(command, path, width)));
            }
            match help::wrong_arity(command, path, matches.args.len()) {
                Some(complaint) => Err(Failure::new(complaint)),
                None => Ok(Task::Run {
                    command,
                    path,
                    matches,
                    global,
                }),
            }
        }
        Found::Group(group) => match words.get(1).filter(|word| !word.starts_with('-')) {
            None => Ok(Task::Print(help::group(group))),
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

fn help_of(words: &[String], width: usize) -> String {
    match spec::find(words) {
        Found::Command(command, path) => help::command(command, path, width),
        Found::Group(group) => help::group(group),
        Found::Nothing => help::front_page(width),
    }
}

/// A client of the engine that flags or the environment name, and whether one may be started.
fn client(global: &Matches, environment: &Environment) -> Outcome<(Rc<Client>, bool)> {
    let from_environment = ["HAVRE_HOST", "DOCKER_HOST"]
        .iter()
        .find_map(|name| environment.get(*name).filter(|value| !value.is_empty()));
    let named = global
        .list("host")
        .last()
        .or(from_environment.map(String::as_str));
    let endpoint = Endpoint::parse(named.unwrap_or(DEFAULT_HOST))
        .map_err(|error| Failure::new(error.to_string()))?;
    Ok((Rc::new(Client::new(endpoint)), named.is_none()))
}

impl App {
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
