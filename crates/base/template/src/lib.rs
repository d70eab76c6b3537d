//! Go templates as the docker command line uses them: `--format '{{.Names}}'`, `inspect -f '{{json .Mounts}}'`.
//!
//! The engine of text/template is the `gotmpl` crate; this crate adds Docker's functions
//! (<https://docs.docker.com/engine/cli/formatting/>), JSON as data, and JSON out again with the order of its fields.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gotmpl::{FuncMap, MissingKey, Value as GoValue};
use serde_json::Value;

/// A template that cannot be parsed or executed, in Go's words as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: {0}")]
pub struct TemplateError(String);

/// Whether Docker's functions work on values, or hand through the titles of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Values,
    Headers,
}

/// The objects of the data by the address of their shared value: what `json` prints in its original order.
type Originals = Arc<Mutex<HashMap<usize, Value>>>;

/// A parsed template.
pub struct Template {
    values: gotmpl::Template,
    headers: gotmpl::Template,
    originals: Originals,
    text: String,
    /// What messages call the data; a map when there is no name.
    kind: Option<&'static str>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("values", &self.values.name())
            .finish_non_exhaustive()
    }
}

impl Template {
    /// Parses a template. A key that the data lacks is an error when it is executed.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let originals = Originals::default();
        let build = |mode| {
            gotmpl::Template::new("")
                .missing_key(MissingKey::Error)
                .funcs(functions(mode, &originals))
                .parse(text)
                .map_err(|error| TemplateError(parse_error(&error.to_string())))
        };
        let (values, headers) = (build(Mode::Values)?, build(Mode::Headers)?);
        Ok(Self {
            values,
            headers,
            originals,
            text: text.to_owned(),
            kind: None,
        })
    }

    /// The same template for data that messages call by a name of Go's: a field that is not there is then no missing
    /// key of a map, but a field that the type does not have.
    #[must_use]
    pub const fn of_type(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Executes the template on a JSON value.
    pub fn render(&self, data: &Value) -> Result<String, TemplateError> {
        let mut originals = HashMap::new();
        let value = convert(data, self.text.contains("json").then_some(&mut originals));
        *self
            .originals
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = originals;
        self.values
            .execute_to_string(&value)
            .map_err(|error| match error {
                gotmpl::TemplateError::MissingKey { key, .. } => {
                    TemplateError(missing_key(&self.text, &key, self.kind))
                }
                other => TemplateError(in_go_words(&other.to_string())),
            })
    }

    /// Executes the template on the titles of columns; functions give back their input.
    pub fn render_header(&self, titles: &Value) -> Result<String, TemplateError> {
        let value = convert(titles, None);
        self.headers
            .execute_to_string(&value)
            .map_err(|error| TemplateError(in_go_words(&error.to_string())))
    }
}

/// Go's templates carry the empty name that Docker gives them; `gotmpl` leaves out an empty name with its colon.
fn in_go_words(text: &str) -> String {
    match text.strip_prefix("template: ") {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("template: :{rest}")
        }
        _ => text.to_owned(),
    }
}

/// Errors of parsing name the line but not the column.
fn parse_error(text: &str) -> String {
    let text = in_go_words(text);
    let Some((line, rest)) = text
        .strip_prefix("template: :")
        .and_then(|rest| rest.split_once(':'))
    else {
        return text;
    };
    match rest.split_once(':') {
        Some((column, cause)) if column.bytes().all(|b| b.is_ascii_digit()) => {
            format!("template: :{line}:{cause}")
        }
        _ => text,
    }
}

/// What Go says of a key that the data lacks: where the template asks for it, and by which chain of fields.
fn missing_key(text: &str, key: &str, kind: Option<&str>) -> String {
    let cause = match kind {
        Some(kind) => format!("can't evaluate field {key} in type {kind}"),
        None => format!("map has no entry for key {key:?}"),
    };
    let Some(dot) = text.find(&format!(".{key}")) else {
        return format!("template: : executing \"\": {cause}");
    };
    let before = &text[..dot];
    let chain = before
        .rfind(|c: char| !c.is_alphanumeric() && c != '.' && c != '_')
        .map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = dot - before.rfind('\n').map_or(0, |at| at + 1);
    let node = &text[chain..=dot + key.len()];
    format!("template: :{line}:{column}: executing \"\" at <{node}>: {cause}")
}

