//! Pulling from Debian's docker-registry, and from a registry that misbehaves on purpose. Needs root
//! for the layers on disk.

#[cfg(test)]
mod access;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod pulls;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod support;
