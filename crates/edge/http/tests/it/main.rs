//! The API over a real unix socket, with an engine that exists only in memory: raw bytes, and the docker CLI.

#[cfg(test)]
mod api;
#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod coverage;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod hijack;
#[cfg(test)]
mod monitor;
#[cfg(test)]
mod networks;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod websocket;
