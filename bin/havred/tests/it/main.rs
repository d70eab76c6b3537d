//! The program started for real.

#[cfg(test)]
mod process;
