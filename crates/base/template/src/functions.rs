//! The functions of Docker's templates: <https://docs.docker.com/engine/cli/formatting/>.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};

use gotmpl::{FuncMap, Value as GoValue};
use serde_json::Value;

use crate::{Mode, Originals, Shared};

/// Docker's functions, besides those that text/template has itself.
pub(crate) fn all(mode: Mode, data: &Shared) -> FuncMap {
    let mut map = FuncMap::new();
    let mut add = |name: &str, function: fn(&[GoValue]) -> GoValue| {
        map.insert(
            name.to_owned(),
            Arc::new(move |args: &[GoValue]| {
                Ok(match mode {
                    Mode::Values => function(args),
                    Mode::Headers => args.first().cloned().unwrap_or(GoValue::Nil),
                })
            }) as gotmpl::ValueFunc,
        );
    };
    add("split", |args| {
        let (text, separator) = (text_of(args.first()), text_of(args.get(1)));
        let parts = text
            .split(separator.as_str())
            .map(|part| GoValue::String(part.into()));
        GoValue::List(parts.collect())
    });
    add("join", |args| {
        let Some(GoValue::List(items)) = args.first() else {
            return GoValue::Nil;
        };
        let parts: Vec<String> = items.iter().map(ToString::to_string).collect();
        GoValue::String(parts.join(&text_of(args.get(1))).into())
    });
    add("lower", |args| {
        GoValue::String(text_of(args.first()).to_lowercase().into())
    });
    add("upper", |args| {
        GoValue::String(text_of(args.first()).to_uppercase().into())
    });
    add("title", |args| {
        GoValue::String(title(&text_of(args.first())).into())
    });
    add("pad", |args| {
        let text = text_of(args.first());
        if text.is_empty() {
            return GoValue::String("".into());
        }
        let spaces = |n: Option<&GoValue>| " ".repeat(count_of(n));
        GoValue::String(format!("{}{text}{}", spaces(args.get(1)), spaces(args.get(2))).into())
    });
    add("truncate", |args| {
        let text: String = text_of(args.first())
            .chars()
            .take(count_of(args.get(1)))
            .collect();
        GoValue::String(text.into())
    });
    map.insert("index".to_owned(), Arc::new(index));
    map.insert(
        "label".to_owned(),
        Arc::new(move |args: &[GoValue]| Ok(label(mode, args))),
    );
    let data = Arc::clone(data);
    let json = move |args: &[GoValue]| {
        let value = args.first().cloned().unwrap_or(GoValue::Nil);
        if mode == Mode::Headers {
            return Ok(value);
        }
        let data = data.lock().unwrap_or_else(PoisonError::into_inner);
        let json = to_json(&value, &data.originals);
        let text = match json {
            Value::Object(_) | Value::Array(_) if data.rows => html_safe(&without_hidden(json)),
            _ => json.to_string(),
        };
        Ok(GoValue::String(text.into()))
    };
    map.insert("json".to_owned(), Arc::new(json));
    map
}

/// `index X 1 "a"`: as Go's, where a map of texts has the empty text for a key that it lacks.
fn index(args: &[GoValue]) -> Result<GoValue, gotmpl::TemplateError> {
    let Some((value, keys)) = args.split_first().filter(|(_, keys)| !keys.is_empty()) else {
        let text = "wrong number of args for index: want at least 2".to_owned();
        return Err(gotmpl::TemplateError::Exec(text));
    };
    let mut value = value.clone();
    for key in keys {
        let found = value.index(key)?;
        let of_texts = |map: &BTreeMap<Arc<str>, GoValue>| {
            map.values()
                .all(|value| matches!(value, GoValue::String(_)))
        };
        value = match (&value, found) {
            (GoValue::Map(map), GoValue::Nil) if of_texts(map) => GoValue::String("".into()),
            (_, found) => found,
        };
    }
    Ok(value)
}

/// `label LABELS "name"`: the value of a label, or the title of its column, which is the last part of the name.
fn label(mode: Mode, args: &[GoValue]) -> GoValue {
    let name = text_of(args.get(1));
    let text = match (mode, args.first()) {
        (Mode::Headers, _) => {
            let last = name.rsplit('.').next().unwrap_or_default();
            last.replace(['-', '_'], " ")
        }
        (Mode::Values, Some(GoValue::Map(labels))) => text_of(labels.get(name.as_str())),
        (Mode::Values, _) => String::new(),
    };
    GoValue::String(text.into())
}

fn without_hidden(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, _)| !key.starts_with('_'))
            .collect(),
        other => other,
    }
}

/// As Go's `json.Marshal` writes text: nothing in it means anything in HTML.
fn html_safe(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                write!(out, "\\u{:04x}", u32::from(c)).ok();
            }
            c => out.push(c),
        }
    }
    out
}

/// The JSON of a value: the original when the value came from the data as it is, else made anew.
fn to_json(value: &GoValue, originals: &Originals) -> Value {
    let address = match value {
        GoValue::List(list) => Some(list.as_ptr().addr()),
        GoValue::Map(map) => Some(Arc::as_ptr(map).addr()),
        _ => None,
    };
    if let Some(original) = address.and_then(|address| originals.get(&address)) {
        return original.clone();
    }
    match value {
        GoValue::Nil | GoValue::Function(_) => Value::Null,
        GoValue::Bool(b) => (*b).into(),
        GoValue::Int(n) => (*n).into(),
        GoValue::Uint(n) => (*n).into(),
        GoValue::Float(n) => (*n).into(),
        GoValue::String(text) => text.as_ref().into(),
        GoValue::List(items) => items.iter().map(|item| to_json(item, originals)).collect(),
        GoValue::Map(map) => map
            .iter()
            .map(|(key, item)| (key.as_ref(), to_json(item, originals)))
            .collect(),
    }
}

fn text_of(value: Option<&GoValue>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn count_of(value: Option<&GoValue>) -> usize {
    value
        .and_then(GoValue::as_int)
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0)
}

/// Upper case for the first letter of each word, as Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}
