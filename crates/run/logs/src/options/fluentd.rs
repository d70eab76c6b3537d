//! Options of the fluentd driver.

use std::path::PathBuf;
use std::time::Duration;

use havre_types::duration::parse_go;

use super::address::{Address, Endpoint};
use super::value::{natural, switch};
use super::{LogOptionError, OptionMap, known};

/// Where to and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FluentdOptions {
    /// Where records go.
    pub target: FluentdTarget,
    /// Connect in the background and drop what does not fit the buffer.
    pub asynchronous: bool,
    /// A new connection every so often, in asynchronous mode.
    pub reconnect_interval: Option<Duration>,
    /// Records that may wait in asynchronous mode.
    pub buffer_limit: u64,
    /// The first pause before a new attempt; each further one is half as long again.
    pub retry_wait: Duration,
    /// Attempts before a record is given up.
    pub max_retries: u64,
    /// Wait for the server's word for each record.
    pub request_ack: bool,
    /// Times with nanoseconds.
    pub sub_second: bool,
    /// How long a record may take to be written.
    pub write_timeout: Option<Duration>,
    /// How long the server's word may take.
    pub read_timeout: Option<Duration>,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FluentdTarget {
    /// A stream socket.
    Unix(PathBuf),
    /// A connection.
    Tcp(Endpoint),
    /// An encrypted connection.
    Tls(Endpoint),
}

const PORT: u16 = 24224;
const HOST: &str = "127.0.0.1";
const BUFFER: u64 = 1 << 20;
/// As many retries as Docker's library can count.
const RETRIES: u64 = i32::MAX.unsigned_abs() as u64;
const INTERVALS: std::ops::RangeInclusive<i64> = 100_000_000..=10_000_000_000;
const OWN: [&str; 10] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-read-timeout",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
];

impl FluentdOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// Fails in Docker's words when one is unknown or wrong.
    pub fn parse(options: &OptionMap) -> Result<Self, LogOptionError> {
        known(options, &OWN, |key| {
            format!("unknown log opt '{key}' for fluentd log driver")
        })?;
        let text = |name: &str| {
            let value = options.get(name).map(String::as_str);
            value.filter(|value| !value.is_empty())
        };
        let flag = |name: &str| text(name).map_or(Ok(false), switch).map_err(plain);
        let address = text("fluentd-address").unwrap_or_default();
        let target = target(address).map_err(|error| {
            LogOptionError::new(format!("invalid fluentd-address ({address}): {error}"))
        })?;
        let buffer_limit = match text("fluentd-buffer-limit") {
            None => BUFFER,
            Some(text) => {
                let size = havre_types::size::parse_bytes(text).map_err(plain)?;
                u64::try_from(size).unwrap_or(0)
            }
        };
        let retry_wait = match text("fluentd-retry-wait") {
            None => Duration::from_secs(1),
            Some(text) => nanos(parse_go(text).map_err(plain)?),
        };
        let max_retries = match text("fluentd-max-retries") {
            None => RETRIES,
            Some(text) => natural(text, 32).map_err(plain)?,
        };
        if max_retries > RETRIES {
            return Err(LogOptionError::new(
                "invalid fluentd-max-retries: value out of range",
            ));
        }
        Ok(Self {
            target,
            buffer_limit,
            retry_wait,
            max_retries,
            asynchronous: flag("fluentd-async")?,
            reconnect_interval: interval(text("fluentd-async-reconnect-interval"))?,
            sub_second: flag("fluentd-sub-second-precision")?,
            request_ack: flag("fluentd-request-ack")?,
            write_timeout: timeout(text, "fluentd-write-timeout")?,
            read_timeout: timeout(text, "fluentd-read-timeout")?,
        })
    }
}

fn plain(error: impl std::fmt::Display) -> LogOptionError {
    LogOptionError::new(error.to_string())
}

fn nanos(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

fn interval(text: Option<&str>) -> Result<Option<Duration>, LogOptionError> {
    let Some(text) = text else { return Ok(None) };
    let name = "fluentd-async-reconnect-interval";
    let value = parse_go(text)
        .map_err(|error| LogOptionError::new(format!("invalid value for {name}: {error}")))?;
    if value == 0 {
        return Ok(None);
    }
    if !INTERVALS.contains(&value) {
        let shown = havre_types::duration::format_go(value);
        return Err(LogOptionError::new(format!(
            "invalid value for {name}: value ({shown:?}) must be between 100ms and 10s"
        )));
    }
    Ok(Some(nanos(value)))
}

fn timeout<'a>(
    text: impl Fn(&str) -> Option<&'a str>,
    name: &str,
) -> Result<Option<Duration>, LogOptionError> {
    let Some(text) = text(name) else {
        return Ok(None);
    };
    let refuse = |why: String| LogOptionError::new(format!("invalid value for {name}: {why}"));
    let value =
        parse_go(text).map_err(|error| refuse(format!("value must be a duration: {error}")))?;
    if value < 0 {
        return Err(refuse(
            "value must be a duration that is non-negative".to_owned(),
        ));
    }
    Ok((value > 0).then(|| nanos(value)))
}

fn target(text: &str) -> Result<FluentdTarget, LogOptionError> {
    if text.is_empty() {
        return Ok(FluentdTarget::Tcp(Endpoint {
            host: HOST.to_owned(),
            port: PORT,
        }));
    }
    let whole;
    let text = if text.contains("://") {
        text
    } else {
        whole = format!("tcp://{text}");
        &whole
    };
    let address = Address::parse(text)?;
    match address.scheme {
        "unix" if address.path.trim_start_matches('/').is_empty() => {
            Err(LogOptionError::new("path is empty"))
        }
        "unix" => Ok(FluentdTarget::Unix(address.path.into())),
        "tcp" => Ok(FluentdTarget::Tcp(endpoint(address)?)),
        "tls" => Ok(FluentdTarget::Tls(endpoint(address)?)),
        scheme => Err(LogOptionError::new(format!(
            "unsupported scheme: '{scheme}'"
        ))),
    }
}

fn endpoint(address: Address<'_>) -> Result<Endpoint, LogOptionError> {
    if !address.path.is_empty() {
        return Err(LogOptionError::new("should not contain a path element"));
    }
    let (host, port) = address.host_port();
    let port = match port.filter(|port| !port.is_empty()) {
        None => PORT,
        Some(text) => {
            let port = natural(text, 16)
                .map_err(|error| LogOptionError::new(format!("invalid port: {error}")))?;
            u16::try_from(port).unwrap_or(PORT)
        }
    };
    Ok(Endpoint {
        host: if host.is_empty() { HOST } else { host }.to_owned(),
        port,
    })
}
