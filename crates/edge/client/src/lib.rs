//! Thin client of the Engine API.
