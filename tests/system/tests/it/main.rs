//! Havre as a user meets it: the real programs, the real kernel, the real docker command line.
//!
//! Each test starts an engine on directories of its own; the fixture's end checks that nothing is left.

#[cfg(test)]
mod api;
#[cfg(test)]
mod archive;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod connected;
#[cfg(test)]
mod containerd;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod etc_files;
#[cfg(test)]
mod events;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod havre;
#[cfg(test)]
mod health;
#[cfg(test)]
mod init;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod monitor;
#[cfg(test)]
mod network;
#[cfg(test)]
mod pull;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod run;
#[cfg(test)]
mod sdk;
#[cfg(test)]
mod security;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod support;
#[cfg(test)]
mod vm;
