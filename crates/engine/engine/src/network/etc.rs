//! The files in a container's directory that are mounted in it: written at a start, and changed in place while it runs,
//! but never against what the user made of them.
//!
//! A program of the container can write them at any time, so what is read here is hostile: bounded, and only compared.

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::path::Path;

use havre_types::Digest;

/// The larger ones are the user's own.
const MAX: u64 = 1 << 20;
/// Digests of the `resolv.conf` that the engine wrote, beside it: one, or, when it was to be changed, the one before and
/// the one after. Which of both is there, a crash decides.
const WRITTEN: &str = "resolv.conf.written";

/// A line of `hosts`: an address and its names.
pub(crate) type Line = (IpAddr, String);

/// Writes a container's files for a start.
pub(crate) fn write_all(data: &Path, files: &[(&str, String)]) -> io::Result<()> {
    for (name, text) in files {
        write(&data.join(name), text.as_bytes())?;
        if *name == "resolv.conf" {
            fs_err::write(data.join(WRITTEN), digest(text.as_bytes()))?;
        }
    }
    Ok(())
}

/// Writes a file in place: no reader, and no crash, finds it empty or half of each. A longer one is first filled up with
/// empty lines.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs_err::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let length = text.len() as u64;
    let before = file.metadata()?.len();
    let mut padded = text.to_vec();
    padded.resize(padded_length(before, text.len()), b'\n');
    file.write_all(&padded)?;
    if before > length {
        file.set_len(length)?;
    }
    Ok(())
}

fn padded_length(before: u64, length: usize) -> usize {
    usize::try_from(before.min(MAX)).map_or(length, |before| before.max(length))
}

/// A file's bytes; none when it is too large to be the engine's.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let file = fs_err::File::open(path)?;
    file.take(MAX + 1).read_to_end(&mut text)?;
    Ok((text.len() as u64 <= MAX).then_some(text))
}

/// Gives a running container another `resolv.conf`, unless somebody else has written it since.
pub(crate) fn change_resolv_conf(data: &Path, text: &str) -> io::Result<()> {
    let path = data.join("resolv.conf");
    let Some(there) = read(&path)? else {
        return Ok(());
    };
    if there == text.as_bytes() {
        return Ok(());
    }
    let (is, will_be) = (digest(&there), digest(text.as_bytes()));
    match fs_err::read_to_string(data.join(WRITTEN)) {
        Ok(ours) if !ours.lines().any(|line| line == is) => return Ok(()),
        // Engines before this one wrote none down.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let new = data.join("resolv.conf.written.new");
    fs_err::write(&new, format!("{is}\n{will_be}\n"))?;
    fs_err::rename(new, data.join(WRITTEN))?;
    write(&path, text.as_bytes())
}

/// What is compared: a text without the empty lines at its end.
fn digest(text: &[u8]) -> String {
    Digest::sha256_of(text.trim_ascii_end()).to_string()
}

/// Takes the container's former addresses out of its `hosts` and adds those that it has now. All other lines stay as
/// they are.
pub(crate) fn change_hosts(data: &Path, was: &[Line], is: &[Line]) -> io::Result<()> {
    let path = data.join("hosts");
    let Some(there) = read(&path)? else {
        return Ok(());
    };
    let text = edited(&there, was, is);
    match text.strip_prefix(there.as_slice()) {
        Some([]) => Ok(()),
        // At the end, wherever that is by now: what a program writes at the same time stays.
        Some(added) => {
            let mut file = fs_err::OpenOptions::new().append(true).open(path)?;
            file.write_all(added)
        }
        None => write(&path, &text),
    }
}

/// Gives names that `hosts` has other addresses, in the engine's lines of them alone.
pub(crate) fn move_names(data: &Path, names: &str, now: &[IpAddr]) -> io::Result<()> {
    let Some(there) = read(&data.join("hosts"))? else {
        return Ok(());
    };
    let line = |address: IpAddr| (address, names.to_owned());
    let lines = there.split(|byte| *byte == b'\n');
    let was: Vec<Line> = lines
        .filter_map(|text| {
            let address = std::str::from_utf8(text).ok()?.split('\t').next()?;
            let own = line(address.parse().ok()?);
            says(text, &own).then_some(own)
        })
        .collect();
    let now: Vec<Line> = now.iter().copied().map(line).collect();
    change_hosts(data, &was, &now)
}

fn edited(text: &[u8], was: &[Line], is: &[Line]) -> Vec<u8> {
    let gone: Vec<&Line> = was.iter().filter(|line| !is.contains(line)).collect();
    let new: Vec<&Line> = is.iter().filter(|line| !was.contains(line)).collect();
    let lines = || text.split_inclusive(|byte| *byte == b'\n');
    let mut kept: Vec<u8> = lines()
        .filter(|line| !gone.iter().any(|own| says(line, own)))
        .flatten()
        .copied()
        .collect();
    for own in new {
        if lines().any(|line| says(line, own)) {
            continue;
        }
        if !matches!(kept.last(), None | Some(b'\n')) {
            kept.push(b'\n');
        }
        let (address, names) = own;
        kept.extend(format!("{address}\t{names}\n").into_bytes());
    }
    kept
}

/// Whether a line is the engine's: one that the user has added a name to, or a comment, is not.
fn says(line: &[u8], (address, names): &Line) -> bool {
    let Ok(line) = std::str::from_utf8(line) else {
        return false;
    };
    let line = line.strip_suffix('\n').unwrap_or(line);
    let found = line
        .strip_suffix(names.as_str())
        .and_then(|rest| rest.strip_suffix('\t'));
    found.is_some_and(|text| text.trim().parse() == Ok(*address))
}

#[cfg(test)]
mod tests;
