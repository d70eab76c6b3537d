//! Which events a subscriber gets: Docker's fourteen filters; as with dockerd, others change nothing.
//! <https://github.com/moby/moby/blob/master/daemon/events/filter.go>

use havre_engine_types::{Event, Filters};
use havre_types::Reference;

/// Filters whose values are beginnings of an object's id or name, whatever the kind of the event: Docker compares
/// `container=web` with the name of a network as well.
const OBJECTS: [&str; 9] = [
    "daemon",
    "container",
    "plugin",
    "volume",
    "network",
    "node",
    "service",
    "secret",
    "config",
];
/// Actions that carry a text after a colon, which a filter may leave out.
const WITH_TEXT: [&str; 3] = ["health_status", "exec_create", "exec_start"];

/// Whether the filters let the event through.
pub(crate) fn wanted(filters: &Filters, event: &Event) -> bool {
    if filters.is_empty() {
        return true;
    }
    let attributes = &event.actor.attributes;
    let name = attributes.get("name").map_or("", String::as_str);
    let object = |kind: &str| {
        filters.any(kind, |wanted| {
            event.actor.id.starts_with(wanted) || name.starts_with(wanted)
        })
    };
    action(filters, &event.action)
        && filters.exact("type", &event.kind)
        && filters.exact("scope", &event.scope)
        && filters.labels("label", attributes)
        && OBJECTS.into_iter().all(object)
        && image(filters, event)
}

fn action(filters: &Filters, action: &str) -> bool {
    let fuzzy = filters.values("event").any(|v| WITH_TEXT.contains(&v));
    filters.any("event", |wanted| {
        action == wanted || (fuzzy && action.starts_with(wanted))
    })
}

/// An image's events, and those of containers made from it; with or without the tag.
fn image(filters: &Filters, event: &Event) -> bool {
    if !filters.contains("image") {
        return true;
    }
    let field = if event.kind == "image" {
        "name"
    } else {
        "image"
    };
    let attributes = &event.actor.attributes;
    let name = attributes.get(field).map_or("", String::as_str);
    let (id, short_id, short_name) = (&event.actor.id, untagged(&event.actor.id), untagged(name));
    filters.any("image", |wanted| {
        wanted == id || wanted == name || wanted == short_id || wanted == short_name
    })
}

fn untagged(name: &str) -> String {
    Reference::parse_normalized(name).map_or_else(
        |_no_reference| name.to_owned(),
        |reference| reference.familiar_name(),
    )
}

#[cfg(test)]
mod tests {
    use havre_engine_types::Actor;

    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            scope: "local".to_owned(),
            actor: Actor {
                id: id.to_owned(),
                attributes,
            },
            ..Event::default()
        }
    }

    #[test]
    fn filters_are_dockers() {
        let web = [
            ("name", "web-1"),
            ("image", "r.example/a/b:1"),
            ("tier", "x"),
        ];
        let exec = event("container", "exec_create: ls -l", "abcdef", &web);
        let image = event("image", "pull", "sha256:12", &[("name", "busybox:latest")]);
        let network = event("network", "connect", "n1", &[("name", "web-net")]);
        for (filter, passing) in [
            (r#"{"container":["web"]}"#, [true, false, true]),
            (r#"{"container":["abc"]}"#, [true, false, false]),
            (r#"{"container":["bc"]}"#, [false, false, false]),
            (r#"{"network":["web-net","n1"]}"#, [false, false, true]),
            (r#"{"event":["exec_create"]}"#, [true, false, false]),
            (r#"{"event":["exec_create: ls -l"]}"#, [true, false, false]),
            (r#"{"event":["exec"]}"#, [false, false, false]),
            (r#"{"event":["pull","connect"]}"#, [false, true, true]),
            (r#"{"type":["image"]}"#, [false, true, false]),
            (r#"{"scope":["swarm"]}"#, [false, false, false]),
            (r#"{"label":["tier"]}"#, [true, false, false]),
            (r#"{"label":["tier=x"]}"#, [true, false, false]),
            (r#"{"label":["tier=y"]}"#, [false, false, false]),
            (r#"{"image":["busybox"]}"#, [false, true, false]),
            (r#"{"image":["busybox:latest"]}"#, [false, true, false]),
            (r#"{"image":["r.example/a/b"]}"#, [true, false, false]),
            (r#"{"image":["r.example/a"]}"#, [false, false, false]),
            (r#"{"image":[]}"#, [true, true, true]),
            // As dockerd: what is no filter keeps nothing back.
            (r#"{"id":["x"]}"#, [true, true, true]),
            (r#"{"id":["x"],"type":["image"]}"#, [false, true, false]),
            (
                r#"{"type":["container"],"event":["pull"]}"#,
                [false, false, false],
            ),
        ] {
            let filters = Filters::parse(filter).unwrap();
            let found = [&exec, &image, &network].map(|event| wanted(&filters, event));
            assert_eq!(found, passing, "{filter}");
        }
    }
}
