//! The host's local time: the only thing that the columns with times need of it is its distance from UTC.
//! Form of the file: <https://www.rfc-editor.org/rfc/rfc8536>

/// Length of the header, and where its six counts begin.
const HEADER: usize = 44;
const COUNTS: usize = 20;

/// Seconds east of UTC at `moment`, by the file `/etc/localtime`; 0 when there is none.
pub(super) fn offset(moment: i64) -> i64 {
    let file = fs_err::read("/etc/localtime").unwrap_or_default();
    parse(&file, moment).unwrap_or(0)
}

/// The sizes of the parts of a block.
struct Counts {
    utc: usize,
    standard: usize,
    leaps: usize,
    times: usize,
    types: usize,
    letters: usize,
}

impl Counts {
    fn read(block: &[u8]) -> Option<Self> {
        if block.get(..4)? != b"TZif" {
            return None;
        }
        let count = |index: usize| -> Option<usize> {
            let at = COUNTS + 4 * index;
            let bytes: [u8; 4] = block.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(bytes)).ok()
        };
        Some(Self {
            utc: count(0)?,
            standard: count(1)?,
            leaps: count(2)?,
            times: count(3)?,
            types: count(4)?,
            letters: count(5)?,
        })
    }

    /// The length of the block with times of `width` bytes.
    fn length(&self, width: usize) -> usize {
        let times = self.times * (width + 1);
        HEADER
            + times
            + self.types * 6
            + self.letters
            + self.leaps * (width + 4)
            + self.standard
            + self.utc
    }
}

fn parse(file: &[u8], moment: i64) -> Option<i64> {
    // The first block has 32-bit times and is there for old readers only.
    let second = file.get(Counts::read(file)?.length(4)..)?;
    let counts = Counts::read(second)?;
    let data = second.get(HEADER..)?;
    let times = data.get(..counts.times * 8)?;
    let kinds = data.get(counts.times * 8..counts.times * 9)?;
    let types = data.get(counts.times * 9..counts.times * 9 + counts.types * 6)?;
    let passed = times
        .chunks_exact(8)
        .filter_map(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?)))
        .take_while(|time| *time <= moment)
        .count();
    let kind = match passed.checked_sub(1) {
        Some(index) => usize::from(*kinds.get(index)?),
        None => 0,
    };
    let bytes: [u8; 4] = types.get(kind * 6..kind * 6 + 4)?.try_into().ok()?;
    Some(i32::from_be_bytes(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(width: usize, times: &[(i64, u8)], types: &[i32]) -> Vec<u8> {
        let mut out = b"TZif2".to_vec();
        out.resize(COUNTS, 0);
        for count in [0, 0, 0, times.len(), types.len(), 0] {
            out.extend(u32::try_from(count).unwrap().to_be_bytes());
        }
        for (time, _) in times {
            out.extend(&time.to_be_bytes()[8 - width..]);
        }
        out.extend(times.iter().map(|(_, kind)| kind));
        for offset in types {
            out.extend(offset.to_be_bytes());
            out.extend([0, 0]);
        }
        out
    }

    #[test]
    fn the_second_block_decides() {
        let mut file = block(4, &[(5, 0)], &[99]);
        file.extend(block(8, &[(100, 1), (200, 0)], &[3600, 7200]));
        for (moment, offset) in [(0, 3600), (100, 7200), (199, 7200), (200, 3600)] {
            assert_eq!(parse(&file, moment), Some(offset), "{moment}");
        }
        for length in 0..file.len() {
            // Cut files give nothing, and no panic.
            parse(&file[..length], 150);
        }
        assert_eq!(parse(b"", 0), None);
        let mut wild = file.clone();
        wild[COUNTS + 12..COUNTS + 16].fill(0xff);
        assert_eq!(parse(&wild, 0), None);
    }
}
