//! `events`.

use havre_client::Query;
use havre_engine_types::Event;
use havre_template::{Template, TemplateError};
use havre_types::Timestamp;
use serde_json::{Map, Value, json};

use super::ps::filters;
use crate::app::App;
use crate::failure::{BAD_TEMPLATE, Failure, Outcome};
use crate::flags::Matches;
use crate::ui::safe;

/// `events`
pub(super) async fn events(app: &mut App, matches: &Matches) -> Outcome {
    let format = match matches.text_or_empty("format") {
        "" => None,
        "json" => Some("{{json .}}"),
        text => Some(text),
    };
    let format = format.map(parsed).transpose().map_err(|error| {
        let cause = error.cause();
        Failure::with_code(format!("Error parsing format: {cause}"), BAD_TEMPLATE)
    })?;
    let now = Timestamp::now();
    let query = Query::new()
        .text("since", &unix(matches, "since", now)?)
        .text("until", &unix(matches, "until", now)?)
        .text("filters", &filters(matches)?.to_query());
    let mut stream = app.client.events(&query).await?;
    while let Some(event) = stream.next().await? {
        let line = match &format {
            None => line(&event),
            Some(format) => {
                rendered(format, &event).map_err(|error| Failure::new(error.cause()))?
            }
        };
        app.ui.line(&safe(&line));
    }
    Ok(())
}

/// The template, tried on an event that says nothing: a field that events do not have is found before any comes.
fn parsed(text: &str) -> Result<Format, TemplateError> {
    let format = Format {
        template: Template::parse(text)?.of_type("*events.Message"),
        attributes: text
            .split("Attributes.")
            .skip(1)
            .map(|rest| {
                let name = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_');
                name.collect()
            })
            .collect(),
    };
    rendered(&format, &Event::default())?;
    Ok(format)
}

/// A template, and the attributes that it names: an event that lacks one has no value there, which is no error.
struct Format {
    template: Template,
    attributes: Vec<String>,
}

fn rendered(format: &Format, event: &Event) -> Result<String, TemplateError> {
    let printed = serde_json::to_value(event).unwrap_or_default();
    let named = format.attributes.iter();
    let mut attributes: Map<String, Value> =
        named.map(|name| (name.clone(), Value::Null)).collect();
    for (name, value) in &event.actor.attributes {
        attributes.insert(name.clone(), value.as_str().into());
    }
    let data = json!({
        "Status": event.status,
        "ID": event.id,
        "From": event.from,
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.actor.id, "Attributes": attributes},
        "Scope": event.scope,
        "Time": event.time,
        "TimeNano": event.time_nano,
    });
    format.template.render_printed(&data, &printed)
}

/// A point in time as the engine takes it; empty when there is none.
fn unix(matches: &Matches, flag: &str, now: Timestamp) -> Outcome<String> {
    match matches.text_or_empty(flag) {
        "" => Ok(String::new()),
        text => match Timestamp::parse_since(text, now) {
            Ok(time) => Ok(time.unix_text()),
            Err(error) => Err(Failure::new(error.to_string())),
        },
    }
}

/// `time type action id (attribute=value, …)`
fn line(event: &Event) -> String {
    let time = match (event.time_nano, event.time) {
        (0, 0) => String::new(),
        (0, secs) => format!("{} ", Timestamp { secs, nanos: 0 }.rfc3339_fixed()),
        (nanos, _) => format!("{} ", Timestamp::from_unix_nanos(nanos).rfc3339_fixed()),
    };
    let attributes: Vec<String> = event
        .actor
        .attributes
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let attributes = if attributes.is_empty() {
        String::new()
    } else {
        format!(" ({})", attributes.join(", "))
    };
    format!(
        "{time}{} {} {}{attributes}",
        event.kind, event.action, event.actor.id
    )
}

#[cfg(test)]
mod tests {
    use havre_engine_types::Actor;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let attributes = [
            ("name".to_owned(), "web".to_owned()),
            ("image".to_owned(), "nginx".to_owned()),
        ];
        let event = Event {
            kind: "container".to_owned(),
            action: "start".to_owned(),
            actor: Actor {
                id: "abc".to_owned(),
                attributes: attributes.into(),
            },
            time: 1_700_000_000,
            time_nano: 1_700_000_000_000_000_001,
            ..Event::default()
        };
        assert_eq!(
            line(&event),
            "2023-11-14T22:13:20.000000001Z container start abc (image=nginx, name=web)"
        );
    }
}
