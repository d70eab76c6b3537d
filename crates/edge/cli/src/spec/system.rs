//! Commands about the engine, and `inspect` of anything.

use super::{Action, Arity, Command, FORMAT_LIST, FORMAT_ONE, States, Words};
use crate::flags::{Flag, Kind};

const FORMAT: Flag = Flag::new("format", Kind::Text, FORMAT_ONE).short('f');

const FILTER: Flag = Flag::new(
    "filter",
    Kind::Many("filter"),
    "Take only what matches the conditions (e.g. \"label=<key>=<value>\")",
);

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        Action::Complete,
        &["__complete"],
        "[WORD...]",
        "Print what may stand in place of the last word",
    )
    .arity(Arity::AtLeast(0))
    .hidden(),
    Command::new(
        Action::Completion,
        &["completion"],
        "SHELL",
        "Print the completion script for a shell",
    )
    .arity(Arity::Exactly(1))
    .hidden()
    .words(Words::OneOf(&["bash", "fish", "zsh"])),
    Command::new(
        Action::DiskUsage,
        &["system df"],
        "",
        "Show how much disk space is used",
    )
    .arity(Arity::Exactly(0))
    .flags(&[
        Flag::new("format", Kind::Text, FORMAT_LIST),
        Flag::new("verbose", Kind::Bool, "Show each object").short('v'),
    ]),
    Command::new(
        Action::Events,
        &["system events", "events"],
        "",
        "Show what happens in the engine as it happens",
    )
    .arity(Arity::Exactly(0))
    .flags(&[
        Flag::new(
            "filter",
            Kind::Many("filter"),
            "Show only what matches the conditions",
        )
        .short('f'),
        Flag::new("format", Kind::Text, FORMAT_ONE),
        Flag::new(
            "since",
            Kind::Text,
            "Begin with what happened at this time or age",
        ),
        Flag::new("until", Kind::Text, "End at this time or age"),
    ]),
    Command::new(
        Action::Info,
        &["system info", "info"],
        "",
        "Display what the engine says about itself and its host",
    )
    .arity(Arity::Exactly(0))
    .common(8)
    .flags(&[FORMAT]),
    Command::new(
        Action::Inspect,
        &["inspect"],
        "NAME|ID [NAME|ID...]",
        "Return low-level information on objects",
    )
    .words(Words::Objects)
    .flags(&[
        FORMAT,
        Flag::new(
            "size",
            Kind::Bool,
            "Show how much disk space a container uses",
        )
        .short('s'),
        Flag::new("type", Kind::Text, "Inspect only objects of this type"),
    ]),
    Command::new(
        Action::Login,
        &["login"],
        "[SERVER]",
        "Log in to a registry",
    )
    .more("Without a server it is Docker Hub.")
    .arity(Arity::AtMost(1))
    .common(5)
    .flags(&[
        Flag::new("password", Kind::Text, "Password or access token").short('p'),
        Flag::new(
            "password-stdin",
            Kind::Bool,
            "Read the password or access token from the input",
        ),
        Flag::new("username", Kind::Text, "User name").short('u'),
    ]),
    Command::new(
        Action::Logout,
        &["logout"],
        "[SERVER]",
        "Log out from a registry",
    )
    .more("Without a server it is Docker Hub.")
    .arity(Arity::AtMost(1))
    .common(6),
    Command::new(
        Action::PruneSystem,
        &["system prune"],
        "",
        "Remove what is not used",
    )
    .arity(Arity::Exactly(0))
    .flags(&[
        Flag::new(
            "all",
            Kind::Bool,
            "Remove all images without containers, not only those without a name",
        )
        .short('a'),
        FILTER,
        Flag::new("force", Kind::Bool, "Do not ask first").short('f'),
        Flag::new("volumes", Kind::Bool, "Remove anonymous volumes too"),
    ]),
    Command::new(
        Action::Why,
        &["container why", "why"],
        "CONTAINER",
        "Say why a container ended, or does not start",
    )
    .arity(Arity::Exactly(1))
    .container(States::Any),
    Command::new(
        Action::Version,
        &["version"],
        "",
        "Show the versions of client and engine",
    )
    .arity(Arity::Exactly(0))
    .common(7)
    .flags(&[FORMAT]),
];
