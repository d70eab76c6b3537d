//! What Go's types add to JSON: fields that the JSON leaves out, zero values for its nulls, and other names.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value as GoValue;
use serde_json::{Map, Value};

use crate::Originals;

/// A field of a type that templates see differently from the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// A pointer: nil when the JSON says nothing.
    Pointer,
    /// A list: empty.
    List,
    /// A map: empty.
    Map,
    /// A text: empty.
    Text,
    /// Off.
    Flag,
    /// The name in Go of a field that the JSON calls otherwise.
    Alias(&'static str),
}

/// Fields with the path of their object (`/Config`) and their name.
pub type Shape = &'static [(&'static str, &'static str, Field)];

/// The value as a template of Go would see it. What `json` prints of it stays what it was.
pub(crate) fn convert(
    value: &Value,
    path: &str,
    shape: Shape,
    originals: &mut Originals,
) -> GoValue {
    match value {
        Value::Array(items) => {
            let list: Arc<[GoValue]> = items
                .iter()
                .map(|item| convert(item, &format!("{path}/*"), shape, originals))
                .collect();
            originals.insert(list.as_ptr().addr(), value.clone());
            GoValue::List(list)
        }
        Value::Object(map) => {
            let mut fields: BTreeMap<Arc<str>, GoValue> = map
                .iter()
                .map(|(key, item)| {
                    let item = convert(item, &format!("{path}/{key}"), shape, originals);
                    (key.as_str().into(), item)
                })
                .collect();
            for (parent, name, field) in shape {
                if *parent == path {
                    complete(&mut fields, map, name, *field, originals);
                }
            }
            let fields = Arc::new(fields);
            originals.insert(Arc::as_ptr(&fields).addr(), value.clone());
            GoValue::Map(fields)
        }
        other => crate::convert(other, None),
    }
}

fn complete(
    fields: &mut BTreeMap<Arc<str>, GoValue>,
    map: &Map<String, Value>,
    name: &str,
    field: Field,
    originals: &mut Originals,
) {
    let null = |address: usize, originals: &mut Originals| {
        originals.insert(address, Value::Null);
    };
    let said = map.get(name).is_some_and(|value| !value.is_null());
    let value = match field {
        Field::Alias(json) => match fields.get(json) {
            Some(value) => value.clone(),
            None => return,
        },
        _ if said => return,
        Field::Pointer => GoValue::Nil,
        Field::List => {
            let list: Arc<[GoValue]> = Arc::new([]);
            null(list.as_ptr().addr(), originals);
            GoValue::List(list)
        }
        Field::Map => {
            let empty = Arc::new(BTreeMap::new());
            null(Arc::as_ptr(&empty).addr(), originals);
            GoValue::Map(empty)
        }
        Field::Text => GoValue::String("".into()),
        Field::Flag => GoValue::Bool(false),
    };
    fields.insert(name.into(), value);
}
