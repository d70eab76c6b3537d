//! `version` and `--version`.

use std::fmt::Write as _;

use havre_engine_types::{ComponentVersion, SystemVersion};
use havre_template::Template;
use havre_types::{Platform, Timestamp};
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::{BAD_TEMPLATE, Failure, Outcome};
use crate::flags::Matches;
use crate::help::PROGRAM;
use crate::tabwriter;
use crate::ui::safe_lines;

/// The newest API that this client knows.
const API: &str = "1.56";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The line of `--version`.
pub(crate) fn line() -> String {
    format!("{PROGRAM} version {VERSION}")
}

/// `version`
pub(super) async fn version(app: &mut App, matches: &Matches) -> Outcome {
    let format = match matches.text_or_empty("format") {
        "json" => "{{json .}}",
        format => format,
    };
    let template = Template::parse(format)
        .map_err(|error| Failure::with_code(error.to_string(), BAD_TEMPLATE))?;
    let answer = app.client.version().await;
    let server = answer.as_ref().ok();
    let text = if format.is_empty() {
        tabwriter::align(&page(&app.context, server), 20, 1)
    } else {
        let mut value = json!({"Client": client(&app.context, server), "Server": server});
        if format != "{{json .}}" {
            value
                .as_object_mut()
                .into_iter()
                .flatten()
                .for_each(|(_, side)| go_names(side));
        }
        template
            .of_type("system.versionInfo")
            .render(&value)
            .map_err(|error| Failure::new(named(error.cause())))?
            + "\n"
    };
    app.ui.print(&safe_lines(&text));
    answer.map(drop).map_err(Failure::from)
}

/// This template is the one that Docker gave a name.
fn named(cause: &str) -> String {
    cause
        .replacen("template: :", "template: version:", 1)
        .replacen("executing \"\"", "executing \"version\"", 1)
}

/// Templates name the fields of Docker's structures, which differ from the JSON in one place.
fn go_names(side: &mut Value) {
    if let Some(fields) = side.as_object_mut()
        && let Some(version) = fields.remove("ApiVersion")
    {
        fields.insert("APIVersion".to_owned(), version);
    }
}

fn client(context: &str, server: Option<&SystemVersion>) -> Value {
    let platform = Platform::host();
    json!({
        "Version": VERSION,
        "ApiVersion": server.map_or(API, |server| older(&server.api_version)),
        "DefaultAPIVersion": API,
        "Os": platform.os,
        "Arch": platform.architecture,
        "Context": context,
    })
}

/// The API that both sides know.
fn older(server: &str) -> &str {
    let number = |version: &str| {
        version.split_once('.').and_then(|(major, minor)| {
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        })
    };
    match (number(server), number(API)) {
        (Some(theirs), Some(ours)) if theirs < ours => server,
        _ => API,
    }
}

fn page(context: &str, server: Option<&SystemVersion>) -> String {
    let platform = Platform::host();
    let api = server.map_or(API, |server| older(&server.api_version));
    let downgraded = if api == API {
        String::new()
    } else {
        format!(" (downgraded from {API})")
    };
    let mut text = format!(
        "Client: Havre\n Version:\t{VERSION}\n API version:\t{api}{downgraded}\n OS/Arch:\t{platform}\n Context:\t{context}\n"
    );
    let Some(server) = server else { return text };
    let name = if server.platform.name.is_empty() {
        String::new()
    } else {
        format!(" {}", server.platform.name)
    };
    write!(text, "\nServer:{name}\n").ok();
    let mut components = server.components.clone();
    if !components
        .iter()
        .any(|component| component.name == "Engine")
    {
        components.insert(0, engine_of(server));
    }
    for component in &components {
        text.push_str(&component_page(component));
    }
    text
}

fn component_page(component: &ComponentVersion) -> String {
    let mut text = format!(" {}:\n  Version:\t{}\n", component.name, component.version);
    let details = component.details.clone().unwrap_or_default();
    if component.name != "Engine" {
        for (key, value) in &details {
            writeln!(text, "  {key}:\t{value}").ok();
        }
        return text;
    }
    let detail = |key: &str| details.get(key).filter(|value| !value.is_empty());
    if let Some(api) = detail("ApiVersion") {
        let minimum = detail("MinAPIVersion").map_or("", String::as_str);
        writeln!(text, "  API version:\t{api} (minimum version {minimum})").ok();
    }
    for (title, key) in [("Go version", "GoVersion"), ("Git commit", "GitCommit")] {
        if let Some(value) = detail(key) {
            writeln!(text, "  {title}:\t{value}").ok();
        }
    }
    if let Some(built) = detail("BuildTime") {
        writeln!(text, "  Built:\t{}", reformat_date(built)).ok();
    }
    if let (Some(os), Some(arch)) = (detail("Os"), detail("Arch")) {
        writeln!(text, "  OS/Arch:\t{os}/{arch}").ok();
    }
    if let Some(experimental) = detail("Experimental") {
        writeln!(text, "  Experimental:\t{experimental}").ok();
    }
    text
}

fn engine_of(server: &SystemVersion) -> ComponentVersion {
    let details = [
        ("ApiVersion", &server.api_version),
        ("MinAPIVersion", &server.min_api_version),
        ("Os", &server.os),
        ("Arch", &server.arch),
    ];
    ComponentVersion {
        name: "Engine".to_owned(),
        version: server.version.clone(),
        details: Some(
            details
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .collect(),
        ),
    }
}

/// `2026-11-21T…` as `Sat Nov 21 07:00:00 2026`; anything else as it is.
fn reformat_date(text: &str) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let Ok(time) = Timestamp::parse_rfc3339(text) else {
        return text.to_owned();
    };
    let (year, month, day, hour, minute, second) = time.civil();
    let index = |n: i64, of: i64| usize::try_from(n.rem_euclid(of)).unwrap_or(0);
    let weekday = DAYS[index(time.secs.div_euclid(86_400), 7)];
    let month = MONTHS[index(i64::from(month) - 1, 12)];
    format!("{weekday} {month} {day:>2} {hour:02}:{minute:02}:{second:02} {year}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_client_and_engine() {
        let server = SystemVersion {
            version: "0.1.0".to_owned(),
            api_version: "1.50".to_owned(),
            min_api_version: "1.24".to_owned(),
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            ..SystemVersion::default()
        };
        let text = tabwriter::align(&page("default", Some(&server)), 20, 1);
        insta::assert_snapshot!(text, @"
        Client: Havre
         Version:           0.1.0
         API version:       1.50 (downgraded from 1.56)
         OS/Arch:           linux/amd64
         Context:           default

        Server:
         Engine:
          Version:          0.1.0
          API version:      1.50 (minimum version 1.24)
          OS/Arch:          linux/amd64
        ");
    }

    #[test]
    fn dates_are_those_of_ansi_c() {
        assert_eq!(
            reformat_date("2026-11-21T07:05:09Z"),
            "Sat Nov 21 07:05:09 2026"
        );
        assert_eq!(
            reformat_date("2026-11-01T07:05:09.5+00:00"),
            "Sun Nov  1 07:05:09 2026"
        );
        assert_eq!(reformat_date("today"), "today");
    }
}
