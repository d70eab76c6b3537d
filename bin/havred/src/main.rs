//! `havred`: the engine. This file only reads the command line, sets up the process and starts the engine.

mod claim;
mod config;
mod daemon;
mod flags;
mod logging;
mod options;
mod runtimes;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use config::Settings;
use options::Value;

/// The version of the product.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Threads that run the engine's tasks. Blocking work has threads of its own, which end when idle.
const WORKERS: usize = 2;
const BLOCKING_WORKERS: usize = 64;
const BLOCKING_IDLE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done when even this cannot be written.
            let _written = writeln!(std::io::stderr(), "{error:#}").is_ok();
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let flags = flags::parse(std::env::args().skip(1))
        .map_err(|error| anyhow::anyhow!("{error}\nSee 'havred --help'."))?;
    let asked = |name| flags.get(name) == Some(&Value::Flag(true));
    if asked("help") {
        return print(&options::usage());
    }
    if asked("version") {
        return print(&format!("Havre version {VERSION}\n"));
    }
    let validate = asked("validate");
    let settings = Settings::load(flags)?;
    if validate {
        writeln!(std::io::stderr(), "configuration OK")?;
        return Ok(());
    }
    havre_sys::memory::keep_little().context("failed to set up the allocator")?;
    let level = logging::start(&settings).context("failed to configure daemon logging")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_WORKERS)
        .thread_keep_alive(BLOCKING_IDLE)
        .thread_name("havred")
        .enable_all()
        .build()?;
    let result = runtime.block_on(daemon::run(settings, level));
    // What still blocks has had its time; everything acknowledged is on the disk.
    runtime.shutdown_background();
    result
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
