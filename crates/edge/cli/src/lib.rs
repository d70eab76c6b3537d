//! The havre command line.
