//! The `filters` parameter of lists, prunes and events (<https://docs.docker.com/reference/api/engine/>).

use std::collections::{BTreeMap, BTreeSet};

use havre_types::{Classify, ErrorKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{StringMap, gojson};

/// Filters: for each name one or more values, any of which may match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// A `filters` parameter that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// No JSON, or of the wrong shape.
    #[error("invalid filter")]
    Json(#[source] gojson::JsonError),
    /// A name that the list does not know.
    #[error("invalid filter '{0}'")]
    Unknown(String),
    /// A value that the filter cannot take.
    #[error("invalid filter '{name}=[{}]'", values.join(" "))]
    Value {
        /// the name
        name: String,
        /// its values
        values: Vec<String>,
    },
    /// A `--filter` without `=`.
    #[error("invalid argument \"{0}\" for \"-f, --filter\" flag: invalid filter '{0}'")]
    Flag(String),
}

impl Classify for FilterError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

impl Filters {
    /// Reads the parameter, in the new form `{"name":{"value":true}}` or the old one `{"name":["value"]}`.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        gojson::from_slice(text.as_bytes()).map_err(FilterError::Json)
    }

    /// The parameter in the new form; empty when there are no filters.
    #[must_use]
    pub fn to_query(&self) -> String {
        if self.0.is_empty() {
            String::new()
        } else {
            serde_json::to_string(self).unwrap_or_default()
        }
    }

    /// Adds one `name=value` of a command line; names are lower-cased and trimmed as Docker does.
    pub fn add_flag(&mut self, text: &str) -> Result<(), FilterError> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| FilterError::Flag(text.to_owned()))?;
        self.add(name.trim().to_lowercase(), value.trim());
        Ok(())
    }

    /// Adds one value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_default().insert(value.into());
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a filter of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of one filter, sorted.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Refuses names that are not in the list.
    pub fn validate(&self, known: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(FilterError::Unknown(name.clone())),
            None => Ok(()),
        }
    }

    /// Whether the value is one of the filter's, or there is no such filter.
    #[must_use]
    pub fn exact(&self, name: &str, value: &str) -> bool {
        self.0
            .get(name)
            .is_none_or(|values| values.is_empty() || values.contains(value))
    }

    /// Whether `accept` says yes to one of the filter's values, or there is no such filter.
    pub fn any(&self, name: &str, accept: impl FnMut(&str) -> bool) -> bool {
        self.0
            .get(name)
            .is_none_or(|values| values.is_empty() || values.iter().map(String::as_str).any(accept))
    }

    /// Whether the labels satisfy every `key` and `key=value` of the filter.
    #[must_use]
    pub fn labels(&self, name: &str, labels: &StringMap) -> bool {
        self.values(name)
            .all(|wanted| match wanted.split_once('=') {
                Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
                None => labels.contains_key(wanted),
            })
    }

    /// A filter that is true or false; `default` when absent.
    pub fn boolean(&self, name: &str, default: bool) -> Result<bool, FilterError> {
        let Some(values) = self.0.get(name) else {
            return Ok(default);
        };
        let has = |words: [&str; 2]| words.iter().any(|word| values.contains(*word));
        match (has(["1", "true"]), has(["0", "false"])) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => Err(FilterError::Value {
                name: name.to_owned(),
                values: values.iter().cloned().collect(),
            }),
        }
    }
}

impl Serialize for Filters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let flags = |values: &BTreeSet<String>| -> BTreeMap<String, bool> {
            values.iter().map(|value| (value.clone(), true)).collect()
        };
        serializer.collect_map(self.0.iter().map(|(name, values)| (name, flags(values))))
    }
}

impl<'de> Deserialize<'de> for Filters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            New(BTreeMap<String, bool>),
            Old(Vec<String>),
        }
        let map = BTreeMap::<String, Values>::deserialize(deserializer)?;
        let values = |values| match values {
            Values::New(map) => map
                .into_iter()
                .filter_map(|(value, on)| on.then_some(value))
                .collect(),
            Values::Old(list) => list.into_iter().collect(),
        };
        Ok(Self(
            map.into_iter().map(|(name, v)| (name, values(v))).collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_the_new_one_is_written() {
        let new = Filters::parse(r#"{"label":{"a=b":true,"c":false},"status":{"running":true}}"#)
            .unwrap();
        let old = Filters::parse(r#"{"label":["a=b"],"status":["running"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(
            new.to_query(),
            r#"{"label":{"a=b":true},"status":{"running":true}}"#
        );
        assert_eq!(Filters::parse("").unwrap().to_query(), "");
        Filters::parse("[]").unwrap_err();
        Filters::parse(r#"{"a":1}"#).unwrap_err();
    }

    #[test]
    fn filters_match() {
        let mut filters = Filters::default();
        for flag in [
            "label=a=b",
            "Label=c",
            "dangling=true",
            "status=exited",
            "status=dead",
        ] {
            filters.add_flag(flag).unwrap();
        }
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        assert!(filters.labels("label", &labels(&[("a", "b"), ("c", "")])));
        assert!(!filters.labels("label", &labels(&[("a", "b")])));
        assert!(
            filters.exact("status", "dead")
                && !filters.exact("status", "running")
                && filters.exact("id", "x")
        );
        assert!(filters.boolean("dangling", false).unwrap());
        assert_eq!(
            filters
                .validate(&["label", "status"])
                .unwrap_err()
                .to_string(),
            "invalid filter 'dangling'"
        );
        assert!(matches!(
            filters.boolean("status", false),
            Err(FilterError::Value { .. })
        ));
        filters.add_flag("nonsense").unwrap_err();
    }
}
