//! Updates as long as their parameters.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    OptimError,
    error::{non_negative, positive},
    lanes::sum1,
    param::Value,
    pass::Out,
    rule::{Layout, Rule, Turn, transform},
    slots::Slots,
};

/// Gives each parameter's update the length of the parameter: `u = trust_coefficient norm(p) / (norm(u) + eps) u`,
/// the ratio being 1 where either norm is 0.
///
/// With a coefficient of 1 and no eps this is what makes LAMB of Adam; before a [`Trace`](crate::Trace) and with a
/// coefficient of 0.001 it is LARS.
///
/// # References
/// You, Gitman, Ginsburg: Large batch training of convolutional networks (2017), arXiv:1708.03888. You et al.: Large
/// batch optimization for deep learning (2019), arXiv:1904.00962.
#[derive(Clone, Debug)]
pub struct ScaleByTrustRatio {
    rule: Ratio,
    slots: Slots,
}

#[derive(Clone, Debug)]
struct Ratio {
    coefficient: f64,
    eps: f64,
}

impl ScaleByTrustRatio {
    /// The stage.
    ///
    /// # Errors
    /// [`OptimError`] for a coefficient that is not above 0, an eps that is negative, or one that is not finite.
    pub fn new(trust_coefficient: f64, eps: f64) -> Result<Self, OptimError> {
        let rule = Ratio { coefficient: trust_coefficient, eps };
        Ok(Self { slots: Slots::of(&rule)?, rule })
    }
}
transform!(ScaleByTrustRatio { rule }, "Nothing.");

impl Layout for Ratio {
    fn check(&self) -> Result<(), OptimError> {
        positive("trust_coefficient", self.coefficient)?;
        non_negative("eps", self.eps)
    }
    fn fields(&self) -> Option<&'static [&'static str]> {
        None
    }
}

impl Rule for Ratio {
    fn update<T: Value>(&self, Turn { value, grad, .. }: Turn<'_, T>) {
        let squares = |x: &[T]| sum1(x, |x| x.load() * x.load());
        let ratio = trust_ratio(self.coefficient, squares(value), squares(grad), self.eps);
        let ratio = T::Work::from_f64(ratio);
        Out::Gradient(grad).pass0(move |u| ratio * u);
    }
}

/// The ratio, from the sums of squares of parameter and update.
pub(crate) fn trust_ratio(coefficient: f64, param: f64, update: f64, eps: f64) -> f64 {
    if param == 0.0 || update == 0.0 {
        1.0
    } else {
        coefficient * Float::sqrt(param) / (Float::sqrt(update) + eps)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    #[test]
    fn the_length_is_that_of_the_parameter() {
        let param = |name: &str, value: f64, grad| {
            VecParam::new(name, &[1], vec![value]).with_grad(vec![grad])
        };
        let mut params = vec![param("a", -6.0, 2.0), param("b", 0.0, 2.0), param("c", 3.0, 0.0)];
        ScaleByTrustRatio::new(0.5, 1.0).unwrap().step(0.1, &mut params).unwrap();
        let got: vec::Vec<_> = params.iter().map(|p| p.grad.as_ref().unwrap()[0]).collect();
        assert_eq!(got, [2.0, 2.0, 0.0]); // 0.5 * 6 / (2 + 1) = 1; 1; 1
        assert!(
            ScaleByTrustRatio::new(0.0, 0.0).is_err() && ScaleByTrustRatio::new(1.0, -1.0).is_err()
        );
    }
}
