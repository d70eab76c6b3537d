//! The metadata store as its users see it, over crashes and damage.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod documents;
