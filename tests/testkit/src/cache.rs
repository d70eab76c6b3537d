//! Where built images are kept between runs, and the locks that let several test processes share it.

use anyhow::{Context as _, Result};
use fs_err::File;
use rustix::fs::FlockOperation;
use std::env;
use std::path::PathBuf;

/// Counts up when a recipe changes what an image contains, so that old images are not used.
const VERSION: &str = "v1";

/// The directory of this version's images: `$HAVRE_TEST_CACHE` or `~/.cache/havre-test`.
pub fn directory() -> Result<PathBuf> {
    let root = match env::var_os("HAVRE_TEST_CACHE") {
        Some(root) => PathBuf::from(root),
        None => {
            let home = env::var_os("HOME").context("neither HAVRE_TEST_CACHE nor HOME is set")?;
            PathBuf::from(home).join(".cache/havre-test")
        }
    };
    let directory = root.join(VERSION);
    fs_err::create_dir_all(&directory)?;
    Ok(directory)
}

/// Held while one process builds what several want; freed when dropped or when the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock only")] File);

/// Waits for the lock of this name.
pub fn lock(name: &str) -> Result<Lock> {
    let path = directory()?.join(format!("{name}.lock"));
    let file = File::create(&path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("failed to lock {}", path.display()))?;
    Ok(Lock(file))
}
