//! What no source file may contain.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{shell::Failed, workspace::Package};

/// A longer file holds more than one thing.
const MAX_LINES: usize = 700;

/// The crates that may do what the compiler cannot check.
const KERNELS: &[&str] = &["gradus-kernel", "gradus-tensor"];

/// Marks of unfinished work. Put together here, so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[", "ignore"),
    concat!("FIX", "ME"),
];

/// Checks every Rust file of a package.
pub(crate) fn check(package: &Package) -> Result<Vec<String>, Failed> {
    let mut problems = Vec::new();
    for path in rust_files(&package.dir)
        .map_err(|e| Failed::new(format!("{}: {e}", package.dir.display())))?
    {
        let text = fs::read_to_string(&path)
            .map_err(|e| Failed::new(format!("{}: {e}", path.display())))?;
        let in_src = path.starts_with(package.dir.join("src"));
        let found =
            file(&text, package.is_crate() && in_src && !KERNELS.contains(&package.name.as_str()));
        problems.extend(found.into_iter().map(|why| format!("{}: {why}", path.display())));
    }
    let lib = package.dir.join("src/lib.rs");
    if package.is_crate() && !KERNELS.contains(&package.name.as_str()) {
        let text = fs::read_to_string(&lib).unwrap_or_default();
        if !text.lines().any(|l| l.trim() == "#![forbid(unsafe_code)]") {
            problems.push(format!("{}: `#![forbid(unsafe_code)]` is missing", lib.display()));
        }
    }
    Ok(problems)
}

/// What is wrong with one file. `safe`: a crate that forbids unsafe code.
fn file(text: &str, safe: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("{lines} lines; split what is over {MAX_LINES}"));
    }
    for (i, line) in text.lines().enumerate() {
        let n = i + 1;
        for mark in UNFINISHED.iter().filter(|m| line.contains(**m)) {
            problems.push(format!("line {n}: {mark}"));
        }
        let allow =
            line.trim_start().starts_with("#![allow(") || line.trim_start().starts_with("#[allow(");
        if allow && line.contains("missing_docs") {
            problems.push(format!("line {n}: missing_docs is allowed away"));
        }
        if safe && words(line).any(|w| w == "unsafe") {
            problems.push(format!("line {n}: unsafe outside of {}", KERNELS.join(" and ")));
        }
    }
    problems
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Every `.rs` file below a package, without build outputs and without packages inside it.
fn rust_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.join("Cargo.toml").exists() {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_found() {
        for mark in UNFINISHED {
            let text = format!("fn f() {{\n    {mark}\n}}");
            assert_eq!(file(&text, true), [format!("line 2: {mark}")]);
        }
        assert_eq!(file("// what is left to do", true), [""; 0]);
    }

    #[test]
    fn only_kernels_are_unsafe() {
        assert_eq!(file("unsafe { x() }", true).len(), 1);
        assert_eq!(file("unsafe { x() }", false), [""; 0]);
        assert_eq!(file("#![forbid(unsafe_code)]", true), [""; 0]);
    }

    #[test]
    fn documentation_cannot_be_allowed_away() {
        assert_eq!(file("#![allow(missing_docs)]", true).len(), 1);
        assert_eq!(file("    #[allow(missing_docs, clippy::all)]", false).len(), 1);
        assert_eq!(file("// missing_docs is on", true), [""; 0]);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(file(&"x\n".repeat(MAX_LINES), true), [""; 0]);
        assert_eq!(file(&"x\n".repeat(MAX_LINES + 1), true).len(), 1);
    }
}
