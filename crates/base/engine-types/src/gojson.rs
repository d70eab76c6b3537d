//! Reads JSON as Go's `encoding/json` does (<https://pkg.go.dev/encoding/json#Unmarshal>): object keys match struct
//! fields in any letter case (an exact match wins), `null` leaves the zero value, unknown keys are ignored.
//!
//! Works for any type with derived `Deserialize`; structs with `#[serde(flatten)]` see their keys unchanged.

mod path;
mod probe;
mod syntax;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _,
    MapAccess, SeqAccess, VariantAccess, Visitor, value::StrDeserializer,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use self::path::{Path, struct_name};

/// Bytes that are no JSON or do not fit the type. The text is Go's.
pub type JsonError = serde_json::Error;

/// What Docker says of a second document after the first.
pub const TRAILING: &str = "unexpected content after JSON";

/// Reads one JSON document; nothing may follow it.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    // As Go does: what is no UTF-8 becomes the replacement character.
    let text = String::from_utf8_lossy(bytes);
    let mut stream = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let value = match stream.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(refusal(bytes, error)),
        None => return Err(JsonError::custom("unexpected EOF")),
    };
    let rest = text.get(stream.byte_offset()..).unwrap_or_default();
    let value = from_value(value)?;
    if rest.trim_ascii().is_empty() {
        Ok(value)
    } else {
        Err(JsonError::custom(TRAILING))
    }
}

/// Why bytes are no JSON: in Go's words where Go refuses them, else in the parser's.
fn refusal(bytes: &[u8], error: JsonError) -> JsonError {
    syntax::mistake(bytes).map_or(error, JsonError::custom)
}

/// Reads a document that has been parsed already.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, JsonError> {
    T::deserialize(Go {
        value,
        path: &Path::Root,
    })
}

/// For fields that are a list of words or one word: `"Cmd": "ls"` is `["ls"]`, as moby's `strslice` reads it.
pub fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let value = <Option<Value> as serde::Deserialize>::deserialize(deserializer)?;
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) => Ok(Some(vec![word])),
        Some(other) => match from_value(other.clone()) {
            Ok(list) => Ok(Some(list)),
            Err(_no_list) => {
                let error = Path::Root.mismatch(&other, "string");
                Err(D::Error::custom(error))
            }
        },
    }
}

/// A JSON value that is read by Go's rules.
struct Go<'p> {
    value: Value,
    path: &'p Path<'p>,
}

impl Go<'_> {
    fn mismatch<T>(&self, wanted: &str) -> Result<T, JsonError> {
        Err(self.path.mismatch(&self.value, wanted))
    }
}

