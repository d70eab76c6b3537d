//! The grammar of flags, as pflag has it (<https://pkg.go.dev/github.com/spf13/pflag#hdr-Command_line_flag_syntax>):
//! `-it`, `-p80:80`, `-e=x`, `--name x`, `--rm=false`, and `--` for the end. Why not clap: docs/adr/0001.

use havre_types::{duration, size};

/// What a flag takes: decides how it is checked, and the word that help shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true`, `=false`.
    Bool,
    /// Any text.
    Text,
    /// Any text, and the flag may be repeated; help shows the word.
    Many(&'static str),
    /// A signed number.
    Int,
    /// An unsigned number of 16 bits.
    Uint16,
    /// An unsigned number.
    Uint,
    /// A size such as `64m`, or -1.
    Bytes,
    /// A number of CPUs such as `1.5`.
    Decimal,
    /// A duration such as `1m30s`.
    Duration,
}

/// One flag of a command. Help, parsing and completion come from this.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub name: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    /// Shown in help as it stands; empty when the default is the zero value.
    pub default: &'static str,
    pub about: &'static str,
    pub hidden: bool,
}

impl Flag {
    pub(crate) const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self {
            name,
            short: None,
            kind,
            default: "",
            about,
            hidden: false,
        }
    }

    pub(crate) const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    pub(crate) const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The flag as error messages name it: `-m, --memory`.
    pub(crate) fn title(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// Why arguments do not follow the grammar, in pflag's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    #[error("unknown flag: --{0}")]
    Unknown(String),
    #[error("unknown shorthand flag: {shorthand:?} in -{group}")]
    UnknownShorthand { shorthand: char, group: String },
    #[error("flag needs an argument: {0}")]
    NeedsArgument(String),
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    #[error("invalid argument {value:?} for {title:?} flag: {cause}")]
    Invalid {
        value: String,
        title: String,
        cause: String,
    },
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Matches {
    values: Vec<(&'static str, String)>,
    pub args: Vec<String>,
    pub help: bool,
}

impl Matches {
    /// Nothing but arguments.
    pub(crate) fn of_words(words: &[String]) -> Self {
        Self {
            args: words.to_vec(),
            ..Self::default()
        }
    }

    /// Whether the flag was given at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(flag, _)| *flag == name)
    }

    /// Whether no flag was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The last value of a flag.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .rev()
            .find(|(flag, _)| *flag == name)
            .map(|(_, value)| value.as_str())
    }

    /// The last value of a flag, or nothing at all.
    pub(crate) fn text_or_empty(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// Whether a switch is on; off when not given.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.on_or(name, false)
    }

    /// Whether a switch is on, with its default.
    pub(crate) fn on_or(&self, name: &str, default: bool) -> bool {
        self.text(name).and_then(parse_bool).unwrap_or(default)
    }

    /// The last value of a flag that is a number; checked when it was parsed.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|value| parse_int(value).ok())
    }

    /// The last value of a flag that is a size; checked when it was parsed.
    pub(crate) fn bytes(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|value| parse_size(value).ok())
    }

    /// The last value of a flag that is a duration, in nanoseconds.
    pub(crate) fn nanos(&self, name: &str) -> Option<i64> {
        self.text(name)
            .and_then(|value| duration::parse_go(value).ok())
    }

    /// All values of a flag, in order.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values
            .iter()
            .filter(move |(flag, _)| *flag == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Parses arguments. With `interspersed` flags may follow positional arguments; else the first of those ends them.
pub(crate) fn parse(
    flags: &[Flag],
    args: &[String],
    interspersed: bool,
) -> Result<Matches, FlagError> {
    let mut matches = Matches::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            matches.args.extend(rest.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            parse_long(flags, long, &mut rest, &mut matches)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            parse_group(flags, &arg[1..], &mut rest, &mut matches)?;
        } else {
            matches.args.push(arg.clone());
            if !interspersed {
                matches.args.extend(rest.cloned());
                break;
            }
        }
        if matches.help {
            break;
        }
    }
    Ok(matches)
}

