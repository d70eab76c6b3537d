//! What a container does and why it ended.

use havre_api_traits::Monitor;

use crate::engine::Engine;

impl Monitor for Engine {}
