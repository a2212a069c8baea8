//! The chores of this workspace: `cargo xtask test`, `tidy`, `conformance`, `bench`, `interop`, `ci`.

mod bench;
mod interop;
mod shell;
mod source;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    shell::{Failed, Shell},
    workspace::Workspace,
};

/// The chores of this workspace.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tests: each crate alone, then all together with doctests, examples, conformance and tidy
    Test,
    /// Checks the rules that no compiler checks: floors, manifests, sources
    Tidy,
    /// Runs golden cases: DIR (the committed ones unless given), --area A, --op OP, --case CASE
    #[command(disable_help_flag = true)]
    Conformance {
        /// Arguments of gradus-conformance
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs the Criterion benches; --all every row, --vs-torch every row beside PyTorch, --row, --roofline, ... one thing
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of gradus-bench
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Builds and runs the programs that use our techniques with candle, burn and ndarray; the first time takes minutes
    Interop,
    /// Everything that has to hold before a merge: formatting, lints, documentation, tidy, tests
    Ci,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { what, code }) => {
            eprintln!("xtask: {what}");
            ExitCode::from(code)
        }
    }
}

fn run(command: Command) -> Result<(), Failed> {
    let mut shell = Shell::new();
    match command {
        Command::Test => test::run(&mut shell),
        Command::Tidy => tidy::run(&Workspace::load(&shell)?),
        Command::Conformance { args } => {
            shell.program(&with(&["-p", "gradus-conformance", "--"], &args))
        }
        Command::Bench { args } => bench::run(&mut shell, &args),
        Command::Interop => interop::run(&mut shell),
        Command::Ci => {
            shell.cargo(&["fmt", "--all", "--check"])?;
            shell.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
            shell.cargo_with(
                &[("RUSTDOCFLAGS", "-D warnings")],
                &["doc", "--workspace", "--no-deps"],
            )?;
            test::run(&mut shell)
        }
    }
}

/// A command's fixed part and what the user added.
fn with<'a>(fixed: &[&'a str], args: &'a [String]) -> Vec<&'a str> {
    fixed.iter().copied().chain(args.iter().map(String::as_str)).collect()
}
