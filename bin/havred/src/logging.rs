//! The engine's own log, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{LogLevel, Settings};

/// Changes the level while the engine runs.
pub(crate) struct Level(reload::Handle<LevelFilter, Registry>);

/// Sends everything that is logged to standard error.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<Level> {
    let (level, handle) = reload::Layer::new(filter(settings.log_level));
    let terminal = std::io::stderr().is_terminal();
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false);
    if settings.log_json {
        let layer = fmt::layer().with_writer(std::io::stderr).json();
        tracing_subscriber::registry()
            .with(level)
            .with(layer)
            .try_init()?;
    } else {
        tracing_subscriber::registry()
            .with(level)
            .with(layer)
            .try_init()?;
    }
    Ok(Level(handle))
}

impl Level {
    pub(crate) fn set(&self, level: LogLevel) -> anyhow::Result<()> {
        Ok(self.0.reload(filter(level))?)
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}
