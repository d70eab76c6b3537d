//! Durable metadata: one SQLite file, one writer.
