//! Content-addressed blob store in OCI layout.
