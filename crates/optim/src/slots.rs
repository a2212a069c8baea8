//! State by parameter name: a step count and some buffers each.

use alloc::{format, string::String, vec::Vec};

use gradus_core::{FloatElement, StateDict, StateError, StateValue, StepError};

use crate::{OptimError, aligned::Aligned, rule::Layout};

/// The state of all parameters of one optimizer.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    /// Names of the buffers, in order; `None` where nothing is kept, no step count either.
    fields: Option<&'static [&'static str]>,
    /// Those before `cursor` have had their turn in this step, in walk order.
    slots: Vec<Slot>,
    cursor: usize,
    /// What every parameter gets where nothing is kept.
    none: Slot,
}

/// The state of one parameter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    name: String,
    /// Updates that this parameter has had.
    pub(crate) step: u64,
    /// One for each field.
    buffers: Vec<Buffer>,
}

/// An array of state: f64 for f64 parameters, f32 for all others.
#[derive(Clone, Debug)]
pub(crate) enum Buffer {
    F32(Aligned<f32>),
    F64(Aligned<f64>),
}

/// A type that state is kept in and updates are computed in.
pub(crate) trait Work: FloatElement {
    fn zeros(len: usize) -> Buffer;
    /// The buffer as a slice of this type; a restored buffer of the other type is converted first.
    fn typed(buffer: &mut Buffer) -> &mut [Self];
}

impl Work for f32 {
    fn zeros(len: usize) -> Buffer {
        Buffer::F32(Aligned::zeros(len))
    }
    fn typed(buffer: &mut Buffer) -> &mut [f32] {
        if let Buffer::F64(wide) = buffer {
            *buffer = Buffer::F32(wide.iter().map(|&x| x as f32).collect());
        }
        match buffer {
            Buffer::F32(b) => b,
            Buffer::F64(_) => unreachable!("just converted"),
        }
    }
}

impl Work for f64 {
    fn zeros(len: usize) -> Buffer {
        Buffer::F64(Aligned::zeros(len))
    }
    fn typed(buffer: &mut Buffer) -> &mut [f64] {
        if let Buffer::F32(narrow) = buffer {
            *buffer = Buffer::F64(narrow.iter().map(|&x| f64::from(x)).collect());
        }
        match buffer {
            Buffer::F64(b) => b,
            Buffer::F32(_) => unreachable!("just converted"),
        }
    }
}

impl Buffer {
    fn len(&self) -> usize {
        match self {
            Self::F32(b) => b.len(),
            Self::F64(b) => b.len(),
        }
    }
}

impl Slot {
    pub(crate) fn all(&mut self) -> &mut [Buffer] {
        &mut self.buffers
    }

    /// All buffers, of which there are `N`.
    pub(crate) fn buffers<const N: usize>(&mut self) -> &mut [Buffer; N] {
        self.buffers.as_mut_slice().try_into().expect("a rule knows how many buffers it has")
    }

    /// All buffers, of which there are `N`, as slices of the type that updates are computed in.
    pub(crate) fn typed<W: Work, const N: usize>(&mut self) -> [&mut [W]; N] {
        self.buffers::<N>().each_mut().map(W::typed)
    }
}

impl Slots {
    /// For the state of this rule, whose hyper-parameters are checked.
    pub(crate) fn of(rule: &impl Layout) -> Result<Self, OptimError> {
        rule.check()?;
        Ok(Self::new(rule.fields()))
    }

    /// For a rule without state.
    pub(crate) fn none() -> Self {
        Self::new(None)
    }

