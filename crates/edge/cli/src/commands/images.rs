//! `images`, `rmi`, `load`, `import`, `tag`.

use std::collections::BTreeMap;

use havre_client::{JsonLines, Query};
use havre_engine_types::{ImageSummary, JsonMessage};
use havre_types::{Classify as _, ErrorKind, Platform, Reference, Timestamp, duration, size};
use serde_json::Value;
use tokio::fs::File;

use super::ps::{created_at, filters};
use crate::app::App;
use crate::failure::{self, Failure, Outcome, os_text};
use crate::flags::Matches;
use crate::table::{self, Row, Titles};
use crate::ui::Output;
use crate::{progress, terminal};

pub(super) const TITLES: Titles = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];
const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_DIGEST: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";
const RAW_DIGEST: &str = "repository: {{.Repository}}\n{{- if .Tag}}\ntag: {{.Tag}}\n{{- end}}\n{{- if .Digest}}\ndigest: {{.Digest}}\n{{- end}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";
pub(super) const NONE: &str = "<none>";
/// What Docker's messages call a row.
const KIND: &str = "*formatter.imageContext";

/// `images [REPOSITORY[:TAG]]`
pub(super) async fn list(app: &mut App, matches: &Matches) -> Outcome {
    let mut filters = filters(matches)?;
    if let Some(name) = matches.args.first() {
        filters.add("reference", name.as_str());
    }
    let digests = matches.on("digests");
    let query = Query::new()
        .flag("all", matches.on("all"))
        .flag("digests", digests)
        .text("filters", &filters.to_query());
    let images = app.client.image_list(&query).await?;
    let whole = matches.on("no-trunc");
    let format = App::format(matches, &app.config.images_format).to_owned();
    let raw = if digests { RAW_DIGEST } else { RAW };
    let format = if format == "raw" {
        raw
    } else {
        format.as_str()
    };
    if matches.on("quiet") && (format.is_empty() || format == "table") {
        let mut seen = std::collections::HashSet::new();
        for image in images.iter().filter(|image| seen.insert(image.id.as_str())) {
            app.ui.line(&if whole {
                image.id.clone()
            } else {
                table::short_id(&image.id)
            });
        }
        return Ok(());
    }
    let default = if digests { TABLE_DIGEST } else { TABLE };
    let wants_digest = digests || format.contains("{{.Digest}}");
    let now = Timestamp::now();
    let rows = images
        .iter()
        .flat_map(|image| {
            names(image, wants_digest)
                .into_iter()
                .map(|name| row(image, name, whole, now))
        })
        .collect();
    table::write(&mut app.ui, format, default, TITLES, rows, KIND)
}

/// A line of the list for one image: repository, tag and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) repository: String,
    pub(super) tag: String,
    pub(super) digest: String,
}

/// The lines of an image: one a tag, and one for each repository that it has only by digest.
fn names(image: &ImageSummary, wants_digest: bool) -> Vec<Name> {
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reference in image
        .repo_tags
        .iter()
        .filter_map(|text| Reference::parse_normalized(text).ok())
    {
        if let Some(tag) = reference.tag() {
            tags.entry(reference.familiar_name())
                .or_default()
                .push(tag.to_owned());
        }
    }
    for reference in image
        .repo_digests
        .iter()
        .filter_map(|text| Reference::parse_normalized(text).ok())
    {
        if let Some(digest) = reference.digest() {
            digests
                .entry(reference.familiar_name())
                .or_default()
                .push(digest.to_string());
        }
    }
    let name = |repository: &str, tag: &str, digest: &str| Name {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
    };
    let mut lines = Vec::new();
    for (repository, tags) in &tags {
        let known = digests
            .remove(repository)
            .filter(|_| wants_digest)
            .unwrap_or_default();
        for tag in tags {
            if known.is_empty() {
                lines.push(name(repository, tag, NONE));
            }
            lines.extend(known.iter().map(|digest| name(repository, tag, digest)));
        }
    }
    for (repository, known) in &digests {
        if wants_digest {
            lines.extend(known.iter().map(|digest| name(repository, NONE, digest)));
        } else {
            lines.push(name(repository, NONE, ""));
        }
    }
    if lines.is_empty() {
        lines.push(name(NONE, NONE, NONE));
    }
    lines
}

