//! OCI runtime life cycle as a library.
