//! Rules on single files: headers, lengths, where `unsafe` may stand, what tests may not do.

use crate::layers;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The longest a source file may be, tests included.
const MAX_FILE_LINES: usize = 800;

/// Returns one line for each rule that a file or manifest breaks.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for manifest in layers::manifests(root)? {
        let text = fs_err::read_to_string(&manifest)?;
        if !text.contains("[lints]\nworkspace = true") {
            problems.push(format!(
                "{}: lacks `[lints] workspace = true`",
                shown(root, &manifest)
            ));
        }
    }
    let mut files = Vec::new();
    for folder in ["bin", "crates", "tests", "bench", "xtask"] {
        collect(&root.join(folder), &mut files)?;
    }
    for file in files {
        let text = fs_err::read_to_string(&file)?;
        let name = shown(root, &file);
        problems.extend(
            check_file(&name, &text)
                .into_iter()
                .map(|what| format!("{name}: {what}")),
        );
    }
    Ok(problems)
}

fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//!") {
        problems.push("does not begin with a `//!` sentence that says what it is for".to_owned());
    }
    let lines = text.lines().count();
    if lines > MAX_FILE_LINES {
        problems.push(format!("{lines} lines, the limit is {MAX_FILE_LINES}"));
    }
    if name.ends_with("/mod.rs") {
        problems.push("is a mod.rs; write foo.rs beside foo/".to_owned());
    }
    let may_hold_unsafe = name.starts_with("crates/os/sys/");
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        // The patterns are put together here so that this file does not break its own rules.
        let ignored = concat!("#[", "ignore");
        let should_panic = concat!("#[", "should_panic");
        if code.contains(ignored) || code.contains(should_panic) {
            problems.push(format!(
                "line {}: a test runs and asserts, always",
                number + 1
            ));
        }
        if !may_hold_unsafe && code.contains(concat!("unsafe", " {")) {
            problems.push(format!(
                "line {}: unsafe code lives in crates/os/sys",
                number + 1
            ));
        }
        if line.contains(concat!("TO", "DO")) && !line.contains('#') {
            problems.push(format!(
                "line {}: name the issue of this reminder",
                number + 1
            ));
        }
    }
    problems
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_file_passes() {
        assert_eq!(
            check_file("crates/base/types/src/x.rs", "//! Says.\nfn f() {}\n"),
            [""; 0]
        );
    }

    #[test]
    fn each_rule_is_seen() {
        let unsafe_line = format!("//! S.\n{} {{ f() }}\n", "unsafe");
        assert_eq!(
            check_file("crates/run/shim/src/x.rs", &unsafe_line).len(),
            1
        );
        assert_eq!(check_file("crates/os/sys/src/x.rs", &unsafe_line).len(), 0);
        assert_eq!(check_file("a.rs", "fn f() {}\n").len(), 1);
        assert_eq!(check_file("a/mod.rs", "//! S.\n").len(), 1);
        assert_eq!(
            check_file("a.rs", &format!("//! S.\n#[{}]\n", "ignore")).len(),
            1
        );
        assert_eq!(check_file("a.rs", &"//! S.\n".repeat(801)).len(), 1);
    }
}
