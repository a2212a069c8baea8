use alloc::{vec, vec::Vec};

use super::*;

/// All codes of a format.
fn codes<F: Format>() -> impl Iterator<Item = F::Code> {
    (0..1u32 << (8 * size_of::<F::Code>())).map(F::Code::from_bits)
}

fn sign_bit<F: Format>() -> u32 {
    1 << (8 * size_of::<F::Code>() - 1)
}

/// A code by the definition of the format, in f64.
fn by_definition<F: Format>(code: F::Code) -> f64 {
    let bits = code.to_bits();
    let (sign, a) = (if bits & sign_bit::<F>() == 0 { 1.0 } else { -1.0 }, bits & !sign_bit::<F>());
    let has_infinity = F::OVERFLOW & ((1 << F::MANTISSA) - 1) == 0;
    if a > F::MAX {
        return if has_infinity && a == F::OVERFLOW { sign * f64::INFINITY } else { f64::NAN };
    }
    let (exponent, mantissa) = (a >> F::MANTISSA, f64::from(a & ((1 << F::MANTISSA) - 1)));
    let one = f64::from(1u32 << F::MANTISSA);
    let bias = F::BIAS as i32;
    sign * if exponent == 0 {
        mantissa / one * 2f64.powi(1 - bias)
    } else {
        (1.0 + mantissa / one) * 2f64.powi(exponent as i32 - bias)
    }
}

/// Every code means what the format says, and comes back.
fn all_codes<F: Format>() {
    for code in codes::<F>() {
        let (got, want) = (decode::<F>(code), by_definition::<F>(code));
        if want.is_nan() {
            assert!(got.is_nan(), "{:#x}", code.to_bits());
            let again = encode::<F>(got, Overflow::Saturate);
            assert!(decode::<F>(again).is_nan(), "{:#x}", code.to_bits());
            assert_eq!(got.is_sign_negative(), code.to_bits() & sign_bit::<F>() != 0);
        } else {
            assert_eq!(f64::from(got), want, "{:#x}", code.to_bits());
            assert_eq!(got.is_sign_negative(), want.is_sign_negative());
            assert_eq!(encode::<F>(got, Overflow::Infinite).to_bits(), code.to_bits());
            for random in [0, 1, 0x8000_0000, u32::MAX] {
                let code = code.to_bits();
                assert_eq!(encode_stochastic::<F>(got, random, Overflow::Infinite).to_bits(), code);
            }
        }
    }
}

/// Between any two neighbours, the last with what would come after it: below the middle, the middle, above it.
fn all_boundaries<F: Format>() {
    for a in 0..=F::MAX {
        let low = by_definition::<F>(F::Code::from_bits(a));
        let high = if a == F::MAX {
            low + (low - by_definition::<F>(F::Code::from_bits(a - 1)))
        } else {
            by_definition::<F>(F::Code::from_bits(a + 1))
        };
        // Exact: a middle has one bit of mantissa more, and f32 has enough exponents for all but bf16's last.
        let middle = (low + high) / 2.0;
        let up = if a == F::MAX { F::OVERFLOW } else { a + 1 };
        let even = if a.is_multiple_of(2) { a } else { up };
        let x = middle as f32;
        assert_eq!(f64::from(x), middle);
        let check = |x: f32, want: u32| {
            for (x, want) in [(x, want), (-x, want | sign_bit::<F>())] {
                assert_eq!(encode::<F>(x, Overflow::Infinite).to_bits(), want, "{x:e}");
                let largest = F::MAX | (want & sign_bit::<F>());
                let saturated = if want & !sign_bit::<F>() > F::MAX { largest } else { want };
                assert_eq!(encode::<F>(x, Overflow::Saturate).to_bits(), saturated, "{x:e}");
            }
        };
        check(x.next_down(), a);
        check(x, even);
        check(x.next_up(), up);
        if f64::from(high as f32) == high {
            check((high as f32).next_down(), up);
        }
    }
    assert_eq!(encode::<F>(f32::INFINITY, Overflow::Infinite).to_bits(), F::OVERFLOW);
    assert_eq!(encode::<F>(f32::INFINITY, Overflow::Saturate).to_bits(), F::MAX);
    assert_eq!(encode::<F>(f32::MAX, Overflow::Saturate).to_bits(), F::MAX);
}

/// With every value of the leading bits of the random number, numbers go up as often as they are far.
fn means<F: Format>(x: f32) {
    let n = 1u32 << 12;
    let value =
        |random| f64::from(decode::<F>(encode_stochastic::<F>(x, random, Overflow::Infinite)));
    // Neither the leading bits alone nor the last ones: a stride through all.
    let total: f64 = (0..n).map(|i| value(i.wrapping_mul(0x9E37_79B9))).sum();
    let step = f64::from(decode::<F>(F::Code::from_bits(
        (encode::<F>(x, Overflow::Infinite).to_bits() & !sign_bit::<F>()) + 1,
    ))) - f64::from(decode::<F>(encode::<F>(x.abs(), Overflow::Infinite)));
    let mean = total / f64::from(n);
    assert!((mean - f64::from(x)).abs() < 0.02 * step, "{x:e}: {mean:e}, a step is {step:e}");
}

macro_rules! formats {
    ($($name:ident: $format:ident),*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn every_code_means_what_the_format_says() {
                all_codes::<$format>();
            }

            #[test]
            fn every_boundary_rounds_to_even() {
                all_boundaries::<$format>();
            }

            #[test]
            fn chance_has_the_right_mean() {
                let small = by_definition::<$format>(<$format as Format>::Code::from_bits(1)) as f32;
                for x in [1.1f32, -1.7, 0.013, 3.3 * small, 0.4 * small, -0.01 * small] {
                    means::<$format>(x);
                }
            }

            #[test]
            fn slices_are_their_elements_at_every_level() {
                use crate::simd::{self, Level};
                let x: Vec<f32> = (0..1003u32).map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9))).collect();
                let random: Vec<u32> = (0..1003u32).map(|i| i.wrapping_mul(0x85EB_CA6B)).collect();
                for level in [Level::Portable, Level::Avx2, Level::Avx512] {
                    simd::force(level);
                    for overflow in [Overflow::Infinite, Overflow::Saturate] {
                        let mut out = vec![Default::default(); x.len()];
                        narrow::<$format>(&x, &mut out, overflow);
                        assert!(out.iter().zip(&x).all(|(&o, &x)| o == encode::<$format>(x, overflow)));
                        let mut wide = vec![0.0; x.len()];
                        widen::<$format>(&out, &mut wide);
                        assert!(wide.iter().zip(&out).all(|(w, &o)| w.to_bits() == decode::<$format>(o).to_bits()));
                        narrow_stochastic::<$format>(&x, &random, &mut out, overflow);
                        let each = x.iter().zip(&random).map(|(&x, &r)| encode_stochastic::<$format>(x, r, overflow));
                        assert!(out.iter().copied().eq(each));
                    }
                }
                simd::force(simd::detected());
            }
        }
    )*};
}
formats!(bf16: Bf16, f16: F16, e5m2: E5m2, e4m3: E4m3);
