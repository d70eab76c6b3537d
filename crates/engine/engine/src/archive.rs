//! The files of a container: what changed, copies in and out, the whole tree, an image of it.

use havre_api_traits::Archive;

use crate::engine::Engine;

impl Archive for Engine {}
