//! The packages of this workspace, from `cargo metadata` and their manifests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::shell::{Failed, Shell};

/// A package of the workspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// The text of its manifest.
    pub(crate) manifest: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// Each feature and what it switches on.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) targets: Vec<Target>,
}

/// A dependency on another package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Only for tests, examples and benches.
    pub(crate) dev: bool,
}

/// Something that cargo builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `lib`, `bin`, `example`, `bench`, `test`, ...
    pub(crate) kind: String,
}

impl Package {
    /// Whether it is one of the project's crates, not a tool around them.
    pub(crate) fn is_crate(&self) -> bool {
        self.dir.parent().is_some_and(|p| p.ends_with("crates"))
    }

    /// Names of its targets of a kind.
    pub(crate) fn targets<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.targets.iter().filter(move |t| t.kind == kind).map(|t| t.name.as_str())
    }
}

/// All packages, and where they are.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) packages: Vec<Package>,
}

impl Workspace {
    pub(crate) fn load(shell: &Shell) -> Result<Self, Failed> {
        let json = shell.output(&["metadata", "--no-deps", "--format-version", "1"])?;
        let json: Value = serde_json::from_slice(&json).map_err(|e| Failed::new(e.to_string()))?;
        let mut packages =
            packages(&json).ok_or_else(|| Failed::new("cargo metadata has another form"))?;
        for package in &mut packages {
            let path = package.dir.join("Cargo.toml");
            package.manifest = fs::read_to_string(&path)
                .map_err(|e| Failed::new(format!("{}: {e}", path.display())))?;
        }
        Ok(Self { root: shell.root.clone(), packages })
    }
}

/// Reads the answer of `cargo metadata`, without the manifests.
pub(crate) fn packages(metadata: &Value) -> Option<Vec<Package>> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    metadata
        .get("packages")?
        .as_array()?
        .iter()
        .map(|p| {
            let dependencies = p.get("dependencies")?.as_array()?.iter();
            let targets = p.get("targets")?.as_array()?.iter();
            Some(Package {
                name: text(p.get("name")?)?,
                dir: Path::new(p.get("manifest_path")?.as_str()?).parent()?.to_owned(),
                manifest: String::new(),
                dependencies: dependencies
                    .map(|d| {
                        Some(Dependency {
                            name: text(d.get("name")?)?,
                            dev: d.get("kind")? == "dev",
                        })
                    })
                    .collect::<Option<_>>()?,
                features: serde_json::from_value(p.get("features")?.clone()).ok()?,
                targets: targets
                    .map(|t| {
                        Some(Target {
                            name: text(t.get("name")?)?,
                            kind: text(t.get("kind")?.get(0)?)?,
                        })
                    })
                    .collect::<Option<_>>()?,
            })
        })
        .collect()
}
