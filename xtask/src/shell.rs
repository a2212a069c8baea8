//! Running cargo: each command is printed before it runs, and the first that fails ends the chore.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Instant,
};

/// Why a chore ended early, and the exit code it ends with.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) what: String,
    pub(crate) code: u8,
}

impl Failed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), code: 1 }
    }
}

/// Runs cargo in the root of the workspace, and counts commands and passed tests.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) root: PathBuf,
    cargo: String,
    started: Instant,
    commands: usize,
    passed: usize,
}

impl Shell {
    pub(crate) fn new() -> Self {
        // Of the checkout that cargo runs, not of the one that was compiled: they may share a target folder.
        let own = env::var("CARGO_MANIFEST_DIR");
        let own = own.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&own).parent().expect("xtask lies in the workspace").to_owned();
        Self {
            root,
            cargo: env::var("CARGO").unwrap_or_else(|_| "cargo".into()),
            started: Instant::now(),
            commands: 0,
            passed: 0,
        }
    }

    /// Runs `cargo args`.
    pub(crate) fn cargo(&mut self, args: &[&str]) -> Result<(), Failed> {
        self.cargo_with(&[], args)
    }

    /// Runs `cargo args` with these environment variables.
    pub(crate) fn cargo_with(
        &mut self,
        vars: &[(&str, &str)],
        args: &[&str],
    ) -> Result<(), Failed> {
        announce(vars, args);
        self.commands += 1;
        let status = self.command(args).envs(vars.iter().copied()).status();
        check(args, status)
    }

    /// Runs `cargo run args` where the user stands and without saying so: paths are the user's, and the output is
    /// the program's alone.
    pub(crate) fn program(&self, args: &[&str]) -> Result<(), Failed> {
        let mut command = Command::new(&self.cargo);
        command
            .args(["run", "--release", "-q", "--manifest-path"])
            .arg(self.root.join("Cargo.toml"))
            .args(args);
        check(args, command.status())
    }

    /// Runs `cargo args` and counts the tests that its output reports as passed.
    pub(crate) fn tests(&mut self, args: &[&str]) -> Result<(), Failed> {
        announce(&[], args);
        self.commands += 1;
        let mut command = self.command(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Failed::new(format!("cargo {}: {e}", args.join(" "))))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let errors = thread::spawn(move || forward(stderr, std::io::stderr()));
        self.passed += forward(stdout, std::io::stdout());
        self.passed += errors.join().expect("forwarding does not panic");
        check(args, child.wait())
    }

    /// The standard output of `cargo args`.
    pub(crate) fn output(&self, args: &[&str]) -> Result<Vec<u8>, Failed> {
        let output = self.command(args).stderr(Stdio::inherit()).output();
        let output = output.map_err(|e| Failed::new(format!("cargo {}: {e}", args.join(" "))))?;
        check(args, Ok(output.status))?;
        Ok(output.stdout)
    }

    /// Whether `cargo args` works here.
    pub(crate) fn has(&self, args: &[&str]) -> bool {
        self.command(args).output().is_ok_and(|o| o.status.success())
    }

    /// `4711 tests passed in 31 commands, 412 s`
    pub(crate) fn summary(&self) -> String {
        let Self { passed, commands, started, .. } = self;
        format!("{passed} tests passed in {commands} commands, {} s", started.elapsed().as_secs())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(args).current_dir(&self.root);
        command
    }
}

fn announce(vars: &[(&str, &str)], args: &[&str]) {
    let vars: String = vars.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    println!("$ {vars}cargo {}", args.join(" "));
}

fn check(args: &[&str], status: std::io::Result<ExitStatus>) -> Result<(), Failed> {
    let command = format!("cargo {}", args.join(" "));
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failed {
            what: format!("{command}: {status}"),
            code: status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1),
        }),
        Err(e) => Err(Failed::new(format!("{command}: {e}"))),
    }
}

/// Copies lines on as they come, and adds up the tests that they report.
fn forward(from: impl Read, mut to: impl Write) -> usize {
    let mut passed = 0;
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        passed += reported(&line);
        // Nobody reads any more: the tests still run to their end.
        let _ = writeln!(to, "{line}");
    }
    passed
}

/// The number of passed tests in a summary line of cargo test, nextest or the conformance runner.
fn reported(line: &str) -> usize {
    let line = line.trim_start();
    let summary = line.starts_with("test result:")
        || line.starts_with("Summary [")
        || (line.ends_with(" skipped") && line.starts_with(|c: char| c.is_ascii_digit()));
    let before = summary.then(|| line.split(" passed").next()).flatten();
    before.and_then(|s| s.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_all_runners_are_counted() {
        assert_eq!(reported("test result: ok. 12 passed; 0 failed; 0 ignored"), 12);
        assert_eq!(reported("     Summary [   0.100s] 34 tests run: 34 passed, 1 skipped"), 34);
        assert_eq!(reported("882 passed, 8 failed, 0 skipped"), 882);
        assert_eq!(reported("test tests::passed_here ... ok"), 0);
        assert_eq!(reported("loss fell: 3 passed"), 0);
    }
}