    fn new(fields: Option<&'static [&'static str]>) -> Self {
        Self { fields, slots: Vec::new(), cursor: 0, none: Slot::default() }
    }

    /// To be called before each walk.
    pub(crate) fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// Whether this parameter, which the walk has not come to yet, has state.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.slots[self.cursor..].iter().any(|s| s.name == name)
    }

    /// Checks that the state of a parameter, if it has any, is of these lengths. It is looked for at `place`
    /// first, the parameter's position in the walk.
    pub(crate) fn check(
        &self,
        place: usize,
        name: &str,
        len_of: impl Fn(usize) -> usize,
    ) -> Result<(), StepError> {
        let here = self.slots.get(place).filter(|s| s.name == name);
        let Some(slot) = here.or_else(|| self.slots.iter().find(|s| s.name == name)) else {
            return Ok(());
        };
        for (i, buffer) in slot.buffers.iter().enumerate() {
            let (expected, found) = (buffer.len(), len_of(i));
            if expected != found {
                return Err(StepError::LengthMismatch { name: name.into(), expected, found });
            }
        }
        Ok(())
    }

    /// The state of the next parameter of the walk; step 0 and zeros if it has none yet. `len_of` says how
    /// long each buffer is, by its position among the fields.
    pub(crate) fn next<W: Work>(
        &mut self,
        name: &str,
        len_of: impl Fn(usize) -> usize,
    ) -> &mut Slot {
        let Some(fields) = self.fields else {
            self.none.step = 0;
            return &mut self.none;
        };
        let at = self.cursor;
        // As a rule the walk is that of the last step. Where it is not (a parameter is hidden, the
        // state was just restored), swapping brings the slots into the walk's order.
        match self.slots[at..].iter().position(|s| s.name == name) {
            Some(ahead) => self.slots.swap(at, at + ahead),
            None => {
                let buffers = (0..fields.len()).map(|i| W::zeros(len_of(i))).collect();
                self.slots.push(Slot { name: name.into(), step: 0, buffers });
                let last = self.slots.len() - 1;
                self.slots.swap(at, last);
            }
        }
        self.cursor += 1;
        &mut self.slots[at]
    }

    /// `NAME.step` and `NAME.FIELD` for every parameter.
    pub(crate) fn save(&self) -> StateDict {
        let mut state = StateDict::new();
        for slot in &self.slots {
            state.insert(format!("{}.step", slot.name), StateValue::U64(slot.step));
            for (field, buffer) in self.fields.into_iter().flatten().zip(&slot.buffers) {
                let value = match buffer {
                    Buffer::F32(b) => StateValue::F32s(b.to_vec()),
                    Buffer::F64(b) => StateValue::F64s(b.to_vec()),
                };
                state.insert(format!("{}.{field}", slot.name), value);
            }
        }
        state
    }

    /// Reads what [`save`](Self::save) wrote; changes nothing on an error. Lengths are checked when the
    /// parameters are seen again.
    pub(crate) fn load(&mut self, state: &StateDict) -> Result<(), StateError> {
        let mut slots = Vec::new();
        for (entry, value) in state.iter() {
            let invalid = |expected| Err(StateError::Invalid { name: entry.into(), expected });
            let Some(fields) = self.fields else {
                return invalid("nothing: this transform keeps no state");
            };
            let (name, field) = entry.rsplit_once('.').unwrap_or(("", entry));
            if field != "step" {
                // A buffer: its slot is read at the step count, but it has to be one that we know.
                if !fields.contains(&field) {
                    return invalid("no such entry in the state of this transform");
                }
                state.u64(&format!("{name}.step"))?;
                continue;
            }
            let &StateValue::U64(step) = value else {
                return Err(StateError::WrongKind { name: entry.into(), expected: "a counter" });
            };
            let buffers = read_buffers(fields, name, state)?;
            slots.push(Slot { name: name.into(), step, buffers });
        }
        self.slots = slots;
        Ok(())
    }
}

