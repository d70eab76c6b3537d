//! Devices, rates of block I/O, ulimits and GPUs.

use havre_engine_types::{
    DeviceMapping, DeviceRequest, HostConfig, StringMap, ThrottleDevice, Ulimit, WeightDevice,
};
use havre_types::size;

use super::{ConfigError, Result};
use crate::flags::Matches;

/// The names of resource limits that Linux has.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn apply(matches: &Matches, host: &mut HostConfig) -> Result<()> {
    host.devices = Some(matches.list("device").map(device).collect::<Result<_>>()?);
    host.device_cgroup_rules = some(
        matches
            .list("device-cgroup-rule")
            .map(cgroup_rule)
            .collect::<Result<_>>()?,
    );
    host.blkio_weight_device = Some(
        matches
            .list("blkio-weight-device")
            .map(weight)
            .collect::<Result<_>>()?,
    );
    host.blkio_device_read_bps = rates(matches, "device-read-bps", bytes)?;
    host.blkio_device_write_bps = rates(matches, "device-write-bps", bytes)?;
    host.blkio_device_read_iops = rates(matches, "device-read-iops", number)?;
    host.blkio_device_write_iops = rates(matches, "device-write-iops", number)?;
    (host.network_receive_bps, host.network_send_bps) = network_bps(matches)?;
    host.ulimits = Some(ulimits(matches)?);
    host.device_requests = some(matches.list("gpus").map(gpus).collect::<Result<_>>()?);
    Ok(())
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// `/dev/x[:/dev/y][:rwm]`
fn device(text: &str) -> Result<DeviceMapping> {
    let is_mode = |part: &str| !part.is_empty() && part.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [""] => return Err(ConfigError::problem("bad format for path: ")),
        [source] => (*source, *source, "rwm"),
        [source, mode] if is_mode(mode) => (*source, *source, *mode),
        [source, target] => (*source, *target, "rwm"),
        [source, target, mode] if is_mode(mode) => (*source, *target, *mode),
        _ => {
            return Err(ConfigError::problem(format!(
                "invalid device specification: {text}"
            )));
        }
    };
    Ok(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `c 42:* rwm`
fn cgroup_rule(text: &str) -> Result<String> {
    let number =
        |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let parts: Vec<&str> = text.split(' ').collect();
    let valid = match parts.as_slice() {
        ["a" | "b" | "c", numbers, mode] => {
            numbers
                .split_once(':')
                .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&mode.len())
                && mode.bytes().all(|b| b"rwm".contains(&b))
        }
        _ => false,
    };
    if valid {
        Ok(text.to_owned())
    } else {
        let cause = format!("invalid device cgroup format '{text}'");
        Err(ConfigError::invalid("--device-cgroup-rule", text, cause))
    }
}

fn weight(text: &str) -> Result<WeightDevice> {
    let invalid = |cause: String| ConfigError::invalid("--blkio-weight-device", text, cause);
    let (path, weight) = path_and_value(text).map_err(invalid)?;
    match weight.parse() {
        Ok(weight @ (0 | 10..=1000)) => Ok(WeightDevice {
            path: path.to_owned(),
            weight,
        }),
        _ => Err(invalid(format!("invalid weight for device: {text}"))),
    }
}

fn rates(
    matches: &Matches,
    flag: &str,
    parse: fn(&str) -> Option<u64>,
) -> Result<Option<Vec<ThrottleDevice>>> {
    let mut rates = Vec::new();
    for text in matches.list(flag) {
        let invalid = |cause: String| ConfigError::invalid(&format!("--{flag}"), text, cause);
        let (path, rate) = path_and_value(text).map_err(invalid)?;
        let form = "The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer";
        let rate = parse(rate)
            .ok_or_else(|| invalid(format!("invalid rate for device: {text}. {form}")))?;
        rates.push(ThrottleDevice {
            path: path.to_owned(),
            rate,
        });
    }
    Ok(Some(rates))
}

fn path_and_value(text: &str) -> std::result::Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((path, value)) if !path.is_empty() && !value.is_empty() => {
            if path.starts_with("/dev/") {
                Ok((path, value))
            } else {
                Err(format!("bad format for device path: {text}"))
            }
        }
        _ => Err(format!("bad format: {text}")),
    }
}

fn bytes(text: &str) -> Option<u64> {
    size::parse_bytes(text)
        .ok()
        .and_then(|bytes| u64::try_from(bytes).ok())
}

/// `--network-bps RECEIVE[/SEND]` in bytes a second; one that is empty or missing is not limited.
pub(crate) fn network_bps(matches: &Matches) -> Result<(u64, u64)> {
    let text = matches.text_or_empty("network-bps");
    let (receive, send) = text.split_once('/').unwrap_or((text, ""));
    let read = |part: &str| match part {
        "" => Ok(0),
        part => bytes(part).filter(|rate| *rate > 0).ok_or_else(|| {
            ConfigError::invalid("--network-bps", text, format!("invalid rate: {part:?}"))
        }),
    };
    Ok((read(receive)?, read(send)?))
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// `nofile=1024:2048`; a later one of the same name replaces an earlier one.
fn ulimits(matches: &Matches) -> Result<Vec<Ulimit>> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for text in matches.list("ulimit") {
        let limit = ulimit(text).map_err(|cause| ConfigError::invalid("--ulimit", text, cause))?;
        limits.retain(|other| other.name != limit.name);
        limits.push(limit);
    }
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(limits)
}

fn ulimit(text: &str) -> std::result::Result<Ulimit, String> {
    let invalid = || format!("invalid ulimit argument: {text}");
    let (name, values) = text.split_once('=').ok_or_else(invalid)?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| text.parse::<i64>().map_err(|_no_number| invalid());
    let (soft, hard) = (value(soft)?, value(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}

/// `all`, a number, or `device=0,capabilities=…`.
fn gpus(text: &str) -> Result<DeviceRequest> {
    let invalid = |cause: String| ConfigError::invalid("--gpus", text, cause);
    let mut request = DeviceRequest {
        count: 1,
        options: Some(StringMap::new()),
        ..DeviceRequest::default()
    };
    let mut capabilities = vec!["gpu".to_owned()];
    let fields = super::mounts::csv(text)
        .ok_or_else(|| invalid("parse error in quoted field".to_owned()))?;
    for field in &fields {
        let words = |value: &str| value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match field.split_once('=').unwrap_or(("count", field)) {
            ("count", "all") => request.count = -1,
            ("count", value) => {
                let cause = |_no_number| {
                    invalid(format!(
                        "invalid count ({value}): value must be either \"all\" or an integer: invalid syntax"
                    ))
                };
                request.count = value.parse().map_err(cause)?;
            }
            ("driver", value) => value.clone_into(&mut request.driver),
            ("device", value) => {
                request.device_ids = Some(words(value));
                request.count = 0;
            }
            ("capabilities", value) => capabilities.extend(words(value)),
            ("options", value) => request
                .options
                .get_or_insert_default()
                .extend(words(value).iter().map(|word| super::key_value(word))),
            (key, _) => return Err(invalid(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}
