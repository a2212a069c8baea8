//! Formats that are shorter than f32.

use gradus_core::RngStream;
use gradus_kernel::convert::{self, Bf16, Code, E4m3, E5m2, F16, Overflow};

/// A floating-point format of 16 or 8 bits.
///
/// ```
/// use gradus_amp::{Format, Overflow};
///
/// let code = Format::E4M3.encode(0.3, Overflow::Saturate);
/// assert_eq!(Format::E4M3.decode(code), 0.3125);
/// assert_eq!(Format::F16.largest(), 65504.0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// bfloat16: the exponents of f32, 8 bits of precision.
    BF16,
    /// IEEE 754 binary16: 11 bits of precision, up to 65504.
    F16,
    /// 8 bits with 5 of exponent: 3 bits of precision, up to 57344, with infinities.
    E5M2,
    /// 8 bits with 4 of exponent (`e4m3fn`): 4 bits of precision, up to 448, without infinities.
    E4M3,
}

/// Runs `$body` with `$F` standing for the format's type.
macro_rules! with_format {
    ($format:expr, $F:ident => $body:expr) => {
        match $format {
            Format::BF16 => {
                type $F = Bf16;
                $body
            }
            Format::F16 => {
                type $F = F16;
                $body
            }
            Format::E5M2 => {
                type $F = E5m2;
                $body
            }
            Format::E4M3 => {
                type $F = E4m3;
                $body
            }
        }
    };
}

impl Format {
    /// The nearest number of the format, ties to even: its code, in the low bits.
    #[must_use]
    pub fn encode(self, x: f32, overflow: Overflow) -> u16 {
        with_format!(self, F => convert::encode::<F>(x, overflow).to_bits() as u16)
    }

    /// The number that a code stands for; bits that the format does not have are ignored.
    #[must_use]
    pub fn decode(self, code: u16) -> f32 {
        with_format!(self, F => convert::decode::<F>(Code::from_bits(code.into())))
    }

    /// Rounds every element to the format and back: what a value is after a trip through it.
    pub fn round_all(self, x: &mut [f32], overflow: Overflow, rounding: Rounding) {
        let mut random = rounding.numbers();
        with_format!(self, F => {
            let mut codes = [<F as convert::Format>::Code::default(); BLOCK];
            for x in x.chunks_mut(BLOCK) {
                let codes = &mut codes[..x.len()];
                match random.next(x.len()) {
                    None => convert::narrow::<F>(x, codes, overflow),
                    Some(random) => convert::narrow_stochastic::<F>(x, random, codes, overflow),
                }
                convert::widen::<F>(codes, x);
            }
        });
    }

    /// The largest finite number.
    #[must_use]
    pub fn largest(self) -> f32 {
        with_format!(self, F => convert::decode::<F>(<F as convert::Format>::MAX as _))
    }

    /// The smallest number above 0.
    #[must_use]
    pub fn smallest(self) -> f32 {
        self.decode(1)
    }

    /// The smallest number of full precision.
    #[must_use]
    pub fn smallest_normal(self) -> f32 {
        with_format!(self, F => convert::decode::<F>(1 << <F as convert::Format>::MANTISSA))
    }
}

/// How numbers are rounded to a shorter format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Rounding {
    /// To the nearest, ties to the even code.
    #[default]
    Nearest,
    /// To one of the two neighbours, by the chance that makes the number the mean: updates smaller than half a step of
    /// the format are not lost, but add up on average (Gupta et al., 2015, arXiv:1502.02551). Element `i` takes number
    /// `i` of the stream, so give every step and every tensor a stream of its own.
    Stochastic(RngStream),
}

/// Elements that are rounded together; a multiple of 64.
pub(crate) const BLOCK: usize = 512;

/// The random numbers of consecutive blocks.
pub(crate) struct Numbers {
    stream: Option<RngStream>,
    /// Elements so far.
    at: u64,
    block: [u32; BLOCK],
}

impl Rounding {
    /// Its numbers, from the first element on.
    pub(crate) fn numbers(self) -> Numbers {
        let stream = match self {
            Self::Nearest => None,
            Self::Stochastic(stream) => Some(stream),
        };
        Numbers { stream, at: 0, block: [0; BLOCK] }
    }
}

impl Numbers {
    /// Those of the next `n` elements, at most [`BLOCK`]; none where rounding needs none.
    pub(crate) fn next(&mut self, n: usize) -> Option<&[u32]> {
        let stream = self.stream?;
        for block in self.block[..n.next_multiple_of(64)].chunks_exact_mut(64) {
            for (part, words) in block.chunks_exact_mut(16).zip(stream.blocks16(self.at / 4)) {
                part.copy_from_slice(&words);
            }
            self.at += 64;
        }
        Some(&self.block[..n])
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    #[test]
    fn the_borders_of_the_formats() {
        let of = |f: Format| (f.largest(), f.smallest_normal(), f.smallest());
        assert_eq!(of(Format::F16), (65504.0, 2f32.powi(-14), 2f32.powi(-24)));
        assert_eq!(of(Format::E5M2), (57344.0, 2f32.powi(-14), 2f32.powi(-16)));
        assert_eq!(of(Format::E4M3), (448.0, 2f32.powi(-6), 2f32.powi(-9)));
        assert_eq!(of(Format::BF16).0, f32::from_bits(0x7F7F_0000));
        assert_eq!(of(Format::BF16).2, 2f32.powi(-133));
    }

    #[test]
    fn a_trip_through_a_format_is_encode_and_decode() {
        let x: Vec<f32> = (0..1500).map(|i| (i as f32 * 0.37).sin() * 500.0).collect();
        for format in [Format::BF16, Format::F16, Format::E5M2, Format::E4M3] {
            for overflow in [Overflow::Infinite, Overflow::Saturate] {
                let mut y = x.clone();
                format.round_all(&mut y, overflow, Rounding::Nearest);
                for (&x, &y) in x.iter().zip(&y) {
                    assert_eq!(y.to_bits(), format.decode(format.encode(x, overflow)).to_bits());
                }
            }
        }
    }

    #[test]
    fn chance_goes_both_ways_and_averages_out() {
        let mut x = vec![1.0 + 1.0 / 1024.0; 200_000];
        let stream = RngStream::new(1, 2, 3);
        Format::BF16.round_all(&mut x, Overflow::Infinite, Rounding::Stochastic(stream));
        let up = x.iter().filter(|&&x| x == 1.0 + 1.0 / 128.0).count();
        assert_eq!(x.iter().filter(|&&x| x == 1.0).count() + up, x.len());
        // An eighth of them; six standard deviations.
        assert!((up as f64 - 25_000.0).abs() < 900.0, "{up}");
        let mut again = vec![1.0 + 1.0 / 1024.0; 100_000];
        Format::BF16.round_all(&mut again, Overflow::Infinite, Rounding::Stochastic(stream));
        assert_eq!(again[..], x[..100_000], "an element's number is its own");
    }
}
