//! What the writer writes the reader reads, for any entry.

use std::io::Read as _;

use havre_layer::{Entry, Kind, Mtime, TarReader, TarWriter};
use proptest::collection::vec;
use proptest::prelude::*;

fn name(limit: usize) -> impl Strategy<Value = Vec<u8>> {
    let component = vec(prop_oneof![4 => b'a'..=b'e', 1 => 1_u8..=255], 1..40).prop_map(|bytes| {
        bytes
            .into_iter()
            .map(|b| if b == b'/' { b'_' } else { b })
            .collect()
    });
    vec(component, 1..limit).prop_map(|parts: Vec<Vec<u8>>| parts.join(&b'/'))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::File),
        1 => Just(Kind::Directory),
        1 => name(10).prop_map(|target| Kind::Symlink { target }),
        1 => name(10).prop_map(|target| Kind::HardLink { target }),
        1 => (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| Kind::Character { major, minor }),
        1 => (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| Kind::Block { major, minor }),
        1 => Just(Kind::Fifo),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_000_u64, 0o7_777_777..=0o10_000_000_u64, any::<u64>()]
}

prop_compose! {
    fn entry()(
        path in name(20),
        kind in kind(),
        mode in 0..=0o7777_u32,
        (uid, gid) in (number(), number()),
        (user, group) in (name(3), name(3)),
        seconds in prop_oneof![0..2_000_000_000_i64, -5_000_000_000..20_000_000_000_i64],
        nanos in prop_oneof![Just(0_u32), 0..1_000_000_000_u32],
        xattrs in proptest::collection::btree_map("[a-z]{1,5}\\.[a-z]{1,5}", vec(any::<u8>(), 0..50), 0..3),
        content in vec(any::<u8>(), 0..2000),
        holes in vec(0..3_u64, 0..4),
        sparse in proptest::bool::weighted(0.2),
    ) -> (Entry, Vec<u8>) {
        let mut entry = Entry::new(path, kind, mode);
        (entry.uid, entry.gid, entry.user, entry.group) = (uid, gid, user, group);
        entry.mtime = Mtime { seconds, nanos };
        entry.xattrs = xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
        if entry.kind != Kind::File {
            return (entry, Vec::new());
        }
        entry.size = content.len() as u64;
        if sparse {
            let mut map = Vec::new();
            let (mut offset, mut left) = (0, content.len() as u64);
            for hole in holes {
                let part = left / 2;
                offset += hole * 1000;
                map.push((offset, part));
                offset += part;
                left -= part;
            }
            map.push((offset + 5, left));
            entry.size = offset + 5 + left + 17;
            entry.sparse = Some(map);
        }
        (entry, content)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn entries_survive(entries in vec(entry(), 0..8)) {
        let mut writer = TarWriter::new(Vec::new());
        for (entry, content) in &entries {
            writer.append_bytes(entry, content).unwrap();
        }
        let written = writer.written();
        let tar = writer.finish().unwrap();
        prop_assert_eq!(tar.len() as u64, written + 1024);
        let mut reader = TarReader::new(tar.as_slice());
        for (expected, content) in &entries {
            let mut found = reader.next_entry().unwrap().unwrap();
            if found.kind == Kind::Directory {
                prop_assert_eq!(found.path.pop(), Some(b'/'));
            }
            prop_assert_eq!(&found, expected);
            let mut stored = Vec::new();
            let mut filled = vec![0; usize::try_from(found.size).unwrap()];
            while let Some(data) = reader.data().unwrap() {
                stored.extend_from_slice(data.bytes);
                let at = usize::try_from(data.offset).unwrap();
                filled[at..at + data.bytes.len()].copy_from_slice(data.bytes);
            }
            prop_assert_eq!(&stored, content);
        }
        prop_assert!(reader.next_entry().unwrap().is_none());

        // The same through the other way to read content.
        let mut reader = TarReader::new(std::io::BufReader::with_capacity(7, tar.as_slice()));
        for (expected, _) in &entries {
            let found = reader.next_entry().unwrap().unwrap();
            let mut content = Vec::new();
            reader.content(&found).read_to_end(&mut content).unwrap();
            prop_assert_eq!(content.len() as u64, expected.size);
        }
    }

    #[test]
    fn skipping_content_finds_the_same_entries(entries in vec(entry(), 0..8)) {
        let mut writer = TarWriter::new(Vec::new());
        for (entry, content) in &entries {
            writer.append_bytes(entry, content).unwrap();
        }
        let tar = writer.finish().unwrap();
        let mut reader = TarReader::new(tar.as_slice());
        let mut count = 0;
        while reader.next_entry().unwrap().is_some() {
            count += 1;
        }
        prop_assert_eq!(count, entries.len());
    }
}

#[test]
fn content_that_is_too_short_is_an_error_that_names_the_entry() {
    let mut entry = Entry::new("short", Kind::File, 0o644);
    entry.size = 10;
    let mut writer = TarWriter::new(Vec::new());
    let error = writer.append_bytes(&entry, b"four").unwrap_err();
    assert_eq!(
        error.to_string(),
        "entry `short` has 4 bytes of data, 10 were announced"
    );
}
