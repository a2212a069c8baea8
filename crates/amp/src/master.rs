//! Weights in f32 behind a model that is stored in 16 bits.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use gradus_core::{
    DType, ParamMut, Parameters, SliceMut, State, StateDict, StateError, StateValue,
};
use gradus_kernel::{
    convert::{self, Bf16, F16, Overflow},
    par,
};
use half::slice::HalfFloatSliceExt;

use crate::{
    AmpError,
    format::{BLOCK, Numbers, Rounding},
};

/// Nanoseconds that an element takes, most of them for its way from memory.
const NS: f64 = 0.2;

/// Copies in f32 of the parameters that are stored in f16 or bf16: the optimizer changes the copies, the model gets
/// them rounded. An update that is smaller than half a step of the short format would otherwise be lost every time.
///
/// Parameters in f32 and f64 are their own masters and pass through. What changes a short parameter from outside (a
/// checkpoint that is loaded) is not seen: make the master weights anew then, or load theirs.
///
/// Micikevicius et al., Mixed precision training (2018), arXiv:1710.03740.
///
/// ```
/// use gradus_amp::{AmpError, MasterWeights, Rounding};
/// use gradus_core::{Parameters, VecParam, bf16};
///
/// let one = bf16::from_f32(1.0);
/// let mut model = vec![VecParam::new("w", &[1], vec![one]).with_grad(vec![one])];
/// let mut master = MasterWeights::new(&mut model)?;
/// for _ in 0..64 {
///     let mut wide = master.widen(&mut model)?;
///     // Unscale, clip and step `wide`; here a step by hand, of a sixteenth of bf16's step at 1.
///     wide.visit(&mut |p| {
///         let Some(gradus_core::SliceMut::F32(w)) = p.value else { panic!("master weights are f32") };
///         w[0] += 1.0 / 2048.0;
///     });
///     wide.round(Rounding::Nearest);
/// }
/// assert_eq!(model[0].value[0].to_f32(), 1.0 + 64.0 / 2048.0);
/// # Ok::<(), AmpError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MasterWeights {
    entries: Vec<Entry>,
}

/// A parameter of the walk.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    name: String,
    dtype: DType,
    len: usize,
    /// The weights; empty where the parameter is its own master.
    value: Vec<f32>,
    /// Its gradient in f32, in this step; empty where the parameter is its own master.
    grad: Vec<f32>,
    has_grad: bool,
}

impl Entry {
    fn is_short(&self) -> bool {
        is_short(self.dtype)
    }
}

fn is_short(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

impl MasterWeights {
    /// Copies the parameters that are stored in 16 bits.
    ///
    /// # Errors
    /// [`AmpError::Parameters`] for a parameter without a value.
    pub fn new(params: &mut dyn Parameters) -> Result<Self, AmpError> {
        let (mut entries, mut error) = (Vec::new(), None);
        params.visit(&mut |p| {
            let Some(value) = p.value else {
                let name = p.name.to_string();
                error.get_or_insert(AmpError::Parameters { name, expected: "a value".into() });
                return;
            };
            let (dtype, len) = (value.dtype(), value.len());
            let mut copy = vec![0.0; if is_short(dtype) { len } else { 0 }];
            widen(&value, &mut copy);
            let (name, grad) = (p.name.to_string(), vec![0.0; copy.len()]);
            entries.push(Entry { name, dtype, len, value: copy, grad, has_grad: false });
        });
        error.map_or(Ok(Self { entries }), Err)
    }

    /// The weights in f32 behind a parameter that is stored in 16 bits.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        let entry = self.entries.iter().find(|e| e.name == name && e.is_short())?;
        Some(&entry.value)
    }

    /// The parameters as an optimizer should see them, with this step's gradients widened to f32.
    ///
    /// # Errors
    /// [`AmpError::Parameters`] when the walk is not the one that these were made for, [`AmpError::Length`] for a
    /// gradient that is not as long as its value. Nothing has changed then.
    pub fn widen<P: Parameters>(&mut self, mut params: P) -> Result<Wide<'_, P>, AmpError> {
        let (mut at, mut error) = (0, None);
        let entries = &self.entries;
        params.visit(&mut |p| {
            if error.is_none() {
                error = fits(entries.get(at), &p).err();
            }
            at += 1;
        });
        if let (None, Some(missing)) = (&error, self.entries.get(at)) {
            let (name, expected) = (missing.name.clone(), "it in the walk".into());
            error = Some(AmpError::Parameters { name, expected });
        }
        if let Some(error) = error {
            return Err(error);
        }
        let mut entries = self.entries.iter_mut();
        params.visit(&mut |p| {
            let Some(entry) = entries.next() else { return };
            if entry.is_short() {
                entry.has_grad = p.grad.is_some();
                if let Some(grad) = p.grad {
                    widen(&grad, &mut entry.grad);
                }
            }
        });
        Ok(Wide { master: self, params })
    }
}