fn read_buffers(fields: &[&str], name: &str, state: &StateDict) -> Result<Vec<Buffer>, StateError> {
    let mut buffers = Vec::with_capacity(fields.len());
    for field in fields {
        let entry = format!("{name}.{field}");
        let buffer = match state.get(&entry) {
            Some(StateValue::F32s(b)) => Buffer::F32(b.as_slice().into()),
            Some(StateValue::F64s(b)) => Buffer::F64(b.as_slice().into()),
            Some(_) => {
                return Err(StateError::WrongKind { name: entry, expected: "an array" });
            }
            None => return Err(StateError::Missing { name: entry }),
        };
        buffers.push(buffer);
    }
    Ok(buffers)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn names(slots: &Slots) -> Vec<&str> {
        slots.slots.iter().map(|s| s.name.as_str()).collect()
    }

    fn walk(slots: &mut Slots, names: &[&str]) {
        slots.rewind();
        for name in names {
            slots.next::<f32>(name, |_| 1).step += 1;
        }
    }

    #[test]
    fn slots_follow_the_walk() {
        let mut slots = Slots::new(Some(&["m"]));
        walk(&mut slots, &["a", "b", "c"]);
        walk(&mut slots, &["a", "c"]);
        walk(&mut slots, &["a", "b", "c"]);
        assert_eq!(names(&slots), ["a", "b", "c"]);
        assert_eq!(slots.slots.iter().map(|s| s.step).collect::<Vec<_>>(), [3, 2, 3]);
    }

    #[test]
    fn names_may_hold_dots_and_field_names() {
        let mut slots = Slots::new(Some(&["m"]));
        walk(&mut slots, &["x", "x.m", "x.step", ""]);
        walk(&mut slots, &["x.m"]);
        let mut other = Slots::new(Some(&["m"]));
        other.load(&slots.save()).unwrap();
        assert_eq!(other.save(), slots.save());
        assert_eq!(other.slots.len(), 4);
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
        let mut slots = Slots::new(Some(&["m", "v"]));
        walk(&mut slots, &["a"]);
        let good = slots.save();
        let check = |edit: &dyn Fn(&mut StateDict), want: StateError| {
            let mut bad = good.clone();
            edit(&mut bad);
            let mut target = slots.clone();
            assert_eq!(target.load(&bad), Err(want));
            assert_eq!(target.save(), good);
        };
        check(
            &|s| s.insert("a.v", StateValue::U64(1)),
            StateError::WrongKind { name: "a.v".into(), expected: "an array" },
        );
        check(
            &|s| s.insert("b.step", StateValue::U64(1)),
            StateError::Missing { name: "b.m".into() },
        );
        check(
            &|s| s.insert("b.m", StateValue::F32s(vec![])),
            StateError::Missing { name: "b.step".into() },
        );
        check(
            &|s| s.insert("a.w", StateValue::F32s(vec![])),
            StateError::Invalid {
                name: "a.w".into(),
                expected: "no such entry in the state of this transform",
            },
        );
    }

    #[test]
    fn another_length_is_an_error() {
        let mut slots = Slots::new(Some(&["m"]));
        walk(&mut slots, &["a"]);
        slots.load(&slots.save()).unwrap();
        let misfit = Err(StepError::LengthMismatch { name: "a".into(), expected: 1, found: 2 });
        for place in [0, 7] {
            assert_eq!(slots.check(place, "a", |_| 2), misfit);
            assert_eq!(slots.check(place, "a", |_| 1), Ok(()));
            assert_eq!(slots.check(place, "b", |_| 2), Ok(()));
        }
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_to_be_kept() {
        let mut slots = Slots::new(None);
        for _ in 0..2 {
            walk(&mut slots, &["a", "b"]);
            assert_eq!(slots.none.step, 1);
        }
        assert!(slots.save().is_empty());
        let mut state = StateDict::new();
        assert_eq!(slots.load(&state), Ok(()));
        state.insert("a.step", StateValue::U64(1));
        assert!(matches!(slots.load(&state), Err(StateError::Invalid { .. })));
    }

    #[test]
    fn restored_state_takes_the_type_of_the_parameter() {
        let mut slots = Slots::new(Some(&["m"]));
        walk(&mut slots, &["a"]);
        slots.rewind();
        let [m] = slots.next::<f64>("a", |_| 1).typed::<f64, 1>();
        assert_eq!(m, [0.0]);
    }
}
