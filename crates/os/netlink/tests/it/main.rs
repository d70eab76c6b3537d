//! The messages against the real kernel, each test in network namespaces of its own.

#[cfg(test)]
mod interfaces;
#[cfg(test)]
mod others;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod support;
