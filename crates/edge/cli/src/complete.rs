//! Completion in shells: scripts that ask the hidden command `__complete`, and what it answers.
//!
//! Its arguments are the words of the line after the program's name, the last one perhaps unfinished. It prints one
//! candidate a line, with a tab and a description behind it, and last a line with a colon and a sum: 2 when no space
//! follows a candidate, 4 when files are no candidates. This is cobra's protocol
//! (<https://pkg.go.dev/github.com/spf13/cobra#ShellCompDirective>) with one difference: candidates for `--flag=value`
//! are whole words.

mod values;

use std::rc::Rc;

use crate::app::App;
use crate::connection;
use crate::failure::{Failure, Outcome};
use crate::flags::{self, Flag, Kind, Matches};
use crate::spec::{self, Command, Found, GLOBAL, GROUPS};
use crate::ui::safe;

pub(crate) use values::Candidates;

const BASH: &str = include_str!("complete/havre.bash");
const ZSH: &str = include_str!("complete/havre.zsh");
const FISH: &str = include_str!("complete/havre.fish");

/// `completion SHELL`
pub(crate) fn script(app: &mut App, matches: &Matches) -> Outcome {
    let shell = matches.args.first().map_or("", String::as_str);
    let script = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        _ => {
            return Err(Failure::new(format!(
                "there is no completion for {shell:?}: the shells are bash, zsh and fish"
            )));
        }
    };
    app.ui.print(script);
    Ok(())
}

/// `__complete WORD…`
pub(crate) async fn complete(app: &mut App, words: &[String]) -> Outcome {
    let (word, before) = match words.split_last() {
        Some((word, before)) => (word.as_str(), before),
        None => ("", words),
    };
    let place = Place::of(before);
    if let Ok(global) = flags::parse(GLOBAL, before, false)
        && !global.is_empty()
        && let Ok(connection) = connection::resolve(&global, &app.environment, &app.config)
    {
        app.client = Rc::new(connection.client);
    }
    let found = place.candidates(app, word).await;
    let mut seen = std::collections::HashSet::new();
    for (candidate, about) in &found.words {
        if candidate.starts_with(word) && seen.insert(candidate) {
            let about = about.lines().next().unwrap_or_default();
            let tab = if about.is_empty() { "" } else { "\t" };
            app.ui.line(&format!("{}{tab}{about}", safe(candidate)));
        }
    }
    let sum = if found.no_space { 2 } else { 0 } + if found.files { 0 } else { 4 };
    app.ui.line(&format!(":{sum}"));
    Ok(())
}

/// Where in the line the word stands.
#[derive(Debug)]
struct Place {
    command: Option<(&'static Command, &'static str)>,
    group: Option<&'static str>,
    /// The flag whose value the word is.
    flag: Option<&'static Flag>,
    /// Whether `--` has ended the flags, or an argument after which none come.
    flags_over: bool,
    /// The arguments before.
    args: Vec<String>,
}

impl Place {
    fn of(before: &[String]) -> Self {
        let global = Walk::through(GLOBAL, before, false);
        let words = &before[before.len() - global.args.len()..];
        let mut place = Self {
            command: None,
            group: None,
            flag: global.flag,
            flags_over: false,
            args: Vec::new(),
        };
        match spec::find(words) {
            Found::Command(command, path) => {
                let rest = &words[path.split(' ').count()..];
                let walk = Walk::through(command.flags, rest, command.interspersed);
                place.command = Some((command, path));
                place.flag = walk.flag;
                place.flags_over = walk.over;
                place.args = walk.args;
            }
            Found::Group(group) => {
                place.group = Some(group.name);
                place.args = words[1..].to_vec();
            }
            Found::Nothing => place.args = words.to_vec(),
        }
        place
    }

    async fn candidates(&self, app: &App, word: &str) -> Candidates {
        let flags = self.command.map_or(GLOBAL, |(command, _)| command.flags);
        if let Some(flag) = self.flag {
            return values::of_flag(app, flag, self.command, word).await;
        }
        if word.starts_with('-') && !self.flags_over {
            if let Some((name, value)) = word.strip_prefix("--").and_then(|w| w.split_once('=')) {
                let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
                    return Candidates::default();
                };
                let found = values::of_flag(app, flag, self.command, value).await;
                return found.with_prefix(&format!("--{name}="));
            }
            return flag_names(flags);
        }
        match (self.command, self.group) {
            (Some((command, _)), _) => values::of_argument(app, command, &self.args, word).await,
            (None, Some(group)) if self.args.is_empty() => commands_of(group),
            (None, None) if self.args.is_empty() => top_level(),
            (None, None) if self.args.first().is_some_and(|word| word == "help") => top_level(),
            (None, _) => Candidates::default(),
        }
    }
}

