//! Finding the command, as `execvp` does.

use std::env::{var_os, vars_os};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::Failure;

/// Where a command is looked for when the environment does not say.
const USUAL_PATH: &str = "/bin:/usr/bin";
const SHELL: &str = "/bin/sh";
const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;

/// Calls `start` with each file that the first word may mean, until one starts.
pub(crate) fn candidates<T>(
    words: &[OsString],
    mut start: impl FnMut(&CStr, Vec<CString>) -> io::Result<T>,
) -> Result<T, Failure> {
    let Some(word) = words.first() else {
        return Err(Failure::usage());
    };
    let failed = |error: io::Error| Failure::command(word, &error);
    let argv = texts(words.to_vec()).map_err(failed)?;
    let mut worst = io::Error::from_raw_os_error(ENOENT);
    for file in files(word) {
        let path = text(&file).map_err(failed)?;
        let error = match start(&path, argv.clone()) {
            Ok(started) => return Ok(started),
            Err(error) if error.raw_os_error() == Some(ENOEXEC) => {
                // A script without a first line that names its interpreter.
                let mut script = vec![SHELL.into(), file];
                script.extend_from_slice(words.get(1..).unwrap_or_default());
                let shell = text(OsStr::new(SHELL)).map_err(failed)?;
                match start(&shell, texts(script).map_err(failed)?) {
                    Ok(started) => return Ok(started),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ) {
            worst = error;
        }
    }
    Err(failed(worst))
}

fn files(word: &OsStr) -> Vec<OsString> {
    if word.as_bytes().contains(&b'/') {
        return vec![word.to_owned()];
    }
    let path = var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
    let directories = path.as_bytes().split(|byte| *byte == b':');
    let join = |directory: &[u8]| {
        // An empty entry is the working directory.
        let mut file = if directory.is_empty() {
            b".".to_vec()
        } else {
            directory.to_vec()
        };
        file.push(b'/');
        file.extend_from_slice(word.as_bytes());
        OsString::from_vec(file)
    };
    directories.map(join).collect()
}

/// The environment that goes on to the command.
pub(crate) fn environment() -> io::Result<Vec<CString>> {
    let entries = vars_os().map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        entry
    });
    texts(entries.collect())
}

pub(crate) fn texts(words: Vec<OsString>) -> io::Result<Vec<CString>> {
    words.into_iter().map(|word| text(&word)).collect()
}

pub(crate) fn text(word: &OsStr) -> io::Result<CString> {
    Ok(CString::new(word.as_bytes())?)
}
