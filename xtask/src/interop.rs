//! `cargo xtask interop`: our techniques in the programs of others.

use crate::shell::{Failed, Shell};

/// A workspace of its own, so that its dependencies are nobody's.
const MANIFEST: &str = "interop/Cargo.toml";

/// Its programs, each for the library it is named after.
const PROGRAMS: &[&str] = &["interop-ndarray", "interop-candle", "interop-burn"];

/// Tests each program's adapter, then runs the program, which ends in an error unless its result is the expected one.
pub(crate) fn run(shell: &mut Shell) -> Result<(), Failed> {
    shell.cargo(&["fmt", "--all", "--manifest-path", MANIFEST, "--check"])?;
    shell.tests(&["test", "-q", "--release", "--manifest-path", MANIFEST, "-p", "digits"])?;
    // One by one: all at once, cargo would unite their features and compile most of them a second time.
    for program in PROGRAMS {
        shell.tests(&["test", "-q", "--release", "--manifest-path", MANIFEST, "-p", program])?;
        shell.cargo(&["run", "-q", "--release", "--manifest-path", MANIFEST, "-p", program])?;
    }
    println!("xtask interop: {} are as expected: {}", PROGRAMS.join(", "), shell.summary());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn every_program_of_the_workspace_is_run() {
        let root = Shell::new().root.join("interop");
        let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        let programs: BTreeSet<String> = folders
            .filter(|folder| folder.join("src/main.rs").is_file())
            .map(|folder| format!("interop-{}", folder.file_name().unwrap().display()))
            .collect();
        assert_eq!(programs, PROGRAMS.iter().map(|&p| p.to_owned()).collect());
    }
}
