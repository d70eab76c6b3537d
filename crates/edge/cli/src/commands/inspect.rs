//! `inspect`, of containers, images, networks and anything else.

mod shapes;

use havre_template::{Shape, Template};
use havre_types::{Classify as _, ErrorKind, Platform};
use serde::Serialize as _;
use serde_json::Value;

use crate::app::App;
use crate::failure::{self, BAD_TEMPLATE, Failure, Outcome};
use crate::flags::Matches;

const TYPES: [&str; 10] = [
    "config",
    "container",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "task",
    "volume",
];

/// `inspect NAME…`: the first kind of object that has the name.
pub(super) async fn any(app: &mut App, matches: &Matches) -> Outcome {
    let kind = matches.text("type").unwrap_or_default();
    let valid = TYPES.join("\", \"");
    if matches.has("type") && kind.is_empty() {
        return Err(Failure::new(format!(
            "type is empty: must be one of \"{valid}\""
        )));
    }
    if !kind.is_empty() && !TYPES.contains(&kind) {
        return Err(Failure::new(format!(
            "unknown type: {kind:?}: must be one of \"{valid}\""
        )));
    }
    let template = template(matches)?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &matches.args {
        match find(app, name, kind, matches.on("size")).await {
            Ok(value) => found.push(value),
            Err(failure) => failures.push(failure),
        }
    }
    show(app, matches, template.as_ref(), &found, failures)
}

/// `container inspect CONTAINER…`
pub(super) async fn containers(app: &mut App, matches: &Matches) -> Outcome {
    let template = template(matches)?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &matches.args {
        match app.client.container_inspect(name, matches.on("size")).await {
            Ok(value) => found.push(value),
            Err(error) => failures.push(error.into()),
        }
    }
    show(app, matches, template.as_ref(), &found, failures)
}

/// `image inspect IMAGE…`
pub(super) async fn images(app: &mut App, matches: &Matches) -> Outcome {
    let template = template(matches)?;
    let platform = match matches.text_or_empty("platform") {
        "" => String::new(),
        text => {
            let platform = Platform::parse(text)
                .map_err(|error| Failure::new(format!("invalid platform: {error}")))?;
            serde_json::to_string(&platform).unwrap_or_default()
        }
    };
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &matches.args {
        match app.client.image_inspect(name, &platform).await {
            Ok(value) => found.push(value),
            Err(error) => failures.push(error.into()),
        }
    }
    show(app, matches, template.as_ref(), &found, failures)
}

/// `network inspect NETWORK…`
pub(super) async fn networks(app: &mut App, matches: &Matches) -> Outcome {
    let template = template(matches)?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &matches.args {
        match app
            .client
            .network_inspect(name, matches.on("verbose"))
            .await
        {
            Ok(value) => found.push(value),
            Err(error) => failures.push(error.into()),
        }
    }
    show(app, matches, template.as_ref(), &found, failures)
}

async fn find(app: &App, name: &str, kind: &str, size: bool) -> Outcome<Value> {
    let kinds: &[&str] = if kind.is_empty() {
        &["container", "image", "network", "volume"]
    } else {
        &[kind]
    };
    for candidate in kinds {
        let result = match *candidate {
            "container" => app.client.container_inspect(name, size).await,
            "image" => app.client.image_inspect(name, "").await,
            other => app.client.inspect_other(&format!("{other}s"), name).await,
        };
        match result {
            Ok(value) => return Ok(value),
            Err(error) if kind.is_empty() && is_other_kind(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!("Error: No such object: {name}")))
}

/// Whether the name may still belong to another kind of object.
fn is_other_kind(error: &havre_client::ClientError) -> bool {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotImplemented => true,
        ErrorKind::InvalidParameter => error
            .engine_message()
            .is_some_and(|message| message.contains("invalid reference format")),
        _ => false,
    }
}

/// The template of `--format`; `None` for JSON of any kind.
fn template(matches: &Matches) -> Outcome<Option<Template>> {
    match matches.text_or_empty("format") {
        "" | "json" => Ok(None),
        text => match Template::parse(text) {
            Ok(template) => Ok(Some(template)),
            Err(error) => Err(Failure::with_code(error.to_string(), BAD_TEMPLATE)),
        },
    }
}

fn show(
    app: &mut App,
    matches: &Matches,
    template: Option<&Template>,
    found: &[Value],
    mut failures: Vec<Failure>,
) -> Outcome {
    let Some(template) = template else {
        let compact = matches.text_or_empty("format") == "json";
        app.ui.line(&if compact {
            serde_json::to_string(found).unwrap_or_default()
        } else {
            indented(found)
        });
        return failure::all(failures);
    };
    let mut output = String::new();
    for value in found {
        let shape = shape_of(value);
        match template.render_shaped(value, shape) {
            Ok(rendered) => {
                output.push_str(&rendered);
                output.push('\n');
            }
            Err(error) => failures.push(Failure::new(error.to_string())),
        }
    }
    app.ui.print(if output.is_empty() { "\n" } else { &output });
    failure::all(failures)
}

/// The type of an object: containers have a state, images layers.
fn shape_of(value: &Value) -> Shape {
    if value.get("HostConfig").is_some() {
        shapes::CONTAINER
    } else if value.get("RootFS").is_some() {
        shapes::IMAGE
    } else {
        &[]
    }
}

/// JSON with an indent of four, as `inspect` prints it.
pub(super) fn indented(values: &[Value]) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing values to memory cannot fail.
    values.serialize(&mut serializer).ok();
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn objects_are_indented_by_four() {
        let text = super::indented(&[json!({"Id": "x", "Empty": [], "None": {}, "List": [1]})]);
        insta::assert_snapshot!(text, @r#"
        [
            {
                "Id": "x",
                "Empty": [],
                "None": {},
                "List": [
                    1
                ]
            }
        ]
        "#);
        assert_eq!(super::indented(&[]), "[]");
    }
}
