//! What may stand as the value of a flag or as an argument: fixed words, and names that the engine knows.

use havre_client::Query;
use serde_json::Value;

use crate::app::App;
use crate::auth;
use crate::flags::{Flag, Kind};
use crate::spec::{Action, Command, States, Words};

/// Words that may stand in a place.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Each with a description.
    pub words: Vec<(String, String)>,
    /// Whether more of the same word is to be typed behind a candidate.
    pub no_space: bool,
    /// Whether files are candidates too.
    pub files: bool,
}

impl Candidates {
    pub(super) fn of_pairs(words: Vec<(String, String)>) -> Self {
        Self {
            words,
            ..Self::default()
        }
    }

    fn of(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let words = words.into_iter().map(|word| (word.into(), String::new()));
        Self::of_pairs(words.collect())
    }

    fn files() -> Self {
        Self {
            files: true,
            ..Self::default()
        }
    }

    fn open(mut self) -> Self {
        self.no_space = true;
        self
    }

    /// The candidates with something before each.
    pub(super) fn with_prefix(mut self, prefix: &str) -> Self {
        for (word, _) in &mut self.words {
            word.insert_str(0, prefix);
        }
        self
    }
}

const SIGNALS: [&str; 15] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGSTOP",
    "SIGCONT", "SIGABRT", "SIGALRM", "SIGPIPE", "SIGTSTP", "SIGWINCH", "SIGCHLD",
];
const ULIMITS: [&str; 15] = [
    "core=",
    "cpu=",
    "data=",
    "fsize=",
    "locks=",
    "memlock=",
    "msgqueue=",
    "nice=",
    "nofile=",
    "nproc=",
    "rss=",
    "rtprio=",
    "rttime=",
    "sigpending=",
    "stack=",
];
const SECURITY: [&str; 7] = [
    "apparmor=",
    "label=",
    "no-new-privileges",
    "seccomp=",
    "seccomp=unconfined",
    "systempaths=unconfined",
    "writable-cgroups=true",
];
const CONTAINER_FILTERS: [&str; 14] = [
    "ancestor=",
    "before=",
    "exited=",
    "expose=",
    "health=",
    "id=",
    "is-task=",
    "label=",
    "name=",
    "network=",
    "publish=",
    "since=",
    "status=",
    "volume=",
];
const IMAGE_FILTERS: [&str; 6] = [
    "before=",
    "dangling=",
    "label=",
    "reference=",
    "since=",
    "until=",
];
const EVENT_FILTERS: [&str; 12] = [
    "config=",
    "container=",
    "daemon=",
    "event=",
    "image=",
    "label=",
    "network=",
    "node=",
    "plugin=",
    "scope=",
    "type=",
    "volume=",
];
const NETWORK_FILTERS: [&str; 7] = [
    "dangling=",
    "driver=",
    "id=",
    "label=",
    "name=",
    "scope=",
    "type=",
];
const PRUNE_FILTERS: [&str; 3] = ["label=", "label!=", "until="];
const TYPES: [&str; 4] = ["container", "image", "network", "volume"];

