//! Help as people see it. The snapshots lie beside this file.

use insta::assert_snapshot;

use super::*;
use crate::spec::{Found, find};

fn help_of(line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    match find(&words) {
        Found::Command(found, path) => command(found, path, 80),
        Found::Group(found) => group(found),
        Found::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn front_page_and_groups() {
    assert_snapshot!("front_page", front_page(80, false));
    assert_snapshot!("front_page_brief", front_page(80, true));
    for group in GROUPS {
        assert_snapshot!(format!("group_{}", group.name), help_of(group.name));
    }
}

#[test]
fn each_command() {
    for command in spec::commands() {
        let path = command.paths.last().unwrap();
        assert_snapshot!(format!("command_{}", path.replace(' ', "_")), help_of(path));
    }
}

#[test]
fn a_narrow_terminal() {
    let Found::Command(found, path) = find(&["logs".to_owned()]) else {
        panic!("logs is a command")
    };
    assert_snapshot!("narrow_logs", command(found, path, 50));
}

#[test]
fn names_and_flags_are_unique() {
    let mut paths: Vec<&str> = spec::commands()
        .flat_map(|command| command.paths)
        .copied()
        .collect();
    let count = paths.len();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), count);
    for command in spec::commands() {
        let mut names: Vec<String> = command
            .flags
            .iter()
            .map(|flag| flag.name.to_owned())
            .collect();
        names.extend(
            command
                .flags
                .iter()
                .filter_map(|flag| flag.short)
                .map(String::from),
        );
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{:?}", command.paths);
    }
}

#[test]
fn complaints_are_dockers() {
    let Found::Command(run, path) = find(&["run".to_owned()]) else {
        panic!("run is a command")
    };
    assert_snapshot!(wrong_flag(run, path, "unknown flag: --x"), @"
    unknown flag: --x

    Usage:  havre run [OPTIONS] IMAGE [COMMAND] [ARG...]

    Run 'havre run --help' for more information
    ");
    assert_snapshot!(wrong_arity(run, path, 0).unwrap(), @"
    havre: 'havre run' requires at least 1 argument

    Usage:  havre run [OPTIONS] IMAGE [COMMAND] [ARG...]

    See 'havre run --help' for more information
    ");
    assert_eq!(wrong_arity(run, path, 3), None);
}
