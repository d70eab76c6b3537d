//! `ps`.

use havre_client::Query;
use havre_engine_types::{ContainerSummary, Filters, MountPoint, PortSummary};
use havre_types::reference::AnyReference;
use havre_types::{Reference, Timestamp, duration, size};
use serde_json::Value;

use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;
use crate::table::{self, LABELS, Row, Titles};

const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";
pub(super) const TITLES: Titles = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("HealthStatus", "HEALTH STATUS"),
];

/// What Docker's messages call a row.
const KIND: &str = "*formatter.ContainerContext";

/// `ps`
pub(super) async fn ps(app: &mut App, matches: &Matches) -> Outcome {
    let filters = filters(matches)?;
    let format = App::format(matches, &app.config.ps_format).to_owned();
    let format = match (format.as_str(), matches.on("size")) {
        ("raw", false) => RAW.to_owned(),
        ("raw", true) => format!("{RAW}size: {{{{.Size}}}}\n"),
        _ => format,
    };
    let format = format.as_str();
    table::check(format).map_err(|failure| {
        Failure::new(
            failure
                .message
                .replace("template parsing error", "failed to parse template"),
        )
    })?;
    let quiet = matches.on("quiet");
    let last = matches.int("last").filter(|n| *n >= 0);
    let limit = if matches.on("latest") && last.is_none() {
        Some(1)
    } else {
        last.filter(|n| *n > 0)
    };
    let size = matches.on("size") || (shows_size(format) && !quiet);
    let query = Query::new()
        .flag("all", matches.on("all") || limit.is_some())
        .number("limit", limit)
        .flag("size", size)
        .text("filters", &filters.to_query());
    let containers = app.client.container_list(&query).await?;
    let whole = matches.on("no-trunc");
    if quiet && (format.is_empty() || format == "table") {
        for container in &containers {
            app.ui.line(&if whole {
                container.id.clone()
            } else {
                table::short_id(&container.id)
            });
        }
        return Ok(());
    }
    let default = if matches.on("size") {
        format!("{TABLE}\t{{{{.Size}}}}")
    } else {
        TABLE.to_owned()
    };
    let now = Timestamp::now();
    let rows = containers
        .iter()
        .map(|container| row(container, whole, now))
        .collect();
    table::write(&mut app.ui, format, &default, TITLES, rows, KIND).map_err(|failure| {
        let words = ("template parsing error", "failed to execute template");
        Failure::new(failure.message.replacen(words.0, words.1, 1))
    })
}

/// Whether a template shows how much space is used, which the engine says only when it is asked.
fn shows_size(format: &str) -> bool {
    format.contains(".Size") || format.contains("json .}") || format.contains("json . ")
}

/// The `--filter` flags.
pub(super) fn filters(matches: &Matches) -> Outcome<Filters> {
    let mut filters = Filters::default();
    for text in matches.list("filter").filter(|text| !text.is_empty()) {
        filters
            .add_flag(text)
            .map_err(|error| Failure::with_code(error.to_string(), 125))?;
    }
    Ok(filters)
}

pub(super) fn row(container: &ContainerSummary, whole: bool, now: Timestamp) -> Row {
    let cut = |text: &str, width: usize| {
        if whole {
            text.to_owned()
        } else {
            table::ellipsis(text, width)
        }
    };
    let created = Timestamp {
        secs: container.created,
        nanos: 0,
    };
    let mut row = Row::new();
    let mut set = |name: &str, value: String| row.insert(name.to_owned(), Value::String(value));
    set(
        "ID",
        if whole {
            container.id.clone()
        } else {
            table::short_id(&container.id)
        },
    );
    set("Names", names(container, whole));
    set("Image", image(container, whole));
    set("Command", table::quote(&cut(&container.command, 20)));
    set("CreatedAt", created_at(created));
    set(
        "RunningFor",
        format!("{} ago", duration::human(now.since(created))),
    );
    set("Ports", ports(&container.ports));
    set("State", container.state.clone());
    set("Status", container.status.clone());
    set("Size", sizes(container));
    set("Labels", labels(container));
    set("Mounts", mounts(container, whole));
    set("LocalVolumes", local_volumes(container).to_string());
    set("Networks", networks(container));
    set(
        "HealthStatus",
        container
            .health
            .as_ref()
            .map(|health| health.status.clone())
            .unwrap_or_default(),
    );
    let platform = container
        .image_manifest_descriptor
        .as_ref()
        .and_then(|descriptor| descriptor.platform.as_ref());
    row.insert(
        "Platform".to_owned(),
        platform.map_or(Value::Null, |p| p.to_platform().to_string().into()),
    );
    row.insert(
        LABELS.to_owned(),
        container
            .labels
            .iter()
            .map(|(k, v)| (k.clone(), Value::from(v.clone())))
            .collect(),
    );
    row
}

fn labels(container: &ContainerSummary) -> String {
    let pairs = container
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

fn mounts(container: &ContainerSummary, whole: bool) -> String {
    let name = |mount: &MountPoint| {
        let name = if mount.name.is_empty() {
            &mount.source
        } else {
            &mount.name
        };
        if whole {
            name.clone()
        } else {
            table::ellipsis(name, 15)
        }
    };
    container
        .mounts
        .iter()
        .map(name)
        .collect::<Vec<_>>()
        .join(",")
}

fn local_volumes(container: &ContainerSummary) -> usize {
    container
        .mounts
        .iter()
        .filter(|mount| mount.driver == "local")
        .count()
}

fn networks(container: &ContainerSummary) -> String {
    let settings = container.network_settings.iter();
    settings
        .flat_map(|settings| settings.networks.keys().cloned())
        .collect::<Vec<_>>()
        .join(",")
}

/// Go's `time.Time.String` of a whole second, UTC.
pub(super) fn created_at(time: Timestamp) -> String {
    let (year, month, day, hour, minute, second) = time.civil();
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

/// All names, or the one that is not a link's.
fn names(container: &ContainerSummary, whole: bool) -> String {
    let mut names = container
        .names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name));
    if whole {
        return names.collect::<Vec<_>>().join(",");
    }
    names
        .find(|name| !name.contains('/'))
        .unwrap_or_default()
        .to_owned()
}

