//! What the outside may ask of the engine.