/// Whether a parameter is the one of the entry.
fn fits(entry: Option<&Entry>, p: &ParamMut<'_>) -> Result<(), AmpError> {
    let different = |expected: String| AmpError::Parameters { name: p.name.into(), expected };
    let entry = entry.ok_or_else(|| different("no more parameters".into()))?;
    let Some(value) = &p.value else { return Err(different("a value".into())) };
    if p.name != entry.name || value.dtype() != entry.dtype || value.len() != entry.len {
        let Entry { name, dtype, len, .. } = entry;
        return Err(different(format!("{name}, {len} elements of {dtype}")));
    }
    match &p.grad {
        Some(grad) if grad.len() != entry.len => {
            let (value, grad) = (entry.len, grad.len());
            Err(AmpError::Length { name: p.name.into(), value, grad })
        }
        _ => Ok(()),
    }
}

/// Parameters with [`MasterWeights`] in the place of those that are stored in 16 bits; a [`Parameters`] walk.
///
/// What is done to a widened gradient is not written back.
#[derive(Debug)]
#[must_use = "the model gets its new weights from round()"]
pub struct Wide<'m, P> {
    master: &'m mut MasterWeights,
    params: P,
}

impl<P: Parameters> Parameters for Wide<'_, P> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let mut entries = self.master.entries.iter_mut();
        self.params.visit(&mut |p| match entries.next() {
            Some(entry) if entry.is_short() => f(ParamMut {
                name: p.name,
                shape: p.shape,
                kind: p.kind,
                value: Some(entry.value.as_mut_slice().into()),
                grad: entry.has_grad.then(|| entry.grad.as_mut_slice().into()),
            }),
            _ => f(p),
        });
    }
}

impl<P: Parameters> Wide<'_, P> {
    /// Rounds the master weights into the model. What is too large for its format becomes infinite there.
    pub fn round(mut self, rounding: Rounding) {
        let mut numbers = rounding.numbers();
        let nearest = rounding == Rounding::Nearest;
        let mut entries = self.master.entries.iter();
        self.params.visit(&mut |p| {
            let Some(entry) = entries.next() else { return };
            let from = entry.value.as_slice();
            match p.value {
                Some(SliceMut::F16(out)) => {
                    let out = out.reinterpret_cast_mut();
                    if nearest {
                        narrow::<F16>(from, out)
                    } else {
                        by_chance::<F16>(from, out, &mut numbers)
                    }
                }
                Some(SliceMut::BF16(out)) => {
                    let out = out.reinterpret_cast_mut();
                    if nearest {
                        narrow::<Bf16>(from, out)
                    } else {
                        by_chance::<Bf16>(from, out, &mut numbers)
                    }
                }
                _ => {}
            }
        });
    }
}

fn narrow<F: convert::Format<Code = u16>>(from: &[f32], out: &mut [u16]) {
    par::for_each_mut(out, 1, NS, |at, out| {
        convert::narrow::<F>(&from[at..at + out.len()], out, Overflow::Infinite);
    });
}

fn by_chance<F: convert::Format<Code = u16>>(from: &[f32], out: &mut [u16], numbers: &mut Numbers) {
    for (from, out) in from.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
        if let Some(random) = numbers.next(from.len()) {
            convert::narrow_stochastic::<F>(from, random, out, Overflow::Infinite);
        }
    }
}

/// Copies a slice to f32; nothing where `out` is empty.
fn widen(from: &SliceMut<'_>, out: &mut [f32]) {
    par::for_each_mut(out, 1, NS, |at, out| {
        let range = at..at + out.len();
        match from {
            SliceMut::F16(x) => convert::widen::<F16>(&x.reinterpret_cast()[range], out),
            SliceMut::BF16(x) => convert::widen::<Bf16>(&x.reinterpret_cast()[range], out),
            SliceMut::F32(x) => out.copy_from_slice(&x[range]),
            SliceMut::F64(x) => {
                for (out, &x) in out.iter_mut().zip(&x[range]) {
                    *out = x as f32;
                }
            }
        }
    });
}

/// An array for each parameter that is stored in 16 bits, by its name.
impl State for MasterWeights {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        for entry in self.entries.iter().filter(|e| e.is_short()) {
            state.insert(entry.name.clone(), StateValue::F32s(entry.value.clone()));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let mut values = Vec::new();
        for entry in self.entries.iter().filter(|e| e.is_short()) {
            let value = state.f32s(&entry.name)?;
            if value.len() != entry.len {
                let (name, expected) = (entry.name.clone(), entry.len);
                return Err(StateError::WrongLength { name, expected, found: value.len() });
            }
            values.push(value);
        }
        let short = self.entries.iter_mut().filter(|e| e.is_short());
        for (entry, value) in short.zip(values) {
            entry.value = value;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gradus_core::{RngStream, VecParam, bf16, f16};

    use super::*;

    /// A model of three types.
    struct Mixed {
        short: Vec<VecParam<bf16>>,
        half: Vec<VecParam<f16>>,
        single: Vec<VecParam<f32>>,
    }

    impl Parameters for Mixed {
        fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
            self.short.visit(f);
            self.half.visit(f);
            self.single.visit(f);
        }
    }

