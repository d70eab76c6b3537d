//! OCI and Docker image configuration with every field kept; the oci-spec crate serves the rest.