pub(super) fn row(image: &ImageSummary, name: Name, whole: bool, now: Timestamp) -> Row {
    let created = Timestamp {
        secs: image.created,
        nanos: 0,
    };
    let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
    let counted = |n: i64, text: String| if n == -1 { "N/A".to_owned() } else { text };
    let unique = image.size.saturating_sub(image.shared_size);
    let values = [
        (
            "ID",
            if whole {
                image.id.clone()
            } else {
                table::short_id(&image.id)
            },
        ),
        ("Repository", name.repository),
        ("Tag", name.tag),
        ("Digest", name.digest),
        (
            "CreatedSince",
            format!("{} ago", duration::human(now.since(created))),
        ),
        ("CreatedAt", created_at(created)),
        ("Size", size::human_decimal(bytes(image.size))),
        ("VirtualSize", size::human_decimal4(bytes(image.size))),
        (
            "Containers",
            counted(image.containers, image.containers.to_string()),
        ),
        (
            "SharedSize",
            counted(
                image.shared_size,
                size::human_decimal4(bytes(image.shared_size)),
            ),
        ),
        (
            "UniqueSize",
            counted(image.shared_size, size::human_decimal4(bytes(unique))),
        ),
    ];
    values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::String(value)))
        .collect()
}

/// `rmi IMAGE…`
pub(super) async fn remove(app: &mut App, matches: &Matches) -> Outcome {
    let force = matches.on("force");
    let mut query = Query::new()
        .flag("force", force)
        .flag("noprune", matches.on("no-prune"));
    for text in matches.list("platform").flat_map(|list| list.split(',')) {
        let platform = Platform::parse(text).map_err(|error| Failure::new(error.to_string()))?;
        query = query.text(
            "platforms",
            &serde_json::to_string(&platform).unwrap_or_default(),
        );
    }
    let mut failures = Vec::new();
    let mut fatal = false;
    for name in &matches.args {
        match app.client.image_remove(name, &query).await {
            Ok(items) => {
                for item in items {
                    let line = if item.deleted.is_empty() {
                        format!("Untagged: {}", item.untagged)
                    } else {
                        format!("Deleted: {}", item.deleted)
                    };
                    app.ui.line(&crate::ui::safe(&line));
                }
            }
            Err(error) => {
                fatal |= error.kind() != ErrorKind::NotFound;
                failures.push(Failure::from(error));
            }
        }
    }
    match failure::all(failures) {
        Err(failure) if force && !fatal => {
            app.ui.complain(&failure.message);
            Ok(())
        }
        outcome => outcome,
    }
}