fn convert(value: &Value, mut originals: Option<&mut HashMap<usize, Value>>) -> GoValue {
    match value {
        Value::Null => GoValue::Nil,
        Value::Bool(b) => GoValue::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(int), _) => GoValue::Int(int),
            (None, Some(uint)) => GoValue::Uint(uint),
            (None, None) => GoValue::Float(n.as_f64().unwrap_or_default()),
        },
        Value::String(text) => GoValue::String(text.as_str().into()),
        Value::Array(items) => {
            let list: Arc<[GoValue]> = items
                .iter()
                .map(|v| convert(v, originals.as_deref_mut()))
                .collect();
            remember(originals, list.as_ptr().addr(), value);
            GoValue::List(list)
        }
        Value::Object(map) => {
            let map: BTreeMap<Arc<str>, GoValue> = map
                .iter()
                .map(|(k, v)| (k.as_str().into(), convert(v, originals.as_deref_mut())))
                .collect();
            let map = Arc::new(map);
            remember(originals, Arc::as_ptr(&map).addr(), value);
            GoValue::Map(map)
        }
    }
}

fn remember(originals: Option<&mut HashMap<usize, Value>>, address: usize, value: &Value) {
    if let Some(originals) = originals {
        originals.insert(address, value.clone());
    }
}

/// Docker's functions, besides those that text/template has itself.
fn functions(mode: Mode, originals: &Originals) -> FuncMap {
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
    let originals = Arc::clone(originals);
    map.insert(
        "json".to_owned(),
        Arc::new(move |args: &[GoValue]| {
            let value = args.first().cloned().unwrap_or(GoValue::Nil);
            if mode == Mode::Headers {
                return Ok(value);
            }
            let originals = originals.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(GoValue::String(
                to_json(&value, &originals).to_string().into(),
            ))
        }) as gotmpl::ValueFunc,
    );
    map
}

/// The JSON of a value: the original when the value came from the data as it is, else made anew.
fn to_json(value: &GoValue, originals: &HashMap<usize, Value>) -> Value {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(text: &str, data: &Value) -> String {
        match Template::parse(text).and_then(|template| template.render(data)) {
            Ok(out) => out,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn fields_and_functions() {
        let data = json!({"Id": "abc", "State": {"Running": true, "Pid": 7}, "Names": ["/a", "/b"], "Labels": {"x": "1"}});
        assert_eq!(
            render("{{.Id}} {{.State.Running}} {{.State.Pid}}", &data),
            "abc true 7"
        );
        assert_eq!(
            render("{{join .Names \",\"}} {{upper .Id}} {{title .Id}}", &data),
            "/a,/b ABC Abc"
        );
        assert_eq!(
            render("{{range $k, $v := .Labels}}{{$k}}={{$v}}{{end}}", &data),
            "x=1"
        );
        assert_eq!(
            render(
                "{{index .Labels \"x\"}} {{len .Names}} {{truncate .Id 2}}",
                &data
            ),
            "1 2 ab"
        );
        assert_eq!(
            render("{{(index (split .Id \"b\") 1)}}{{pad .Id 1 2}}|", &data),
            "c abc  |"
        );
    }

    #[test]
    fn json_keeps_the_order_of_fields() {
        let data = json!({"Z": 1, "A": {"y": "<b>", "x": [1, null, {"q": 1, "p": 2}]}});
        assert_eq!(render("{{json .}}", &data), data.to_string());
        assert_eq!(
            render("{{json .A.x}} {{json .Z}} {{json .A.y}}", &data),
            "[1,null,{\"q\":1,\"p\":2}] 1 \"<b>\""
        );
    }

    #[test]
    fn what_is_missing_is_an_error() {
        let data = json!({"A": {"B": 1}});
        let at = |text: &str| render(text, &data);
        let cause = "map has no entry for key \"Nope\"";
        assert_eq!(
            at("{{.Nope}}"),
            format!("template parsing error: template: :1:2: executing \"\" at <.Nope>: {cause}")
        );
        assert_eq!(
            at("{{.A.Nope}}"),
            format!("template parsing error: template: :1:4: executing \"\" at <.A.Nope>: {cause}")
        );
        assert_eq!(at("{{index .A \"x\"}}"), "<no value>");
        assert_eq!(
            at("{{.A"),
            "template parsing error: template: :1: unclosed action"
        );
    }

    #[test]
    fn headers_pass_through_functions() {
        let template = Template::parse("{{upper .ID}}\t{{json .Names}}\t{{pad .ID 1 1}}").unwrap();
        let titles = json!({"ID": "CONTAINER ID", "Names": "Names"});
        assert_eq!(
            template.render_header(&titles).unwrap(),
            "CONTAINER ID\tNames\tCONTAINER ID"
        );
    }
}
