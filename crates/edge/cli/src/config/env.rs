//! Environment variables and labels, from flags and from files.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use havre_engine_types::StringMap;

use super::{ConfigError, Result};
use crate::failure::os_text;
use crate::flags::Matches;

/// The environment of this process, which `-e NAME` reads.
pub(crate) type Environment = BTreeMap<String, String>;

/// The largest file of variables or labels that is read.
const FILE_MAX: u64 = 1 << 20;

/// `--env-file` first, then `--env`, so that flags win.
pub(crate) fn collect(matches: &Matches, environment: &Environment) -> Result<Vec<String>> {
    let mut env = Vec::new();
    for path in matches.list("env-file") {
        for line in lines_of(path)? {
            env.extend(variable_of_line(path, &line, environment)?);
        }
    }
    for text in matches.list("env") {
        if text.is_empty() || text.starts_with('=') {
            let cause = format!("invalid environment variable: {text}");
            return Err(ConfigError::invalid("-e, --env", text, cause));
        }
        env.push(with_value(text, environment).unwrap_or_else(|| text.to_owned()));
    }
    Ok(env)
}

/// `--label-file` first, then `--label`.
pub(super) fn labels(matches: &Matches) -> Result<StringMap> {
    let mut labels = StringMap::new();
    for path in matches.list("label-file") {
        for line in lines_of(path)? {
            checked_name(path, &line)?;
            // As in files of variables a name alone says nothing; a label has no other place to get a value from.
            labels.extend(line.contains('=').then(|| super::key_value(&line)));
        }
    }
    for text in matches.list("label") {
        let (key, value) = super::key_value(text);
        if key.is_empty() {
            return Err(ConfigError::invalid(
                "-l, --label",
                text,
                format!("invalid label '{text}': empty name"),
            ));
        }
        labels.insert(key, value);
    }
    Ok(labels)
}

/// `NAME=value` as it is, `NAME` with the value it has here.
fn with_value(text: &str, environment: &Environment) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    environment.get(text).map(|value| format!("{text}={value}"))
}

fn variable_of_line(path: &str, line: &str, environment: &Environment) -> Result<Option<String>> {
    checked_name(path, line)?;
    Ok(with_value(line, environment))
}

fn checked_name(path: &str, line: &str) -> Result<()> {
    let problem =
        |cause: String| ConfigError::problem(format!("invalid env file ({path}): {cause}"));
    let name = line.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(problem(format!("no variable name on line '{line}'")));
    }
    if name.contains(char::is_whitespace) {
        return Err(problem(format!("variable '{name}' contains whitespaces")));
    }
    Ok(())
}

/// The lines of a file that say something: without blank ones, comments, leading blanks and a byte order mark.
fn lines_of(path: &str) -> Result<Vec<String>> {
    let problem =
        |error: io::Error| ConfigError::problem(format!("open {path}: {}", os_text(&error)));
    let file = fs_err::File::open(path).map_err(problem)?;
    let mut text = String::new();
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(problem)?;
    if u64::try_from(text.len()).is_ok_and(|len| len > FILE_MAX) {
        return Err(ConfigError::problem(format!(
            "{path} is larger than {FILE_MAX} bytes"
        )));
    }
    let lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim_start);
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}
