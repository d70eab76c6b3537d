//! `container prune` and `system prune`.

use havre_client::Query;
use havre_engine_types::Filters;
use havre_types::{Classify as _, ErrorKind, size};
use serde_json::Value;

use super::ps::filters;
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;
use crate::prompt;
use crate::ui::safe;

/// One kind of object that can be swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Containers,
    Networks,
    Volumes,
    Images,
    BuildCache,
}

/// What was removed.
#[derive(Debug, Default)]
struct Report {
    text: String,
    reclaimed: u64,
}

impl Kind {
    /// In the order in which they free each other.
    const ALL: [Self; 5] = [
        Self::Containers,
        Self::Networks,
        Self::Volumes,
        Self::Images,
        Self::BuildCache,
    ];

    fn collection(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Networks => "networks",
            Self::Volumes => "volumes",
            Self::Images => "images",
            Self::BuildCache => "build",
        }
    }

    fn warning(self, all: bool) -> &'static str {
        match self {
            Self::Containers => "all stopped containers",
            Self::Networks => "all networks not used by at least one container",
            Self::Volumes => "all anonymous volumes not used by at least one container",
            Self::Images if all => "all images without at least one container associated to them",
            Self::Images => "all dangling images",
            Self::BuildCache if all => "all build cache",
            Self::BuildCache => "unused build cache",
        }
    }

    async fn prune(self, app: &App, filters: &Filters, all: bool) -> Outcome<Report> {
        let mut filters = filters.clone();
        if self == Self::Images {
            filters.add("dangling", if all { "false" } else { "true" });
        }
        let query = Query::new()
            .flag("all", all && self == Self::BuildCache)
            .text("filters", &filters.to_query());
        match app.client.prune(self.collection(), &query).await {
            Ok(answer) => Ok(self.report(&answer)),
            // An engine without such objects has none to remove.
            Err(error) if error.kind() == ErrorKind::NotImplemented => Ok(Report::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn report(self, answer: &Value) -> Report {
        let (title, field) = match self {
            Self::Containers => ("Deleted Containers:", "ContainersDeleted"),
            Self::Networks => ("Deleted Networks:", "NetworksDeleted"),
            Self::Volumes => ("Deleted Volumes:", "VolumesDeleted"),
            Self::Images => ("Deleted Images:", "ImagesDeleted"),
            Self::BuildCache => ("Deleted build cache objects:", "CachesDeleted"),
        };
        let items = answer.get(field).and_then(Value::as_array);
        let lines: Vec<String> = items.into_iter().flatten().map(line).collect();
        if lines.is_empty() {
            return Report::default();
        }
        Report {
            text: format!("{title}\n{}\n", lines.join("\n")),
            reclaimed: answer
                .get("SpaceReclaimed")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        }
    }
}

/// A name or id, or what was done to an image.
fn line(item: &Value) -> String {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let line = match (item.as_str(), text("Untagged"), text("Deleted")) {
        (Some(name), ..) => name.to_owned(),
        (None, Some(name), _) if !name.is_empty() => format!("untagged: {name}"),
        (None, _, name) => format!("deleted: {}", name.unwrap_or_default()),
    };
    safe(&line).into_owned()
}

/// `container prune`
pub(super) async fn containers(app: &mut App, matches: &Matches) -> Outcome {
    let filters = app.config.prune_filters(filters(matches)?);
    let question =
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    if !matches.on("force") && !prompt::confirm(app, question)? {
        return Ok(());
    }
    let report = Kind::Containers.prune(app, &filters, false).await?;
    if !report.text.is_empty() {
        app.ui.line(&report.text);
    }
    say_total(app, report.reclaimed);
    Ok(())
}

/// Removes networks; what there is to say of it.
pub(super) async fn networks(app: &App, filters: &Filters) -> Outcome<String> {
    Ok(Kind::Networks.prune(app, filters, false).await?.text)
}

/// `system prune`
pub(super) async fn system(app: &mut App, matches: &Matches) -> Outcome {
    let asked = filters(matches)?;
    if matches.on("volumes") && asked.contains("until") {
        return Err(Failure::new(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    let filters = app.config.prune_filters(asked);
    let all = matches.on("all");
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Volumes || matches.on("volumes"))
        .collect();
    if !matches.on("force") && !prompt::confirm(app, &question(&kinds, &filters, all))? {
        return Ok(());
    }
    let mut reclaimed: u64 = 0;
    for kind in kinds {
        let report = kind.prune(app, &filters, all).await?;
        reclaimed = reclaimed.saturating_add(report.reclaimed);
        if !report.text.is_empty() {
            app.ui.line(&report.text);
        }
    }
    say_total(app, reclaimed);
    Ok(())
}

fn question(kinds: &[Kind], filters: &Filters, all: bool) -> String {
    let mut lines = vec!["WARNING! This will remove:".to_owned()];
    lines.extend(
        kinds
            .iter()
            .map(|kind| format!("  - {}", kind.warning(all))),
    );
    lines.push(String::new());
    let mut shown = Vec::new();
    for name in ["label", "label!", "until"] {
        shown.extend(
            filters
                .values(name)
                .map(|value| format!("  - {name}={value}")),
        );
    }
    if !shown.is_empty() {
        shown.sort();
        lines.push("  Items to be pruned will be filtered with:".to_owned());
        lines.extend(shown);
        lines.push(String::new());
    }
    lines.push("Are you sure you want to continue?".to_owned());
    lines.join("\n")
}

fn say_total(app: &mut App, reclaimed: u64) {
    app.ui.line(&format!(
        "Total reclaimed space: {}",
        size::human_decimal4(reclaimed)
    ));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_question_names_what_goes() {
        let mut filters = Filters::default();
        filters.add("label", "a=b");
        let kinds = [Kind::Containers, Kind::Images];
        insta::assert_snapshot!(question(&kinds, &filters, true), @"
        WARNING! This will remove:
          - all stopped containers
          - all images without at least one container associated to them

          Items to be pruned will be filtered with:
          - label=a=b

        Are you sure you want to continue?
        ");
    }

    #[test]
    fn what_went_is_listed() {
        let report = Kind::Images.report(&json!({
            "ImagesDeleted": [{"Untagged": "a:1"}, {"Deleted": "sha256:x"}], "SpaceReclaimed": 5
        }));
        assert_eq!(
            report.text,
            "Deleted Images:\nuntagged: a:1\ndeleted: sha256:x\n"
        );
        assert_eq!(report.reclaimed, 5);
        let nothing =
            Kind::Containers.report(&json!({"ContainersDeleted": null, "SpaceReclaimed": 7}));
        assert_eq!((nothing.text.as_str(), nothing.reclaimed), ("", 0));
    }
}
