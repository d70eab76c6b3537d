//! The command line, read as dockerd's flag library reads it (<https://pkg.go.dev/github.com/spf13/pflag>),
//! with its error texts.

use crate::options::{Kind, Spec, UNSUPPORTED, Value, Values, by_name, options};

/// Why a command line cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    #[error("unknown flag: --{0}")]
    UnknownLong(String),
    #[error("unknown shorthand flag: {letter:?} in -{group}")]
    UnknownShort { letter: char, group: String },
    #[error("the flag --{0} of dockerd is not supported by Havre yet")]
    Unsupported(String),
    #[error("flag needs an argument: {0}")]
    NeedsArgument(String),
    #[error(
        "invalid argument {value:?} for {flag:?} flag: strconv.ParseBool: parsing {value:?}: invalid syntax"
    )]
    NoBool { value: String, flag: String },
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    #[error("havred accepts no arguments")]
    Argument,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Values, FlagError> {
    let mut values = Values::new();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            return if rest.next().is_some() {
                Err(FlagError::Argument)
            } else {
                Ok(values)
            };
        }
        if let Some(long) = argument.strip_prefix("--") {
            read_long(long, &mut rest, &mut values)?;
        } else if let Some(group) = argument.strip_prefix('-').filter(|group| !group.is_empty()) {
            read_short(group, &mut rest, &mut values)?;
        } else {
            return Err(FlagError::Argument);
        }
    }
    Ok(values)
}

fn read_long(
    long: &str,
    rest: &mut impl Iterator<Item = String>,
    values: &mut Values,
) -> Result<(), FlagError> {
    let (name, given) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(FlagError::Syntax(format!("--{long}")));
    }
    let Some(spec) = by_name(name) else {
        let known = UNSUPPORTED.iter().any(|(flag, _key)| *flag == name);
        let name = name.to_owned();
        return Err(if known {
            FlagError::Unsupported(name)
        } else {
            FlagError::UnknownLong(name)
        });
    };
    let value = match (given, spec.kind) {
        (Some(value), _) => value,
        (None, Kind::Flag) => "true".to_owned(),
        (None, _) => rest
            .next()
            .ok_or_else(|| FlagError::NeedsArgument(format!("--{name}")))?,
    };
    set(spec, value, values)
}

/// `-DH tcp://x`, `-Htcp://x`, `-H=tcp://x`.
fn read_short(
    group: &str,
    rest: &mut impl Iterator<Item = String>,
    values: &mut Values,
) -> Result<(), FlagError> {
    for (at, letter) in group.char_indices() {
        let spec = options().find(|spec| spec.short == Some(letter));
        let Some(spec) = spec else {
            return Err(FlagError::UnknownShort {
                letter,
                group: group.to_owned(),
            });
        };
        let after = group.get(at + letter.len_utf8()..).unwrap_or_default();
        if let Some(value) = after.strip_prefix('=') {
            return set(spec, value.to_owned(), values);
        }
        if spec.kind == Kind::Flag {
            set(spec, "true".to_owned(), values)?;
            continue;
        }
        let value = if after.is_empty() {
            rest.next()
                .ok_or_else(|| FlagError::NeedsArgument(format!("{letter:?} in -{group}")))?
        } else {
            after.to_owned()
        };
        return set(spec, value, values);
    }
    Ok(())
}

fn set(spec: &'static Spec, value: String, values: &mut Values) -> Result<(), FlagError> {
    let value = match spec.kind {
        Kind::Flag => match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Flag(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Flag(false),
            _ => {
                let flag = spec
                    .short
                    .map_or_else(String::new, |short| format!("-{short}, "));
                return Err(FlagError::NoBool {
                    value,
                    flag: format!("{flag}--{}", spec.name),
                });
            }
        },
        Kind::Text | Kind::Number => Value::Text(value),
        Kind::List | Kind::Map | Kind::Objects | Kind::Maps | Kind::Records => {
            let mut items = match values.remove(spec.name) {
                Some(Value::List(items)) => items,
                _ => Vec::new(),
            };
            items.push(value);
            Value::List(items)
        }
    };
    values.insert(spec.name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Values, FlagError> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn all_forms_are_read() {
        let values = read(
            "-DH unix:///a -H=tcp://b -Htcp://c --host tcp://d --data-root=/x -l debug --debug=0",
        )
        .unwrap();
        let hosts = ["unix:///a", "tcp://b", "tcp://c", "tcp://d"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(values.get("host"), Some(&Value::List(hosts)));
        assert_eq!(values.get("data-root"), Some(&Value::Text("/x".to_owned())));
        assert_eq!(
            values.get("log-level"),
            Some(&Value::Text("debug".to_owned()))
        );
        assert_eq!(values.get("debug"), Some(&Value::Flag(false)));
    }

    #[test]
    fn errors_have_dockerds_texts() {
        for (line, text) in [
            ("--nope", "unknown flag: --nope"),
            ("-Dx", "unknown shorthand flag: 'x' in -Dx"),
            (
                "--selinux-enabled=false",
                "the flag --selinux-enabled of dockerd is not supported by Havre yet",
            ),
            ("--data-root", "flag needs an argument: --data-root"),
            ("-DH", "flag needs an argument: 'H' in -DH"),
            (
                "--debug=maybe",
                "invalid argument \"maybe\" for \"-D, --debug\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            ("--=x", "bad flag syntax: --=x"),
            ("serve", "havred accepts no arguments"),
            ("-- x", "havred accepts no arguments"),
            ("-", "havred accepts no arguments"),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), text, "{line}");
        }
    }
}
