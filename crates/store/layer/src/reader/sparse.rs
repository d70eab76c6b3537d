//! Sparse files: the old GNU map in headers, and the PAX formats 0.0, 0.1 and 1.0. A map is bounded
//! in length and must describe exactly the data that is stored.
//!
//! <https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html>

use std::io::BufRead;

use crate::error::{TarError, shown};
use crate::header::Entry;
use crate::number;
use crate::pax::{self, Sparse};
use crate::reader::TarReader;
use crate::reader::block::{BLOCK, Block};

/// Entries of a map: 16 MiB of memory.
const MAP_LIMIT: usize = 1024 * 1024;

impl<R: BufRead> TarReader<R> {
    /// Sets up the data of a regular file, sparse or not.
    pub(super) fn file_data(
        &mut self,
        block: &Block,
        entry: &mut Entry,
        size: u64,
        sparse: Sparse,
    ) -> Result<(), TarError> {
        let named = |problem| TarError::Sparse {
            name: shown(&entry.path),
            problem,
        };
        let pax = sparse.major.is_some() || sparse.map.is_some() || sparse.real_size.is_some();
        let (map, real, stored) = match (block.kind() == b'S', pax) {
            (false, false) => {
                entry.size = size;
                self.set_data(size, vec![(0, size)]);
                return Ok(());
            }
            (true, true) => return Err(named("it is described twice")),
            (true, false) => {
                let (map, real) = self.old_map(block, &entry.path)?;
                (map, real, size)
            }
            (false, true) => {
                let real = sparse
                    .real_size
                    .ok_or_else(|| named("the real size is missing"))?;
                let version = (sparse.major.unwrap_or(0), sparse.minor.unwrap_or(0));
                let (map, stored) = match (version, sparse.map) {
                    ((1, 0), None) => {
                        let (map, used) = self.leading_map(&entry.path, size)?;
                        (map, size - used)
                    }
                    ((0, _), Some(numbers)) => (
                        pairs(&numbers).ok_or_else(|| named("its map is odd"))?,
                        size,
                    ),
                    _ => return Err(named("its version is not known")),
                };
                if let Some(name) = sparse.name {
                    entry.path = name;
                }
                (map, real, stored)
            }
        };
        let named = |problem| TarError::Sparse {
            name: shown(&entry.path),
            problem,
        };
        check(&map, real, stored).map_err(named)?;
        entry.size = real;
        self.set_data(stored, map.clone());
        entry.sparse = Some(map);
        Ok(())
    }

    fn old_map(&mut self, block: &Block, path: &[u8]) -> Result<(Vec<(u64, u64)>, u64), TarError> {
        let named = |problem| TarError::Sparse {
            name: shown(path),
            problem,
        };
        let header = block.bytes();
        let real = number::parse_unsigned(&header[483..495]);
        let real = real.ok_or_else(|| named("the real size is no number"))?;
        let mut map = Vec::new();
        let mut done = take_fields(&header[386..482], &mut map).map_err(named)?;
        let mut more = header[482] != 0;
        while more {
            let Some(next) = self.block()? else {
                return Err(TarError::Truncated {
                    offset: self.offset,
                });
            };
            if !done {
                done = take_fields(&next[..504], &mut map).map_err(named)?;
            }
            if map.len() > MAP_LIMIT {
                return Err(named("its map is too long"));
            }
            more = next[504] != 0;
        }
        Ok((map, real))
    }

    /// Format 1.0: the map stands before the data, as lines of decimal numbers in whole blocks.
    fn leading_map(&mut self, path: &[u8], size: u64) -> Result<(Vec<(u64, u64)>, u64), TarError> {
        let named = |problem| TarError::Sparse {
            name: shown(path),
            problem,
        };
        let mut used = 0;
        let mut line = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let mut expected = None;
        while expected.is_none_or(|expected| numbers.len() < expected) {
            if used + BLOCK as u64 > size {
                return Err(named("its map is longer than its data"));
            }
            let Some(block) = self.block()? else {
                return Err(TarError::Truncated {
                    offset: self.offset,
                });
            };
            used += BLOCK as u64;
            for byte in block {
                if expected.is_some_and(|expected| numbers.len() >= expected) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(named("its map has an overlong number"));
                    }
                    continue;
                }
                let number = pax::decimal(&line);
                let number = number.ok_or_else(|| named("its map has no number"))?;
                line.clear();
                match expected {
                    None => {
                        let count = usize::try_from(number).unwrap_or(usize::MAX);
                        if count > MAP_LIMIT {
                            return Err(named("its map is too long"));
                        }
                        expected = Some(count * 2);
                    }
                    Some(_) => numbers.push(number),
                }
            }
        }
        Ok((
            pairs(&numbers).ok_or_else(|| named("its map is odd"))?,
            used,
        ))
    }
}

/// Reads pairs of twelve bytes until an empty one; `true` when the map has ended.
fn take_fields(fields: &[u8], map: &mut Vec<(u64, u64)>) -> Result<bool, &'static str> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 || field[12] == 0 {
            return Ok(true);
        }
        let offset = number::parse_unsigned(&field[..12]).ok_or("an offset is no number")?;
        let length = number::parse_unsigned(&field[12..]).ok_or("a length is no number")?;
        map.push((offset, length));
    }
    Ok(false)
}

fn pairs(numbers: &[u64]) -> Option<Vec<(u64, u64)>> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > MAP_LIMIT {
        return None;
    }
    Some(
        numbers
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect(),
    )
}

fn check(map: &[(u64, u64)], real: u64, stored: u64) -> Result<(), &'static str> {
    let mut end = 0;
    let mut sum = 0_u64;
    if i64::try_from(real).is_err() {
        return Err("its size is too large");
    }
    for (offset, length) in map {
        if *offset < end {
            return Err("its parts overlap or are not in order");
        }
        end = offset.checked_add(*length).ok_or("a part is too long")?;
        sum = sum.checked_add(*length).ok_or("its parts are too long")?;
    }
    if end > real {
        return Err("a part ends after the file");
    }
    if sum != stored {
        return Err("its parts are not as long as its data");
    }
    Ok(())
}