/// Values of a flag.
pub(super) async fn of_flag(
    app: &App,
    flag: &Flag,
    command: Option<(&'static Command, &'static str)>,
    word: &str,
) -> Candidates {
    if flag.kind == Kind::Bool {
        return Candidates::of(["true", "false"]);
    }
    match flag.name {
        "attach" => Candidates::of(["stdin", "stdout", "stderr"]),
        "cgroupns" => Candidates::of(["host", "private"]),
        "context" => Candidates::of(["default"]),
        "detach-keys" => Candidates::of(["ctrl-"]).open(),
        "config-from" => Candidates::of(network_names(app).await),
        "driver" => Candidates::of(["bridge", "ipvlan", "macvlan"]),
        "filter" => filters(app, command.map(|(command, _)| command.action), word).await,
        "format" => Candidates::of(["json", "table"]),
        "gpus" => Candidates::of(["all"]),
        "ipc" => namespaces(app, &["host", "none", "private", "shareable"], word).await,
        "isolation" => Candidates::of(["default"]),
        "log-driver" => info(app, "/Plugins/Log", &["json-file", "local", "none"]).await,
        "log-level" => Candidates::of(["debug", "info", "warn", "error", "fatal"]),
        "net" | "network" => networks(app, word).await,
        "pid" => namespaces(app, &["host"], word).await,
        "platform" => Candidates::of(["linux/amd64", "linux/arm64"]),
        "pull" => Candidates::of(["always", "missing", "never"]),
        "restart" => Candidates::of([
            "no",
            "always",
            "on-failure",
            "on-failure:",
            "on-unhealthy",
            "on-unhealthy:",
            "unless-stopped",
        ]),
        "runtime" => info(app, "/Runtimes", &[]).await,
        "security-opt" => Candidates::of(SECURITY),
        "signal" | "stop-signal" => Candidates::of(SIGNALS),
        "storage-opt" => Candidates::of(["size="]).open(),
        "type" => Candidates::of(TYPES),
        "ulimit" => Candidates::of(ULIMITS).open(),
        "userns" | "uts" => Candidates::of(["host"]),
        "volumes-from" => containers(app, States::Any, &[]).await,
        "env" => Candidates::of(app.environment.keys().cloned()),
        "cidfile" | "config" | "checkpoint-dir" | "device" | "env-file" | "input"
        | "label-file" | "output" | "tlscacert" | "tlscert" | "tlskey" | "volume" => {
            Candidates::files()
        }
        _ => Candidates::default(),
    }
}

/// What may stand as the next argument of a command.
pub(super) async fn of_argument(
    app: &App,
    command: &Command,
    args: &[String],
    word: &str,
) -> Candidates {
    match command.words {
        Words::Nothing if command.action == Action::Logout => {
            Candidates::of(auth::list(&app.config, &app.environment))
        }
        Words::Nothing => Candidates::default(),
        Words::Files => Candidates::files(),
        Words::OneOf(words) if args.is_empty() => Candidates::of(words.iter().copied()),
        Words::OneOf(_) => Candidates::default(),
        Words::Containers { many, states } if many || args.is_empty() => {
            let states = match (command.action, word) {
                (Action::Rm, _) => States::Removable,
                _ => states,
            };
            containers(app, states, args).await
        }
        // Behind the container of `exec` stands a command, whose files are not those of this machine.
        Words::Containers { .. } => Candidates::default(),
        Words::Images(most) if args.len() < most => images(app).await,
        Words::Images(_) if command.interspersed => Candidates::default(),
        Words::Images(_) => Candidates::files(),
        Words::Networks => named_networks(app, args).await,
        Words::NetworkAndContainer => match args.len() {
            0 => named_networks(app, args).await,
            1 => containers(app, States::Any, args).await,
            _ => Candidates::default(),
        },
        Words::Objects => {
            let mut found = containers(app, States::Any, args).await;
            found.words.extend(images(app).await.words);
            found
        }
    }
}

/// Names of containers that are not in the line already.
async fn containers(app: &App, states: States, args: &[String]) -> Candidates {
    let all = states != States::Running && states != States::NotPaused;
    let query = Query::new().flag("all", all);
    // An engine that does not answer leaves nothing to propose.
    let list = app.client.container_list(&query).await.unwrap_or_default();
    let ids = app
        .environment
        .get("DOCKER_COMPLETION_SHOW_CONTAINER_IDS")
        .is_some_and(|value| value == "yes");
    let fits = |state: &str| match states {
        States::Any | States::Running => true,
        States::NotPaused => state != "paused",
        States::Paused => state == "paused",
        States::Startable => matches!(state, "exited" | "created"),
        States::Removable => matches!(state, "exited" | "created" | "dead"),
    };
    let mut words = Vec::new();
    for container in list.iter().filter(|container| fits(&container.state)) {
        let about = format!("{} ({})", container.image, container.status);
        let names = container
            .names
            .iter()
            .map(|name| name.trim_start_matches('/').to_owned());
        let names = names.filter(|name| !name.is_empty() && !name.contains('/'));
        words.extend(names.map(|name| (name, about.clone())));
        if ids {
            words.push((container.id.clone(), about));
        }
    }
    words.retain(|(word, _)| !args.contains(word));
    words.sort();
    Candidates::of_pairs(words)
}

