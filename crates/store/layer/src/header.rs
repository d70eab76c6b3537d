//! One entry of an archive, as both the reader gives it and the writer takes it.

/// Seconds before or after 1970, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mtime {
    pub seconds: i64,
    pub nanos: u32,
}

/// What an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink { target: Vec<u8> },
    HardLink { target: Vec<u8> },
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// An entry's metadata. Names are bytes, as on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As written in the archive: it may be absolute or hold `..`.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub mtime: Mtime,
    /// Of a file's content, holes included; 0 for all else.
    pub size: u64,
    /// Extended attributes, names without `SCHILY.xattr.`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Parts of a sparse file that have data, as offset and length.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// An entry of root's with no content, from 1970.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            mtime: Mtime::default(),
            size: 0,
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// Bytes of data that follow the header, without padding.
    #[must_use]
    pub fn stored(&self) -> u64 {
        match &self.sparse {
            Some(map) => map
                .iter()
                .fold(0, |sum: u64, (_, length)| sum.saturating_add(*length)),
            None => self.size,
        }
    }
}
