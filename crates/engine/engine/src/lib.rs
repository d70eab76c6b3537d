//! The engine: containers, exec, images, events.
