//! Averaged parameters, apart from the parameters that they were taken from.

use alloc::{string::String, vec, vec::Vec};

use gradus_core::{FloatElement, ParamMut, Parameters, SliceMut, with_slice};

use crate::{
    AverageError, Swapped,
    param::Value,
    pieces::{Cut, in_pieces},
    slots::{Buffer, Work},
};

/// Averaged parameters by name: in f64 for f64 parameters, in f32 for all others.
///
/// 16-bit parameters would swallow the small steps of an average, so it is rounded only where it is written
/// back: [`copy_to`](Self::copy_to) for good, [`swap_into`](Self::swap_into) for the length of an evaluation.
/// As [`State`](gradus_core::State) it can be stored and read back by itself; in memory a clone is a snapshot.
///
/// Buffers such as the running statistics of batch norm are not part of a walk over parameters, and those of the
/// training run do not fit averaged weights: estimate them anew on some training batches with the averaged
/// weights swapped in (`update_bn` of `gradus-norm`; elsewhere, reset them and average those of forward passes in
/// training mode).
///
/// ```
/// use gradus_core::VecParam;
/// use gradus_optim::Average;
///
/// // The uniform soup of two models (Wortsman et al. 2022).
/// let model = |w| vec![VecParam::new("w", &[1], vec![w])];
/// let (a, b) = (Average::of(&mut model(1.0f32))?, Average::of(&mut model(4.0))?);
/// let soup = Average::weighted_sum(&[(0.5, &a), (0.5, &b)])?;
/// let mut params = model(0.0);
/// {
///     let souped = soup.swap_into(&mut params)?;
///     assert_eq!(souped[0].value, [2.5]);
/// }
/// assert_eq!(params[0].value, [0.0]);
/// # Ok::<(), gradus_optim::AverageError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Average {
    /// Sorted by name.
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) values: Buffer,
}

fn len(buffer: &Buffer) -> usize {
    match buffer {
        Buffer::F32(b) => b.len(),
        Buffer::F64(b) => b.len(),
    }
}

impl Average {
    /// The parameters as they are now.
    ///
    /// # Errors
    /// [`AverageError::MissingValue`] for a walk over gradients alone, [`AverageError::UnknownParameter`] where
    /// two parameters have one name.
    pub fn of(params: &mut dyn Parameters) -> Result<Self, AverageError> {
        Self::take(params, |value| match value {
            SliceMut::F32(s) => Buffer::F32((&*s).into()),
            SliceMut::F64(s) => Buffer::F64((&*s).into()),
            SliceMut::F16(s) => Buffer::F32(s.iter().map(|x| x.to_f32()).collect()),
            SliceMut::BF16(s) => Buffer::F32(s.iter().map(|x| x.to_f32()).collect()),
        })
    }

    /// Zeros for every parameter.
    pub(crate) fn zeros(params: &mut dyn Parameters) -> Result<Self, AverageError> {
        fn zeros<T: Value>(values: &[T]) -> Buffer {
            T::Work::zeros(values.len())
        }
        Self::take(params, |value| with_slice!(value, s => zeros(s)))
    }

    fn take(
        params: &mut dyn Parameters,
        mut values: impl FnMut(SliceMut<'_>) -> Buffer,
    ) -> Result<Self, AverageError> {
        let mut result = Ok(());
        let mut entries = Vec::new();
        params.visit(&mut |ParamMut { name, value, .. }| match value {
            Some(value) => entries.push(Entry { name: name.into(), values: values(value) }),
            None if result.is_ok() => {
                result = Err(AverageError::MissingValue { name: name.into() });
            }
            None => {}
        });
        result?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(AverageError::UnknownParameter { name: pair[0].name.clone() }),
            None => Ok(Self { entries }),
        }
    }

    /// Number of parameters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no parameter, as before the first update.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes the average into the parameters, rounded to their types.
    ///
    /// # Errors
    /// [`AverageError`] naming the parameter, where the walk does not show exactly the parameters of the average,
    /// each of its length. Nothing has changed then.
    pub fn copy_to(&self, params: &mut dyn Parameters) -> Result<(), AverageError> {
        fn write<T: FloatElement>(average: &Buffer, values: &mut [T]) {
            match average {
                Buffer::F32(b) => {
                    values.iter_mut().zip(&**b).for_each(|(v, &x)| *v = T::from_f32(x))
                }
                Buffer::F64(b) => {
                    values.iter_mut().zip(&**b).for_each(|(v, &x)| *v = T::from_f64(x))
                }
            }
        }
        self.walk(params, |at, value| {
            let average = &self.entries[at].values;
            with_slice!(value, values => write(average, values));
        })
    }