macro_rules! numbers {
    ($($method:ident => $visit:ident, $as:ident, $type:ty, $name:literal);* $(;)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
            if self.value.is_null() {
                return visitor.$visit(0);
            }
            match self.value.$as().and_then(|number| <$type>::try_from(number).ok()) {
                Some(number) => visitor.$visit(number),
                None => self.mismatch($name),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Go<'_> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items::new(items, self.path)),
            Value::Object(map) => visitor.visit_map(Entries::new(map, &[], "", self.path)),
            value => value.deserialize_any(visitor),
        }
    }

    numbers! {
        deserialize_i8 => visit_i8, as_i64, i8, "int8";
        deserialize_i16 => visit_i16, as_i64, i16, "int16";
        deserialize_i32 => visit_i32, as_i64, i32, "int32";
        deserialize_i64 => visit_i64, as_i64, i64, "int64";
        deserialize_u8 => visit_u8, as_u64, u8, "uint8";
        deserialize_u16 => visit_u16, as_u64, u16, "uint16";
        deserialize_u32 => visit_u32, as_u64, u32, "uint32";
        deserialize_u64 => visit_u64, as_u64, u64, "uint64";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match &self.value {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(number) => visitor.visit_f64(number.as_f64().unwrap_or(0.0)),
            _ => self.mismatch("float64"),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match &self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => self.mismatch("bool"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Null => visitor.visit_str(""),
            Value::String(text) => visitor.visit_string(text),
            _ => self.mismatch("string"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Null => visitor.visit_seq(Items::new(Vec::new(), self.path)),
            Value::Array(items) => visitor.visit_seq(Items::new(items, self.path)),
            _ => self.mismatch(&probe::list(visitor)),
        }
    }

    /// As Go's arrays: what is missing is zero, what is too much is dropped.
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Null => visitor.visit_seq(Items::new(vec![Value::Null; len], self.path)),
            Value::Array(mut items) => {
                items.resize(len, Value::Null);
                visitor.visit_seq(Items::new(items, self.path))
            }
            // The only arrays of the API are sizes of terminals.
            _ => self.mismatch(&format!("[{len}]uint")),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Null => visitor.visit_map(Entries::new(Map::new(), &[], "", self.path)),
            Value::Object(map) => visitor.visit_map(Entries::new(map, &[], "", self.path)),
            _ => self.mismatch(&probe::map(visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self.value {
            Value::Null => visitor.visit_map(Entries::new(Map::new(), fields, name, self.path)),
            Value::Object(map) => visitor.visit_map(Entries::new(map, fields, name, self.path)),
            _ => self.mismatch(struct_name(name)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self.value {
            Value::String(word) => visitor.visit_enum(word.into_deserializer()),
            Value::Object(map) if map.len() == 1 => visitor.visit_enum(OneEntry(map)),
            value => value.deserialize_enum("", &[], visitor),
        }
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct identifier ignored_any }
}

struct Items<'p> {
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    path: &'p Path<'p>,
}

impl<'p> Items<'p> {
    fn new(items: Vec<Value>, path: &'p Path<'p>) -> Self {
        Self {
            items: items.into_iter().enumerate(),
            path,
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = JsonError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, JsonError> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let path = Path::Item {
            parent: self.path,
            index,
        };
        seed.deserialize(Go { value, path: &path }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of an object. With `fields`, keys are put into the case of the field they mean, so that each field
/// is seen at most once.
struct Entries<'p> {
    entries: serde_json::map::IntoIter,
    current: Option<(String, Value)>,
    path: &'p Path<'p>,
    /// The name of the struct, empty for a map.
    name: &'static str,
}

impl<'p> Entries<'p> {
    fn new(
        map: Map<String, Value>,
        fields: &'static [&'static str],
        name: &'static str,
        path: &'p Path<'p>,
    ) -> Self {
        let map = if fields.is_empty() {
            map
        } else {
            by_field(map, fields)
        };
        Self {
            entries: map.into_iter(),
            current: None,
            path,
            name,
        }
    }
}

/// Renames keys to fields; a later key replaces an earlier one, but never one that was spelt exactly. Fields that are
/// `null` are dropped, which leaves the field's default.
fn by_field(map: Map<String, Value>, fields: &'static [&'static str]) -> Map<String, Value> {
    if map
        .iter()
        .all(|(key, value)| !value.is_null() && fields.contains(&key.as_str()))
    {
        return map;
    }
    let mut exact = Map::new();
    let mut folded = Map::new();
    for (key, value) in map {
        if fields.contains(&key.as_str()) {
            exact.insert(key, value);
        } else if let Some(field) = fields.iter().find(|field| field.eq_ignore_ascii_case(&key)) {
            folded.insert((*field).to_owned(), value);
        }
    }
    folded.retain(|key, _| !exact.contains_key(key));
    folded.extend(exact);
    folded.retain(|_, value| !value.is_null());
    folded
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = JsonError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, JsonError> {
        self.current = self.entries.next();
        let Some((key, _)) = &self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, JsonError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, JsonError> {
        let (key, value) = self.current.take().unwrap_or_default();
        let path = Path::Field {
            parent: self.path,
            name: &key,
            root: match self.path {
                Path::Field { root, .. } => root,
                Path::Root | Path::Item { .. } => self.name,
            },
        };
        seed.deserialize(Go { value, path: &path })
    }
}

/// `{"variant": content}`
struct OneEntry(Map<String, Value>);

impl<'de> EnumAccess<'de> for OneEntry {
    type Error = JsonError;
    type Variant = Go<'static>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Go<'static>), JsonError> {
        let (key, value) = self
            .0
            .into_iter()
            .next()
            .ok_or_else(|| JsonError::custom("expected an object with one key"))?;
        let key: StrDeserializer<'_, JsonError> = key.as_str().into_deserializer();
        let path = &Path::Root;
        Ok((seed.deserialize(key)?, Go { value, path }))
    }
}

impl<'de> VariantAccess<'de> for Go<'_> {
    type Error = JsonError;

    fn unit_variant(self) -> Result<(), JsonError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, JsonError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests;
