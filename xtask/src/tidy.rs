//! `cargo xtask tidy`: rules that no compiler checks. All offences are printed, each with its file.

use std::fs;

use crate::{
    shell::Failed,
    source,
    workspace::{Package, Workspace},
};

/// The house: every crate and its floor. A dependency goes strictly down.
const FLOORS: &[(&str, u8)] = &[
    ("core", 0),
    ("kernel", 0),
    ("schedule", 1),
    ("stop", 1),
    ("init", 1),
    ("clip", 1),
    ("optim", 1),
    ("amp", 1),
    ("doctor", 1),
    ("tensor", 1),
    ("autograd", 2),
    ("norm", 3),
    ("regularize", 3),
    ("data", 3),
    ("nn", 4),
    ("train", 5),
    ("gradus", 6),
];

/// More features than this make combinations that nobody tests.
const MAX_FEATURES: usize = 3;

/// Checks everything.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failed> {
    let mut problems = floors(&workspace.packages);
    for package in &workspace.packages {
        problems.extend(manifest(package));
        problems.extend(readme(package));
        problems.extend(source::check(package)?);
    }
    let root = fs::read_to_string(workspace.root.join("Cargo.toml")).unwrap_or_default();
    let reasons = fs::read_to_string(workspace.root.join("ARCHITECTURE.md")).unwrap_or_default();
    problems.extend(dependencies(&root, &reasons));
    for problem in &problems {
        println!("{}", problem.replace(&format!("{}/", workspace.root.display()), ""));
    }
    match problems.len() {
        0 => {
            println!("tidy: {} packages are in order", workspace.packages.len());
            Ok(())
        }
        n => Err(Failed::new(format!("tidy: {n} problems"))),
    }
}

/// The folder of a crate of ours by its package name: `gradus-norm` lies in `norm`.
fn folder(name: &str) -> Option<&str> {
    if name == "gradus" { Some(name) } else { name.strip_prefix("gradus-") }
}

fn floor(name: &str) -> Option<u8> {
    let folder = folder(name)?;
    FLOORS.iter().find(|(crate_, _)| *crate_ == folder).map(|&(_, floor)| floor)
}

/// Arrows point strictly down; tools stand on the roof, and nothing stands on them.
fn floors(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let at = package.dir.join("Cargo.toml");
        let own = floor(&package.name);
        if package.is_crate() {
            if own.is_none() {
                problems.push(format!(
                    "{}: {} has no floor in the table of tidy",
                    at.display(),
                    package.name
                ));
            }
            if folder(&package.name).is_none_or(|f| !package.dir.ends_with(f)) {
                problems.push(format!(
                    "{}: the package of this folder has to be gradus-<folder>",
                    at.display()
                ));
            }
        }
        let internal = package
            .dependencies
            .iter()
            .filter(|d| !d.dev && packages.iter().any(|p| p.name == d.name));
        for dependency in internal {
            let down = match (own, floor(&dependency.name)) {
                (Some(own), Some(below)) => below < own,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if !down {
                problems.push(format!(
                    "{}: {} depends on {}, which is not on a lower floor",
                    at.display(),
                    package.name,
                    dependency.name
                ));
            }
        }
    }
    problems
}

/// What every manifest inherits, and lints, which are only checked where a manifest says so.
fn manifest(package: &Package) -> Vec<String> {
    let at = package.dir.join("Cargo.toml");
    let mut problems = Vec::new();
    let mut need = |line: &str| {
        if !package.manifest.lines().any(|l| l.trim() == line) {
            problems.push(format!("{}: `{line}` is missing", at.display()));
        }
    };
    for key in ["version", "edition", "rust-version", "license"] {
        need(&format!("{key}.workspace = true"));
    }
    need(if package.is_crate() { "publish.workspace = true" } else { "publish = false" });
    if !section(&package.manifest, "lints").any(|l| l == "workspace = true") {
        problems.push(format!("{}: `[lints] workspace = true` is missing", at.display()));
    }
    let features = package.features.keys().filter(|f| *f != "default").count();
    if features > MAX_FEATURES {
        problems.push(format!("{}: {features} features; {MAX_FEATURES} are enough", at.display()));
    }
    problems
}

