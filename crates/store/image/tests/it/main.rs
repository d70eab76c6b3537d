//! The image store over the real stores below it: SQLite, blobs and overlayfs snapshots. Needs root.

#[cfg(test)]
mod load;
#[cfg(test)]
mod removal;
#[cfg(test)]
mod support;