/// Tags of images, and repositories that have several.
async fn images(app: &App) -> Candidates {
    let list = app
        .client
        .image_list(&Query::new())
        .await
        .unwrap_or_default();
    let tags = list.into_iter().flat_map(|image| image.repo_tags);
    let mut tags: Vec<String> = tags.filter(|tag| !tag.starts_with("<none>")).collect();
    tags.sort();
    let repositories: Vec<String> = tags
        .iter()
        .filter_map(|tag| Some(tag.rsplit_once(':')?.0.to_owned()))
        .collect();
    let mut words = repositories;
    words.dedup();
    words.extend(tags);
    words.sort();
    Candidates::of(words)
}

async fn networks(app: &App, word: &str) -> Candidates {
    if word.starts_with("container:") {
        let names = containers(app, States::Any, &[]).await;
        return names.with_prefix("container:");
    }
    let mut words = network_names(app).await;
    words.extend(["host", "none", "container:"].map(str::to_owned));
    words.sort();
    words.dedup();
    Candidates::of(words)
}

/// Networks that are not in the line already.
async fn named_networks(app: &App, args: &[String]) -> Candidates {
    let mut words = network_names(app).await;
    words.retain(|word| !args.contains(word));
    words.sort();
    Candidates::of(words)
}

async fn network_names(app: &App) -> Vec<String> {
    // An engine that does not answer leaves nothing to propose.
    let list = app.client.network_list(&Query::new()).await;
    let names = list.unwrap_or_default().into_iter();
    names.map(|network| network.name).collect()
}

async fn namespaces(app: &App, fixed: &[&str], word: &str) -> Candidates {
    if word.starts_with("container:") {
        let names = containers(app, States::Running, &[]).await;
        return names.with_prefix("container:");
    }
    let words = fixed.iter().copied().chain(["container:"]);
    let open = word.starts_with("con");
    let found = Candidates::of(words);
    if open { found.open() } else { found }
}

/// Names in the engine's description of itself: a list, or the keys of an object.
async fn info(app: &App, pointer: &str, otherwise: &[&str]) -> Candidates {
    let Ok(info) = app.client.info().await else {
        return Candidates::of(otherwise.iter().copied());
    };
    match info.pointer(pointer) {
        Some(Value::Array(names)) => Candidates::of(names.iter().filter_map(Value::as_str)),
        Some(Value::Object(map)) => Candidates::of(map.keys().cloned()),
        _ => Candidates::of(otherwise.iter().copied()),
    }
}

async fn filters(app: &App, action: Option<Action>, word: &str) -> Candidates {
    let name = word.split_once('=').map(|(name, _)| name);
    let values = match name {
        Some("status") => Candidates::of([
            "created",
            "dead",
            "exited",
            "paused",
            "removing",
            "restarting",
            "running",
        ]),
        Some("health") => Candidates::of(["healthy", "none", "starting", "unhealthy"]),
        Some("dangling" | "is-task") => Candidates::of(["true", "false"]),
        Some("type") if action == Some(Action::NetworkList) => {
            Candidates::of(["builtin", "custom"])
        }
        Some("driver") => Candidates::of(["bridge", "host", "ipvlan", "macvlan", "null"]),
        Some("scope") => Candidates::of(["local", "swarm"]),
        Some("type") => Candidates::of([
            "builder",
            "config",
            "container",
            "daemon",
            "image",
            "network",
            "node",
            "plugin",
            "secret",
            "service",
            "volume",
        ]),
        Some("container" | "before" | "since") if action != Some(Action::Images) => {
            containers(app, States::Any, &[]).await
        }
        Some("ancestor" | "image" | "before" | "since") => images(app).await,
        Some("network") => networks(app, "").await,
        Some(_) => Candidates::default(),
        None => {
            return match action {
                Some(Action::Images) => Candidates::of(IMAGE_FILTERS),
                Some(Action::Events) => Candidates::of(EVENT_FILTERS),
                Some(Action::NetworkList) => Candidates::of(NETWORK_FILTERS),
                Some(Action::PruneContainers | Action::PruneSystem | Action::NetworkPrune) => {
                    Candidates::of(PRUNE_FILTERS)
                }
                _ => Candidates::of(CONTAINER_FILTERS),
            }
            .open();
        }
    };
    values.with_prefix(&format!("{}=", name.unwrap_or_default()))
}
