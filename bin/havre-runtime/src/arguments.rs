//! The command line: global flags, a command, its flags, its words.
//!
//! As in runc, flags may be written with one or two dashes, `--flag=value` or `--flag value`, and
//! end at the first word that is not one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use anyhow::{Result, bail};

/// Flags before the command.
#[derive(Debug, Default)]
pub(crate) struct Global {
    pub(crate) root: Option<PathBuf>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) log_format: Option<OsString>,
    pub(crate) criu: Option<PathBuf>,
}

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) global: Global,
    pub(crate) command: String,
    flags: Vec<(&'static str, OsString)>,
    pub(crate) words: Vec<OsString>,
}

/// A flag: its name, its one letter if it has one, and whether a value follows.
type Flag = (&'static str, &'static str, bool);

const GLOBAL: &[Flag] = &[
    ("root", "", true),
    ("log", "", true),
    ("log-format", "", true),
    ("debug", "", false),
    ("systemd-cgroup", "", false),
    ("rootless", "", true),
    ("criu", "", true),
    ("help", "h", false),
    ("version", "v", false),
];

const CREATE: &[Flag] = &[
    ("bundle", "b", true),
    ("console-socket", "", true),
    ("pid-file", "", true),
    ("no-pivot", "", false),
    ("no-new-keyring", "", false),
    ("preserve-fds", "", true),
];

const RUN: &[Flag] = &[
    ("bundle", "b", true),
    ("console-socket", "", true),
    ("detach", "d", false),
    ("keep", "", false),
    ("pid-file", "", true),
    ("no-pivot", "", false),
    ("no-new-keyring", "", false),
    ("no-subreaper", "", false),
    ("preserve-fds", "", true),
];

const EXEC: &[Flag] = &[
    ("console-socket", "", true),
    ("cwd", "", true),
    ("env", "e", true),
    ("tty", "t", false),
    ("user", "u", true),
    ("additional-gids", "g", true),
    ("process", "p", true),
    ("detach", "d", false),
    ("pid-file", "", true),
    ("process-label", "", true),
    ("apparmor", "", true),
    ("no-new-privs", "", false),
    ("cap", "c", true),
    ("preserve-fds", "", true),
    ("ignore-paused", "", false),
    ("no-subreaper", "", false),
];

const UPDATE: &[Flag] = &[
    ("resources", "r", true),
    ("blkio-weight", "", true),
    ("cpu-period", "", true),
    ("cpu-quota", "", true),
    ("cpu-burst", "", true),
    ("cpu-share", "", true),
    ("cpu-rt-period", "", true),
    ("cpu-rt-runtime", "", true),
    ("cpuset-cpus", "", true),
    ("cpuset-mems", "", true),
    ("memory", "", true),
    ("memory-reservation", "", true),
    ("memory-swap", "", true),
    ("pids-limit", "", true),
];

const CHECKPOINT: &[Flag] = &[
    ("image-path", "", true),
    ("work-path", "", true),
    ("parent-path", "", true),
    ("leave-running", "", false),
    ("tcp-established", "", false),
    ("tcp-skip-in-flight", "", false),
    ("link-remap", "", false),
    ("ext-unix-sk", "", false),
    ("shell-job", "", false),
    ("lazy-pages", "", false),
    ("status-fd", "", true),
    ("page-server", "", true),
    ("file-locks", "", false),
    ("pre-dump", "", false),
    ("manage-cgroups-mode", "", true),
    ("empty-ns", "", true),
    ("auto-dedup", "", false),
];

const RESTORE: &[Flag] = &[
    ("console-socket", "", true),
    ("image-path", "", true),
    ("work-path", "", true),
    ("tcp-established", "", false),
    ("ext-unix-sk", "", false),
    ("shell-job", "", false),
    ("file-locks", "", false),
    ("manage-cgroups-mode", "", true),
    ("bundle", "b", true),
    ("detach", "d", false),
    ("pid-file", "", true),
    ("no-subreaper", "", false),
    ("no-pivot", "", false),
    ("empty-ns", "", true),
    ("auto-dedup", "", false),
    ("lazy-pages", "", false),
    ("lsm-profile", "", true),
    ("lsm-mount-context", "", true),
];

/// Each command with its flags.
const COMMANDS: &[(&str, &[Flag])] = &[
    ("create", CREATE),
    ("run", RUN),
    ("exec", EXEC),
    ("start", &[]),
    ("state", &[]),
    ("kill", &[("all", "a", false)]),
    ("delete", &[("force", "f", false)]),
    ("list", &[("format", "f", true), ("quiet", "q", false)]),
    ("ps", &[("format", "f", true)]),
    ("pause", &[]),
    ("resume", &[]),
    ("update", UPDATE),
    ("events", &[("interval", "", true), ("stats", "", false)]),
    ("features", &[]),
    ("spec", &[("bundle", "b", true), ("rootless", "", false)]),
    ("checkpoint", CHECKPOINT),
    ("restore", RESTORE),
];