    /// Writes the average into the parameters until the guard that this returns is dropped, also by a panic.
    /// Their own values are kept meanwhile, which takes their memory once more.
    ///
    /// # Errors
    /// As [`copy_to`](Self::copy_to).
    pub fn swap_into<'a, P: Parameters + ?Sized>(
        &self,
        params: &'a mut P,
    ) -> Result<Swapped<'a, P>, AverageError> {
        self.order(&mut &mut *params)?;
        let mut swapped = Swapped::new(params);
        self.copy_to(&mut swapped)?;
        Ok(swapped)
    }

    /// `w_1 a_1 + w_2 a_2 + ..` over averages of the same parameters, summed in f64. The type of each result is
    /// that of the first average; a sum of none is empty.
    ///
    /// # Errors
    /// [`AverageError::Weight`] for a weight that is not finite; otherwise, naming the parameter, where an average
    /// does not hold the same parameters as the first.
    pub fn weighted_sum(terms: &[(f64, &Self)]) -> Result<Self, AverageError> {
        let Some((_, first)) = terms.first() else { return Ok(Self::default()) };
        if let Some(&(weight, _)) = terms.iter().find(|(w, _)| !w.is_finite()) {
            return Err(AverageError::Weight { weight });
        }
        terms.iter().try_for_each(|(_, average)| first.same_parameters(average))?;
        Ok(Self::sum(terms.iter().copied()))
    }

    /// [`weighted_sum`](Self::weighted_sum) of averages that are known to be of the same parameters.
    pub(crate) fn sum<'a>(terms: impl Iterator<Item = (f64, &'a Self)> + Clone) -> Self {
        let Some((_, first)) = terms.clone().next() else { return Self::default() };
        let entries = first.entries.iter().enumerate().map(|(at, entry)| {
            let mut sum = vec![0.0f64; len(&entry.values)];
            for (weight, average) in terms.clone() {
                match &average.entries[at].values {
                    Buffer::F32(b) => {
                        sum.iter_mut().zip(&**b).for_each(|(s, &x)| *s += weight * f64::from(x));
                    }
                    Buffer::F64(b) => sum.iter_mut().zip(&**b).for_each(|(s, &x)| *s += weight * x),
                }
            }
            let values = match entry.values {
                Buffer::F32(_) => Buffer::F32(sum.iter().map(|&x| x as f32).collect()),
                Buffer::F64(_) => Buffer::F64(sum.as_slice().into()),
            };
            Entry { name: entry.name.clone(), values }
        });
        Self { entries: entries.collect() }
    }

    /// Whether another average holds the same names and lengths.
    pub(crate) fn same_parameters(&self, other: &Self) -> Result<(), AverageError> {
        for (a, b) in self.entries.iter().zip(&other.entries) {
            if a.name != b.name {
                let name = (&a.name).min(&b.name).clone();
                return Err(if a.name < b.name {
                    AverageError::MissingParameter { name }
                } else {
                    AverageError::UnknownParameter { name }
                });
            }
            let (expected, found) = (len(&a.values), len(&b.values));
            if expected != found {
                let name = a.name.clone();
                return Err(AverageError::LengthMismatch { name, expected, found });
            }
        }
        let (n, m) = (self.len(), other.len());
        if n > m {
            return Err(AverageError::MissingParameter { name: self.entries[m].name.clone() });
        }
        if n < m {
            return Err(AverageError::UnknownParameter { name: other.entries[n].name.clone() });
        }
        Ok(())
    }

    /// Positions of the parameters of this walk among the entries. The walk has to show every entry once.
    fn order(&self, params: &mut dyn Parameters) -> Result<Vec<usize>, AverageError> {
        let mut order = Vec::with_capacity(self.len());
        let mut seen = vec![false; self.len()];
        let mut result = Ok(());
        params.visit(&mut |p| {
            if result.is_ok() {
                result = self.place(&p).and_then(|at| {
                    if core::mem::replace(&mut seen[at], true) {
                        return Err(AverageError::UnknownParameter { name: p.name.into() });
                    }
                    order.push(at);
                    Ok(())
                });
            }
        });
        result?;
        match self.entries.iter().zip(seen).find(|(_, seen)| !seen) {
            Some((entry, _)) => Err(AverageError::MissingParameter { name: entry.name.clone() }),
            None => Ok(order),
        }
    }

    /// Position of one parameter.
    fn place(&self, p: &ParamMut<'_>) -> Result<usize, AverageError> {
        let name = || String::from(p.name);
        let Some(value) = &p.value else {
            return Err(AverageError::MissingValue { name: name() });
        };
        let at = self
            .entries
            .binary_search_by(|e| e.name.as_str().cmp(p.name))
            .map_err(|_| AverageError::UnknownParameter { name: name() })?;
        let (expected, found) = (len(&self.entries[at].values), value.len());
        if expected == found {
            Ok(at)
        } else {
            Err(AverageError::LengthMismatch { name: name(), expected, found })
        }
    }

    /// Checks all parameters, then runs `f` on each with its position among the entries.
    fn walk(
        &self,
        params: &mut dyn Parameters,
        mut f: impl FnMut(usize, SliceMut<'_>),
    ) -> Result<(), AverageError> {
        let mut order = self.order(params)?.into_iter();
        params.visit(&mut |p| {
            if let (Some(at), Some(value)) = (order.next(), p.value) {
                f(at, value);
            }
        });
        Ok(())
    }
}

