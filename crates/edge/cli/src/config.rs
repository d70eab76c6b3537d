//! Turns the flags of `run` and `create` into the request that makes the container. Pure except for the files that
//! flags name (`--env-file`, `--label-file`, seccomp profiles) and the environment, which the caller hands in.

mod devices;
mod env;
mod mounts;
mod networks;
mod ports;
mod security;

use havre_engine_types::{
    ContainerConfig, ContainerCreateRequest, HealthConfig, HostConfig, KeySet, LogConfig,
    RestartPolicy, StringMap,
};

pub(crate) use devices::network_bps;
pub(crate) use env::{Environment, collect as collect_env};

use crate::flags::{FlagError, Matches};

/// Why flags make no sense together or one by one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A value that its flag does not take: reported like a wrong flag.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// Anything else, in Docker's words.
    #[error("{0}")]
    Problem(String),
}

impl ConfigError {
    fn invalid(title: &str, value: &str, cause: impl Into<String>) -> Self {
        Self::Flag(FlagError::Invalid {
            value: value.to_owned(),
            title: title.to_owned(),
            cause: cause.into(),
        })
    }

    fn problem(text: impl Into<String>) -> Self {
        Self::Problem(text.into())
    }
}

type Result<T> = std::result::Result<T, ConfigError>;

/// What `run` and `create` do besides sending the request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CreatePlan {
    pub name: String,
    pub platform: String,
    pub request: ContainerCreateRequest,
    pub pull: PullPolicy,
    pub quiet: bool,
    pub cidfile: String,
    pub use_api_socket: bool,
}

/// When the image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    Missing,
    Never,
}

/// Makes the plan. The first argument is the image, the rest its command.
pub(crate) fn plan(matches: &Matches, environment: &Environment) -> Result<CreatePlan> {
    let pull = match matches.text("pull").unwrap_or("missing") {
        "always" => PullPolicy::Always,
        "missing" | "" => PullPolicy::Missing,
        "never" => PullPolicy::Never,
        other => {
            let options = "must be one of \"always\", \"missing\" or \"never\"";
            return Err(ConfigError::problem(format!(
                "invalid pull option: '{other}': {options}"
            )));
        }
    };
    let platform = default_platform(matches, environment);
    let mut config = container_config(matches, environment)?;
    let mut host = host_config(matches)?;
    mounts::apply(matches, &mut config, &mut host)?;
    ports::apply(matches, &mut config, &mut host)?;
    devices::apply(matches, &mut host)?;
    security::apply(matches, &mut host)?;
    let networking_config = networks::apply(matches, &mut host)?;
    Ok(CreatePlan {
        name: matches.text_or_empty("name").to_owned(),
        platform: platform.to_owned(),
        request: ContainerCreateRequest {
            config,
            host_config: Some(host),
            networking_config: Some(networking_config),
            mac_address: String::new(),
        },
        pull,
        quiet: matches.on("quiet"),
        cidfile: matches.text_or_empty("cidfile").to_owned(),
        use_api_socket: matches.on("use-api-socket"),
    })
}

/// `--platform`, or else what the environment says.
pub(crate) fn default_platform<'a>(matches: &'a Matches, environment: &'a Environment) -> &'a str {
    let from_environment = || {
        environment
            .get("DOCKER_DEFAULT_PLATFORM")
            .map(String::as_str)
    };
    matches
        .text("platform")
        .or_else(from_environment)
        .unwrap_or_default()
}

fn container_config(matches: &Matches, environment: &Environment) -> Result<ContainerConfig> {
    let (image, command) = match matches.args.split_first() {
        Some((image, command)) => (image.clone(), command.to_vec()),
        None => (String::new(), Vec::new()),
    };
    let interactive = matches.on("interactive");
    let (stdin, stdout, stderr) = attached(matches, interactive)?;
    let text = |name: &str| matches.text_or_empty(name).to_owned();
    Ok(ContainerConfig {
        hostname: text("hostname"),
        domainname: text("domainname"),
        user: text("user"),
        attach_stdin: stdin,
        attach_stdout: stdout,
        attach_stderr: stderr,
        tty: matches.on("tty"),
        open_stdin: interactive,
        stdin_once: interactive && stdin,
        env: Some(env::collect(matches, environment)?).filter(|env| !env.is_empty()),
        cmd: (!command.is_empty()).then_some(command),
        healthcheck: healthcheck(matches)?,
        image,
        volumes: Some(KeySet::new()),
        working_dir: text("workdir"),
        entrypoint: matches.text("entrypoint").map(|word| vec![word.to_owned()]),
        labels: Some(env::labels(matches)?),
        stop_signal: text("stop-signal"),
        stop_timeout: matches.int("stop-timeout"),
        ..ContainerConfig::default()
    })
}

