//! What arguments of `ps` ask for: columns and order. Which processes, is settled: those of the container.

use super::columns::{self, Show};

/// One column of the answer.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub title: String,
    pub show: Show,
    /// Long names are cut, unless it is the last column.
    pub is_name: bool,
}

/// One key of the order.
#[derive(Clone, Debug)]
pub(super) struct SortKey {
    pub show: Show,
    pub reverse: bool,
}

/// The arguments, understood.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub columns: Vec<Column>,
    pub sort: Vec<SortKey>,
}

/// The ready-made formats of `ps`, by the letters that choose them, as title and column.
const UNIX: [(&str, &str); 8] = [
    ("", "pid tname time ucmd"),
    ("f", "uname=UID pid ppid c stime tname time cmd"),
    ("F", "uname=UID pid ppid c sz rss psr stime tname time cmd"),
    (
        "l",
        "f s uid pid ppid c opri ni addr sz wchan6 tname time ucmd",
    ),
    (
        "fl",
        "f s uname=UID pid ppid c opri ni addr sz wchan6 stime tname time cmd",
    ),
    ("j", "pid pgid sid tname time ucmd"),
    ("fj", "uname=UID pid ppid pgid sid c stime tname time cmd"),
    (
        "Fl",
        "f s uname=UID pid ppid c opri ni addr sz wchan6 rss psr stime tname time cmd",
    ),
];
const BSD: [(&str, &str); 4] = [
    ("", "pid tname stat bsdtime args"),
    (
        "u",
        "user pid pcpu pmem vsz rss tname stat start_time bsdtime args",
    ),
    (
        "l",
        "f uid pid ppid prio ni vsz rss wchan6 stat tname bsdtime args",
    ),
    ("j", "ppid pid pgid sid tname tpgid stat uid bsdtime args"),
];

/// What has been read so far.
#[derive(Default)]
struct Reading {
    unix: String,
    bsd: Option<String>,
    own: Vec<Column>,
    sort: Vec<SortKey>,
    no_titles: bool,
}

/// Reads the arguments; the text of a failure is the whole message.
pub(super) fn parse(text: &str) -> Result<Request, String> {
    let mut reading = Reading::default();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        reading.word(word, &mut words)?;
    }
    reading.finish()
}

impl Reading {
    fn word<'a>(
        &mut self,
        word: &'a str,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        if let Some(long) = word.strip_prefix("--") {
            return self.long(long, rest);
        }
        let Some(letters) = word.strip_prefix('-') else {
            return self.bsd(word, rest);
        };
        // `-aux` has meant `aux` for ever; strictly it asks for the processes of a user `x`.
        if letters.contains('u') && letters.chars().all(|c| "auxw".contains(c)) && letters != "u" {
            return self.bsd(letters, rest);
        }
        for (at, letter) in letters.char_indices() {
            match letter {
                'e' | 'A' | 'a' | 'd' | 'w' => {}
                'f' | 'F' | 'l' | 'j' => self.unix.push(letter),
                'o' | 'O' => {
                    let inline = letters.get(at + 1..).unwrap_or_default();
                    let standard = letter == 'O';
                    return self.own(value(inline, rest, "-o")?, standard);
                }
                _ => return Err(unsupported(&format!("-{letter}"))),
            }
        }
        Ok(())
    }

    fn bsd<'a>(
        &mut self,
        letters: &'a str,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        let chosen = self.bsd.get_or_insert_default();
        for (at, letter) in letters.char_indices() {
            match letter {
                'a' | 'x' | 'w' => {}
                'u' | 'l' | 'j' => chosen.push(letter),
                'h' => self.no_titles = true,
                'o' => {
                    let inline = letters.get(at + 1..).unwrap_or_default();
                    return self.own(value(inline, rest, "o")?, false);
                }
                'k' => {
                    let inline = letters.get(at + 1..).unwrap_or_default();
                    return self.order(value(inline, rest, "k")?);
                }
                _ => return Err(unsupported(&letter.to_string())),
            }
        }
        Ok(())
    }

    fn long<'a>(
        &mut self,
        word: &'a str,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        let (name, inline) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "format" => self.own(value(inline, rest, "--format")?, false),
            "sort" => self.order(value(inline, rest, "--sort")?),
            "headers" => Ok(()),
            "no-headers" | "no-heading" | "noheader" => {
                self.no_titles = true;
                Ok(())
            }
            _ => Err(unsupported(&format!("--{name}"))),
        }
    }

    /// Columns that are named one by one. `standard` puts them into the usual ones.
    fn own(&mut self, list: &str, standard: bool) -> Result<(), String> {
        let named = list
            .split(',')
            .map(own_column)
            .collect::<Result<Vec<_>, _>>()?;
        if standard {
            self.own.extend(ready_made("pid"));
            self.own.extend(named);
            self.own.extend(ready_made("state tname time cmd"));
        } else {
            self.own.extend(named);
        }
        Ok(())
    }

    fn order(&mut self, list: &str) -> Result<(), String> {
        for key in list.split(',') {
            let reverse = key.starts_with('-');
            let name = key.trim_start_matches(['+', '-']);
            let (_, _, show) = columns::find(name)
                .ok_or_else(|| format!("ps: error: unknown sort specifier \"{name}\""))?;
            self.sort.push(SortKey { show, reverse });
        }
        Ok(())
    }

    fn finish(self) -> Result<Request, String> {
        let bsd = self.bsd.as_deref().unwrap_or_default();
        let asked = usize::from(!self.own.is_empty())
            + usize::from(!self.unix.is_empty())
            + usize::from(!bsd.is_empty());
        if asked > 1 {
            return Err("ps: error: conflicting format options".to_owned());
        }
        let columns = if !self.own.is_empty() {
            self.own
        } else if self.bsd.is_some() && self.unix.is_empty() {
            of_letters(&BSD, bsd)?
        } else {
            of_letters(&UNIX, &self.unix)?
        };
        // Docker finds the container's processes by this column, and says so when it is missing.
        if self.no_titles || !columns.iter().any(|column| column.title == "PID") {
            return Err("Couldn't find PID field in ps output".to_owned());
        }
        Ok(Request {
            columns,
            sort: self.sort,
        })
    }
}

