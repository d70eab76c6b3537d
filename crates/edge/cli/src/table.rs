//! Lists: `--format` as table, JSON or template, over rows of named values.

use havre_template::Template;
use serde_json::{Map, Value};

use crate::failure::{Failure, Outcome};
use crate::tabwriter;
use crate::ui::{Ui, safe};

/// One row: values by the names that templates use.
pub(crate) type Row = Map<String, Value>;

/// Names of values and the titles of their columns.
pub(crate) type Titles = &'static [(&'static str, &'static str)];

/// The value that templates reach as `.Label "name"`.
pub(crate) const LABELS: &str = "_Labels";

/// Prints rows. `format` is what the user gave, `default` the template of the default table, `kind` what Docker's
/// messages call a row.
pub(crate) fn write(
    ui: &mut Ui,
    format: &str,
    default: &str,
    titles: Titles,
    rows: Vec<Row>,
    kind: &'static str,
) -> Outcome {
    ui.print(&render(format, default, titles, rows, kind)?);
    Ok(())
}

/// The text that [`write`] prints.
pub(crate) fn render(
    format: &str,
    default: &str,
    titles: Titles,
    rows: Vec<Row>,
    kind: &'static str,
) -> Outcome<String> {
    let mut text = String::new();
    let as_json = matches!(format, "json" | "{{json .}}");
    let format = if as_json { "{{json .}}" } else { format };
    let (template, table) = parse(format, default)?;
    let template = template.of_rows(kind);
    if table {
        let mut header: Row = titles
            .iter()
            .map(|(name, title)| ((*name).to_owned(), (*title).into()))
            .collect();
        header.insert(LABELS.to_owned(), Value::Object(Map::new()));
        let header = template.render_header(&Value::Object(header));
        text.push_str(&header.map_err(|error| Failure::new(error.to_string()))?);
        text.push('\n');
    }
    for row in rows {
        // In JSON control characters are escaped anyway.
        let mut row = if as_json { row } else { harmless(row) };
        row.sort_keys();
        let row = template.render(&Value::Object(row));
        let row = row.map_err(|error| Failure::new(error.to_string()))?;
        text.push_str(&row.replace("<no value>", "<nil>"));
        text.push('\n');
    }
    Ok(if table {
        tabwriter::align(&text, 10, 3)
    } else {
        text
    })
}

/// Whether a format can be used, before anything is asked of the engine.
pub(crate) fn check(format: &str) -> Outcome {
    if format == "json" {
        Ok(())
    } else {
        parse(format, "").map(drop)
    }
}

/// The template of a format, and whether its output is a table.
fn parse(format: &str, default: &str) -> Outcome<(Template, bool)> {
    let (template, table) = match format {
        "" | "table" => (default, true),
        custom => match custom.strip_prefix("table") {
            Some(rest) => (rest, true),
            None => (custom, false),
        },
    };
    let template = template
        .trim_matches(' ')
        .replace("\\t", "\t")
        .replace("\\n", "\n");
    let template = Template::parse(&template.replace(".Label ", &format!("label .{LABELS} ")))
        .map_err(|error| Failure::new(error.to_string()))?;
    Ok((template, table))
}

/// The row with all text made safe for a terminal.
fn harmless(mut row: Row) -> Row {
    for value in row.values_mut() {
        make_harmless(value);
    }
    row
}

fn make_harmless(value: &mut Value) {
    match value {
        Value::String(text) => *text = safe(text).into_owned(),
        Value::Object(map) => map.values_mut().for_each(make_harmless),
        Value::Array(items) => items.iter_mut().for_each(make_harmless),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Cuts a text to so many characters; the last one says that something is missing.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{head}\u{2026}")
}

/// The first twelve digits of an id, without the algorithm.
pub(crate) fn short_id(id: &str) -> String {
    id.split_once(':')
        .map_or(id, |(_, hex)| hex)
        .chars()
        .take(12)
        .collect()
}

/// A text in double quotes as Go's `strconv.Quote` writes it.
pub(crate) fn quote(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii_control() => {
                write!(out, "\\x{:02x}", u32::from(c)).ok();
            }
            c if safe(c.encode_utf8(&mut [0; 4])).len() > c.len_utf8() => {
                write!(out, "\\u{:04x}", u32::from(c)).ok();
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ui::testing::captured;

    fn show(format: &str) -> String {
        let rows = [
            json!({"ID": "abc", "Names": "x\x1b[31m", "_Labels": {"a": "1"}}),
            json!({"ID": "def", "Names": "y", "_Labels": {}}),
        ];
        let rows = rows
            .into_iter()
            .map(|row| row.as_object().unwrap().clone())
            .collect();
        let (mut ui, out, _) = captured(None);
        let titles: Titles = &[("ID", "CONTAINER ID"), ("Names", "NAMES")];
        match write(
            &mut ui,
            format,
            "{{.ID}}\t{{.Names}}",
            titles,
            rows,
            "*some.Type",
        ) {
            Ok(()) => out.text(),
            Err(failure) => failure.message,
        }
    }

    #[test]
    fn lists_as_table_json_and_template() {
        let table = "CONTAINER ID   NAMES\nabc            x\\u{1b}[31m\ndef            y\n";
        assert_eq!(show(""), table);
        assert_eq!(show("table"), table);
        assert_eq!(show("table {{.Names}}"), "NAMES\nx\\u{1b}[31m\ny\n");
        assert_eq!(show(r"{{.ID}}\t{{.Names}}"), "abc\tx\\u{1b}[31m\ndef\ty\n");
        assert_eq!(show("{{upper .ID}}{{.Label \"a\"}}"), "ABC1\nDEF\n");
        assert_eq!(show("table {{.Label \"x.a-b\"}}"), "a b\n\n\n");
        assert_eq!(show("{{json .}}"), show("json"));
        assert_eq!(
            show("json"),
            "{\"ID\":\"abc\",\"Names\":\"x\\u001b[31m\"}\n{\"ID\":\"def\",\"Names\":\"y\"}\n"
        );
        assert!(
            show("{{.Nope}}").ends_with("can't evaluate field Nope in type *some.Type"),
            "{}",
            show("{{.Nope}}")
        );
    }

    #[test]
    fn cells_are_cut_and_quoted() {
        assert_eq!(ellipsis("short", 20), "short");
        assert_eq!(
            ellipsis("a rather long command line", 20),
            "a rather long comma\u{2026}"
        );
        assert_eq!(
            quote("a \"b\"\n\x1b\u{9b}é"),
            "\"a \\\"b\\\"\\n\\x1b\\u009bé\""
        );
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
