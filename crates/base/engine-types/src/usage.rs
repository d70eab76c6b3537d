//! What the engine's objects take on the disk, and logins.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ContainerSummary, ImageSummary, is_default};

/// The answer to `GET /system/df`; kinds that were not asked for are missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DiskUsage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<ObjectUsage<ImageSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<ObjectUsage<ContainerSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<ObjectUsage<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<ObjectUsage<Value>>,
}

/// What all objects of one kind take.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ObjectUsage<T> {
    #[serde(skip_serializing_if = "is_default")]
    pub active_count: i64,
    /// Only with `verbose`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<T>,
    #[serde(skip_serializing_if = "is_default")]
    pub reclaimable: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub total_count: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub total_size: i64,
}

/// The body of `POST /auth`, and the JSON in `X-Registry-Auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// `username:password` in base64, as configuration files have it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl std::fmt::Debug for AuthConfig {
    /// Secrets never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// The answer to `POST /auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    /// Stands for the password from now on; empty when the registry gives none.
    pub identity_token: String,
    /// `Login Succeeded`.
    pub status: String,
}