/// Which streams are attached: those of `-a`, or output and, when it is open, input.
fn attached(matches: &Matches, interactive: bool) -> Result<(bool, bool, bool)> {
    if !matches.has("attach") {
        return Ok((interactive, true, true));
    }
    let mut streams = (false, false, false);
    for name in matches.list("attach") {
        match name.to_lowercase().as_str() {
            "stdin" => streams.0 = true,
            "stdout" => streams.1 = true,
            "stderr" => streams.2 = true,
            _ => {
                let cause = "valid streams are STDIN, STDOUT and STDERR";
                return Err(ConfigError::invalid("-a, --attach", name, cause));
            }
        }
    }
    Ok(streams)
}

fn healthcheck(matches: &Matches) -> Result<Option<HealthConfig>> {
    const FLAGS: [&str; 6] = [
        "health-cmd",
        "health-interval",
        "health-timeout",
        "health-start-period",
        "health-start-interval",
        "health-retries",
    ];
    let given = FLAGS.iter().any(|flag| matches.has(flag));
    if matches.on("no-healthcheck") {
        if given {
            return Err(ConfigError::problem(
                "--no-healthcheck conflicts with --health-* options",
            ));
        }
        return Ok(Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..HealthConfig::default()
        }));
    }
    if !given {
        return Ok(None);
    }
    let nanos = |name: &str| match matches.nanos(name) {
        Some(nanos) if nanos < 0 => {
            Err(ConfigError::problem(format!("--{name} cannot be negative")))
        }
        nanos => Ok(nanos.unwrap_or(0)),
    };
    let test = match matches.text("health-cmd") {
        Some(command) if !command.is_empty() => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        _ => Vec::new(),
    };
    let retries = matches.int("health-retries").unwrap_or(0);
    if retries < 0 {
        return Err(ConfigError::problem("--health-retries cannot be negative"));
    }
    Ok(Some(HealthConfig {
        test,
        interval: nanos("health-interval")?,
        timeout: nanos("health-timeout")?,
        start_period: nanos("health-start-period")?,
        start_interval: nanos("health-start-interval")?,
        retries,
    }))
}

fn host_config(matches: &Matches) -> Result<HostConfig> {
    let text = |name: &str| matches.text_or_empty(name).to_owned();
    let int = |name: &str| matches.int(name).unwrap_or(0);
    let bytes = |name: &str| matches.bytes(name).unwrap_or(0);
    let words = |name: &str| some_words(matches, name);
    let swappiness = matches
        .int("memory-swappiness")
        .filter(|value| *value != -1);
    if swappiness.is_some_and(|value| !(0..=100).contains(&value)) {
        let value = int("memory-swappiness");
        return Err(ConfigError::problem(format!(
            "invalid value: {value}. Valid memory swappiness range is 0-100"
        )));
    }
    Ok(HostConfig {
        container_id_file: text("cidfile"),
        log_config: log_config(matches)?,
        restart_policy: restart_policy(matches)?,
        auto_remove: matches.on("rm"),
        volume_driver: text("volume-driver"),
        volumes_from: words("volumes-from"),
        annotations: some_map(matches, "annotation"),
        cap_add: capabilities(matches, "cap-add"),
        cap_drop: capabilities(matches, "cap-drop"),
        dns: Some(all_words(matches, &["dns"])),
        dns_options: Some(all_words(matches, &["dns-option", "dns-opt"])),
        dns_search: Some(all_words(matches, &["dns-search"])),
        extra_hosts: extra_hosts(matches)?,
        group_add: words("group-add"),
        ipc_mode: text("ipc"),
        links: words("link"),
        oom_score_adj: int("oom-score-adj"),
        privileged: matches.on("privileged"),
        publish_all_ports: matches.on("publish-all"),
        readonly_rootfs: matches.on("read-only"),
        storage_opt: storage_options(matches)?,
        shm_size: bytes("shm-size"),
        sysctls: sysctls(matches)?,
        runtime: text("runtime"),
        isolation: text("isolation"),
        cpu_shares: int("cpu-shares"),
        memory: bytes("memory"),
        nano_cpus: matches
            .text("cpus")
            .and_then(|text| crate::flags::parse_cpus(text).ok())
            .unwrap_or(0),
        cgroup_parent: text("cgroup-parent"),
        blkio_weight: u16::try_from(int("blkio-weight")).unwrap_or(0),
        cpu_period: int("cpu-period"),
        cpu_quota: int("cpu-quota"),
        cpu_realtime_period: int("cpu-rt-period"),
        cpu_realtime_runtime: int("cpu-rt-runtime"),
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        memory_reservation: bytes("memory-reservation"),
        memory_swap: bytes("memory-swap"),
        memory_swappiness: Some(swappiness.unwrap_or(-1)),
        oom_kill_disable: Some(matches.on("oom-kill-disable")),
        pids_limit: Some(int("pids-limit")),
        init: matches.has("init").then(|| matches.on("init")),
        ..HostConfig::default()
    })
}

