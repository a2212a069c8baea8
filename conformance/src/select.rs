//! Finding the files of a set, and choosing among them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A case's file and where it stands in the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct File {
    pub(crate) area: String,
    pub(crate) op: String,
    pub(crate) number: String,
    pub(crate) path: PathBuf,
}

impl File {
    /// `tensor/gelu/04`
    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}", self.area, self.op, self.number)
    }
}

/// Every `<area>/<op>/<number>.{safetensors,json}` below `dir`, sorted; anything else is ignored.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<File>> {
    let mut all = Vec::new();
    for (area, path) in entries(dir)? {
        for (op, path) in folder(&path)? {
            for (name, path) in folder(&path)? {
                let Some((number, extension)) = name.rsplit_once('.') else { continue };
                let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                if numbered && matches!(extension, "safetensors" | "json") && path.is_file() {
                    all.push(File {
                        area: area.clone(),
                        op: op.clone(),
                        number: number.into(),
                        path,
                    });
                }
            }
        }
    }
    all.sort();
    Ok(all)
}

fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

fn folder(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    if path.is_dir() { entries(path) } else { Ok(Vec::new()) }
}

/// What to run; with nothing in it, everything.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) areas: Vec<String>,
    pub(crate) ops: Vec<String>,
    pub(crate) cases: Vec<String>,
}

impl Filter {
    pub(crate) fn wants(&self, file: &File) -> bool {
        let everything = self.areas.is_empty() && self.ops.is_empty() && self.cases.is_empty();
        everything
            || self.areas.contains(&file.area)
            || self.ops.contains(&file.op)
            || self.cases.iter().any(|c| is_case(c, file))
    }

    /// A name that chooses nothing: a typing error should not pass as "0 failed".
    pub(crate) fn unknown(&self, all: &[File]) -> Option<&str> {
        let missing = |names: &[String], fits: &dyn Fn(&str, &File) -> bool| {
            names.iter().position(|n| !all.iter().any(|f| fits(n, f)))
        };
        None.or_else(|| missing(&self.areas, &|n, f| f.area == n).map(|i| self.areas[i].as_str()))
            .or_else(|| missing(&self.ops, &|n, f| f.op == n).map(|i| self.ops[i].as_str()))
            .or_else(|| missing(&self.cases, &is_case).map(|i| self.cases[i].as_str()))
    }
}

fn is_case(name: &str, file: &File) -> bool {
    let stem =
        name.strip_suffix(".safetensors").or_else(|| name.strip_suffix(".json")).unwrap_or(name);
    stem == file.name() || Path::new(name) == file.path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
    }

    #[test]
    fn the_committed_set_is_the_listed_one() {
        let list = fs::read_to_string(cases().join("SHA256SUMS")).unwrap();
        let mut listed: Vec<&str> =
            list.lines().filter_map(|l| Some(l.split_once("  ")?.1)).collect();
        listed.sort_unstable();
        let all = files(&cases()).unwrap();
        let mut found: Vec<String> = all
            .iter()
            .map(|f| format!("{}.{}", f.name(), f.path.extension().unwrap().to_str().unwrap()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, listed);
    }

    #[test]
    fn filters_add_up() {
        let file = |area: &str, op: &str| File {
            area: area.into(),
            op: op.into(),
            number: "01".into(),
            path: PathBuf::new(),
        };
        let all = [file("tensor", "add"), file("tensor", "sub"), file("train", "mlp_run")];
        let chosen = |f: &Filter| all.iter().filter(|c| f.wants(c)).count();
        assert_eq!(chosen(&Filter::default()), 3);
        let by_area = Filter { areas: vec!["tensor".into()], ..Filter::default() };
        assert_eq!(chosen(&by_area), 2);
        let both = Filter { ops: vec!["mlp_run".into()], ..by_area };
        assert_eq!(chosen(&both), 3);
        let one = Filter { cases: vec!["tensor/sub/01.safetensors".into()], ..Filter::default() };
        assert_eq!(chosen(&one), 1);
        assert_eq!(one.unknown(&all), None);
        let typo = Filter { ops: vec!["gleu".into()], ..Filter::default() };
        assert_eq!(typo.unknown(&all), Some("gleu"));
    }
}
