//! The layer crate as its users see it: real archives, real trees, and the system's own tar.

#[cfg(test)]
mod apply;
#[cfg(test)]
mod breakout;
#[cfg(test)]
mod diff;
#[cfg(test)]
mod fixups;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod pipeline;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod whiteouts;
