//! The table of commands: names, arguments, flags and help of each. Parsing, help and completion read it; adding a
//! command means adding it here and a function in `commands`.

mod container;
#[cfg(test)]
mod coverage;
mod create;
mod image;
mod limits;
mod manage;
mod network;
mod system;

use crate::flags::{Flag, Kind};

/// Which function a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Attach,
    CheckpointCreate,
    CheckpointList,
    CheckpointRemove,
    Commit,
    Complete,
    Completion,
    Cp,
    Create,
    Diff,
    DiskUsage,
    Events,
    Exec,
    Export,
    Images,
    Import,
    Info,
    Inspect,
    InspectContainer,
    InspectImage,
    Kill,
    Load,
    Login,
    Logout,
    Logs,
    NetworkConnect,
    NetworkCreate,
    NetworkDisconnect,
    NetworkInspect,
    NetworkList,
    NetworkPrune,
    NetworkRemove,
    Pause,
    Port,
    Ps,
    PruneContainers,
    PruneSystem,
    Pull,
    Rename,
    Restart,
    Rm,
    Rmi,
    Run,
    Start,
    Stats,
    Stop,
    Tag,
    Top,
    Unpause,
    Update,
    Version,
    Wait,
    Why,
}

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// One command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    /// All its names as they are typed; the first with two words is its place in a management group.
    pub paths: &'static [&'static str],
    /// What follows the name in `Usage:`, without `[OPTIONS]`.
    pub usage: &'static str,
    pub about: &'static str,
    /// What the help of the command alone says besides.
    pub more: &'static str,
    pub flags: &'static [Flag],
    pub arity: Arity,
    /// Whether flags may follow arguments; not for commands that carry a foreign command line.
    pub interspersed: bool,
    pub action: Action,
    /// Its place among the common commands of the front page, when it has one.
    pub common: Option<u8>,
    /// Whether help leaves it out.
    pub hidden: bool,
    /// What its arguments are, for completion.
    pub words: Words,
}

/// What an argument of a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// Nothing that could be completed.
    Nothing,
    /// Files.
    Files,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The first argument is a container in one of the states; the others may be too when `many`.
    Containers {
        many: bool,
        states: States,
    },
    /// Images, at most so many.
    Images(usize),
    /// Containers and images.
    Objects,
    Networks,
    /// A network, then a container.
    NetworkAndContainer,
}

/// Which containers a command can do something with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum States {
    Any,
    /// Those that `ps` shows.
    Running,
    NotPaused,
    Paused,
    Startable,
    Removable,
}

impl Command {
    pub(crate) const fn new(
        action: Action,
        paths: &'static [&'static str],
        usage: &'static str,
        about: &'static str,
    ) -> Self {
        Self {
            paths,
            usage,
            about,
            more: "",
            flags: &[],
            arity: Arity::AtLeast(1),
            interspersed: true,
            action,
            common: None,
            hidden: false,
            words: Words::Nothing,
        }
    }

    pub(crate) const fn more(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub(crate) const fn words(mut self, words: Words) -> Self {
        self.words = words;
        self
    }

    /// All arguments are containers in these states.
    pub(crate) const fn containers(self, states: States) -> Self {
        self.words(Words::Containers { many: true, states })
    }

    /// The first argument is a container in these states.
    pub(crate) const fn container(self, states: States) -> Self {
        self.words(Words::Containers {
            many: false,
            states,
        })
    }

    pub(crate) const fn flags(mut self, flags: &'static [Flag]) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) const fn arity(mut self, arity: Arity) -> Self {
        self.arity = arity;
        self
    }

    pub(crate) const fn carries_command(mut self) -> Self {
        self.interspersed = false;
        self
    }

    pub(crate) const fn common(mut self, place: u8) -> Self {
        self.common = Some(place);
        self
    }

    /// The name on the front page: a path of one word.
    pub(crate) fn short_name(&self) -> Option<&'static str> {
        self.paths
            .iter()
            .rev()
            .find(|path| !path.contains(' '))
            .copied()
    }
}

/// A management group: `havre container …`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub name: &'static str,
    pub about: &'static str,
}

/// The management groups.
pub(crate) const GROUPS: [Group; 5] = [
    Group {
        name: "checkpoint",
        about: "Manage checkpoints",
    },
    Group {
        name: "container",
        about: "Manage containers",
    },
    Group {
        name: "image",
        about: "Manage images",
    },
    Group {
        name: "network",
        about: "Manage networks",
    },
    Group {
        name: "system",
        about: "Manage the engine",
    },
];

/// Flags before the command.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::new(
        "config",
        Kind::Text,
        "Directory of the configuration files of the client",
    )
    .default("\"~/.docker\""),
    Flag::new(
        "context",
        Kind::Text,
        "Name of the context whose engine is asked (overrides DOCKER_HOST)",
    )
    .short('c'),
    Flag::new(
        "debug",
        Kind::Bool,
        "Turn on debug mode, which `info` shows",
    )
    .short('D'),
    Flag::new(
        "host",
        Kind::Many("list"),
        "Address of the engine (unix:// or tcp://)",
    )
    .short('H'),
    Flag::new(
        "log-level",
        Kind::Text,
        "How much to log (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")",
    )
    .short('l')
    .default("\"info\""),
    Flag::new("tls", Kind::Bool, "Use TLS; implied by --tlsverify"),
    Flag::new(
        "tlscacert",
        Kind::Text,
        "Trust only certificates that this authority signed",
    )
    .default("\"~/.docker/ca.pem\""),
    Flag::new("tlscert", Kind::Text, "Certificate of this client")
        .default("\"~/.docker/cert.pem\""),
    Flag::new("tlskey", Kind::Text, "Key of this client's certificate")
        .default("\"~/.docker/key.pem\""),
    Flag::new("tlsverify", Kind::Bool, "Use TLS and check the engine"),
    Flag::new(
        "version",
        Kind::Bool,
        "Print the version of this program and quit",
    )
    .short('v'),
];

/// All commands.
pub(crate) fn commands() -> impl Iterator<Item = &'static Command> {
    container::COMMANDS
        .iter()
        .chain(create::COMMANDS)
        .chain(image::COMMANDS)
        .chain(manage::COMMANDS)
        .chain(network::COMMANDS)
        .chain(system::COMMANDS)
}

/// What words of a command line mean.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    /// A command, and how many words its name takes.
    Command(&'static Command, &'static str),
    /// A group without a command of it.
    Group(&'static Group),
    /// Nothing known.
    Nothing,
}

/// Finds the command that the words name.
pub(crate) fn find(words: &[String]) -> Found {
    let named = |path: &str| {
        let mut parts = path.split(' ');
        parts.by_ref().zip(words).all(|(part, word)| part == word)
            && path.split(' ').count() <= words.len()
    };
    for command in commands() {
        if let Some(path) = command.paths.iter().find(|path| named(path)) {
            return Found::Command(command, path);
        }
    }
    match words
        .first()
        .and_then(|word| GROUPS.iter().find(|group| group.name == word))
    {
        Some(group) => Found::Group(group),
        None => Found::Nothing,
    }
}

/// The text of `--format` for lists.
const FORMAT_LIST: &str = "Show the output by a template:
'table':            a table with titles (default)
'table TEMPLATE':   a table whose columns the Go template gives
'json':             JSON, one object a line
'TEMPLATE':         what the Go template gives";

/// The text of `--format` for single objects.
const FORMAT_ONE: &str = "Show the output by a template:
'json':             JSON
'TEMPLATE':         what the Go template gives";
