//! How large gradients are, by their exponents.

use gradus_core::{FloatElement, Parameters, SliceMut};
use num_traits::Float;

use crate::Format;

/// Exponents of f32, with a place each for 0 and for what is not finite.
const PLACES: usize = 256;
/// The place of 1.
const ONE: i32 = 127;

/// Counts numbers by their exponent, and says which share of them a shorter format would lose at some scale, and which
/// scale would suit.
///
/// Feed it gradients that are not scaled, every so many steps: it takes about a nanosecond an element.
///
/// ```
/// use gradus_amp::{ExponentMeter, Format};
///
/// let mut meter = ExponentMeter::new();
/// meter.observe(&[1e-3, -2e-9, 3e-9, 0.0]);
/// // Without a scale, two of the three numbers that are not 0 vanish in half precision.
/// assert_eq!((meter.losses(Format::F16, 1.0).vanished * 3.0).round(), 2.0);
/// // 1e-3 lies in the binade of 2^-10; 2^22 would lift it to 2^12, eight times under the largest.
/// let scale = meter.recommend(Format::F16, 3).unwrap();
/// assert_eq!(scale, 2f32.powi(22));
/// assert_eq!(meter.losses(Format::F16, scale).vanished, 0.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentMeter {
    counts: [u64; PLACES],
    zeros: u64,
}

/// Shares of the finite numbers that are not 0.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct Losses {
    /// What becomes 0.
    pub vanished: f64,
    /// What stays, with less than full precision.
    pub subnormal: f64,
    /// What becomes infinite.
    pub overflowed: f64,
}

impl Default for ExponentMeter {
    fn default() -> Self {
        Self::new()
    }
}

impl ExponentMeter {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: [0; PLACES], zeros: 0 }
    }

    /// Counts some numbers.
    pub fn observe(&mut self, x: &[f32]) {
        self.count(x);
    }

    /// Counts all gradients.
    pub fn observe_gradients(&mut self, params: &mut dyn Parameters) {
        params.visit(&mut |p| match p.grad {
            Some(SliceMut::F32(g)) => self.count(g),
            Some(SliceMut::F64(g)) => self.count(g),
            Some(SliceMut::F16(g)) => self.count(g),
            Some(SliceMut::BF16(g)) => self.count(g),
            None => {}
        });
    }

    fn count<T: FloatElement>(&mut self, x: &[T]) {
        // Neighbours often share an exponent: two tables, so that one count does not wait for the other.
        let mut odd = [0u64; PLACES];
        let place = |x: T| (x.to_f32().to_bits() >> 23 & 0xFF) as usize;
        let (pairs, rest) = x.as_chunks::<2>();
        for &[a, b] in pairs {
            self.counts[place(a)] += 1;
            odd[place(b)] += 1;
        }
        for &x in rest {
            self.counts[place(x)] += 1;
        }
        self.counts.iter_mut().zip(odd).for_each(|(c, o)| *c += o);
        self.zeros += x.iter().map(|x| u64::from(*x == T::zero())).sum::<u64>();
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(a, b)| *a += b);
        self.zeros += other.zeros;
    }

    /// Numbers whose absolute value lies in `[2^exponent, 2^(exponent + 1))`; those of exponent -127 are subnormal
    /// in f32.
    #[must_use]
    pub fn in_binade(&self, exponent: i32) -> u64 {
        match usize::try_from(exponent + ONE) {
            Ok(0) => self.counts[0] - self.zeros,
            Ok(place) if place < PLACES - 1 => self.counts[place],
            _ => 0,
        }
    }

    /// Numbers that are 0.
    #[must_use]
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Numbers that are NaN or infinite.
    #[must_use]
    pub fn nonfinite(&self) -> u64 {
        self.counts[PLACES - 1]
    }

    /// Smallest and largest exponent of a finite number that is not 0; `None` where there is none.
    #[must_use]
    pub fn range(&self) -> Option<(i32, i32)> {
        let mut seen = (-ONE..=ONE).filter(|&e| self.in_binade(e) > 0);
        let low = seen.next()?;
        Some((low, seen.next_back().unwrap_or(low)))
    }

    /// What the format would lose of these numbers, multiplied by the scale. Exact to a binade: of a scale that is no
    /// power of two the one below counts.
    #[must_use]
    pub fn losses(&self, format: Format, scale: f32) -> Losses {
        let shift = exponent(scale);
        let (low, normal, high) = borders(format);
        let (mut losses, mut total) = (Losses::default(), 0.0);
        for e in -ONE..=ONE {
            let n = self.in_binade(e) as f64;
            total += n;
            match e + shift {
                e if e < low - 1 => losses.vanished += n,
                e if e < normal => losses.subnormal += n,
                e if e > high => losses.overflowed += n,
                _ => {}
            }
        }
        if total > 0.0 {
            losses.vanished /= total;
            losses.subnormal /= total;
            losses.overflowed /= total;
        }
        losses
    }

    /// The power of two that lifts the largest of these numbers to the largest binade of the format, less `headroom`
    /// binades for gradients that are larger than any so far; 3 is a fair choice. `None` where nothing but 0 and what
    /// is not finite was seen.
    #[must_use]
    pub fn recommend(&self, format: Format, headroom: u32) -> Option<f32> {
        let (_, largest) = self.range()?;
        let (_, _, high) = borders(format);
        let shift = high.saturating_sub(largest).saturating_sub_unsigned(headroom);
        Some(Float::powi(2f32, shift.clamp(1 - ONE, ONE)))
    }
}

