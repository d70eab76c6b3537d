//! Pause, rename, update and prune.

use havre_api_traits::Lifecycle;

use crate::engine::Engine;

impl Lifecycle for Engine {}
