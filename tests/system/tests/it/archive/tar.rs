//! Archives with entries that no honest program writes.

/// One entry of an archive.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    /// `0` file, `1` hard link, `2` symbolic link, `5` directory.
    pub(super) kind: u8,
    pub(super) link: String,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) content: Vec<u8>,
}

pub(super) fn file(name: &str, content: &[u8]) -> Entry {
    Entry {
        name: name.into(),
        kind: b'0',
        link: String::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        content: content.to_vec(),
    }
}

pub(super) fn directory(name: &str) -> Entry {
    Entry {
        kind: b'5',
        mode: 0o755,
        ..file(name, b"")
    }
}

pub(super) fn symlink(name: &str, target: &str) -> Entry {
    Entry {
        kind: b'2',
        link: target.to_owned(),
        ..file(name, b"")
    }
}

pub(super) fn hard_link(name: &str, target: &str) -> Entry {
    Entry {
        kind: b'1',
        ..symlink(name, target)
    }
}

/// The header of an entry whose content has `size` bytes, or is said to.
pub(super) fn header(entry: &Entry, size: usize) -> [u8; 512] {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &entry.name);
    put(100, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, format!("{:07o}\0", entry.uid).as_bytes());
    put(116, format!("{:07o}\0", entry.gid).as_bytes());
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[entry.kind]);
    put(157, entry.link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

pub(super) fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in entries {
        all.extend_from_slice(&header(entry, entry.content.len()));
        all.extend_from_slice(&entry.content);
        all.resize(all.len().next_multiple_of(512), 0);
    }
    all.resize(all.len() + 1024, 0);
    all
}
