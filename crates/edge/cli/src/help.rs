//! Help texts in Docker's layout, and the messages that point to them.

use std::fmt::Write as _;

use crate::flags::{Flag, Kind};
use crate::spec::{self, Arity, Command, GLOBAL, GROUPS, Group};

/// The name under which people call this program.
pub(crate) const PROGRAM: &str = "havre";

/// The help of one command, called by the path it was typed with.
pub(crate) fn command(command: &Command, path: &str, width: usize) -> String {
    let mut text = format!(
        "Usage:  {}\n\n{}\n",
        usage_line(command, path),
        command.about
    );
    if !command.more.is_empty() {
        writeln!(text, "{}", command.more).ok();
    }
    if command.paths.len() > 1 {
        let names: Vec<String> = command
            .paths
            .iter()
            .map(|path| format!("{PROGRAM} {path}"))
            .collect();
        write!(text, "\nAliases:\n  {}\n", names.join(", ")).ok();
    }
    let flags: Vec<&Flag> = command.flags.iter().filter(|flag| !flag.hidden).collect();
    if !flags.is_empty() {
        write!(text, "\nOptions:\n{}", flag_table(flags, width)).ok();
    }
    text
}

/// The help of a management group.
pub(crate) fn group(group: &Group) -> String {
    let mut rows: Vec<(&str, &str)> = spec::commands()
        .filter(|command| !command.hidden)
        .filter_map(|command| {
            let (owner, name) = command.paths.first()?.split_once(' ')?;
            (owner == group.name).then_some((name, command.about))
        })
        .collect();
    rows.sort_unstable();
    format!(
        "Usage:  {PROGRAM} {name} COMMAND\n\n{about}\n\nCommands:\n{}\nRun '{PROGRAM} {name} COMMAND --help' for more information on a command.\n",
        rows_of(&rows),
        name = group.name,
        about = group.about,
    )
}

/// The front page; `brief` leaves out the short names of what the groups have too.
pub(crate) fn front_page(width: usize, brief: bool) -> String {
    let mut common = Vec::new();
    let mut others = Vec::new();
    for command in spec::commands() {
        let Some(name) = command.short_name() else {
            continue;
        };
        if command.hidden {
            continue;
        }
        let grouped = command.paths.iter().any(|path| path.contains(' '));
        match command.common {
            None if brief && grouped => {}
            Some(place) => common.push((place, name, command.about)),
            None => others.push((name, command.about)),
        }
    }
    common.sort_unstable();
    others.sort_unstable();
    let common: Vec<(&str, &str)> = common
        .into_iter()
        .map(|(_, name, about)| (name, about))
        .collect();
    let groups: Vec<(&str, &str)> = GROUPS
        .iter()
        .map(|group| (group.name, group.about))
        .collect();
    format!(
        "Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nRun containers\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nGlobal Options:\n{}\nRun '{PROGRAM} COMMAND --help' for more information on a command.\n",
        rows_of(&common),
        rows_of(&groups),
        rows_of(&others),
        flag_table(GLOBAL.iter().filter(|flag| !flag.hidden).collect(), width),
    )
}

/// `havre run [OPTIONS] IMAGE …`
pub(crate) fn usage_line(command: &Command, path: &str) -> String {
    let options = if command.flags.is_empty() {
        ""
    } else {
        " [OPTIONS]"
    };
    let arguments = if command.usage.is_empty() {
        String::new()
    } else {
        format!(" {}", command.usage)
    };
    format!("{PROGRAM} {path}{options}{arguments}")
}

/// What is said about a wrong flag.
pub(crate) fn wrong_flag(command: &Command, path: &str, error: &str) -> String {
    let usage = usage_line(command, path);
    format!("{error}\n\nUsage:  {usage}\n\nRun '{PROGRAM} {path} --help' for more information")
}

/// What is said about a wrong number of arguments; `None` when the number is right.
pub(crate) fn wrong_arity(command: &Command, path: &str, given: usize) -> Option<String> {
    let (needs, see) = match command.arity {
        Arity::Exactly(0) if given > 0 => ("accepts no arguments".to_owned(), "Run"),
        Arity::Exactly(n) if given != n => (format!("requires {}", arguments(n)), "Run"),
        Arity::AtLeast(n) if given < n => (format!("requires at least {}", arguments(n)), "See"),
        Arity::AtMost(n) if given > n => (format!("requires at most {}", arguments(n)), "Run"),
        Arity::Between(least, most) if given < least || given > most => (
            format!("requires at least {least} and at most {}", arguments(most)),
            "Run",
        ),
        Arity::Exactly(_) | Arity::AtLeast(_) | Arity::AtMost(_) | Arity::Between(..) => {
            return None;
        }
    };
    let usage = usage_line(command, path);
    Some(format!(
        "{PROGRAM}: '{PROGRAM} {path}' {needs}\n\nUsage:  {usage}\n\n{see} '{PROGRAM} {path} --help' for more information"
    ))
}

fn arguments(n: usize) -> String {
    if n == 1 {
        "1 argument".to_owned()
    } else {
        format!("{n} arguments")
    }
}

/// Names in a column that fits the longest name of the program, as cobra pads them.
fn rows_of(rows: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, about) in rows {
        writeln!(text, "  {name:<11} {about}").ok();
    }
    text
}

fn flag_table(mut flags: Vec<&Flag>, width: usize) -> String {
    flags.sort_unstable_by_key(|flag| flag.name);
    let heads: Vec<String> = flags.iter().map(|flag| head(flag)).collect();
    let column = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for (flag, head) in flags.iter().zip(&heads) {
        let mut about = flag.about.to_owned();
        if !flag.default.is_empty() {
            write!(about, " (default {})", flag.default).ok();
        }
        writeln!(
            text,
            "{head:<column$}{}",
            wrap(&about, column, width.saturating_sub(1))
        )
        .ok();
    }
    text
}

/// `  -m, --memory bytes`
fn head(flag: &Flag) -> String {
    let word = match flag.kind {
        Kind::Bool => "",
        Kind::Text => "string",
        Kind::Many(word) => word,
        Kind::Int => "int",
        Kind::Uint16 => "uint16",
        Kind::Uint => "uint",
        Kind::Bytes => "bytes",
        Kind::Decimal => "decimal",
        Kind::Duration => "duration",
    };
    let short = match flag.short {
        Some(short) => format!("-{short},"),
        None => "   ".to_owned(),
    };
    format!("  {short} --{} {word}", flag.name)
        .trim_end()
        .to_owned()
}

/// Breaks a text into lines of a column that begins at `indent`. As in pflag a line aims to end five characters
/// early, and uses those for the last word of the text.
fn wrap(text: &str, indent: usize, width: usize) -> String {
    const SLOP: usize = 5;
    let room = width.saturating_sub(indent);
    if room < 24 {
        return text.replace('\n', &format!("\n{}", " ".repeat(indent)));
    }
    let limit = room - SLOP;
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut rest = paragraph;
        while rest.len() >= limit + SLOP {
            // A word that is longer than the column stands alone.
            let before = rest
                .get(..limit)
                .and_then(|head| head.rfind([' ', '\t']))
                .filter(|at| *at > 0);
            let Some(at) = before.or_else(|| rest.find([' ', '\t'])) else {
                break;
            };
            lines.push(&rest[..at]);
            rest = &rest[at + 1..];
        }
        lines.push(rest);
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests;
