//! Clipping by value.

use gradus_core::{FloatElement, Parameters};

use crate::{ClipError, error::check_bound};

/// Bounds every element of every gradient to `[-clip_value, clip_value]`.
///
/// Infinities become the bound, NaN stays. The bound is rounded to the gradient's element type.
///
/// # Errors
/// [`ClipError::Bound`] for a `clip_value` that is NaN or negative; the gradients are unchanged then.
pub fn clip_grad_value(params: &mut dyn Parameters, clip_value: f64) -> Result<(), ClipError> {
    let bound = check_bound(clip_value)?;
    params.visit(&mut |p| {
        if let Some(grad) = p.grad {
            gradus_core::with_slice!(grad, g => clamp(g, bound));
        }
    });
    Ok(())
}

fn clamp<T: FloatElement>(g: &mut [T], bound: f64) {
    let high = T::from_f64(bound);
    let low = -high;
    for x in g {
        // NaN fails both comparisons.
        let below = if *x > high { high } else { *x };
        *x = if below < low { low } else { below };
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::GradSlices;

    #[test]
    fn values_are_bounded_and_nan_stays() {
        let mut g = vec![-7.0, 0.25, f32::INFINITY, f32::NAN];
        clip_grad_value(&mut GradSlices(&mut [g.as_mut_slice().into()]), 0.5).unwrap();
        assert_eq!(g[..3], [-0.5, 0.25, 0.5]);
        assert!(g[3].is_nan());
    }

    #[test]
    fn bounds_that_are_none_are_errors() {
        let mut g = vec![2.0f32];
        for bound in [-1.0, f64::NEG_INFINITY, f64::NAN] {
            let error = clip_grad_value(&mut GradSlices(&mut [g.as_mut_slice().into()]), bound);
            assert!(matches!(error, Err(ClipError::Bound { .. })));
        }
        assert_eq!(g, [2.0]);
    }
}
