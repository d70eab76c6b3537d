//! Container log files: write, rotate, read, follow.
