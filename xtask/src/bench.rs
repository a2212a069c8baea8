//! `cargo xtask bench`.

use crate::{
    shell::{Failed, Shell},
    with,
    workspace::Workspace,
};

/// With arguments one workload of gradus-bench, without any all Criterion benches.
pub(crate) fn run(shell: &mut Shell, args: &[String]) -> Result<(), Failed> {
    if !args.is_empty() {
        return shell
            .program(&with(&["-p", "gradus-benches", "--bin", "gradus-bench", "--"], args));
    }
    for package in Workspace::load(shell)?.packages {
        // Named one by one: `--benches` would build every library's unit tests as a bench, too.
        let benches: Vec<&str> =
            package.targets("bench").flat_map(|name| ["--bench", name]).collect();
        if !benches.is_empty() {
            let mut command = vec!["bench", "-p", &package.name];
            command.extend(benches);
            shell.cargo(&command)?;
        }
    }
    Ok(())
}
