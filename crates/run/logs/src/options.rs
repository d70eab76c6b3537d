//! The options of log drivers: which exist, what they may say and what they mean. A pure function, in Docker's words;
//! it opens and connects nothing.
//!
//! Rules: <https://github.com/moby/moby/blob/master/daemon/logger/factory.go> and the validator of each driver.

mod address;
mod fluentd;
mod gelf;
mod syslog;
mod value;

use std::collections::BTreeMap;

use havre_types::{Classify, ErrorKind};
use thiserror::Error;

pub use address::Endpoint;
pub use fluentd::{FluentdOptions, FluentdTarget};
pub use gelf::{Compression, GelfOptions, Transport};
pub use syslog::{SyslogFormat, SyslogOptions, SyslogTarget, SyslogTls};

use self::value::{count, decimal_size, switch};

/// The drivers that a container can name besides `none`, as `docker info` lists them.
pub const DRIVERS: [&str; 6] = [
    "fluentd",
    "gelf",
    "journald",
    "json-file",
    "local",
    "syslog",
];

/// Size at which a file is rotated when nothing is said. With [`DEFAULT_FILES`] of them the log of one container
/// stays below 100 MiB, where Docker lets json-file grow until the disk is full. The figures are those of Docker's own
/// bounded driver (`local`).
pub const DEFAULT_SIZE: u64 = 20 << 20;
/// Files that are kept when nothing is said, the current one included.
pub const DEFAULT_FILES: u32 = 5;
/// What waits in memory in non-blocking mode when nothing is said: Docker's figure.
const DEFAULT_BUFFER: u64 = 1_000_000;

/// Options that choose attributes; the engine evaluates them, for every driver.
const ATTRIBUTES: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];
/// Options that are not the driver's.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
const CACHE: &str = "cache-";
const CACHE_OPTIONS: [&str; 4] = [
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];

/// An option that is wrong, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct LogOptionError(String);

impl LogOptionError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Classify for LogOptionError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// Options by name.
pub type OptionMap = BTreeMap<String, String>;

/// What the options of a container come to.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// Where records go.
    pub driver: Driver,
    /// Bytes that may wait in memory before records are dropped; none: the container waits instead.
    pub buffer: Option<u64>,
    /// The files of the log, or of the copy that `docker logs` reads; none when reading is not wanted.
    pub files: Option<Limits>,
}

/// A driver with what is its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Driver {
    /// Nothing is kept.
    None,
    /// Docker's JSON lines.
    JsonFile,
    /// Docker's compact binary records.
    Local,
    /// The systemd journal.
    Journald,
    /// A syslog server or socket.
    Syslog(SyslogOptions),
    /// Fluentd's forward protocol.
    Fluentd(FluentdOptions),
    /// Graylog's format.
    Gelf(GelfOptions),
}

impl Driver {
    /// Whether records leave through the helper program.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(
            self,
            Self::Journald | Self::Syslog(_) | Self::Fluentd(_) | Self::Gelf(_)
        )
    }
}

/// How files are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rotate at so many bytes; 0 = never.
    pub max_size: u64,
    /// Files to keep, the current one included.
    pub max_file: u32,
    /// Rotated files are compressed.
    pub compress: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size: DEFAULT_SIZE,
            max_file: DEFAULT_FILES,
            compress: true,
        }
    }
}

/// Whether the option is one of the local copy, which the engine's defaults give to every driver.
#[must_use]
pub fn is_cache_option(name: &str) -> bool {
    CACHE_OPTIONS.contains(&name)
}

/// Checks what a container asks for, in Docker's order.
///
/// # Errors
/// Fails with Docker's words when the driver or an option does not exist or cannot be what it is.
pub fn check(driver: &str, options: &OptionMap) -> Result<LogSettings, LogOptionError> {
    if driver == "none" {
        return Ok(LogSettings {
            driver: Driver::None,
            buffer: None,
            files: None,
        });
    }
    let buffer = buffer(options)?;
    let cached = cached(options)?;
    if !DRIVERS.contains(&driver) {
        return Err(LogOptionError::new(format!(
            "error looking up logging plugin {driver}: plugin \"{driver}\" not found"
        )));
    }
    let (driver, files) = match driver {
        "json-file" => {
            known(options, &["max-file", "max-size", "compress"], |key| {
                format!("unknown log opt '{key}' for json-file log driver")
            })?;
            (Driver::JsonFile, Some(json_limits(options)?))
        }
        "local" => {
            known(options, &["max-file", "max-size", "compress"], |key| {
                format!("unknown log opt '{key}' for log driver local")
            })?;
            (Driver::Local, Some(local_limits(options, "")?))
        }
        "journald" => {
            known(options, &[], |key| {
                format!("unknown log opt '{key}' for journald log driver")
            })?;
            (Driver::Journald, None)
        }
        "syslog" => (Driver::Syslog(SyslogOptions::parse(options)?), None),
        "fluentd" => (Driver::Fluentd(FluentdOptions::parse(options)?), None),
        _ => (Driver::Gelf(GelfOptions::parse(options)?), None),
    };
    let files = match files {
        Some(files) => Some(files),
        None if cached => Some(local_limits(options, CACHE)?),
        None => None,
    };
    Ok(LogSettings {
        driver,
        buffer,
        files,
    })
}

