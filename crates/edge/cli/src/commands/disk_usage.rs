//! `system df`.

use havre_engine_types::{ContainerSummary, ImageSummary, gojson};
use havre_types::{Reference, Timestamp, duration, size};
use serde_json::{Map, Value, json};

use super::images::{self, NONE, Name};
use super::ps;
use crate::app::App;
use crate::failure::{BAD_TEMPLATE, Failure, Outcome};
use crate::flags::Matches;
use crate::table::{self, Row, Titles};

const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const TITLES: Titles = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const RAW: &str = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n";
const IMAGES: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "{{.Name}}\t{{.Links}}\t{{.Size}}";
const VOLUME_TITLES: Titles = &[
    ("Name", "VOLUME NAME"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
];
const CACHE: &str = "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";
const CACHE_TITLES: Titles = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

/// The sum of one kind of object.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    total: u64,
    active: u64,
    size: u64,
    reclaimable: u64,
    items: Vec<Value>,
}

/// All kinds: images, containers, volumes, build cache.
#[derive(Debug, Default)]
struct Usage {
    images: Section,
    containers: Section,
    volumes: Section,
    cache: Section,
}

/// `system df`
pub(super) async fn show(app: &mut App, matches: &Matches) -> Outcome {
    let format = matches.text_or_empty("format").to_owned();
    table::check(&format)?;
    let usage = Usage::of(&app.client.disk_usage().await?);
    if !matches.on("verbose") {
        let format = if format == "raw" { RAW } else { &format };
        let rows = vec![
            usage.images.row("Images", true),
            usage.containers.row("Containers", true),
            usage.volumes.row("Local Volumes", true),
            usage.cache.row("Build Cache", false),
        ];
        return table::write(
            &mut app.ui,
            format,
            TABLE,
            TITLES,
            rows,
            "*formatter.diskUsageImagesContext",
        );
    }
    let now = Timestamp::now();
    if matches!(format.as_str(), "" | "table") {
        let text = usage.pages(now)?;
        app.ui.print(&text);
        return Ok(());
    }
    let data = json!({
        "Images": usage.image_rows(false, now)?,
        "Containers": usage.container_rows(false, now)?,
        "Volumes": usage.volume_rows(),
        "BuildCache": usage.cache_rows(now),
    });
    let data = sorted(data);
    let template = if format == "json" {
        "{{json .}}"
    } else {
        &format
    };
    let template = havre_template::Template::parse(template)
        .map_err(|error| Failure::with_code(error.to_string(), BAD_TEMPLATE))?;
    let text = template
        .of_rows("*formatter.diskUsageContext")
        .render(&data)
        .map_err(|error| Failure::new(error.to_string()))?;
    app.ui.print(&text);
    Ok(())
}

/// The rows with their fields in the order in which they print themselves.
fn sorted(mut data: Value) -> Value {
    for rows in data.as_object_mut().into_iter().flat_map(Map::values_mut) {
        for row in rows.as_array_mut().into_iter().flatten() {
            if let Some(row) = row.as_object_mut() {
                row.sort_keys();
            }
        }
    }
    data
}

fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

fn text_of(value: &Value, field: &str) -> String {
    let text = value.get(field).and_then(Value::as_str).unwrap_or_default();
    text.to_owned()
}

impl Usage {
    /// Since API 1.52 the engine does the sums; before, it gives the objects.
    fn of(value: &Value) -> Self {
        let items = |field: &str| -> Vec<Value> {
            value
                .get(field)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let summed = |field: &str| value.get(field).map(Section::summed);
        Self {
            images: summed("ImageUsage").unwrap_or_else(|| {
                let layers = number(value, "/LayersSize").unwrap_or(0);
                Section::of_images(items("Images"), layers)
            }),
            containers: summed("ContainerUsage")
                .unwrap_or_else(|| Section::of_containers(items("Containers"))),
            volumes: summed("VolumeUsage").unwrap_or_else(|| Section::of_volumes(items("Volumes"))),
            cache: summed("BuildCacheUsage")
                .unwrap_or_else(|| Section::of_cache(items("BuildCache"))),
        }
    }

    fn pages(&self, now: Timestamp) -> Outcome<String> {
        let table = |default: &str, titles: Titles, rows: Vec<Row>| {
            table::render("", default, titles, rows, "")
        };
        Ok(format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
            table(IMAGES, images::TITLES, self.image_rows(true, now)?)?,
            table(CONTAINERS, ps::TITLES, self.container_rows(true, now)?)?,
            table(VOLUMES, VOLUME_TITLES, self.volume_rows())?,
            size::human_decimal4(self.cache.size),
            table(CACHE, CACHE_TITLES, self.cache_rows(now))?,
        ))
    }

