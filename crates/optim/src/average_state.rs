//! Averages saved and restored.

use alloc::{format, vec::Vec};

use gradus_core::{State, StateDict, StateError, StateValue};

use crate::{Average, AverageError, average::Entry, slots::Buffer};

impl State for Average {
    /// An array under the name of each parameter.
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        for Entry { name, values } in &self.entries {
            let value = match values {
                Buffer::F32(b) => StateValue::F32s(b.to_vec()),
                Buffer::F64(b) => StateValue::F64s(b.to_vec()),
            };
            state.insert(name.clone(), value);
        }
        state
    }

    /// Takes any set of arrays; whether they are those of a model is seen when they are written into it.
    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let mut entries = Vec::with_capacity(state.len());
        for (name, value) in state.iter() {
            let values = match value {
                StateValue::F32s(b) => Buffer::F32(b.as_slice().into()),
                StateValue::F64s(b) => Buffer::F64(b.as_slice().into()),
                _ => {
                    return Err(StateError::WrongKind { name: name.into(), expected: "an array" });
                }
            };
            entries.push(Entry { name: name.into(), values });
        }
        self.entries = entries;
        Ok(())
    }
}

/// Adds averages to a state as `KEY.0`, `KEY.1`, ...
pub(crate) fn save_all<'a>(
    state: &mut StateDict,
    key: &str,
    averages: impl IntoIterator<Item = &'a Average>,
) {
    for (i, average) in averages.into_iter().enumerate() {
        state.insert_all(&format!("{key}.{i}"), average.save_state());
    }
}

/// Reads what [`save_all`] wrote: as many averages as there are, at most `limit`, all of the same parameters. Besides
/// them the state holds the `counters` and nothing else.
pub(crate) fn load_all(
    state: &StateDict,
    key: &str,
    limit: usize,
    counters: &[&str],
) -> Result<Vec<Average>, StateError> {
    let mut averages: Vec<Average> = Vec::new();
    let mut entries = 0;
    for i in 0..limit {
        let mut average = Average::default();
        average.load_state(&state.sub(&format!("{key}.{i}")))?;
        if average.is_empty() {
            break;
        }
        if let Some(first) = averages.first() {
            first.same_parameters(&average).map_err(|e| misfit(key, i, e))?;
        }
        entries += average.len();
        averages.push(average);
    }
    if entries + counters.len() < state.len() {
        let known = |name: &str| {
            let of_average = |i| name.starts_with(&format!("{key}.{i}."));
            counters.contains(&name) || (0..averages.len()).any(of_average)
        };
        if let Some((name, _)) = state.iter().find(|(name, _)| !known(name)) {
            let expected = "no such entry in the state of this average";
            return Err(StateError::Invalid { name: name.into(), expected });
        }
    }
    Ok(averages)
}

/// Average `i` of a state is not one of the same parameters as average 0.
fn misfit(key: &str, i: usize, error: AverageError) -> StateError {
    let entry = |i: usize, name: &str| format!("{key}.{i}.{name}");
    match error {
        AverageError::LengthMismatch { name, expected, found } => {
            StateError::WrongLength { name: entry(i, &name), expected, found }
        }
        AverageError::UnknownParameter { name } => StateError::Missing { name: entry(0, &name) },
        AverageError::MissingParameter { name } => StateError::Missing { name: entry(i, &name) },
        other => unreachable!("averages are compared by name and length alone: {other}"),
    }
}
