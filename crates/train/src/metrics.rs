//! Metrics as JSON lines.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::TrainError;

/// A file with one JSON object a line. Every line is written at once and whole, so that a killed run leaves all
/// lines but perhaps the last. JSON has no NaN: numbers that are not finite are the strings `"NaN"`,
/// `"Infinity"` and `"-Infinity"`.
#[derive(Debug)]
pub struct MetricsFile {
    file: File,
    path: PathBuf,
}

impl MetricsFile {
    /// Creates the file and the directories above it; an old file is replaced.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, TrainError> {
        let path = path.as_ref().to_owned();
        let open = || -> io::Result<File> {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            File::create(&path)
        };
        match open() {
            Ok(file) => Ok(Self { file, path }),
            Err(source) => Err(TrainError::Io { path, source }),
        }
    }

    /// Writes one line: `{"event": event, "step": step, name: value, ...}`; absent values are left out.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn write(
        &mut self,
        event: &str,
        step: u64,
        values: &[(&str, Option<f64>)],
    ) -> Result<(), TrainError> {
        let mut line = Map::new();
        line.insert("event".into(), event.into());
        line.insert("step".into(), step.into());
        for (name, value) in values {
            if let Some(value) = value {
                line.insert((*name).into(), number(*value));
            }
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|source| TrainError::Io { path: self.path.clone(), source })
    }
}

fn number(x: f64) -> Value {
    if x.is_finite() {
        x.into()
    } else if x.is_nan() {
        "NaN".into()
    } else if x > 0.0 {
        "Infinity".into()
    } else {
        "-Infinity".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_and_keep_what_is_not_finite() {
        let path = std::env::temp_dir()
            .join(format!("gradus-metrics-{}/run/metrics.jsonl", std::process::id()));
        let mut file = MetricsFile::create(&path).unwrap();
        file.write("step", 3, &[("loss", Some(0.1)), ("accuracy", None), ("lr", Some(f64::NAN))])
            .unwrap();
        file.write("epoch", 4, &[("loss", Some(f64::NEG_INFINITY))]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(
            lines[0],
            serde_json::json!({"event": "step", "step": 3, "loss": 0.1, "lr": "NaN"})
        );
        assert_eq!(lines[1]["loss"], "-Infinity");
        std::fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_is_named() {
        let error = MetricsFile::create("/dev/null/metrics.jsonl").unwrap_err();
        assert!(error.to_string().starts_with("/dev/null/metrics.jsonl: "), "{error}");
    }
}