    fn image_rows(&self, short: bool, now: Timestamp) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        for item in &self.images.items {
            let image: ImageSummary = parse(item)?;
            let first = image.repo_tags.first();
            let name = first.and_then(|name| Reference::parse_normalized(name).ok());
            let name = Name {
                repository: name
                    .as_ref()
                    .map_or_else(|| NONE.to_owned(), Reference::familiar_name),
                tag: name
                    .as_ref()
                    .and_then(|name| name.tag())
                    .unwrap_or(NONE)
                    .to_owned(),
                digest: String::new(),
            };
            rows.push(images::row(&image, name, !short, now));
        }
        Ok(rows)
    }

    fn container_rows(&self, short: bool, now: Timestamp) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        for item in &self.containers.items {
            let mut container: ContainerSummary = parse(item)?;
            // The image's part is counted with the images.
            container.size_root_fs = 0;
            let mut row = ps::row(&container, !short, now);
            row.remove(table::LABELS);
            rows.push(row);
        }
        Ok(rows)
    }

    fn volume_rows(&self) -> Vec<Row> {
        let row = |volume: &Value| {
            let known = |pointer: &str| number(volume, pointer);
            let links = known("/UsageData/RefCount").map_or("N/A".to_owned(), |n| n.to_string());
            let bytes = known("/UsageData/Size").map_or("N/A".to_owned(), size::human_decimal);
            let labels = volume.get("Labels").and_then(Value::as_object);
            let labels: Vec<String> = labels
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect();
            let mut row = Row::new();
            for name in ["Availability", "Group", "Status"] {
                row.insert(name.to_owned(), "N/A".into());
            }
            for name in ["Driver", "Mountpoint", "Name", "Scope"] {
                row.insert(name.to_owned(), text_of(volume, name).into());
            }
            row.insert("Labels".to_owned(), labels.join(",").into());
            row.insert("Links".to_owned(), links.into());
            row.insert("Size".to_owned(), bytes.into());
            row
        };
        self.volumes.items.iter().map(row).collect()
    }

    fn cache_rows(&self, now: Timestamp) -> Vec<Row> {
        let ago = |item: &Value, field: &str| match Timestamp::parse_rfc3339(&text_of(item, field))
        {
            Ok(time) if !time.is_zero() => {
                format!("{} ago", duration::human(now.since(time)))
            }
            _ => String::new(),
        };
        let row = |item: &Value| {
            let flag = |field: &str| item.get(field).and_then(Value::as_bool).unwrap_or(false);
            let count = number(item, "/UsageCount").unwrap_or(0);
            let bytes = number(item, "/Size").unwrap_or(0);
            let values = [
                ("ID", table::short_id(&text_of(item, "ID"))),
                ("CacheType", text_of(item, "Type")),
                ("Description", text_of(item, "Description")),
                ("Size", size::human_decimal(bytes)),
                ("CreatedSince", ago(item, "CreatedAt")),
                ("LastUsedSince", ago(item, "LastUsedAt")),
                ("UsageCount", count.to_string()),
                ("Shared", flag("Shared").to_string()),
                ("InUse", flag("InUse").to_string()),
            ];
            let values = values.into_iter();
            values
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect::<Map<_, _>>()
        };
        self.cache.items.iter().map(row).collect()
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> Outcome<T> {
    gojson::from_value(value.clone()).map_err(|error| Failure::new(error.to_string()))
}

impl Section {
    fn summed(value: &Value) -> Self {
        let field = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        Self {
            total: field("TotalCount"),
            active: field("ActiveCount"),
            size: field("TotalSize"),
            reclaimable: field("Reclaimable"),
            items: value
                .get("Items")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
        }
    }

    fn of(items: Vec<Value>, size: u64, is_active: impl Fn(&Value) -> bool) -> Self {
        Self {
            total: items.len() as u64,
            active: items.iter().filter(|item| is_active(item)).count() as u64,
            size,
            reclaimable: 0,
            items,
        }
    }

    fn of_images(items: Vec<Value>, layers: u64) -> Self {
        let used = |item: &Value| number(item, "/Containers").unwrap_or(0) > 0;
        let own = |item: &Value| {
            let shared = number(item, "/SharedSize")?;
            Some(number(item, "/Size")?.saturating_sub(shared))
        };
        let needed: u64 = items.iter().filter(|item| used(item)).filter_map(own).sum();
        Self {
            reclaimable: layers.saturating_sub(needed),
            ..Self::of(items, layers, used)
        }
    }

    fn of_containers(items: Vec<Value>) -> Self {
        let active = |item: &Value| {
            matches!(
                text_of(item, "State").as_str(),
                "running" | "paused" | "restarting"
            )
        };
        let own = |item: &Value| number(item, "/SizeRw").unwrap_or(0);
        let size = items.iter().map(own).sum();
        let reclaimable = items.iter().filter(|item| !active(item)).map(own).sum();
        Self {
            reclaimable,
            ..Self::of(items, size, active)
        }
    }

    fn of_volumes(items: Vec<Value>) -> Self {
        let active = |item: &Value| number(item, "/UsageData/RefCount").unwrap_or(0) > 0;
        let own = |item: &Value| number(item, "/UsageData/Size").unwrap_or(0);
        let size = items.iter().map(own).sum();
        let reclaimable = items.iter().filter(|item| !active(item)).map(own).sum();
        Self {
            reclaimable,
            ..Self::of(items, size, active)
        }
    }

    fn of_cache(items: Vec<Value>) -> Self {
        let flag =
            |item: &Value, field: &str| item.get(field).and_then(Value::as_bool).unwrap_or(false);
        let own = |item: &&Value| !flag(item, "Shared");
        let bytes = |item: &Value| number(item, "/Size").unwrap_or(0);
        let size = items.iter().filter(own).map(bytes).sum();
        let idle = |item: &&Value| !flag(item, "InUse");
        let reclaimable = items.iter().filter(own).filter(idle).map(bytes).sum();
        Self {
            reclaimable,
            ..Self::of(items, size, |item| flag(item, "InUse"))
        }
    }

    fn row(&self, kind: &str, share: bool) -> Row {
        let bytes = size::human_decimal4(self.reclaimable);
        let reclaimable = match self.reclaimable.saturating_mul(100).checked_div(self.size) {
            Some(percent) if share => format!("{bytes} ({percent}%)"),
            _ => bytes,
        };
        let values = [
            ("Type", kind.to_owned()),
            ("TotalCount", self.total.to_string()),
            ("Active", self.active.to_string()),
            ("Size", size::human_decimal4(self.size)),
            ("Reclaimable", reclaimable),
        ];
        let values = values.into_iter();
        values
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_answer_are_the_same_sums() {
        let old = Usage::of(&json!({
            "LayersSize": 1000,
            "Images": [{"Containers": 1, "Size": 700, "SharedSize": 100}, {"Containers": 0, "Size": 400, "SharedSize": 100}],
            "Containers": [{"State": "running", "SizeRw": 5}, {"State": "exited", "SizeRw": 7}],
            "Volumes": [{"UsageData": {"RefCount": 0, "Size": 3}}],
            "BuildCache": null
        }));
        let new = Usage::of(&json!({
            "ImageUsage": {"TotalCount": 2, "ActiveCount": 1, "TotalSize": 1000, "Reclaimable": 400},
            "ContainerUsage": {"TotalCount": 2, "ActiveCount": 1, "TotalSize": 12, "Reclaimable": 7},
            "VolumeUsage": {"TotalCount": 1, "TotalSize": 3, "Reclaimable": 3},
            "BuildCacheUsage": {}
        }));
        for usage in [old, new] {
            let rows = vec![
                usage.images.row("Images", true),
                usage.containers.row("Containers", true),
                usage.volumes.row("Local Volumes", true),
                usage.cache.row("Build Cache", false),
            ];
            insta::allow_duplicates!(
                insta::assert_snapshot!(table::render("", TABLE, TITLES, rows, "").unwrap(), @"
                TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE
                Images          2         1         1kB       400B (40%)
                Containers      2         1         12B       7B (58%)
                Local Volumes   1         0         3B        3B (100%)
                Build Cache     0         0         0B        0B
                ")
            );
        }
    }
}