fn parse_long<'a>(
    flags: &[Flag],
    text: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    matches: &mut Matches,
) -> Result<(), FlagError> {
    if text.starts_with(['-', '=']) {
        return Err(FlagError::Syntax(format!("--{text}")));
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
        if name == "help" {
            matches.help = true;
            return Ok(());
        }
        return Err(FlagError::Unknown(name.to_owned()));
    };
    let value = match value {
        Some(value) => value,
        None if flag.kind == Kind::Bool => "true".to_owned(),
        None => rest
            .next()
            .cloned()
            .ok_or_else(|| FlagError::NeedsArgument(format!("--{name}")))?,
    };
    set(flag, value, matches)
}

fn parse_group<'a>(
    flags: &[Flag],
    group: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    matches: &mut Matches,
) -> Result<(), FlagError> {
    let mut left = group;
    while let Some(short) = left.chars().next() {
        let tail = &left[short.len_utf8()..];
        let Some(flag) = flags.iter().find(|flag| flag.short == Some(short)) else {
            if short == 'h' {
                matches.help = true;
                return Ok(());
            }
            return Err(FlagError::UnknownShorthand {
                shorthand: short,
                group: left.to_owned(),
            });
        };
        if let Some(value) = tail.strip_prefix('=').filter(|value| !value.is_empty()) {
            return set(flag, value.to_owned(), matches);
        }
        if flag.kind == Kind::Bool {
            set(flag, "true".to_owned(), matches)?;
            left = tail;
            continue;
        }
        let value = if tail.is_empty() {
            let missing = || FlagError::NeedsArgument(format!("{short:?} in -{group}"));
            rest.next().cloned().ok_or_else(missing)?
        } else {
            tail.to_owned()
        };
        return set(flag, value, matches);
    }
    Ok(())
}

fn set(flag: &Flag, value: String, matches: &mut Matches) -> Result<(), FlagError> {
    match check(flag.kind, &value) {
        Ok(()) => {
            matches.values.push((flag.name, value));
            Ok(())
        }
        Err(cause) => Err(FlagError::Invalid {
            value,
            title: flag.title(),
            cause,
        }),
    }
}

fn check(kind: Kind, value: &str) -> Result<(), String> {
    match kind {
        Kind::Many("filter") if !value.is_empty() && !value.contains('=') => {
            Err("bad format of filter (expected name=value)".to_owned())
        }
        Kind::Text | Kind::Many(_) => Ok(()),
        Kind::Bool => match parse_bool(value) {
            Some(_) => Ok(()),
            None => Err(format!(
                "strconv.ParseBool: parsing {value:?}: invalid syntax"
            )),
        },
        Kind::Int => parse_int(value).map(drop),
        Kind::Uint16 => parse_uint(value, u64::from(u16::MAX)),
        Kind::Uint => parse_uint(value, u64::MAX),
        Kind::Bytes => parse_size(value).map(drop),
        Kind::Decimal => parse_cpus(value).map(drop),
        Kind::Duration => duration::parse_go(value)
            .map(drop)
            .map_err(|error| error.to_string()),
    }
}

fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal, or with a prefix hexadecimal, octal or binary, as Go's base 0.
fn parse_int(value: &str) -> Result<i64, String> {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", value.strip_prefix('+').unwrap_or(value)),
    };
    let (digits, radix) = radix(digits);
    let syntax = || format!("strconv.ParseInt: parsing {value:?}: invalid syntax");
    let all_digits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if !all_digits {
        return Err(syntax());
    }
    let range = |_too_large| format!("strconv.ParseInt: parsing {value:?}: value out of range");
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(range)
}

fn parse_uint(value: &str, max: u64) -> Result<(), String> {
    let (digits, radix) = radix(value);
    let all_digits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if !all_digits {
        return Err(format!(
            "strconv.ParseUint: parsing {value:?}: invalid syntax"
        ));
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) if number <= max => Ok(()),
        _ => Err(format!(
            "strconv.ParseUint: parsing {value:?}: value out of range"
        )),
    }
}

fn radix(digits: &str) -> (&str, u32) {
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    match lower.as_deref() {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    }
}

/// A size; -1 is a value of its own for swap.
fn parse_size(value: &str) -> Result<i64, String> {
    if value == "-1" {
        return Ok(-1);
    }
    size::parse_bytes(value).map_err(|error| error.to_string())
}

