//! `docs/api-coverage.md` says what the route table says. `HAVRE_UPDATE_DOCS=1 cargo test -p havre-http coverage`
//! writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/api-coverage.md");
const OPERATIONS: &str = include_str!("../../data/engine-api-swagger-ops.txt");

#[test]
fn the_coverage_document_is_true() {
    let wanted = document();
    if std::env::var_os("HAVRE_UPDATE_DOCS").is_some() {
        fs_err::write(DOCUMENT, &wanted).unwrap();
    }
    let written = fs_err::read_to_string(DOCUMENT).unwrap_or_default();
    assert_eq!(written, wanted, "write it anew with HAVRE_UPDATE_DOCS=1");
}

fn document() -> String {
    let mut groups: BTreeMap<&str, Vec<(&str, &str, bool)>> = BTreeMap::new();
    for line in OPERATIONS.lines() {
        let (method, path) = line
            .split_once('\t')
            .expect("a method and a path, parted by a tab");
        let route = havre_http::routes()
            .iter()
            .find(|route| route.method == method && route.path == path);
        let answered = route.is_some_and(havre_http::Route::implemented);
        let group = path
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        groups
            .entry(group)
            .or_default()
            .push((method, path, answered));
    }
    let all: usize = groups.values().map(Vec::len).sum();
    let done = groups.values().flatten().filter(|row| row.2).count();
    let mut text = format!(
        "# Coverage of the Engine API\n\n\
         Generated from the route table and the operations of the API's description, version 1.56: \
         {done} of {all} are answered. The others give status 501 and a message that names them.\n"
    );
    for (group, rows) in groups {
        let done = rows.iter().filter(|row| row.2).count();
        // Writing to a string cannot fail.
        writeln!(
            text,
            "\n## {group}: {done} of {}\n\n| operation | answered |\n|---|---|",
            rows.len()
        )
        .unwrap();
        for (method, path, answered) in rows {
            writeln!(
                text,
                "| `{method} {path}` | {} |",
                if answered { "yes" } else { "no" }
            )
            .unwrap();
        }
    }
    text.push_str(&others());
    text
}

/// What the description leaves out: Docker's experimental operations, and Havre's own.
fn others() -> String {
    let mut text =
        "\n## not in the description\n\n| operation | answered |\n|---|---|\n".to_owned();
    for route in havre_http::routes() {
        let known = OPERATIONS
            .lines()
            .any(|line| line.split_once('\t') == Some((route.method, route.path)));
        if !known {
            let answered = if route.implemented() { "yes" } else { "no" };
            // Writing to a string cannot fail.
            writeln!(text, "| `{} {}` | {answered} |", route.method, route.path).unwrap();
        }
    }
    text
}