/// What the words before tell of flags and arguments; wrong ones are passed over.
#[derive(Debug, Default)]
struct Walk {
    flag: Option<&'static Flag>,
    over: bool,
    args: Vec<String>,
}

impl Walk {
    fn through(flags: &'static [Flag], words: &[String], interspersed: bool) -> Self {
        let mut walk = Self::default();
        for word in words {
            let waits = walk.flag.take().is_some();
            if waits {
                continue;
            }
            if walk.over || !word.starts_with('-') || word == "-" {
                walk.args.push(word.clone());
                walk.over |= !interspersed;
            } else if word == "--" {
                walk.over = true;
            } else {
                walk.flag = waiting(flags, word);
            }
        }
        walk
    }
}

/// The flag that waits for the next word as its value.
fn waiting(flags: &'static [Flag], word: &str) -> Option<&'static Flag> {
    let takes_value = |flag: &&Flag| flag.kind != Kind::Bool;
    if let Some(name) = word.strip_prefix("--") {
        let flag = flags.iter().find(|flag| flag.name == name);
        return flag.filter(takes_value);
    }
    let mut letters = word.chars().skip(1).peekable();
    while let Some(letter) = letters.next() {
        let flag = flags.iter().find(|flag| flag.short == Some(letter))?;
        if takes_value(&flag) {
            return letters.peek().is_none().then_some(flag);
        }
    }
    None
}

fn flag_names(flags: &'static [Flag]) -> Candidates {
    let visible = flags.iter().filter(|flag| !flag.hidden);
    let mut words: Vec<(String, String)> = visible
        .flat_map(|flag| {
            let long = (format!("--{}", flag.name), flag.about.to_owned());
            let short = flag
                .short
                .map(|short| (format!("-{short}"), flag.about.to_owned()));
            [Some(long), short]
        })
        .flatten()
        .collect();
    if !flags.iter().any(|flag| flag.name == "help") {
        words.push((
            "--help".to_owned(),
            "Print the help of the command".to_owned(),
        ));
    }
    words.sort();
    Candidates::of_pairs(words)
}

/// Commands and groups as they are typed first.
fn top_level() -> Candidates {
    let mut words: Vec<(String, String)> = GROUPS
        .iter()
        .map(|group| (group.name.to_owned(), group.about.to_owned()))
        .collect();
    words.push(("help".to_owned(), "Print the help of a command".to_owned()));
    words.extend(
        spec::commands()
            .filter(|command| shown(command))
            .filter_map(|command| {
                Some((command.short_name()?.to_owned(), command.about.to_owned()))
            }),
    );
    words.sort();
    Candidates::of_pairs(words)
}

fn commands_of(group: &str) -> Candidates {
    let mut words: Vec<(String, String)> = spec::commands()
        .filter(|command| shown(command))
        .filter_map(|command| {
            let (owner, name) = command.paths.first()?.split_once(' ')?;
            (owner == group).then(|| (name.to_owned(), command.about.to_owned()))
        })
        .collect();
    words.sort();
    Candidates::of_pairs(words)
}

/// `completion` is left out of help, as is cobra's custom, but people do look for it.
fn shown(command: &Command) -> bool {
    !command.hidden || command.paths.contains(&"completion")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: &str) -> Place {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Place::of(&words)
    }

    #[test]
    fn the_place_of_a_word_is_found() {
        let flag = |line: &str| place(line).flag.map(|flag| flag.name);
        assert_eq!(flag("-H"), Some("host"));
        assert_eq!(flag("-H x run --name"), Some("name"));
        assert_eq!(flag("run -it"), None);
        assert_eq!(flag("run -ite"), Some("env"));
        assert_eq!(flag("run -eA"), None);
        assert_eq!(flag("run --rm"), None);
        assert_eq!(flag("run busybox --name"), None);
        assert_eq!(flag("logs box --tail"), Some("tail"));
        let path = |line: &str| place(line).command.map(|(_, path)| path);
        assert_eq!(path("-D container ls"), Some("container ls"));
        assert_eq!(path("--host=x rm -f"), Some("rm"));
        assert_eq!(path("container"), None);
        assert_eq!(place("container").group, Some("container"));
        assert!(place("run busybox").flags_over);
        assert!(!place("logs box").flags_over);
        assert!(place("logs --").flags_over);
        assert_eq!(place("rm -f a b").args, ["a", "b"]);
    }
}
