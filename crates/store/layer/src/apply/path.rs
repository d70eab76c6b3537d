//! Names of an archive made into components that are plain names. `..` is taken lexically, as Go's
//! readers do, and must not lead above the root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::apply::Limits;
use crate::error::EntryProblem;

const NAME_LIMIT: usize = 255;

/// Components of a cleaned path, the root being none at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clean<'a> {
    names: Vec<&'a OsStr>,
}

impl<'a> Clean<'a> {
    pub(super) fn new(path: &'a [u8], limits: &Limits) -> Result<Self, EntryProblem> {
        if path.len() > limits.path {
            return Err(EntryProblem::PathTooLong { limit: limits.path });
        }
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    names.pop().ok_or(EntryProblem::Escape)?;
                }
                name if name.len() > NAME_LIMIT => return Err(EntryProblem::NameTooLong),
                // The reader lets no NUL through in PAX names, and cuts others off there.
                name => names.push(OsStr::from_bytes(name)),
            }
        }
        if names.len() > limits.depth {
            return Err(EntryProblem::TooDeep {
                limit: limits.depth,
            });
        }
        Ok(Self { names })
    }

    /// Directories above, and the last name; `None` for the root.
    pub(super) fn split(&self) -> Option<(&[&'a OsStr], &'a OsStr)> {
        self.names
            .split_last()
            .map(|(last, parents)| (parents, *last))
    }

    pub(super) fn names(&self) -> &[&'a OsStr] {
        &self.names
    }

    pub(super) fn to_path(&self) -> PathBuf {
        self.names.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Clean, EntryProblem, Limits};

    fn clean(path: &str) -> Result<String, EntryProblem> {
        let limits = Limits {
            path: 40,
            depth: 4,
            ..Limits::default()
        };
        Clean::new(path.as_bytes(), &limits).map(|clean| clean.to_path().display().to_string())
    }

    #[test]
    fn paths_are_relative_to_the_root_whatever_their_form() {
        assert_eq!(clean("./a//b/").as_deref(), Ok("a/b"));
        assert_eq!(clean("/etc/passwd").as_deref(), Ok("etc/passwd"));
        assert_eq!(clean("a/../b").as_deref(), Ok("b"));
        assert_eq!(clean("./").as_deref(), Ok(""));
    }

    #[test]
    fn paths_out_of_the_root_or_over_a_limit_are_refused() {
        assert_eq!(clean("../a"), Err(EntryProblem::Escape));
        assert_eq!(clean("a/../../b"), Err(EntryProblem::Escape));
        assert_eq!(clean("/.."), Err(EntryProblem::Escape));
        assert_eq!(
            clean(&"a".repeat(41)),
            Err(EntryProblem::PathTooLong { limit: 40 })
        );
        assert_eq!(clean("a/b/c/d").as_deref(), Ok("a/b/c/d"));
        assert_eq!(clean("a/b/c/d/e"), Err(EntryProblem::TooDeep { limit: 4 }));
    }
}
