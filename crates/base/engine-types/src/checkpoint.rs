//! Checkpoints of containers.

use serde::{Deserialize, Serialize};

/// The body of `POST /containers/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointCreateRequest {
    /// Its name.
    #[serde(rename = "CheckpointID")]
    pub checkpoint_id: String,
    /// The directory that is to hold it; empty for the container's own.
    #[serde(rename = "CheckpointDir")]
    pub checkpoint_dir: String,
    /// The container ends with it.
    #[serde(rename = "Exit")]
    pub exit: bool,
}

/// One entry of `GET /containers/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointSummary {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_dockers() {
        let body = br#"{"checkpointid":"c1","CheckpointDir":null,"Exit":true}"#;
        let request: CheckpointCreateRequest = crate::gojson::from_slice(body).unwrap();
        let expected = CheckpointCreateRequest {
            checkpoint_id: "c1".to_owned(),
            checkpoint_dir: String::new(),
            exit: true,
        };
        assert_eq!(request, expected);
        let summary = CheckpointSummary {
            name: "c1".to_owned(),
        };
        assert_eq!(serde_json::to_string(&summary).unwrap(), r#"{"Name":"c1"}"#);
    }
}
