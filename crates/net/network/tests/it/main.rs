//! The data plane against the real kernel. Each test is a host of its own: network namespaces that go with it.

#[cfg(test)]
mod administrator;
#[cfg(test)]
mod bridges;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod drivers;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod spoofing;
#[cfg(test)]
mod support;
#[cfg(test)]
mod sweep;