/// The exponent of a positive number.
fn exponent(x: f32) -> i32 {
    (x.to_bits() >> 23 & 0xFF) as i32 - ONE
}

/// Exponents of a format's smallest, smallest normal and largest number.
fn borders(format: Format) -> (i32, i32, i32) {
    let smallest = match format {
        // 2^-133 is subnormal in f32, where its exponent cannot be read off.
        Format::BF16 => -133,
        _ => exponent(format.smallest()),
    };
    (smallest, exponent(format.smallest_normal()), exponent(format.largest()))
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{VecParam, f16};

    use super::*;

    #[test]
    fn every_number_has_one_place() {
        let mut meter = ExponentMeter::new();
        meter.observe(&[0.0, -0.0, 1.0, 1.99, -2.0, f32::NAN, f32::INFINITY, 1e-40]);
        assert_eq!((meter.zeros(), meter.nonfinite()), (2, 2));
        assert_eq!([0, 1, -127, 2].map(|e| meter.in_binade(e)), [2, 1, 1, 0]);
        assert_eq!(meter.range(), Some((-127, 1)));
        let mut twice = meter.clone();
        twice.merge(&meter);
        assert_eq!((twice.zeros(), twice.in_binade(0)), (4, 4));
    }

    #[test]
    fn what_it_says_is_what_the_format_does() {
        let x: Vec<f32> =
            (0..4000).map(|i| Float::powf(2f32, (i as f32 - 2000.0) * 0.02)).collect();
        let mut meter = ExponentMeter::new();
        meter.observe(&x);
        for format in [Format::F16, Format::E5M2, Format::E4M3] {
            for scale in [1.0, 1024.0, 1.0 / 64.0] {
                let codes = x.iter().map(|x| format.encode(x * scale, crate::Overflow::Infinite));
                let values = codes.map(|code| format.decode(code));
                let (mut vanished, mut overflowed) = (0, 0);
                for value in values {
                    vanished += u32::from(value == 0.0);
                    overflowed += u32::from(!value.is_finite());
                }
                let losses = meter.losses(format, scale);
                // A binade has 50 of the 4000 numbers, and each border lies within one.
                let near =
                    |share: f64, n: u32| (share - f64::from(n) / 4000.0).abs() <= 50.0 / 4000.0;
                assert!(
                    near(losses.vanished, vanished),
                    "{format:?} {scale}: {losses:?} {vanished}"
                );
                assert!(near(losses.overflowed, overflowed), "{format:?} {scale}: {losses:?}");
            }
        }
    }

    #[test]
    fn gradients_of_any_type_and_nothing_at_all() {
        let mut meter = ExponentMeter::new();
        assert_eq!((meter.range(), meter.recommend(Format::F16, 3)), (None, None));
        assert_eq!(meter.losses(Format::F16, 1.0), Losses::default());
        let grad = vec![f16::from_f32(0.5)];
        meter.observe_gradients(&mut vec![VecParam::new("h", &[1], grad.clone()).with_grad(grad)]);
        meter.observe_gradients(&mut vec![
            VecParam::new("d", &[1], vec![0.0f64]).with_grad(vec![0.5]),
        ]);
        assert_eq!(meter.in_binade(-1), 2);
        assert_eq!(meter.recommend(Format::F16, 0), Some(65536.0));
        // At the ends of f32 it stays a number.
        let mut tiny = ExponentMeter::new();
        tiny.observe(&[1e-44]);
        assert_eq!(tiny.recommend(Format::BF16, 0), Some(2f32.powi(127)));
        let mut huge = ExponentMeter::new();
        huge.observe(&[f32::MAX]);
        assert_eq!(huge.recommend(Format::E4M3, 60), Some(2f32.powi(-126)));
    }
}
