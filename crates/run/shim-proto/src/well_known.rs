//! The few well-known protobuf types that the Task API uses, with conversions to our own types.

use std::string::FromUtf8Error;

use havre_types::Timestamp;

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// `google.protobuf.Any`. containerd puts JSON into `value` for types of the OCI runtime specification.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// Wraps a protobuf message.
    #[must_use]
    pub fn pack(type_url: &str, message: &impl prost::Message) -> Self {
        Self {
            type_url: type_url.to_owned(),
            value: message.encode_to_vec(),
        }
    }

    /// Wraps JSON text, as containerd's typeurl does for types without a protobuf definition.
    #[must_use]
    pub fn json(type_url: &str, value: Vec<u8>) -> Self {
        Self {
            type_url: type_url.to_owned(),
            value,
        }
    }

    /// The type name without the part that typeurl or protobuf put before it (`types.googleapis.com/`).
    #[must_use]
    pub fn type_name(&self) -> &str {
        self.type_url
            .strip_prefix("type.googleapis.com/")
            .unwrap_or(&self.type_url)
    }

    /// The value as text.
    ///
    /// # Errors
    /// Fails when the value is not UTF-8.
    pub fn into_text(self) -> Result<String, FromUtf8Error> {
        String::from_utf8(self.value)
    }
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ProtoTimestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<Timestamp> for ProtoTimestamp {
    fn from(time: Timestamp) -> Self {
        Self {
            seconds: time.secs,
            nanos: i32::try_from(time.nanos).unwrap_or(0),
        }
    }
}

impl From<ProtoTimestamp> for Timestamp {
    fn from(time: ProtoTimestamp) -> Self {
        Self {
            secs: time.seconds,
            nanos: u32::try_from(time.nanos).unwrap_or(0),
        }
    }
}
