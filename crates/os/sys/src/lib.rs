//! System calls: the one crate that holds unsafe code.