/// The ready-made format that a set of letters chooses.
fn of_letters(table: &[(&str, &str)], letters: &str) -> Result<Vec<Column>, String> {
    let mut sorted: Vec<char> = letters.chars().collect();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.contains(&'F') {
        sorted.retain(|letter| *letter != 'f');
    }
    let wanted: String = sorted.into_iter().collect();
    let found = table.iter().find(|(letters, _)| *letters == wanted);
    let (_, names) = found.ok_or("ps: error: conflicting format options")?;
    Ok(ready_made(names))
}

/// Columns that exist.
fn ready_made(names: &str) -> Vec<Column> {
    let named = names.split(' ').filter_map(|name| {
        let (name, title) = name
            .split_once('=')
            .map_or((name, None), |(name, title)| (name, Some(title)));
        let (_, usual, show) = columns::find(name)?;
        Some(Column {
            title: title.unwrap_or(usual).to_owned(),
            show,
            is_name: columns::is_name(name),
        })
    });
    named.collect()
}

/// `name` or `name=TITLE`. No other column may pass for the process number.
fn own_column(text: &str) -> Result<Column, String> {
    let (name, title) = text
        .split_once('=')
        .map_or((text, None), |(name, title)| (name, Some(title)));
    if let Some(title) = title
        && title.starts_with("PID")
        && name != "pid"
    {
        return Err(format!("specifying \"{name}={title}\" is not allowed"));
    }
    let (_, usual, show) = columns::find(name)
        .ok_or_else(|| format!("ps: error: unknown user-defined format specifier \"{name}\""))?;
    Ok(Column {
        title: title.unwrap_or(usual).to_owned(),
        show,
        is_name: columns::is_name(name),
    })
}

/// The value of an option: what is left of its word, or the next one.
fn value<'a>(
    inline: &'a str,
    rest: &mut impl Iterator<Item = &'a str>,
    option: &str,
) -> Result<&'a str, String> {
    if inline.is_empty() {
        rest.next()
            .ok_or_else(|| format!("ps: error: option {option} needs a value"))
    } else {
        Ok(inline)
    }
}

fn unsupported(option: &str) -> String {
    format!(
        "ps: error: option {option:?} is not supported: use -ef, aux, -l, -F, -j, or -o with a list of columns"
    )
}