/// `average = decay average + (1 - decay) params` for several averages of the same parameters, each with its decay,
/// in one pass over the parameters.
pub(crate) fn update(
    averages: &mut [Average],
    decays: &[f64],
    params: &mut dyn Parameters,
) -> Result<(), AverageError> {
    fn take_in<T: Value>(averages: &mut [Average], decays: &[f64], at: usize, values: &[T]) {
        let averages =
            averages.iter_mut().map(|a| T::Work::typed(&mut a.entries[at].values)).collect();
        in_pieces(Strand { averages, values }, |strand: Strand<'_, T>| strand.take_in(decays));
    }

    let Some(first) = averages.first() else { return Ok(()) };
    let mut order = first.order(params)?.into_iter();
    params.visit(&mut |p| {
        if let (Some(at), Some(value)) = (order.next(), p.value) {
            with_slice!(value, values => take_in(averages, decays, at, values));
        }
    });
    Ok(())
}

/// Some elements of a parameter, and the same ones of each average.
struct Strand<'a, T: Value> {
    averages: Vec<&'a mut [T::Work]>,
    values: &'a [T],
}

impl<T: Value> Cut for Strand<'_, T> {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn cut_at(self, mid: usize) -> (Self, Self) {
        let (left, right) = self.averages.into_iter().map(|a| a.split_at_mut(mid)).unzip();
        let (values, rest) = self.values.split_at(mid);
        (Self { averages: left, values }, Self { averages: right, values: rest })
    }
}

impl<T: Value> Strand<'_, T> {
    fn take_in(mut self, decays: &[f64]) {
        /// Elements that stay in the first-level cache while every average takes them in.
        const CHUNK: usize = 1024;

        for (i, chunk) in self.values.chunks(CHUNK).enumerate() {
            for (average, &decay) in self.averages.iter_mut().zip(decays) {
                lerp(&mut average[i * CHUNK..][..chunk.len()], chunk, decay);
            }
        }
    }
}

/// torch's `lerp` with weight `1 - decay`: a constant stays what it is, a decay of 0 copies, 1 keeps.
fn lerp<T: Value>(average: &mut [T::Work], values: &[T], decay: f64) {
    let pairs = average.iter_mut().zip(values);
    if decay == 0.0 {
        pairs.for_each(|(a, &v)| *a = v.load());
    } else if decay > 0.5 && decay < 1.0 {
        let weight = T::Work::from_f64(1.0 - decay);
        pairs.for_each(|(a, &v)| *a = *a + weight * (v.load() - *a));
    } else if decay < 1.0 {
        let decay = T::Work::from_f64(decay);
        pairs.for_each(|(a, &v)| {
            let v = v.load();
            *a = v - decay * (v - *a);
        });
    }
}
