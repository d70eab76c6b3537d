//! Commands about the engine, and `inspect` of anything.

use super::{Action, Arity, Command, FORMAT_ONE};
use crate::flags::{Flag, Kind};

const FORMAT: Flag = Flag::new("format", Kind::Text, FORMAT_ONE).short('f');

pub(super) const COMMANDS: &[Command] = &[
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
    .common(6)
    .flags(&[FORMAT]),
    Command::new(
        Action::Inspect,
        &["inspect"],
        "NAME|ID [NAME|ID...]",
        "Return low-level information on objects",
    )
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
        Action::Version,
        &["version"],
        "",
        "Show the versions of client and engine",
    )
    .arity(Arity::Exactly(0))
    .common(5)
    .flags(&[FORMAT]),
];
