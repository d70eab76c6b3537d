//! Shim: Task service, stdio, log file, reaping, exit record.
