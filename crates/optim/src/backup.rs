//! The exact bits of parameters, to be put back.

use alloc::{string::String, vec, vec::Vec};

use gradus_core::{DType, Parameters, SliceMut, bf16, f16};

use crate::AverageError;

/// Copies of parameters by name. Its memory is used again by the next copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backup {
    /// Sorted by name.
    saved: Vec<Saved>,
}

#[derive(Clone, Debug)]
struct Saved {
    name: String,
    bits: Bits,
    /// Whether this is of the current copy, and not memory left from one before it.
    current: bool,
}

#[derive(Clone, Debug)]
enum Bits {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// Runs `$body` on bits and a slice where they are of one type, otherwise `$other`.
macro_rules! with_bits {
    (($bits:expr, $slice:expr), $b:ident, $s:ident => $body:expr, else $other:expr) => {
        match ($bits, $slice) {
            (Bits::F32($b), SliceMut::F32($s)) => $body,
            (Bits::F64($b), SliceMut::F64($s)) => $body,
            (Bits::F16($b), SliceMut::F16($s)) => $body,
            (Bits::BF16($b), SliceMut::BF16($s)) => $body,
            _ => $other,
        }
    };
}

impl Bits {
    fn of(value: &SliceMut<'_>) -> Self {
        match value {
            SliceMut::F32(s) => Self::F32(s.to_vec()),
            SliceMut::F64(s) => Self::F64(s.to_vec()),
            SliceMut::F16(s) => Self::F16(s.to_vec()),
            SliceMut::BF16(s) => Self::BF16(s.to_vec()),
        }
    }

    fn dtype_and_len(&self) -> (DType, usize) {
        match self {
            Self::F32(b) => (DType::F32, b.len()),
            Self::F64(b) => (DType::F64, b.len()),
            Self::F16(b) => (DType::F16, b.len()),
            Self::BF16(b) => (DType::BF16, b.len()),
        }
    }
}

impl Backup {
    /// Forgets what was saved, but not the memory for it.
    pub(crate) fn clear(&mut self) {
        self.saved.iter_mut().for_each(|s| s.current = false);
    }

    /// Copies one parameter.
    pub(crate) fn save(&mut self, name: &str, value: &SliceMut<'_>) {
        match self.saved.binary_search_by(|s| s.name.as_str().cmp(name)) {
            Ok(at) => {
                let Saved { bits, current, .. } = &mut self.saved[at];
                *current = true;
                with_bits!((&mut *bits, value), b, s => {
                    b.clear();
                    b.extend_from_slice(s);
                }, else *bits = Bits::of(value));
            }
            Err(at) => {
                let saved = Saved { name: name.into(), bits: Bits::of(value), current: true };
                self.saved.insert(at, saved);
            }
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        let at = self.saved.binary_search_by(|s| s.name.as_str().cmp(name)).ok()?;
        self.saved[at].current.then_some(at)
    }

    /// Whether all that was saved can be put back into this walk. What was not saved may be in it as well.
    pub(crate) fn check(&self, params: &mut dyn Parameters) -> Result<(), AverageError> {
        let mut result = Ok(());
        let mut seen = vec![false; self.saved.len()];
        params.visit(&mut |p| {
            let Some(at) = self.find(p.name) else { return };
            seen[at] = true;
            if result.is_ok() {
                result = self.saved[at].fits(p.value.as_ref());
            }
        });
        result?;
        match self.saved.iter().zip(seen).find(|(saved, seen)| saved.current && !seen) {
            Some((saved, _)) => Err(AverageError::MissingParameter { name: saved.name.clone() }),
            None => Ok(()),
        }
    }

    /// Puts everything back that fits.
    pub(crate) fn write(&self, params: &mut dyn Parameters) {
        params.visit(&mut |p| {
            let (Some(at), Some(value)) = (self.find(p.name), p.value) else { return };
            with_bits!((&self.saved[at].bits, value), b, s => {
                if b.len() == s.len() {
                    s.copy_from_slice(b);
                }
            }, else ());
        });
    }
}

impl Saved {
    fn fits(&self, value: Option<&SliceMut<'_>>) -> Result<(), AverageError> {
        let name = || self.name.clone();
        let Some(value) = value else { return Err(AverageError::MissingValue { name: name() }) };
        let (dtype, len) = self.bits.dtype_and_len();
        if dtype != value.dtype() {
            let found = value.dtype();
            return Err(AverageError::DTypeMismatch { name: name(), expected: dtype, found });
        }
        if len != value.len() {
            let found = value.len();
            return Err(AverageError::LengthMismatch { name: name(), expected: len, found });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gradus_core::VecParam;

    use super::*;

    fn save<P: Parameters>(backup: &mut Backup, params: &mut P) {
        backup.clear();
        params.visit(&mut |p| backup.save(p.name, &p.value.unwrap()));
    }

    #[test]
    fn what_was_saved_comes_back_and_the_rest_is_left_alone() {
        let mut backup = Backup::default();
        let nan = f32::from_bits(0x7fc0_1234);
        let mut before = vec![VecParam::new("b", &[2], vec![nan, -0.0])];
        save(&mut backup, &mut before);
        let mut params =
            vec![VecParam::new("a", &[1], vec![7.0f32]), VecParam::new("b", &[2], vec![1.0, 2.0])];
        backup.check(&mut params).unwrap();
        backup.write(&mut params);
        assert_eq!(params[0].value, [7.0]);
        assert_eq!(params[1].value[0].to_bits(), nan.to_bits());
        assert_eq!(params[1].value[1].to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn memory_of_an_earlier_copy_is_not_a_copy() {
        let mut backup = Backup::default();
        save(&mut backup, &mut vec![VecParam::new("a", &[1], vec![1.0f32])]);
        save(&mut backup, &mut vec![VecParam::new("b", &[1], vec![f16::ONE])]);
        let mut params = vec![VecParam::new("a", &[1], vec![7.0f32])];
        backup.write(&mut params);
        assert_eq!(params[0].value, [7.0]);
        assert_eq!(
            backup.check(&mut params),
            Err(AverageError::MissingParameter { name: "b".into() })
        );
    }

    #[test]
    fn misfits_are_named() {
        let mut backup = Backup::default();
        save(&mut backup, &mut vec![VecParam::new("a", &[1], vec![bf16::ONE])]);
        assert_eq!(
            backup.check(&mut vec![VecParam::new("a", &[2], vec![bf16::ONE; 2])]),
            Err(AverageError::LengthMismatch { name: "a".into(), expected: 1, found: 2 })
        );
        assert_eq!(
            backup.check(&mut vec![VecParam::new("a", &[1], vec![1.0f32])]),
            Err(AverageError::DTypeMismatch {
                name: "a".into(),
                expected: DType::BF16,
                found: DType::F32
            })
        );
    }
}
