//! `cargo xtask bench`.

mod all;
mod row;
mod versus;

use crate::{
    shell::{Failed, Shell},
    with,
    workspace::Workspace,
};

/// Without arguments all Criterion benches, with `--all` every row, with `--vs-torch` every row beside PyTorch, and
/// with other arguments what gradus-bench makes of them.
pub(crate) fn run(shell: &mut Shell, args: &[String]) -> Result<(), Failed> {
    let asks_for = |flag: &str| args.iter().any(|a| a == flag);
    if args.is_empty() {
        criterion(shell)
    } else if asks_for("--all") {
        all::run(shell, args)
    } else if asks_for("--vs-torch") {
        versus::run(shell, args)
    } else {
        shell.program(&with(row::GRADUS_BENCH, args))
    }
}

fn criterion(shell: &mut Shell) -> Result<(), Failed> {
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