    fn mixed() -> Mixed {
        let ones = |n| (vec![bf16::ONE; n], vec![f16::ONE; n], vec![1.0f32; n]);
        let (b, h, s) = ones(700);
        Mixed {
            short: vec![VecParam::new("b", &[700], b.clone()).with_grad(b)],
            half: vec![VecParam::new("h", &[700], h.clone())],
            single: vec![VecParam::new("s", &[700], s.clone()).with_grad(s)],
        }
    }

    fn add(params: &mut dyn Parameters, step: f32) {
        params.visit(&mut |p| {
            assert_eq!(p.grad.is_some(), p.name != "h");
            let Some(SliceMut::F32(value)) = p.value else { panic!("{} is not f32", p.name) };
            value.iter_mut().for_each(|x| *x += step);
        });
    }

    #[test]
    fn small_updates_add_up_in_every_type() {
        let mut model = mixed();
        let mut master = MasterWeights::new(&mut model).unwrap();
        for _ in 0..3 {
            let mut wide = master.widen(&mut model).unwrap();
            add(&mut wide, 1.0 / 256.0);
            wide.round(Rounding::Nearest);
        }
        // 3/256 lie between 1/128 and 2/128, at the middle: the even one is 2/128.
        assert_eq!(model.short[0].value[699].to_f32(), 1.0 + 2.0 / 128.0);
        assert_eq!(model.half[0].value[0].to_f32(), 1.0 + 3.0 / 256.0);
        assert_eq!(model.single[0].value[0], 1.0 + 3.0 / 256.0);
        assert_eq!(master.get("b").unwrap()[0], 1.0 + 3.0 / 256.0);
        assert_eq!(master.get("s"), None);
    }

    #[test]
    fn chance_rounds_to_both_sides() {
        let mut model = mixed();
        let mut master = MasterWeights::new(&mut model).unwrap();
        let mut wide = master.widen(&mut model).unwrap();
        add(&mut wide, 1.0 / 256.0);
        wide.round(Rounding::Stochastic(RngStream::new(7, 0, 0)));
        let up = model.short[0].value.iter().filter(|x| x.to_f32() > 1.0).count();
        // A half of 700; six standard deviations.
        assert!((up as f64 - 350.0).abs() < 80.0, "{up}");
        assert!(model.half[0].value.iter().all(|x| x.to_f32() == 1.0 + 1.0 / 256.0));
    }

    #[test]
    fn another_model_is_refused() {
        let mut master = MasterWeights::new(&mut mixed()).unwrap();
        let mut refuse = |mut model: Mixed| match master.widen(&mut model) {
            Err(AmpError::Parameters { name, .. } | AmpError::Length { name, .. }) => name,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("another model was taken"),
        };
        let mut model = mixed();
        model.short[0].name = "c".into();
        assert_eq!(refuse(model), "c");
        let mut model = mixed();
        model.single.clear();
        assert_eq!(refuse(model), "s");
        let mut model = mixed();
        model.single.push(VecParam::new("t", &[1], vec![0.0]));
        assert_eq!(refuse(model), "t");
        let mut model = mixed();
        model.half[0].value.pop();
        assert_eq!(refuse(model), "h");
        let mut model = mixed();
        model.single[0].grad = Some(vec![]);
        assert_eq!(refuse(model), "s");
    }

    #[test]
    fn masters_are_saved_and_restored() {
        let mut model = mixed();
        let mut master = MasterWeights::new(&mut model).unwrap();
        add(&mut master.widen(&mut model).unwrap(), 1.0 / 4096.0);
        let mut restored = MasterWeights::new(&mut mixed()).unwrap();
        restored.load_state(&master.save_state()).unwrap();
        assert_eq!(restored.get("b"), master.get("b"));
        let before = restored.clone();
        let mut state = master.save_state();
        state.insert("h", StateValue::F32s(vec![0.0]));
        assert!(matches!(restored.load_state(&state), Err(StateError::WrongLength { .. })));
        assert_eq!(restored, before);
    }

    /// A checkpoint in 16 bits makes masters that round to it, bit for bit.
    #[test]
    fn sixteen_bits_to_f32_and_back() {
        let every: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let mut model = vec![VecParam::new("w", &[every.len()], every.clone())];
        let mut master = MasterWeights::new(&mut model).unwrap();
        master.widen(&mut model).unwrap().round(Rounding::Nearest);
        for (a, b) in model[0].value.iter().zip(&every) {
            // NaNs become quiet, nothing else changes.
            assert!(
                a.to_bits() == b.to_bits() || (b.is_nan() && a.to_bits() == b.to_bits() | 0x40)
            );
        }
    }
}
