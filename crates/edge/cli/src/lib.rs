//! The `havre` command line: Docker's commands, flags, tables, messages and exit codes, on a thin client of the
//! Engine API. It never imports the engine.

mod app;
mod auth;
mod commands;
mod complete;
mod config;
mod config_file;
mod connection;
mod detach_keys;
mod engine_start;
mod failure;
mod flags;
mod help;
mod progress;
mod prompt;
mod session;
mod signals;
mod spec;
mod table;
mod tabwriter;
mod terminal;
mod ui;

/// Runs the command line of this process; the exit code.
///
/// The environment is read once here, names and values that are no UTF-8 in the replacement form.
pub async fn main(args: Vec<std::ffi::OsString>) -> u8 {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let args: Vec<String> = args.into_iter().map(text).collect();
    let environment = std::env::vars_os()
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(app::run(&args, environment, ui::Ui::new()))
        .await
}
