//! The checks that `make lint` runs beyond clippy: `cargo xtask tidy`.
//!
//! It only reads the tree and says what is wrong; it never changes a file.

mod layers;
mod source;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Most packages that Cargo.lock may name: a new dependency is a decision, so the ceiling is close.
const MAX_LOCKED_PACKAGES: usize = 300;

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "tidy" => tidy(),
        other => Err(anyhow::anyhow!(
            "unknown command `{other}`; there is `tidy`"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn tidy() -> Result<()> {
    let root = workspace_root()?;
    let mut problems = layers::check(&root)?;
    problems.extend(source::check(&root)?);
    problems.extend(locked_packages(&root)?);
    for problem in &problems {
        report(problem);
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("tidy: {} problem(s)", problems.len())
}

fn locked_packages(root: &Path) -> Result<Option<String>> {
    let lock = fs_err::read_to_string(root.join("Cargo.lock"))?;
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    let over = count > MAX_LOCKED_PACKAGES;
    Ok(over.then(|| format!("Cargo.lock: {count} packages, the ceiling is {MAX_LOCKED_PACKAGES}")))
}

fn workspace_root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    match manifest.parent() {
        Some(root) => Ok(root.to_path_buf()),
        None => bail!("xtask's manifest has no parent directory"),
    }
}

#[expect(clippy::print_stderr, reason = "a check's findings are its output")]
fn report(line: &str) {
    eprintln!("{line}");
}
