//! How many inputs and outputs a weight connects.

use crate::InitError;

/// Which dimensions of a weight count its inputs and outputs; the others are the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Layout {
    /// `[out, in, kernel..]`, as in this project and PyTorch; a grouped convolution has `in / groups` there.
    #[default]
    OutIn,
    /// `[in, out, kernel..]`: `x W` products, and PyTorch's transposed convolutions.
    InOut,
}

/// Which fan a scheme divides by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum FanMode {
    /// Inputs of one output: keeps the variance of the forward pass.
    #[default]
    FanIn,
    /// Outputs of one input: keeps the variance of the backward pass.
    FanOut,
    /// The mean of both.
    FanAvg,
}

/// Inputs of each output and outputs of each input of a weight.
///
/// ```
/// use gradus_init::{Fans, Layout};
///
/// let conv = Fans::of(&[16, 4, 3, 3], Layout::OutIn)?;
/// assert_eq!((conv.fan_in, conv.fan_out), (36, 144));
/// assert!(Fans::of(&[5], Layout::OutIn).is_err());
/// # Ok::<(), gradus_init::InitError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fans {
    /// Inputs times the kernel's size.
    pub fan_in: usize,
    /// Outputs times the kernel's size.
    pub fan_out: usize,
}

impl Fans {
    /// The fans of a weight of this shape.
    ///
    /// # Errors
    /// [`InitError::TooFewDims`] below two dimensions.
    pub fn of(shape: &[usize], layout: Layout) -> Result<Self, InitError> {
        let [first, second, kernel @ ..] = shape else {
            return Err(InitError::TooFewDims { shape: shape.into() });
        };
        let kernel: usize = kernel.iter().product();
        let (first, second) = (first * kernel, second * kernel);
        Ok(match layout {
            Layout::OutIn => Self { fan_in: second, fan_out: first },
            Layout::InOut => Self { fan_in: first, fan_out: second },
        })
    }

    /// The fan of this mode.
    #[must_use]
    pub fn get(self, mode: FanMode) -> f64 {
        match mode {
            FanMode::FanIn => self.fan_in as f64,
            FanMode::FanOut => self.fan_out as f64,
            FanMode::FanAvg => (self.fan_in as f64 + self.fan_out as f64) / 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_mirror_one_another() {
        let fans = |layout| Fans::of(&[2, 3, 2, 2, 2], layout).unwrap();
        assert_eq!(fans(Layout::OutIn), Fans { fan_in: 24, fan_out: 16 });
        assert_eq!(fans(Layout::InOut), Fans { fan_in: 16, fan_out: 24 });
        assert_eq!(fans(Layout::OutIn).get(FanMode::FanAvg), 20.0);
    }

    #[test]
    fn scalars_and_vectors_have_no_fans() {
        for shape in [&[][..], &[5]] {
            let error = InitError::TooFewDims { shape: shape.into() };
            assert_eq!(Fans::of(shape, Layout::OutIn), Err(error));
        }
    }
}
