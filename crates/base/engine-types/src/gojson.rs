//! Reads JSON as Go's `encoding/json` does (<https://pkg.go.dev/encoding/json#Unmarshal>): object keys match struct
//! fields in any letter case (an exact match wins), `null` leaves the zero value, unknown keys are ignored.
//!
//! Works for any type with derived `Deserialize`; structs with `#[serde(flatten)]` see their keys unchanged.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _,
    MapAccess, SeqAccess, VariantAccess, Visitor, value::StrDeserializer,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// Bytes that are no JSON or do not fit the type.
pub type JsonError = serde_json::Error;

/// Reads one JSON document; nothing may follow it.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    from_value(serde_json::from_slice(bytes)?)
}

/// Reads a document that has been parsed already.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, JsonError> {
    T::deserialize(Go(value))
}

/// For fields that are a list of words or one word: `"Cmd": "ls"` is `["ls"]`, as moby's `strslice` reads it.
pub fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let value = <Option<Value> as serde::Deserialize>::deserialize(deserializer)?;
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) => Ok(Some(vec![word])),
        Some(list) => from_value(list).map(Some).map_err(D::Error::custom),
    }
}

/// A JSON value that is read by Go's rules.
struct Go(Value);

macro_rules! null_is {
    ($($method:ident => $visit:ident($zero:expr)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
            match self.0 {
                Value::Null => visitor.$visit($zero),
                value => value.$method(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Go {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(map) => visitor.visit_map(Entries::new(map, &[])),
            value => value.deserialize_any(visitor),
        }
    }

    null_is! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i8(0),
        deserialize_i16 => visit_i16(0),
        deserialize_i32 => visit_i32(0),
        deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u8(0),
        deserialize_u16 => visit_u16(0),
        deserialize_u32 => visit_u32(0),
        deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f32(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_str(""),
        deserialize_string => visit_str(""),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(Self(value)),
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
        match self.0 {
            Value::Null => visitor.visit_seq(Items(Vec::new().into_iter())),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            value => value.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_struct("", &[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Null => visitor.visit_map(Entries::new(Map::new(), fields)),
            Value::Object(map) => visitor.visit_map(Entries::new(map, fields)),
            value => value.deserialize_map(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(word.into_deserializer()),
            Value::Object(map) if map.len() == 1 => visitor.visit_enum(OneEntry(map)),
            value => value.deserialize_enum("", &[], visitor),
        }
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct identifier ignored_any }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = JsonError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, JsonError> {
        self.0
            .next()
            .map(|value| seed.deserialize(Go(value)))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of an object. With `fields`, keys are put into the case of the field they mean, so that each field
/// is seen at most once.
struct Entries {
    entries: serde_json::map::IntoIter,
    value: Option<Value>,
}

impl Entries {
    fn new(map: Map<String, Value>, fields: &'static [&'static str]) -> Self {
        let map = if fields.is_empty() {
            map
        } else {
            by_field(map, fields)
        };
        Self {
            entries: map.into_iter(),
            value: None,
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

impl<'de> MapAccess<'de> for Entries {
    type Error = JsonError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, JsonError> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        let key: StrDeserializer<'_, JsonError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, JsonError> {
        seed.deserialize(Go(self.value.take().unwrap_or(Value::Null)))
    }
}

/// `{"variant": content}`
struct OneEntry(Map<String, Value>);

impl<'de> EnumAccess<'de> for OneEntry {
    type Error = JsonError;
    type Variant = Go;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Go), JsonError> {
        let (key, value) = self
            .0
            .into_iter()
            .next()
            .ok_or_else(|| JsonError::custom("expected an object with one key"))?;
        let key: StrDeserializer<'_, JsonError> = key.as_str().into_deserializer();
        Ok((seed.deserialize(key)?, Go(value)))
    }
}

impl<'de> VariantAccess<'de> for Go {
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
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Sample {
        image: String,
        count: i64,
        list: Option<Vec<String>>,
        #[serde(deserialize_with = "words")]
        cmd: Option<Vec<String>>,
        inner: Option<Box<Self>>,
        ports: std::collections::BTreeMap<String, crate::Empty>,
    }

    fn read(text: &str) -> Sample {
        from_slice(text.as_bytes()).unwrap()
    }

    #[test]
    fn keys_match_in_any_case_and_the_exact_one_wins() {
        assert_eq!(read(r#"{"image":"a"}"#).image, "a");
        assert_eq!(read(r#"{"IMAGE":"a","Image":"b","iMage":"c"}"#).image, "b");
        assert_eq!(read(r#"{"IMAGE":"a","iMage":"c"}"#).image, "c");
        assert_eq!(read(r#"{"inner":{"COUNT":3}}"#).inner.unwrap().count, 3);
    }

    #[test]
    fn null_is_the_zero_value() {
        assert_eq!(
            read(r#"{"Image":null,"Count":null,"List":null,"Cmd":null,"Inner":null,"Ports":null}"#),
            read("{}")
        );
        assert_eq!(read("null"), read("{}"));
        assert_eq!(read(r#"{"List":[null,"a"]}"#).list.unwrap(), ["", "a"]);
        assert_eq!(read(r#"{"Ports":{"80/tcp":null}}"#).ports.len(), 1);
        assert_eq!(read(r#"{"List":[]}"#).list, Some(vec![]));
    }

    #[test]
    fn one_word_is_a_list() {
        assert_eq!(read(r#"{"Cmd":"ls"}"#).cmd.unwrap(), ["ls"]);
        assert_eq!(read(r#"{"cmd":["ls","-l"]}"#).cmd.unwrap(), ["ls", "-l"]);
    }

    #[test]
    fn wrong_types_are_errors() {
        for text in [
            r#"{"Image":1}"#,
            r#"{"Count":"1"}"#,
            r#"{"Count":1.5}"#,
            r#"{"List":{}}"#,
            "[]",
            "{} {}",
            "",
        ] {
            from_slice::<Sample>(text.as_bytes()).unwrap_err();
        }
    }
}