/// `tag SOURCE TARGET`
pub(super) async fn tag(app: &mut App, matches: &Matches) -> Outcome {
    let [source, target] = matches.args.as_slice() else {
        return Ok(());
    };
    let name = Reference::parse_normalized(target).map_err(|error| {
        Failure::new(format!(
            "Error parsing reference: {target:?} is not a valid repository/tag: {error}"
        ))
    })?;
    let target = name.with_default_tag();
    if target.digest().is_some() {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let repository = target.name();
    Ok(app
        .client
        .image_tag(source, &repository, target.tag().unwrap_or_default())
        .await?)
}

/// `load`
pub(super) async fn load(app: &mut App, matches: &Matches) -> Outcome {
    let input = matches.text_or_empty("input");
    let archive = if input.is_empty() {
        if terminal::stdin_is_terminal() {
            return Err(Failure::new(
                "requested load from stdin, but stdin is empty",
            ));
        }
        stdin()?
    } else {
        open(input).await?
    };
    let quiet = matches.on("quiet") || !app.ui.out_is_terminal();
    let mut query = Query::new().flag("quiet", quiet);
    if let Some(text) = matches.text("platform") {
        let platform = Platform::parse(text)
            .map_err(|error| Failure::new(format!("invalid platform: {error}")))?;
        query = query.text(
            "platform",
            &serde_json::to_string(&platform).unwrap_or_default(),
        );
    }
    let response = app.client.image_load(&query, archive).await?;
    let mut stream: JsonLines<JsonMessage> = JsonLines::new(response);
    progress::show(&mut app.ui, Output::Out, &mut stream).await
}

/// `import file|URL|- [REPOSITORY[:TAG]]`
pub(super) async fn import(app: &mut App, matches: &Matches) -> Outcome {
    let source = matches.args.first().map_or("", String::as_str);
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let mut query = Query::new()
        .text("fromSrc", if remote { source } else { "-" })
        .text("message", matches.text_or_empty("message"))
        .text("platform", matches.text_or_empty("platform"));
    if let Some(name) = matches.args.get(1) {
        Reference::parse_normalized(name).map_err(|error| Failure::new(error.to_string()))?;
        query = query.text("repo", name);
    }
    for change in matches.list("change") {
        query = query.text("changes", change);
    }
    let mut stream = if remote {
        app.client.image_import(&query, tokio::io::empty()).await?
    } else if source == "-" {
        app.client.image_import(&query, stdin()?).await?
    } else {
        app.client.image_import(&query, open(source).await?).await?
    };
    progress::show(&mut app.ui, Output::Out, &mut stream).await
}

/// Standard input as an archive to send.
fn stdin() -> Outcome<File> {
    match rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) {
        Ok(fd) => Ok(File::from_std(fd.into())),
        Err(error) => Err(Failure::new(format!(
            "failed to read standard input: {error}"
        ))),
    }
}

async fn open(path: &str) -> Outcome<File> {
    File::open(path)
        .await
        .map_err(|error| Failure::new(format!("open {path}: {}", os_text(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::captured;

    fn show(format: &str, default: &str, image: &ImageSummary) -> String {
        let (mut ui, out, _) = captured(None);
        let now = Timestamp {
            secs: 1_700_000_000,
            nanos: 0,
        };
        let digests = default == TABLE_DIGEST || format.contains("{{.Digest}}");
        let rows = names(image, digests)
            .into_iter()
            .map(|name| row(image, name, false, now))
            .collect();
        table::write(&mut ui, format, default, TITLES, rows, KIND).unwrap();
        out.text()
    }

    #[test]
    fn an_image_has_a_line_for_each_tag() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let image = ImageSummary {
            id: digest.clone(),
            repo_tags: vec![
                "debian:12".to_owned(),
                "docker.io/library/debian:latest".to_owned(),
            ],
            repo_digests: vec![format!("debian@{digest}"), format!("other/x@{digest}")],
            created: 1_699_000_000,
            size: 116_563_210,
            shared_size: -1,
            ..ImageSummary::default()
        };
        insta::assert_snapshot!(show("", TABLE, &image), @"
        REPOSITORY   TAG       IMAGE ID       CREATED       SIZE
        debian       12        abababababab   11 days ago   117MB
        debian       latest    abababababab   11 days ago   117MB
        other/x      <none>    abababababab   11 days ago   117MB
        ");
        insta::assert_snapshot!(show("", TABLE_DIGEST, &image), @"
        REPOSITORY   TAG       DIGEST                                                                    IMAGE ID       CREATED       SIZE
        debian       12        sha256:abababababababababababababababababababababababababababababababab   abababababab   11 days ago   117MB
        debian       latest    sha256:abababababababababababababababababababababababababababababababab   abababababab   11 days ago   117MB
        other/x      <none>    sha256:abababababababababababababababababababababababababababababababab   abababababab   11 days ago   117MB
        ");
        insta::assert_snapshot!(show("{{.Repository}} {{.SharedSize}}", TABLE, &image), @"
        debian N/A
        debian N/A
        other/x N/A
        ");
    }

    #[test]
    fn an_image_without_names_is_listed() {
        assert_eq!(
            show(
                "{{.Repository}}:{{.Tag}} {{.Digest}}",
                TABLE,
                &ImageSummary::default()
            ),
            "<none>:<none> <none>\n"
        );
    }
}