/// The README of a crate is its documentation, so that its examples are tested.
fn readme(package: &Package) -> Vec<String> {
    if !package.is_crate() {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let lib = package.dir.join("src/lib.rs");
    let text = fs::read_to_string(&lib).unwrap_or_default();
    if !package.dir.join("README.md").is_file() {
        problems.push(format!("{}: is missing", package.dir.join("README.md").display()));
    }
    if !text.contains(r#"#![doc = include_str!("../README.md")]"#) {
        problems.push(format!("{}: the README is not the crate's documentation", lib.display()));
    }
    problems
}

/// Every dependency has its reason in ARCHITECTURE.md.
fn dependencies(root_manifest: &str, architecture: &str) -> Vec<String> {
    let names = section(root_manifest, "workspace.dependencies")
        .filter_map(|l| Some(l.split_once('=')?.0.trim()));
    names
        .filter(|name| folder(name).is_none() && !architecture.contains(&format!("`{name}`")))
        .map(|name| format!("ARCHITECTURE.md: the dependency `{name}` is not explained"))
        .collect()
}

/// The lines of one section of a manifest, without comments.
fn section<'a>(manifest: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let header = format!("[{name}]");
    let body = manifest.lines().map(str::trim).skip_while(move |l| *l != header).skip(1);
    body.take_while(|l| !l.starts_with('[')).filter(|l| !l.is_empty() && !l.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::workspace::packages;

    fn package(name: &str, dependencies: Value) -> Value {
        let folder = folder(name).unwrap_or(name);
        json!({
            "name": name,
            "manifest_path": format!("/w/crates/{folder}/Cargo.toml"),
            "dependencies": dependencies,
            "features": {},
            "targets": [],
        })
    }

    fn on(name: &str, kind: Value) -> Value {
        json!({"name": name, "kind": kind})
    }

    fn check(all: Value) -> Vec<String> {
        floors(&packages(&json!({"packages": all})).unwrap())
    }

    #[test]
    fn arrows_down_are_fine() {
        let found = check(json!([
            package("gradus-core", json!([on("half", Value::Null)])),
            package("gradus-tensor", json!([on("gradus-core", Value::Null)])),
            package(
                "gradus-train",
                json!([on("gradus-core", Value::Null), on("gradus-tensor", Value::Null)])
            ),
            package("gradus", json!([on("gradus-train", Value::Null)])),
        ]));
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn an_arrow_up_is_refused() {
        let found = check(json!([
            package("gradus-core", json!([on("gradus-tensor", Value::Null)])),
            package("gradus-tensor", json!([])),
        ]));
        assert_eq!(
            found,
            [
                "/w/crates/core/Cargo.toml: gradus-core depends on gradus-tensor, which is not on a lower floor"
            ]
        );
    }

    #[test]
    fn an_arrow_along_the_floor_is_refused_for_builds_but_not_for_tests() {
        let two = |kind: Value| {
            check(json!([
                package("gradus-norm", json!([])),
                package("gradus-data", json!([on("gradus-norm", kind)]))
            ]))
        };
        assert_eq!(two(Value::Null).len(), 1);
        assert_eq!(two(json!("build")).len(), 1);
        assert_eq!(two(json!("dev")).len(), 0);
    }

    #[test]
    fn nothing_stands_on_a_tool() {
        let mut tool = package("gradus-benches", json!([on("gradus-core", Value::Null)]));
        tool["manifest_path"] = json!("/w/benches/Cargo.toml");
        let all = json!([package("gradus-core", json!([])), tool.clone()]);
        assert_eq!(check(all), [""; 0]);
        let all = json!([package("gradus-core", json!([on("gradus-benches", Value::Null)])), tool]);
        assert_eq!(check(all).len(), 1);
    }

    #[test]
    fn an_unknown_crate_or_a_wrong_name_is_refused() {
        assert_eq!(check(json!([package("gradus-magic", json!([]))])).len(), 1);
        let mut misnamed = package("gradus-core", json!([]));
        misnamed["manifest_path"] = json!("/w/crates/kernel/Cargo.toml");
        assert_eq!(check(json!([misnamed])).len(), 1);
    }

    const MANIFEST: &str = "[package]\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\
        [lints]\nworkspace = true\n";

    fn with_manifest(text: &str) -> Package {
        Package { dir: "/w/crates/core".into(), manifest: text.into(), ..Package::default() }
    }

    #[test]
    fn manifests_inherit() {
        assert_eq!(manifest(&with_manifest(MANIFEST)), [""; 0]);
        let without = |line: &str| manifest(&with_manifest(&MANIFEST.replace(line, ""))).len();
        assert_eq!(without("edition.workspace = true\n"), 1);
        assert_eq!(without("publish.workspace = true\n"), 1);
        assert_eq!(without("[lints]\nworkspace = true\n"), 1);
        let elsewhere = MANIFEST.replace("[lints]", "[dependencies.half]");
        assert_eq!(manifest(&with_manifest(&elsewhere)).len(), 1);
    }

    #[test]
    fn features_stay_few() {
        let mut package = with_manifest(MANIFEST);
        package.features = ["default", "a", "b", "c"].map(|f| (f.into(), vec![])).into();
        assert_eq!(manifest(&package), [""; 0]);
        package.features.insert("d".into(), vec![]);
        assert_eq!(manifest(&package).len(), 1);
    }

    #[test]
    fn dependencies_are_explained() {
        let manifest = "[workspace.dependencies]\ngradus-core = { path = \"x\" }\n# why\nhalf = \"2\"\nrand = \"0\"\n\
            [profile.dev]\nopt-level = 1\n";
        assert_eq!(dependencies(manifest, "- `half`: 16-bit floats\n- `rand`: seeds"), [""; 0]);
        assert_eq!(
            dependencies(manifest, "`half`, but randomly"),
            ["ARCHITECTURE.md: the dependency `rand` is not explained"]
        );
    }
}
