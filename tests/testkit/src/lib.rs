//! Fixtures for system tests: images from Debian packages, a registry, engines.
//!
//! It must never link the code under test: images are packed with GNU tar and pushed with an HTTP
//! client of its own, so that a mistake shared by both sides cannot hide.

pub mod archive;
pub mod cache;
pub mod command;
pub mod dns_load;
pub mod engine;
pub mod fake;
pub mod http;
pub mod image;
pub mod packages;
pub mod push;
pub mod recipes;
pub mod registry;
mod tree;

pub use engine::{Engine, EngineOptions};
pub use fake::Fake;
pub use image::{Format, Image};
pub use packages::ensure_packages;
pub use recipes::{NAMES, image};
pub use registry::Registry;