fn image(container: &ContainerSummary, whole: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_owned();
    }
    if whole {
        return container.image.clone();
    }
    let short = table::short_id(&container.image_id);
    if short == table::short_id(&container.image) {
        return short;
    }
    match Reference::parse_any(&container.image) {
        Ok(AnyReference::Name(name)) if name.digest().is_some() => match name.tag() {
            Some(tag) => name
                .with_tag(tag)
                .map_or_else(|_no_tag| name.familiar_name(), |name| name.familiar()),
            None => name.familiar_name(),
        },
        Ok(AnyReference::Name(name)) => name.familiar(),
        Ok(AnyReference::Id(_)) | Err(_) => container.image.clone(),
    }
}

fn sizes(container: &ContainerSummary) -> String {
    let human = |bytes: i64| size::human_decimal(u64::try_from(bytes).unwrap_or(0));
    match container.size_root_fs {
        0 => human(container.size_rw),
        root => format!("{} (virtual {})", human(container.size_rw), human(root)),
    }
}

/// `0.0.0.0:80->9090/tcp, 9988/tcp`; neighbours that map alike are one range.
fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.kind).cmp(&(
            b.private_port,
            &b.ip,
            b.public_port,
            &b.kind,
        ))
    });
    let mut shifted = Vec::new();
    let mut groups: Vec<(String, u16, u16)> = Vec::new();
    let mut whole = Vec::new();
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            let host = if port.ip.contains(':') {
                format!("[{}]", port.ip)
            } else {
                port.ip.clone()
            };
            shifted.push(format!(
                "{host}:{}->{}/{}",
                port.public_port, port.private_port, port.kind
            ));
            continue;
        }
        let key = if port.ip.is_empty() {
            port.kind.clone()
        } else {
            format!("{}/{}", port.ip, port.kind)
        };
        match groups.iter_mut().find(|(name, ..)| *name == key) {
            Some((_, _, last)) if port.private_port == last.saturating_add(1) => {
                *last = port.private_port;
            }
            Some((_, _, last)) if port.private_port == *last => {}
            Some(group) => {
                whole.push(range(group));
                (group.1, group.2) = (port.private_port, port.private_port);
            }
            None => groups.push((key, port.private_port, port.private_port)),
        }
    }
    whole.extend(groups.iter().map(range));
    whole.extend(shifted);
    whole.join(", ")
}

fn range((key, first, last): &(String, u16, u16)) -> String {
    let span = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    match key.split_once('/') {
        Some((ip, kind)) if ip.contains(':') => format!("[{ip}]:{span}->{span}/{kind}"),
        Some((ip, kind)) => format!("{ip}:{span}->{span}/{kind}"),
        None => format!("{span}/{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::captured;

    fn sample() -> ContainerSummary {
        ContainerSummary {
            id: "0123456789abcdef".repeat(4),
            names: vec!["/other/link".to_owned(), "/web".to_owned()],
            image: "docker.io/library/nginx:1".to_owned(),
            command: "/docker-entrypoint.sh nginx \"x\"".to_owned(),
            state: "running".to_owned(),
            status: "Up 5 minutes".to_owned(),
            created: 1_700_000_000,
            labels: [
                ("b".to_owned(), "2".to_owned()),
                ("a".to_owned(), "1".to_owned()),
            ]
            .into(),
            ..ContainerSummary::default()
        }
    }

    fn show(format: &str, container: &ContainerSummary) -> String {
        let (mut ui, out, _) = captured(None);
        let rows = vec![row(
            container,
            false,
            Timestamp {
                secs: 1_700_000_300,
                nanos: 0,
            },
        )];
        table::write(&mut ui, format, TABLE, TITLES, rows, KIND).unwrap();
        out.text()
    }

    #[test]
    fn the_table_is_dockers() {
        insta::assert_snapshot!(show("", &sample()), @r#"
        CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS     NAMES
        0123456789ab   nginx:1   "/docker-entrypoint.…"   5 minutes ago   Up 5 minutes             web
        "#);
        insta::assert_snapshot!(show("{{.CreatedAt}} {{.Labels}} {{.Label \"a\"}}", &sample()), @"2023-11-14 22:13:20 +0000 UTC a=1,b=2 1");
        let hostile = ContainerSummary {
            names: vec!["/a\x1b[2J\rb".to_owned()],
            ..sample()
        };
        assert!(!show("", &hostile).contains('\x1b'));
    }

    #[test]
    fn ports_are_grouped() {
        let port = |ip: &str, private_port, public_port| PortSummary {
            ip: ip.to_owned(),
            private_port,
            public_port,
            kind: "tcp".to_owned(),
        };
        let list = [
            port("0.0.0.0", 80, 8080),
            port("", 99, 0),
            port("0.0.0.0", 91, 91),
            port("0.0.0.0", 90, 90),
            port("::", 80, 8080),
        ];
        assert_eq!(
            ports(&list),
            "0.0.0.0:90-91->90-91/tcp, 99/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
    }
}
