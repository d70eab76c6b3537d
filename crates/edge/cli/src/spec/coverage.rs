//! `docs/cli-coverage.md` says what the flag table says. `HAVRE_UPDATE_DOCS=1 cargo test -p havre-cli coverage` writes
//! it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Command, commands};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/cli-coverage.md");
/// A command, its spellings, and its flags, parted by tabs.
const DOCKER: &str = include_str!("../../data/docker-cli-commands.txt");

#[test]
fn the_coverage_document_is_true() {
    let wanted = document();
    if std::env::var_os("HAVRE_UPDATE_DOCS").is_some() {
        fs_err::write(DOCUMENT, &wanted).unwrap();
    }
    let written = fs_err::read_to_string(DOCUMENT).unwrap_or_default();
    assert_eq!(written, wanted, "write it anew with HAVRE_UPDATE_DOCS=1");
}

/// What there is of one of docker's commands.
struct Row {
    name: &'static str,
    there: bool,
    flags: usize,
    missing: Vec<String>,
}

impl Row {
    fn of(line: &'static str) -> Self {
        let mut fields = line.split('\t');
        let mut field = || fields.next().unwrap_or_default();
        let (name, spellings, flags) = (field(), field(), field());
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let command = commands().find(|command| command.paths.contains(&name));
        let mut missing = Vec::new();
        if let Some(command) = command {
            let spellings = spellings.split(", ");
            let spellings = spellings.filter(|spelling| !command.paths.contains(spelling));
            missing.extend(spellings.map(str::to_owned));
            let flags = flags.iter().filter(|flag| !has(command, flag));
            missing.extend(flags.map(|flag| (*flag).to_owned()));
        }
        Self {
            name,
            there: command.is_some(),
            flags: flags.len(),
            missing,
        }
    }

    fn done(&self) -> usize {
        let missing = self.missing.iter().filter(|text| text.starts_with('-'));
        if self.there {
            self.flags - missing.count()
        } else {
            0
        }
    }
}

/// Whether a command takes a flag, written as `-a/--all` or `--all`.
fn has(command: &Command, text: &str) -> bool {
    let (short, long) = match text.split_once('/') {
        Some((short, long)) => (short.chars().nth(1), long),
        None => (None, text),
    };
    let name = long.trim_start_matches('-');
    let named = command.flags.iter().find(|flag| flag.name == name);
    named.is_some_and(|flag| !flag.hidden && flag.short == short)
}

fn document() -> String {
    let mut groups: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for line in DOCKER.lines() {
        let row = Row::of(line);
        let group = match row.name.split_once(' ') {
            Some((group, _)) => group,
            None => "without a group",
        };
        groups.entry(group).or_default().push(row);
    }
    let rows = || groups.values().flatten();
    let mut text = format!(
        "# Coverage of the command line\n\nGenerated from the table of commands and flags, and the list of those of \
         the docker command line, version 29: {} of {} commands and {} of {} flags are there, each with all its \
         spellings unless something is said.\n",
        rows().filter(|row| row.there).count(),
        rows().count(),
        rows().map(Row::done).sum::<usize>(),
        rows().map(|row| row.flags).sum::<usize>(),
    );
    for (group, rows) in &groups {
        let there = rows.iter().filter(|row| row.there).count();
        // Writing to a string cannot fail.
        writeln!(
            text,
            "\n## {group}: {there} of {}\n\n| command | there | flags | missing |\n|---|---|---|---|",
            rows.len()
        )
        .unwrap();
        for row in rows {
            let there = if row.there { "yes" } else { "no" };
            let missing: Vec<String> = row.missing.iter().map(|text| format!("`{text}`")).collect();
            let (name, done, all) = (row.name, row.done(), row.flags);
            let missing = missing.join(" ");
            writeln!(text, "| `{name}` | {there} | {done} of {all} | {missing} |").unwrap();
        }
    }
    text
}
