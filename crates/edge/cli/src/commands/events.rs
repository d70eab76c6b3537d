//! `events`.

use havre_client::Query;
use havre_engine_types::Event;
use havre_template::Template;
use havre_types::Timestamp;

use super::logs::time;
use super::ps::filters;
use crate::app::App;
use crate::failure::{BAD_TEMPLATE, Failure, Outcome};
use crate::flags::Matches;
use crate::ui::safe;

/// `events`
pub(super) async fn events(app: &mut App, matches: &Matches) -> Outcome {
    let template = match matches.text_or_empty("format") {
        "" => None,
        "json" => Some("{{json .}}"),
        text => Some(text),
    };
    let template = template.map(Template::parse).transpose().map_err(|error| {
        Failure::with_code(format!("Error parsing format: {error}"), BAD_TEMPLATE)
    })?;
    let now = Timestamp::now();
    let unix = |time: Option<Timestamp>| time.map(|time| time.unix_text()).unwrap_or_default();
    let query = Query::new()
        .text("since", &unix(time(matches, "since", now)?))
        .text("until", &unix(time(matches, "until", now)?))
        .text("filters", &filters(matches)?.to_query());
    let mut stream = app.client.events(&query).await?;
    while let Some(event) = stream.next().await? {
        let line = match &template {
            None => line(&event),
            Some(template) => {
                let value = serde_json::to_value(&event)
                    .map_err(|error| Failure::new(error.to_string()))?;
                template
                    .render(&value)
                    .map_err(|error| Failure::new(error.to_string()))?
            }
        };
        app.ui.line(&safe(&line));
    }
    Ok(())
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
