//! `cargo xtask test`: everything that has to pass before code is kept.

use crate::{
    shell::{Failed, Shell},
    tidy,
    workspace::{Package, Workspace},
};

/// Each crate alone, then all of them together, in the one dev profile: what is compiled once is used by all.
pub(crate) fn run(shell: &mut Shell) -> Result<(), Failed> {
    let workspace = Workspace::load(shell)?;
    tidy::run(&workspace)?;
    for package in &workspace.packages {
        alone(shell, package)?;
    }
    let together = together(&workspace.packages);
    let together: Vec<&str> = together.iter().map(String::as_str).collect();
    tests(shell, &together)?;
    shell.tests(&[&["test", "--doc"], together.as_slice()].concat())?;
    for package in &workspace.packages {
        for example in package.targets("example") {
            shell.cargo(&[
                "run",
                "-q",
                "-p",
                &package.name,
                "--example",
                example,
                "--",
                "--quick",
            ])?;
        }
    }
    shell.tests(&["run", "-q", "-p", "gradus-conformance"])?;
    println!("xtask test: all passed: {}", shell.summary());
    Ok(())
}

/// All packages with their default features, these named one by one: a crate that is chosen on the command line
/// also gets the feature called `default`, and everything above it would be compiled a second time for that.
fn together(packages: &[Package]) -> Vec<String> {
    let defaults = packages.iter().flat_map(|p| {
        p.features
            .get("default")
            .into_iter()
            .flatten()
            .map(|feature| format!("{}/{feature}", p.name))
    });
    let features: Vec<String> = defaults.collect();
    vec![
        "--workspace".into(),
        "--no-default-features".into(),
        "--features".into(),
        features.join(","),
    ]
}

/// A crate as an outside user gets it: other crates of the workspace do not switch features on for it.
fn alone(shell: &mut Shell, package: &Package) -> Result<(), Failed> {
    let name = package.name.as_str();
    if package.features.contains_key("std") {
        // no_std + alloc: the library has to do without the std feature.
        shell.cargo(&["check", "-q", "-p", name, "--lib", "--no-default-features"])?;
    }
    for feature in package.features.keys().filter(|f| !matches!(f.as_str(), "default" | "std")) {
        shell.cargo(&[
            "check",
            "-q",
            "-p",
            name,
            "--lib",
            "--no-default-features",
            "--features",
            feature,
        ])?;
    }
    if package.is_crate() { tests(shell, &["-p", name]) } else { Ok(()) }
}

/// Unit and integration tests, by nextest where it is installed.
fn tests(shell: &mut Shell, which: &[&str]) -> Result<(), Failed> {
    let command: &[&str] = if shell.has(&["nextest", "--version"]) {
        &["nextest", "run", "--status-level=fail", "--no-tests=pass", "--tests"]
    } else {
        &["test", "--tests"]
    };
    shell.tests(&[command, which].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_features_are_named_one_by_one() {
        let package = |name: &str, default: &[&str]| Package {
            name: name.into(),
            features: [("default".into(), default.iter().map(|&f| f.into()).collect())].into(),
            ..Package::default()
        };
        let all = [package("a", &["std", "fast"]), package("b", &["std"]), Package::default()];
        assert_eq!(
            together(&all),
            ["--workspace", "--no-default-features", "--features", "a/std,a/fast,b/std"]
        );
    }
}