/// A number of CPUs in billionths, without rounding: `1.5` is 1,500,000,000.
pub(crate) fn parse_cpus(value: &str) -> Result<i64, String> {
    let fail = || format!("failed to parse {value} as a rational number");
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(fail());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    format!("{whole}{fraction:0<9}")
        .parse()
        .map_err(|_too_large| fail())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::new("interactive", Kind::Bool, "").short('i'),
        Flag::new("tty", Kind::Bool, "").short('t'),
        Flag::new("detach", Kind::Bool, "").short('d'),
        Flag::new("rm", Kind::Bool, ""),
        Flag::new("publish", Kind::Many("list"), "").short('p'),
        Flag::new("env", Kind::Many("list"), "").short('e'),
        Flag::new("memory", Kind::Bytes, "").short('m'),
        Flag::new("name", Kind::Text, ""),
        Flag::new("pids-limit", Kind::Int, ""),
        Flag::new("blkio-weight", Kind::Uint16, ""),
        Flag::new("cpus", Kind::Decimal, ""),
    ];

    /// `name=value …|args` or the error.
    fn outcome(line: &str, interspersed: bool) -> String {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(FLAGS, &args, interspersed) {
            Ok(m) => {
                let values: Vec<String> = m
                    .values
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                format!(
                    "{}|{}{}",
                    values.join(" "),
                    m.args.join(" "),
                    if m.help { "help" } else { "" }
                )
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_docker_takes() {
        for (line, expected) in [
            ("-it alpine sh", "interactive=true tty=true|alpine sh"),
            ("-itd x", "interactive=true tty=true detach=true|x"),
            ("-ti=false x", "tty=true interactive=false|x"),
            ("-i=false x", "interactive=false|x"),
            ("--rm=false x", "rm=false|x"),
            ("--rm --rm=false x", "rm=true rm=false|x"),
            ("-dp 80:80 x", "detach=true publish=80:80|x"),
            ("-p80:80 -p=81:81 x", "publish=80:80 publish=81:81|x"),
            ("-e A=B -eC=D --env=-x x", "env=A=B env=C=D env=-x|x"),
            ("-m -1 x", "memory=-1|x"),
            ("--interactive true", "interactive=true|true"),
            ("-- alpine -x", "|alpine -x"),
            ("alpine -- x", "|alpine -- x"),
            ("alpine --rm -it", "|alpine --rm -it"),
            ("--name -it x", "name=-it|x"),
            ("-", "|-"),
            ("--help x", "|help"),
            ("-h", "|help"),
            ("-e=", "env==|"),
            ("--name= x", "name=|x"),
        ] {
            assert_eq!(outcome(line, false), expected, "{line}");
        }
        assert_eq!(
            outcome("a -i b --name x -- -t", true),
            "interactive=true name=x|a b -t"
        );
    }

    #[test]
    fn what_docker_refuses_and_how() {
        for (line, expected) in [
            ("--nosuch", "unknown flag: --nosuch"),
            ("--nosuch=1", "unknown flag: --nosuch"),
            ("-x a", "unknown shorthand flag: 'x' in -x"),
            ("-itx a", "unknown shorthand flag: 'x' in -x"),
            ("--name", "flag needs an argument: --name"),
            ("-ie", "flag needs an argument: 'e' in -ie"),
            ("--=x", "bad flag syntax: --=x"),
            ("---x", "bad flag syntax: ---x"),
            (
                "--memory xx",
                "invalid argument \"xx\" for \"-m, --memory\" flag: invalid size: 'xx'",
            ),
            (
                "--rm=foo",
                "invalid argument \"foo\" for \"--rm\" flag: strconv.ParseBool: parsing \"foo\": invalid syntax",
            ),
            (
                "--pids-limit x",
                "invalid argument \"x\" for \"--pids-limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "--blkio-weight 70000",
                "invalid argument \"70000\" for \"--blkio-weight\" flag: strconv.ParseUint: parsing \"70000\": value out of range",
            ),
            (
                "--cpus x",
                "invalid argument \"x\" for \"--cpus\" flag: failed to parse x as a rational number",
            ),
        ] {
            assert_eq!(outcome(line, false), expected, "{line}");
        }
    }

    #[test]
    fn cpus_are_exact() {
        for (text, expected) in [
            ("1.5", 1_500_000_000),
            ("0.1", 100_000_000),
            ("2", 2_000_000_000),
            (".25", 250_000_000),
        ] {
            assert_eq!(parse_cpus(text), Ok(expected));
        }
        assert_eq!(
            parse_cpus("0.0000000001").unwrap_err(),
            "value is too precise"
        );
    }
}