fn buffer(options: &OptionMap) -> Result<Option<u64>, LogOptionError> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(LogOptionError::new(format!(
            "logger: logging mode not supported: {mode}"
        )));
    }
    let lossy = mode == "non-blocking";
    let Some(text) = options.get("max-buffer-size") else {
        return Ok(lossy.then_some(DEFAULT_BUFFER));
    };
    if !lossy {
        return Err(LogOptionError::new(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ));
    }
    let size = havre_types::size::parse_bytes(text).map_err(|error| {
        LogOptionError::new(format!("error parsing option max-buffer-size: {error}"))
    })?;
    Ok(Some(u64::try_from(size).unwrap_or(0)))
}

/// Whether a driver that cannot be read gets a local copy.
fn cached(options: &OptionMap) -> Result<bool, LogOptionError> {
    let text = options.get("cache-disabled").map_or("", String::as_str);
    if text.is_empty() {
        return Ok(true);
    }
    let disabled = switch(text).ok().ok_or_else(|| {
        LogOptionError::new(format!("invalid value for option cache-disabled: {text}"))
    })?;
    Ok(!disabled)
}

/// Refuses options that the driver has not.
fn known(
    options: &OptionMap,
    own: &[&str],
    refusal: impl Fn(&str) -> String,
) -> Result<(), LogOptionError> {
    let unknown = options.keys().map(String::as_str).find(|key| {
        !own.contains(key)
            && !ATTRIBUTES.contains(key)
            && !COMMON.contains(key)
            && !is_cache_option(key)
    });
    unknown.map_or(Ok(()), |key| Err(LogOptionError::new(refusal(key))))
}

/// What Docker finds when it starts the driver; Havre says it when the container is made.
fn at_start(text: impl std::fmt::Display) -> LogOptionError {
    LogOptionError::new(format!("failed to initialize logging driver: {text}"))
}

fn json_limits(options: &OptionMap) -> Result<Limits, LogOptionError> {
    let mut limits = Limits {
        compress: false,
        ..Limits::default()
    };
    let size = options.get("max-size");
    if let Some(text) = size {
        limits.max_size = decimal_size(text).map_err(at_start)?;
        if limits.max_size == 0 {
            return Err(at_start("max-size must be a positive number"));
        }
        // Docker's figure once a size is given; the default bound is one of size and files together.
        limits.max_file = 1;
    }
    if let Some(text) = options.get("max-file") {
        let files = count(text).map_err(at_start)?;
        limits.max_file = u32::try_from(files)
            .ok()
            .filter(|files| *files > 0)
            .ok_or_else(|| at_start("max-file cannot be less than 1"))?;
    }
    if let Some(text) = options.get("compress") {
        limits.compress = switch(text).map_err(at_start)?;
        let rotates = options.contains_key("max-file") && limits.max_file > 1 && size.is_some();
        if limits.compress && !rotates {
            return Err(at_start(
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ));
        }
    }
    Ok(limits)
}

fn local_limits(options: &OptionMap, prefix: &str) -> Result<Limits, LogOptionError> {
    let option = |name: &str| options.get(&format!("{prefix}{name}"));
    let mut limits = Limits::default();
    if let Some(text) = option("max-size") {
        limits.max_size = decimal_size(text)
            .map_err(|error| at_start(format!("invalid value for max-size: {text}: {error}")))?;
    }
    if let Some(text) = option("max-file") {
        let files = count(text)
            .map_err(|error| at_start(format!("invalid value for max-file: {text}: {error}")))?;
        limits.max_file = u32::try_from(files)
            .ok()
            .ok_or_else(|| at_start("max file count cannot be less than 0"))?;
    }
    if let Some(text) = option("compress") {
        limits.compress = switch(text)
            .map_err(|error| at_start(format!("error reading compress log option: {error}")))?;
    }
    if limits.compress && limits.max_file <= 1 {
        return Err(at_start(
            "compression cannot be enabled when max file count is 1",
        ));
    }
    Ok(limits)
}

#[cfg(test)]
mod tests;