impl Invocation {
    /// The last value given for the flag.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.flags
            .iter()
            .rev()
            .find(|(flag, _)| *flag == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// The last value, as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.value(name).map(|value| value.to_str()) {
            Some(None) => bail!("the value of --{name} is not text"),
            other => Ok(other.flatten()),
        }
    }

    /// All values given for the flag, in order.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a OsStr> {
        self.flags
            .iter()
            .filter(move |(flag, _)| *flag == name)
            .map(|(_, value)| value.as_os_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// The container's name: the only word, or the first of several.
    pub(crate) fn id(&self) -> Result<&str> {
        match self.words.first().and_then(|word| word.to_str()) {
            Some(id) => Ok(id),
            None => bail!("{}: the container's id is missing", self.command),
        }
    }
}

/// Takes the words of a command line apart.
pub(crate) fn parse(words: &[OsString]) -> Result<Invocation> {
    let (flags, rest) = take_flags(words, GLOBAL)?;
    let given = |name: &str| {
        flags
            .iter()
            .rev()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.clone())
    };
    let global = Global {
        root: given("root").map(PathBuf::from),
        log: given("log").map(PathBuf::from),
        log_format: given("log-format"),
        // runc calls this word obsolete and always takes the one in PATH.
        criu: given("criu").map(PathBuf::from),
    };
    if given("systemd-cgroup").is_some_and(|value| value != "false") {
        bail!("the systemd cgroup driver is not supported: run without --systemd-cgroup");
    }
    let asked = |name: &str| given(name).is_some();
    let (command, rest) = match rest.split_first() {
        _ if asked("version") => ("version", rest),
        _ if asked("help") => ("help", rest),
        None => ("help", rest),
        Some((command, rest)) => match command.to_str() {
            Some(command) => (command, rest),
            None => bail!("unknown command {command:?}"),
        },
    };
    let command = command.to_owned();
    if matches!(command.as_str(), "help" | "version") {
        return Ok(Invocation {
            global,
            command,
            flags: Vec::new(),
            words: Vec::new(),
        });
    }
    let Some((_, known)) = COMMANDS.iter().find(|(name, _)| *name == command) else {
        bail!("unknown command `{command}`");
    };
    let (mut flags, rest) = take_flags(rest, known)?;
    let mut words = rest.to_vec();
    // Flags after the id are taken too, but not those of the command that exec is to run.
    if command != "exec"
        && let Some((id, after)) = rest.split_first()
        && let Ok((more, rest)) = take_flags(after, known)
    {
        flags.extend(more);
        words = std::iter::once(id).chain(rest).cloned().collect();
    }
    Ok(Invocation {
        global,
        command,
        flags,
        words,
    })
}

type Taken<'a> = (Vec<(&'static str, OsString)>, &'a [OsString]);

fn take_flags<'a>(words: &'a [OsString], known: &[Flag]) -> Result<Taken<'a>> {
    let mut flags = Vec::new();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            return Ok((flags, after));
        }
        let Some(name) = bytes
            .strip_prefix(b"--")
            .or_else(|| bytes.strip_prefix(b"-"))
        else {
            break;
        };
        if name.is_empty() {
            break;
        }
        let (name, inline) = match name.iter().position(|byte| *byte == b'=') {
            Some(at) => (name.get(..at), name.get(at + 1..)),
            None => (Some(name), None),
        };
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        let Some((full, _, takes)) = known
            .iter()
            .find(|(full, letter, _)| *full == name || *letter == name)
        else {
            bail!("unknown flag -{name}");
        };
        rest = after;
        let value = match (inline, takes) {
            (Some(value), _) => OsString::from_vec(value.to_vec()),
            (None, false) => OsString::from("true"),
            (None, true) => {
                let Some((value, after)) = rest.split_first() else {
                    bail!("-{name} needs a value")
                };
                rest = after;
                value.clone()
            }
        };
        flags.push((*full, value));
    }
    Ok((flags, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Invocation, String> {
        let words: Vec<_> = text.split_whitespace().map(OsString::from).collect();
        parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_found_on_both_sides_of_the_command() {
        let got = line("--root /r --log=/l run -b /bundle --detach abc").unwrap();
        assert_eq!(got.global.root, Some("/r".into()));
        assert_eq!(got.value("bundle"), Some(OsStr::new("/bundle")));
        assert!(got.has("detach"));
        assert_eq!(got.id().unwrap(), "abc");
    }

    #[test]
    fn the_command_of_exec_keeps_its_flags() {
        let got = line("exec -e A=1 --env B=2 abc ls -l --all").unwrap();
        assert_eq!(got.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(got.words, ["abc", "ls", "-l", "--all"]);
    }

    #[test]
    fn flags_after_the_id_count_too() {
        let got = line("delete abc --force").unwrap();
        assert!(got.has("force"));
        let got = line("kill abc KILL").unwrap();
        assert_eq!(got.words, ["abc", "KILL"]);
    }

    #[test]
    fn unknown_words_are_errors() {
        assert_eq!(line("run --nope x").unwrap_err(), "unknown flag -nope");
        assert_eq!(line("nope").unwrap_err(), "unknown command `nope`");
        assert!(
            line("--systemd-cgroup run x")
                .unwrap_err()
                .contains("systemd")
        );
    }
}
