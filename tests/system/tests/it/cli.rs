//! Docker's command line beside Havre's, on one engine: the same lines, the same output, errors and exit codes.
//!
//! `lines.txt` has a line for each; before ` ;; ` stands what is done first, with docker, for each of the two, its
//! commands parted by semicolons. Not in it is where the two differ on purpose: texts of help, and fields that newer
//! versions of docker print.

use crate::support::{SLEEPING_BOX, engine, text};
use anyhow::Result;
use havre_testkit::Engine;
use std::process::{Command, Output, Stdio};

const LINES: &str = include_str!("cli/lines.txt");

/// The version of the API that this docker speaks; Havre's client would speak the engine's newest.
const API: &str = "1.50";

#[test]
fn both_command_lines_answer_alike() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    engine.docker(&[
        "run",
        "--name",
        "done",
        "--network",
        "none",
        "busybox",
        "echo",
        "hi",
    ])?;
    let mut differences = Vec::new();
    let lines = LINES.lines().filter(|line| !line.is_empty());
    let mut count = 0;
    for line in lines {
        differences.extend(difference(&engine, line)?);
        count += 1;
    }
    assert!(
        differences.is_empty(),
        "{} of {count} lines:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(count > 200, "{count} lines");
    Ok(())
}

/// What differs; an age on which a second passes between the two is asked for again.
fn difference(engine: &Engine, line: &str) -> Result<Option<String>> {
    let (before, words) = line.split_once(" ;; ").unwrap_or(("", line));
    let words = words_of(words);
    let mut difference = None;
    for _ in 0..3 {
        prepare(engine, before)?;
        let theirs = answer(engine.docker_command(&words))?;
        prepare(engine, before)?;
        let ours = answer(engine.havre_command(&words))?;
        if theirs == ours {
            return Ok(None);
        }
        difference = Some(format!("{line}\n  docker: {theirs:?}\n  havre:  {ours:?}"));
    }
    Ok(difference)
}

fn prepare(engine: &Engine, commands: &str) -> Result<()> {
    for command in commands.split("; ").filter(|command| !command.is_empty()) {
        // A container that is to be removed may not be there, and one that is to run may fail.
        engine.docker_output(&words_of(command))?;
    }
    Ok(())
}

/// Exit code, output and errors, without what differs from call to call and without the names of the programs.
fn answer(mut command: Command) -> Result<(Option<i32>, String, String)> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .env("DOCKER_API_VERSION", API)
        .stdin(Stdio::null())
        .output()?;
    let same = |bytes: &[u8]| {
        let text = text(bytes)
            .replace("docker", "havre")
            .replace("Docker", "Havre");
        without_ids(&text)
    };
    Ok((status.code(), same(&stdout), same(&stderr)))
}

/// Ids and times as `#`: words of digits that are long enough to be one.
fn without_ids(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z');
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if is_part(c) {
            word.push(c);
            continue;
        }
        let digits = word.chars().filter(char::is_ascii_digit).count();
        let is_time = word.contains('T') && digits > 10;
        let hex = word.rsplit(':').next().unwrap_or_default();
        let is_id = matches!(hex.len(), 12 | 64) && hex.chars().all(|c| c.is_ascii_hexdigit());
        out.push_str(if is_time || is_id { "#" } else { &word });
        out.push(c);
        word.clear();
    }
    out
}

/// Words parted by blanks; single quotes keep blanks together.
fn words_of(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn words_are_parted_as_a_shell_does() {
    assert_eq!(words_of("a  'b c' '' d'e f'"), ["a", "b c", "", "de f"]);
}
