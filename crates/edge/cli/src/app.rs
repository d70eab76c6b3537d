//! From the command line to a command: global flags, the engine's address, help, and the exit code.

use std::rc::Rc;

use havre_client::{Client, ClientError};

use crate::commands;
use crate::config::Environment;
use crate::config_file::ConfigFile;
use crate::detach_keys::DetachKeys;
use crate::failure::{ENGINE_FAILED, Failure, Outcome};
use crate::flags::{self, Matches};
use crate::help::{self, PROGRAM};
use crate::spec::{self, Action, Command, Found, GLOBAL};
use crate::ui::{Output, Ui};
use crate::{connection, engine_start, signals};

/// What a command works with.
pub(crate) struct App {
    pub ui: Ui,
    pub client: Rc<Client>,
    pub environment: Environment,
    /// Docker's configuration of its command line.
    pub config: ConfigFile,
    /// The name of the context whose engine is asked.
    pub context: String,
    /// Whether `--debug` is on; `info` says so.
    pub debug: bool,
    /// Whether an engine may be started: nobody named one.
    may_start: bool,
}

/// What a command line asks for.
enum Task {
    /// Text to print.
    Print(String),
    /// Help that nobody asked for.
    Remind(String),
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
    let task = match interpret(args, &environment, ui.width()) {
        Ok(task) => task,
        Err(failure) => return report(&mut ui, &failure),
    };
    let (command, path, matches, global) = match task {
        Task::Print(text) => {
            ui.print(&text);
            return 0;
        }
        Task::Remind(text) => {
            ui.write(Output::Err, text.as_bytes());
            return 0;
        }
        Task::Run {
            command,
            path,
            matches,
            global,
        } => (command, path, matches, global),
    };
    let mut app = match App::new(ui, environment, &global) {
        Ok(app) => app,
        Err((mut ui, failure)) => return report(&mut ui, &failure),
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

fn interpret(args: &[String], environment: &Environment, width: usize) -> Outcome<Task> {
    let brief = environment
        .get("DOCKER_HIDE_LEGACY_COMMANDS")
        .is_some_and(|value| !value.is_empty());
    let help_of = |words: &[String]| match spec::find(words) {
        Found::Command(command, path) => help::command(command, path, width),
        Found::Group(group) => help::group(group),
        Found::Nothing => help::front_page(width, brief),
    };
    let global = flags::parse(GLOBAL, args, false).map_err(|error| {
        let usage = format!("Usage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]");
        let text = format!("{error}\n\n{usage}\n\nRun '{PROGRAM} --help' for more information");
        Failure::with_code(text, ENGINE_FAILED)
    })?;
    if global.on("version") {
        return Ok(Task::Print(format!("{}\n", commands::version_line())));
    }
    let words = match global.args.split_first() {
        _ if global.help => return Ok(Task::Print(help_of(&[]))),
        None => return Ok(Task::Remind(help_of(&[]))),
        Some((first, rest)) if first == "help" => {
            return match (rest.first(), spec::find(rest)) {
                (Some(topic), Found::Nothing) => {
                    Err(Failure::new(format!("unknown help topic: {topic}")))
                }
                _ => Ok(Task::Print(help_of(rest))),
            };
        }
        Some(_) => global.args.as_slice(),
    };
    match spec::find(words) {
        Found::Command(command, path) if command.action == Action::Complete => Ok(Task::Run {
            command,
            path,
            // They are another command line: none of them is a flag of this one.
            matches: Matches::of_words(&words[1..]),
            global,
        }),
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
        Found::Group(group) => group_alone(group, &words[1..]),
        Found::Nothing if words.iter().any(|word| word == "--help") => {
            Ok(Task::Print(help_of(&[])))
        }
        Found::Nothing => Err(Failure::new(format!(
            "{PROGRAM}: unknown command: {PROGRAM} {}\n\nRun '{PROGRAM} --help' for more information",
            words.first().map_or("", String::as_str),
        ))),
    }
}

/// A group without one of its commands.
fn group_alone(group: &spec::Group, words: &[String]) -> Outcome<Task> {
    let name = group.name;
    let usage =
        format!("Usage:  {PROGRAM} {name}\n\nRun '{PROGRAM} {name} --help' for more information");
    let matches = flags::parse(&[], words, true)
        .map_err(|error| Failure::with_code(format!("{error}\n\n{usage}"), ENGINE_FAILED))?;
    match matches.args.first() {
        _ if matches.help => Ok(Task::Print(help::group(group))),
        None => Ok(Task::Remind(help::group(group))),
        Some(word) => Err(Failure::new(format!(
            "{PROGRAM}: unknown command: {PROGRAM} {name} {word}\n\n{usage}"
        ))),
    }
}

impl App {
    /// What a command works with; the output comes back with a failure.
    fn new(mut ui: Ui, environment: Environment, global: &Matches) -> Result<Self, (Ui, Failure)> {
        let (config, complaint) = ConfigFile::load(global.text("config"), &environment);
        if let Some(complaint) = complaint {
            ui.complain(&format!("WARNING: {complaint}"));
        }
        match connection::resolve(global, &environment, &config) {
            Ok(connection) => Ok(Self {
                ui,
                client: Rc::new(connection.client),
                environment,
                config,
                context: connection.context,
                debug: global.on("debug"),
                may_start: connection.is_default,
            }),
            Err(failure) => Err((ui, failure)),
        }
    }

    /// The keys that detach, as the flag or the configuration has them, and as text for the engine.
    pub(crate) fn detach_keys(&self, matches: &Matches) -> Outcome<(DetachKeys, String)> {
        let text = matches
            .text("detach-keys")
            .filter(|text| !text.is_empty())
            .unwrap_or(&self.config.detach_keys);
        let keys = DetachKeys::parse(text).map_err(Failure::new)?;
        Ok((keys, text.to_owned()))
    }

    /// The format that a list is shown in when no flag says it.
    pub(crate) fn format<'a>(matches: &'a Matches, configured: &'a str) -> &'a str {
        match matches.text_or_empty("format") {
            "" if matches.on("quiet") => "",
            "" => configured,
            format => format,
        }
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
