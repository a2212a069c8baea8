//! What must survive a restart, as named values.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

/// One named piece of state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StateValue {
    /// A counter.
    U64(u64),
    /// A number, kept to the bit.
    F64(f64),
    /// A flag.
    Bool(bool),
    /// A word.
    Text(String),
    /// An array of f32.
    F32s(Vec<f32>),
    /// An array of f64.
    F64s(Vec<f64>),
}

/// Named state in a fixed (sorted) order, so that two saves of the same state are the same bytes.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct StateDict {
    entries: BTreeMap<String, StateValue>,
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $variant:ident, $t:ty, $what:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`StateError`] when there is no such entry or it is of another kind.
        pub fn $name(&self, name: &str) -> Result<$t, StateError> {
            match self.entries.get(name) {
                Some(StateValue::$variant(v)) => Ok(v.clone()),
                Some(_) => Err(StateError::WrongKind { name: name.into(), expected: $what }),
                None => Err(StateError::Missing { name: name.into() }),
            }
        }
    };
}

impl StateDict {
    /// An empty dictionary.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, name: impl Into<String>, value: StateValue) {
        self.entries.insert(name.into(), value);
    }

    /// Adds all of `other` under `prefix.`.
    pub fn insert_all(&mut self, prefix: &str, other: StateDict) {
        for (name, value) in other.entries {
            self.entries.insert(alloc::format!("{prefix}.{name}"), value);
        }
    }

    /// The entries under `prefix.`, without the prefix.
    #[must_use]
    pub fn sub(&self, prefix: &str) -> StateDict {
        let start = alloc::format!("{prefix}.");
        let entries = self
            .entries
            .range(start.clone()..)
            .take_while(|(k, _)| k.starts_with(&start))
            .map(|(k, v)| (k[start.len()..].into(), v.clone()))
            .collect();
        StateDict { entries }
    }

    /// The entry, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&StateValue> {
        self.entries.get(name)
    }

    getter!(/// A counter.
        u64, U64, u64, "a counter");
    getter!(/// A number.
        f64, F64, f64, "a number");
    getter!(/// A flag.
        bool, Bool, bool, "a flag");
    getter!(/// A word.
        text, Text, String, "a word");
    getter!(/// An array of f32.
        f32s, F32s, Vec<f32>, "an array of f32");
    getter!(/// An array of f64.
        f64s, F64s, Vec<f64>, "an array of f64");

    /// All entries, by name in sorted order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StateValue)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Something whose state can be saved and restored: `load_state(save_state())` changes nothing, and what
/// goes on from a restored state is what would have gone on without the interruption, to the bit.
pub trait State {
    /// Everything that is not a hyper-parameter.
    fn save_state(&self) -> StateDict;

    /// Takes the state over.
    ///
    /// # Errors
    /// [`StateError`] when an entry is missing, of another kind or of another size; nothing has changed then.
    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError>;
}

impl<T: State + ?Sized> State for Box<T> {
    fn save_state(&self) -> StateDict {
        (**self).save_state()
    }
    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        (**self).load_state(state)
    }
}

/// Why a state could not be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// There is no entry of this name.
    Missing {
        /// The name looked for.
        name: String,
    },
    /// The entry is of another kind.
    WrongKind {
        /// The entry.
        name: String,
        /// What was expected of it.
        expected: &'static str,
    },
    /// The entry has another length.
    WrongLength {
        /// The entry.
        name: String,
        /// Elements expected.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// The entry's value makes no sense.
    Invalid {
        /// The entry.
        name: String,
        /// What was expected of it.
        expected: &'static str,
    },
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name } => write!(f, "state entry {name} is missing"),
            Self::WrongKind { name, expected } => write!(f, "state entry {name} is not {expected}"),
            Self::WrongLength { name, expected, found } => {
                write!(f, "state entry {name}: expected {expected} elements, found {found}")
            }
            Self::Invalid { name, expected } => {
                write!(f, "state entry {name}: expected {expected}")
            }
        }
    }
}

impl core::error::Error for StateError {}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn entries_come_back_under_their_prefix() {
        let mut inner = StateDict::new();
        inner.insert("step", StateValue::U64(7));
        inner.insert("m", StateValue::F32s(vec![1.0, 2.0]));
        let mut all = StateDict::new();
        all.insert("opt", StateValue::Bool(true));
        all.insert("opt-other.step", StateValue::U64(1));
        all.insert_all("opt", inner.clone());
        assert_eq!(all.sub("opt"), inner);
        assert_eq!(all.sub("opt").u64("step"), Ok(7));
        assert_eq!(all.sub("op").len(), 0);
    }

    #[test]
    fn errors_name_the_entry() {
        let mut s = StateDict::new();
        s.insert("x", StateValue::F64(1.0));
        assert_eq!(
            s.u64("x"),
            Err(StateError::WrongKind { name: "x".into(), expected: "a counter" })
        );
        assert_eq!(s.u64("y"), Err(StateError::Missing { name: "y".into() }));
    }
}
