//! The fixtures themselves, against Debian's programs: needs root the first time an image is built.

#[cfg(test)]
#[cfg(test)]
mod images;
