//! The lines of a stream that tells how a pull, push, load or build goes on.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{is_default, is_false};

/// One line of such a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonMessage {
    /// Text to print as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// `Downloading`, `Pull complete` …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The progress as text, for clients that do not draw it themselves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// The layer that the line is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The text of `error_detail` again, for old clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Anything else, such as the id of a built image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// How far a layer is. `{}` means "no longer counted".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "is_default")]
    pub current: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub total: i64,
    /// Seconds since 1970 at which it began.
    #[serde(skip_serializing_if = "is_default")]
    pub start: i64,
    /// Show the bar without numbers.
    #[serde(rename = "hidecounts", skip_serializing_if = "is_false")]
    pub hide_counts: bool,
    /// `s` for seconds; empty for bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// The error that ended a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "is_default")]
    pub code: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl JsonMessage {
    /// A line without an id.
    #[must_use]
    pub fn status(text: impl Into<String>) -> Self {
        Self {
            status: text.into(),
            ..Self::default()
        }
    }

    /// A line about one layer, with an empty progress as dockerd writes it.
    #[must_use]
    pub fn layer(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status: status.into(),
            progress_detail: Some(ProgressDetail::default()),
            ..Self::default()
        }
    }

    /// The line that ends a stream which failed.
    #[must_use]
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error: message.clone(),
            error_detail: Some(ErrorDetail { code: 0, message }),
            ..Self::default()
        }
    }
}
