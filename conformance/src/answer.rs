//! What a runner says about a case.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::array::Array;

/// Why a runner has no values to show.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The runner cannot do this case: a failure, whatever the case expects.
    Unsupported(String),
    /// The call returned an error that leaves no state behind.
    Refused(String),
}

impl Failure {
    pub(crate) fn unsupported(why: impl Into<String>) -> Self {
        Self::Unsupported(why.into())
    }
}

/// Every typed error of the project.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Refused(error.to_string())
    }
}

/// What the project's call gave.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Named tensors (`out.y`, `grad.x`) and named values.
    Values(Values),
    /// The call returned an error; the tensors are the state after it.
    Refused { why: String, state: Values },
    /// The runner compared by itself (statistics of random numbers): what is wrong, nothing if empty.
    Judged(Vec<String>),
}

/// Results by name.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) tensors: BTreeMap<String, Array>,
    pub(crate) json: Map<String, Value>,
}

impl Values {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds `out.<name>`.
    pub(crate) fn out(&mut self, name: &str, value: impl Into<Array>) {
        self.tensors.insert(format!("out.{name}"), value.into());
    }

    /// Adds `grad.<name>`.
    pub(crate) fn grad(&mut self, name: &str, value: impl Into<Array>) {
        self.tensors.insert(format!("grad.{name}"), value.into());
    }

    /// Adds a value of a sequence case.
    pub(crate) fn json(&mut self, name: &str, value: impl Into<Value>) {
        self.json.insert(name.into(), value.into());
    }
}

impl From<Values> for Answer {
    fn from(values: Values) -> Self {
        Self::Values(values)
    }
}

/// A number as the cases write it: NaN and the infinities are words.
pub(crate) fn number(x: f64) -> Value {
    match serde_json::Number::from_f64(x) {
        Some(n) => Value::Number(n),
        None if x.is_nan() => "NaN".into(),
        None if x > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}
