//! Commands about networks.

use super::{Action, Arity, Command, FORMAT_LIST, FORMAT_ONE, Words};
use crate::flags::{Flag, Kind};

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        Action::NetworkConnect,
        &["network connect"],
        "NETWORK CONTAINER",
        "Connect a container to a network",
    )
    .arity(Arity::Exactly(2))
    .words(Words::NetworkAndContainer)
    .flags(&[
        Flag::new("alias", Kind::Many("list"), "Another name of the container on the network"),
        Flag::new("driver-opt", Kind::Many("list"), "Option for the driver of the network"),
        Flag::new(
            "gw-priority",
            Kind::Int,
            "The network with the highest priority gives the default gateway; negative numbers are fine",
        ),
        Flag::new("ip", Kind::Text, "IPv4 address (e.g., \"172.30.100.104\")"),
        Flag::new("ip6", Kind::Text, "IPv6 address (e.g., \"2001:db8::33\")"),
        Flag::new("link", Kind::Many("list"), "Link to another container, perhaps by another name"),
        Flag::new("link-local-ip", Kind::Many("list"), "Link-local address of the container"),
    ]),
    Command::new(
        Action::NetworkCreate,
        &["network create"],
        "NETWORK",
        "Create a network",
    )
    .arity(Arity::Exactly(1))
    .flags(&[
        Flag::new("attachable", Kind::Bool, "Let containers be connected by hand"),
        Flag::new(
            "aux-address",
            Kind::Many("map"),
            "Address that is in use by somebody else, as name=address",
        ),
        Flag::new("config-from", Kind::Text, "Take the configuration of this network over"),
        Flag::new("config-only", Kind::Bool, "Only keep the configuration, for other networks"),
        Flag::new("driver", Kind::Text, "Driver of the network").short('d').default("\"bridge\""),
        Flag::new("gateway", Kind::Many("ipSlice"), "Gateway of a subnet, IPv4 or IPv6"),
        Flag::new("ingress", Kind::Bool, "Create the network of a cluster's published ports"),
        Flag::new("internal", Kind::Bool, "Nothing leads out of the network"),
        Flag::new("ip-range", Kind::Many("ipNetSlice"), "Choose addresses from this part of a subnet"),
        Flag::new("ipam-driver", Kind::Text, "Driver that manages the addresses").default("\"default\""),
        Flag::new("ipam-opt", Kind::Many("map"), "Option of the driver that manages the addresses"),
        Flag::new("ipv4", Kind::Bool, "Give out IPv4 addresses").default("true"),
        Flag::new("ipv6", Kind::Bool, "Give out IPv6 addresses"),
        Flag::new("label", Kind::Many("list"), "Label of the network"),
        Flag::new("opt", Kind::Many("map"), "Option of the driver").short('o'),
        Flag::new("scope", Kind::Text, "Where the network is known"),
        Flag::new("subnet", Kind::Many("strings"), "Subnet as address/prefix"),
    ]),
    Command::new(
        Action::NetworkDisconnect,
        &["network disconnect"],
        "NETWORK CONTAINER",
        "Disconnect a container from a network",
    )
    .arity(Arity::Exactly(2))
    .words(Words::NetworkAndContainer)
    .flags(&[Flag::new("force", Kind::Bool, "Also when the container is not there any more").short('f')]),
    Command::new(
        Action::NetworkInspect,
        &["network inspect"],
        "NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
    )
    .words(Words::Networks)
    .flags(&[
        Flag::new("format", Kind::Text, FORMAT_ONE).short('f'),
        Flag::new("verbose", Kind::Bool, "Say more, for the search of faults").short('v'),
    ]),
    Command::new(
        Action::NetworkList,
        &["network ls", "network list"],
        "",
        "List networks",
    )
    .arity(Arity::Exactly(0))
    .flags(&[
        Flag::new("filter", Kind::Many("filter"), "Show only what the filter lets through (e.g. \"driver=bridge\")")
            .short('f'),
        Flag::new("format", Kind::Text, FORMAT_LIST),
        Flag::new("no-trunc", Kind::Bool, "Show ids in full"),
        Flag::new("quiet", Kind::Bool, "Show ids only").short('q'),
    ]),
    Command::new(
        Action::NetworkPrune,
        &["network prune"],
        "",
        "Remove all networks that no container uses",
    )
    .arity(Arity::Exactly(0))
    .flags(&[
        Flag::new("filter", Kind::Many("filter"), "Remove only what the filter lets through (e.g. \"until=24h\")"),
        Flag::new("force", Kind::Bool, "Do not ask first").short('f'),
    ]),
    Command::new(
        Action::NetworkRemove,
        &["network rm", "network remove"],
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
    )
    .words(Words::Networks)
    .flags(&[Flag::new("force", Kind::Bool, "A network that is not there is no error").short('f')]),
];