fn restart_policy(matches: &Matches) -> Result<RestartPolicy> {
    let policy = parse_restart(matches.text_or_empty("restart"))?;
    if matches.on("rm") && policy.name != "no" {
        return Err(ConfigError::problem(
            "conflicting options: cannot specify both --restart and --rm",
        ));
    }
    Ok(policy)
}

/// `on-failure:3`
pub(crate) fn parse_restart(text: &str) -> Result<RestartPolicy> {
    if text.is_empty() {
        return Ok(RestartPolicy {
            name: "no".to_owned(),
            maximum_retry_count: 0,
        });
    }
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    let problem =
        |text: &str| ConfigError::problem(format!("invalid restart policy format: {text}"));
    if name.is_empty() {
        return Err(problem("no policy provided before colon"));
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => count
            .parse()
            .map_err(|_no_number| problem("maximum retry count must be an integer"))?,
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

fn log_config(matches: &Matches) -> Result<LogConfig> {
    let config = some_map(matches, "log-opt");
    let kind = matches.text_or_empty("log-driver").to_owned();
    if kind == "none" && config.is_some() {
        return Err(ConfigError::problem("invalid logging opts for driver none"));
    }
    Ok(LogConfig {
        kind,
        config: Some(config.unwrap_or_default()),
    })
}

fn storage_options(matches: &Matches) -> Result<Option<StringMap>> {
    if matches.list("storage-opt").all(|text| text.contains('=')) {
        Ok(some_map(matches, "storage-opt"))
    } else {
        Err(ConfigError::problem("invalid storage option"))
    }
}

/// Capabilities as `CAP_SYS_ADMIN`; `ALL` stays.
fn capabilities(matches: &Matches, flag: &str) -> Option<Vec<String>> {
    let full = |name: String| match name.trim().to_uppercase() {
        name if name == "ALL" || name.starts_with("CAP_") => name,
        name => format!("CAP_{name}"),
    };
    Some(some_words(matches, flag)?.into_iter().map(full).collect())
}

/// Only parameters that belong to a namespace of the container may be set
/// (<https://docs.docker.com/reference/cli/docker/container/run/#sysctl>).
fn sysctls(matches: &Matches) -> Result<Option<StringMap>> {
    const NAMESPACED: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed = |name: &str| {
        NAMESPACED.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.")
    };
    for text in matches.list("sysctl") {
        if !text.split_once('=').is_some_and(|(name, _)| allowed(name)) {
            return Err(ConfigError::invalid(
                "--sysctl",
                text,
                format!("sysctl '{text}' is not allowed"),
            ));
        }
    }
    Ok(some_map(matches, "sysctl"))
}

/// `host:ip`, or `host=ip`, with the address of the host as `host-gateway`.
fn extra_hosts(matches: &Matches) -> Result<Option<Vec<String>>> {
    let mut hosts = Vec::new();
    for text in matches.list("add-host") {
        let (host, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .filter(|(host, _)| !host.is_empty())
            .ok_or_else(|| {
                ConfigError::invalid(
                    "--add-host",
                    text,
                    format!("bad format for add-host: {text:?}"),
                )
            })?;
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            let cause = format!("invalid IP address in add-host: {address:?}");
            return Err(ConfigError::invalid("--add-host", text, cause));
        }
        hosts.push(format!("{host}:{bare}"));
    }
    Ok((!hosts.is_empty()).then_some(hosts))
}

fn some_words(matches: &Matches, name: &str) -> Option<Vec<String>> {
    Some(all_words(matches, &[name])).filter(|words| !words.is_empty())
}

fn all_words(matches: &Matches, names: &[&str]) -> Vec<String> {
    names
        .iter()
        .flat_map(|name| matches.list(name))
        .map(str::to_owned)
        .collect()
}

/// `key=value` pairs; a key alone has an empty value.
fn some_map(matches: &Matches, name: &str) -> Option<StringMap> {
    let map: StringMap = matches.list(name).map(key_value).collect();
    (!map.is_empty()).then_some(map)
}

fn key_value(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests;
