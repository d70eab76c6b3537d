//! Networks of one host. It knows networks and their ends, but no container, no record and no engine.

pub mod ipam;
