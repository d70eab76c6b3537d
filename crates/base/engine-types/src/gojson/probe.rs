//! Asks a type what it would read, to name it as Go does: `[]string`, `map[string]string`. Nothing is read; the
//! answer comes back as the error.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
    value::StrDeserializer,
};
use serde::forward_to_deserialize_any;

use super::path::struct_name;

/// The name of a type, on its way out.
#[derive(Debug)]
pub(super) struct Name(String);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Name {}

impl de::Error for Name {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

/// What a list's visitor wants: `[]` and its items' type.
pub(super) fn list<'de, V: Visitor<'de>>(visitor: V) -> String {
    name(visitor.visit_seq(Probe))
}

/// What a map's visitor wants.
pub(super) fn map<'de, V: Visitor<'de>>(visitor: V) -> String {
    name(visitor.visit_map(Probe))
}

fn name<T>(answer: Result<T, Name>) -> String {
    // A type that wants nothing of its items is one of ours that Go does not have.
    answer
        .err()
        .map_or_else(|| "interface {}".to_owned(), |name| name.0)
}

/// Stands for a value of every form.
struct Probe;

macro_rules! named {
    ($($method:ident => $name:literal),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Name> {
            Err(Name($name.to_owned()))
        })*
    };
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Name;

    named! {
        deserialize_any => "interface {}",
        deserialize_bool => "bool",
        deserialize_i8 => "int8",
        deserialize_i16 => "int16",
        deserialize_i32 => "int32",
        deserialize_i64 => "int64",
        deserialize_u8 => "uint8",
        deserialize_u16 => "uint16",
        deserialize_u32 => "uint32",
        deserialize_u64 => "uint64",
        deserialize_f32 => "float32",
        deserialize_f64 => "float64",
        deserialize_str => "string",
        deserialize_string => "string",
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Name> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Name> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Name> {
        Err(Name(list(visitor)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Name> {
        Err(Name(map(visitor)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Name> {
        Err(Name(struct_name(name).to_owned()))
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for Probe {
    type Error = Name;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Name> {
        match seed.deserialize(Self) {
            Ok(value) => Ok(Some(value)),
            Err(name) => Err(Name(format!("[]{name}"))),
        }
    }
}

impl<'de> MapAccess<'de> for Probe {
    type Error = Name;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Name> {
        let key: StrDeserializer<'_, Name> = "".into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Name> {
        seed.deserialize(Self)
            .map_err(|name| Name(format!("map[string]{name}")))
    }
}
