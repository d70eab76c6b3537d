//! Go templates as the docker command line uses them: `--format '{{.Names}}'`, `inspect -f '{{json .Mounts}}'`.
//!
//! The engine of text/template is the `gotmpl` crate; this crate adds Docker's functions
//! (<https://docs.docker.com/engine/cli/formatting/>), JSON as data, and JSON out again with the order of its fields.

mod functions;
mod shape;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gotmpl::{MissingKey, Value as GoValue};
use serde_json::Value;

pub use shape::{Field, Shape};

/// A template that cannot be parsed or executed, in Go's words as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: {0}")]
pub struct TemplateError(String);

impl TemplateError {
    /// Go's words, without those that Docker mostly puts before them.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.0
    }
}

/// Whether Docker's functions work on values, or hand through the titles of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Values,
    Headers,
}

/// What `json` prints of the data.
#[derive(Default)]
struct Data {
    /// The objects by the address of their shared value, to print their fields in the original order.
    originals: Originals,
    /// Whether the data are rows, which print themselves.
    rows: bool,
}

type Shared = Arc<Mutex<Data>>;
type Originals = HashMap<usize, Value>;

/// A parsed template.
pub struct Template {
    values: gotmpl::Template,
    headers: gotmpl::Template,
    data: Shared,
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
        let data = Shared::default();
        let build = |mode| {
            gotmpl::Template::new("")
                .missing_key(MissingKey::Error)
                .funcs(functions::all(mode, &data))
                .parse(text)
                .map_err(|error| TemplateError(parse_error(&error.to_string())))
        };
        let (values, headers) = (build(Mode::Values)?, build(Mode::Headers)?);
        Ok(Self {
            values,
            headers,
            data,
            text: text.to_owned(),
            kind: None,
        })
    }

    /// The same template for data that messages call by a name of Go's: a field that is not there is then no missing
    /// key of a map, but a field that the type does not have.
    #[must_use]
    pub fn of_type(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// As [`Template::of_type`], for the rows of a list: they print themselves with the characters of HTML escaped, and
    /// without the fields whose names begin with `_`, which are there for the template alone.
    #[must_use]
    pub fn of_rows(self, kind: &'static str) -> Self {
        self.data
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rows = true;
        self.of_type(kind)
    }

    /// Executes the template on a JSON value.
    pub fn render(&self, data: &Value) -> Result<String, TemplateError> {
        self.render_printed(data, data)
    }

    /// Executes the template on a JSON value which as a whole is printed as another: Go's fields have other names
    /// than their JSON.
    pub fn render_printed(&self, data: &Value, printed: &Value) -> Result<String, TemplateError> {
        let mut originals = Originals::new();
        let value = convert(data, self.text.contains("json").then_some(&mut originals));
        if let GoValue::Map(map) = &value {
            remember(Some(&mut originals), Arc::as_ptr(map).addr(), printed);
        }
        self.execute(&value, originals)
            .map_err(|error| match error {
                gotmpl::TemplateError::MissingKey { key, .. } => {
                    TemplateError(missing_key(&self.text, &key, self.kind))
                }
                other => TemplateError(in_go_words(&other.to_string())),
            })
    }

    /// Executes the template on a JSON value as a value of a type of Go; if that cannot be done, on the JSON as it is.
    pub fn render_shaped(&self, data: &Value, shape: Shape) -> Result<String, TemplateError> {
        let mut originals = Originals::new();
        let value = shape::convert(data, "", shape, &mut originals);
        match self.execute(&value, originals) {
            // Nothing can be asked of a pointer that is nil.
            Ok(text) if !(text.contains("<no value>") && self.asks_of_pointer(shape)) => {
                Ok(text.replace("<no value>", "<nil>"))
            }
            Ok(_) | Err(_) => self.render(data),
        }
    }

    /// Whether the template names a field of something that may be nil.
    fn asks_of_pointer(&self, shape: Shape) -> bool {
        shape.iter().any(|(_, name, field)| {
            *field == Field::Pointer && self.text.contains(&format!(".{name}."))
        })
    }

    fn execute(
        &self,
        value: &GoValue,
        originals: Originals,
    ) -> Result<String, gotmpl::TemplateError> {
        self.data
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .originals = originals;
        self.values.execute_to_string(value)
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
    let end = text[dot + 1..]
        .find(|c: char| !c.is_alphanumeric() && c != '.' && c != '_')
        .map_or(text.len(), |at| dot + 1 + at);
    let node = &text[chain..end];
    format!("template: :{line}:{column}: executing \"\" at <{node}>: {cause}")
}

fn convert(value: &Value, mut originals: Option<&mut Originals>) -> GoValue {
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

fn remember(originals: Option<&mut Originals>, address: usize, value: &Value) {
    if let Some(originals) = originals {
        originals.insert(address, value.clone());
    }
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
        let template = Template::parse("{{.Go}} {{json .}}").unwrap();
        let printed = template.render_printed(&json!({"Go": 1}), &json!({"go": 1}));
        assert_eq!(printed.unwrap(), "1 {\"go\":1}");
        let typed = Template::parse("{{json .}} {{json .A}}")
            .unwrap()
            .of_rows("T");
        assert_eq!(
            typed.render(&json!({"A": "<&>", "_Hidden": 1})).unwrap(),
            "{\"A\":\"\\u003c\\u0026\\u003e\"} \"<&>\""
        );
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
        let labels = json!({"L": {"a": "1"}});
        assert_eq!(render("{{index .L \"a\"}}{{index .L \"b\"}}", &labels), "1");
        assert_eq!(
            at("{{.A"),
            "template parsing error: template: :1: unclosed action"
        );
    }

    #[test]
    fn values_of_a_type_have_all_its_fields() {
        const SHAPE: Shape = &[
            ("", "ID", Field::Alias("Id")),
            ("/State", "Health", Field::Pointer),
            ("/Config", "Volumes", Field::Map),
            ("/Config", "OnBuild", Field::List),
        ];
        let data = json!({"Id": "x", "State": {"Pid": 1}, "Config": {"Volumes": null}});
        let at = |text: &str| match Template::parse(text).unwrap().render_shaped(&data, SHAPE) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        };
        assert_eq!(at("{{.ID}} {{.Id}} {{.State.Health}}"), "x x <nil>");
        assert_eq!(
            at("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}"),
            "none"
        );
        assert_eq!(at("{{.Config.Volumes}} {{len .Config.OnBuild}}"), "map[] 0");
        assert_eq!(
            at("{{json .State}} {{json .Config}} {{json .Config.Volumes}}"),
            "{\"Pid\":1} {\"Volumes\":null} null"
        );
        assert_eq!(
            at("{{.State.Health.Status}}"),
            "template parsing error: template: :1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\""
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
