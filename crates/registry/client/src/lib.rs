//! Registry client: resolve, authenticate, pull.
