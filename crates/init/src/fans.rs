//! How many inputs and outputs a weight connects.

use num_traits::Float;

use crate::InitError;

/// Which dimensions of a weight count its inputs and outputs; the others are the kernel's. It is always said,
/// never guessed from the sizes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Layout {
    /// `[out, in, kernel..]` (OIHW), as in this project and PyTorch; a grouped convolution has `in / groups`
    /// there.
    #[default]
    OutIn,
    /// `[in, out, kernel..]` (IOHW): `x W` products, and PyTorch's transposed convolutions.
    InOut,
    /// `[kernel.., in, out]` (HWIO), as in Keras and JAX; with two dimensions the same as `InOut`.
    KernelInOut,
    /// `[entries, width]`, looked up by row. Both fans are the width, as in Flax: a lookup sums nothing, and
    /// a row drawn with variance `1 / width` has norm 1.
    Embedding,
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
    /// The geometric mean of both, as JAX's `fan_geo_avg`.
    FanGeoAvg,
    /// `fan_in max(1, fan_in / fan_out)`: gives a matrix the spectral norm `sqrt(fan_out / fan_in)`, up to a
    /// constant, and so features that are learnt at any width (Yang, Simon, Bernstein 2023,
    /// arXiv:2310.17813).
    Spectral,
}

/// Inputs of each output and outputs of each input of a weight.
///
/// ```
/// use gradus_init::{Fans, Layout};
///
/// let conv = Fans::of(&[16, 4, 3, 3], Layout::OutIn)?;
/// assert_eq!((conv.fan_in, conv.fan_out), (36, 144));
/// assert_eq!(Fans::of(&[3, 3, 4, 16], Layout::KernelInOut)?, conv);
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
    /// [`InitError::TooFewDims`] below two dimensions, [`InitError::WrongDims`] for an embedding of more.
    pub fn of(shape: &[usize], layout: Layout) -> Result<Self, InitError> {
        let Kernel { outs, ins, taps, .. } = Kernel::of(shape, layout)?;
        Ok(match layout {
            Layout::Embedding => Self { fan_in: outs, fan_out: outs },
            _ => Self { fan_in: ins * taps, fan_out: outs * taps },
        })
    }

    /// The fan of this mode.
    #[must_use]
    pub fn get(self, mode: FanMode) -> f64 {
        let (fan_in, fan_out) = (self.fan_in as f64, self.fan_out as f64);
        match mode {
            FanMode::FanIn => fan_in,
            FanMode::FanOut => fan_out,
            FanMode::FanAvg => (fan_in + fan_out) / 2.0,
            FanMode::FanGeoAvg => Float::sqrt(fan_in * fan_out),
            FanMode::Spectral if fan_out < fan_in => fan_in * (fan_in / fan_out),
            FanMode::Spectral => fan_in,
        }
    }
}

/// A weight as `taps` matrices of `outs` by `ins`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Kernel {
    /// Outputs.
    pub outs: usize,
    /// Inputs (of one group).
    pub ins: usize,
    /// Size of the convolution's kernel; 1 for a matrix.
    pub taps: usize,
    /// How it lies in memory.
    pub layout: Layout,
}

impl Kernel {
    pub(crate) fn of(shape: &[usize], layout: Layout) -> Result<Self, InitError> {
        let ([first, second, kernel @ ..], [.., nearly, last]) = (shape, shape) else {
            return Err(InitError::TooFewDims { shape: shape.into() });
        };
        let (outs, ins, kernel) = match layout {
            Layout::OutIn => (first, second, kernel),
            Layout::InOut => (second, first, kernel),
            Layout::KernelInOut => (last, nearly, &shape[..shape.len() - 2]),
            Layout::Embedding if !kernel.is_empty() => {
                let (scheme, dims) = ("an embedding", "2");
                return Err(InitError::WrongDims { scheme, shape: shape.into(), dims });
            }
            Layout::Embedding => (second, first, kernel),
        };
        Ok(Self { outs: *outs, ins: *ins, taps: kernel.iter().product(), layout })
    }

    /// The dimensions of the convolution's kernel.
    pub(crate) fn window(shape: &[usize], layout: Layout) -> &[usize] {
        match layout {
            Layout::KernelInOut => &shape[..shape.len() - 2],
            _ => &shape[2..],
        }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.outs * self.ins * self.taps
    }

    /// Where the weight from input `i` to output `o` at `tap` lies.
    pub(crate) fn index(&self, o: usize, i: usize, tap: usize) -> usize {
        match self.layout {
            Layout::OutIn => (o * self.ins + i) * self.taps + tap,
            Layout::InOut | Layout::Embedding => (i * self.outs + o) * self.taps + tap,
            Layout::KernelInOut => (tap * self.ins + i) * self.outs + o,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn layouts_mirror_one_another() {
        let fans = |shape, layout| Fans::of(shape, layout).unwrap();
        let shape = &[2, 3, 2, 2, 2];
        assert_eq!(fans(shape, Layout::OutIn), Fans { fan_in: 24, fan_out: 16 });
        assert_eq!(fans(shape, Layout::InOut), Fans { fan_in: 16, fan_out: 24 });
        let last = fans(&[2, 2, 2, 3, 2], Layout::KernelInOut);
        assert_eq!(last, Fans { fan_in: 24, fan_out: 16 });
        assert_eq!(fans(&[7, 5], Layout::KernelInOut), fans(&[7, 5], Layout::InOut));
        assert_eq!(fans(&[1000, 8], Layout::Embedding), Fans { fan_in: 8, fan_out: 8 });
    }

    #[test]
    fn modes_are_means_of_the_fans() {
        let fans = Fans { fan_in: 32, fan_out: 8 };
        let all = [FanMode::FanIn, FanMode::FanOut, FanMode::FanAvg, FanMode::FanGeoAvg];
        assert_eq!(all.map(|mode| fans.get(mode)), [32.0, 8.0, 20.0, 16.0]);
        assert_eq!(fans.get(FanMode::Spectral), 128.0);
        assert_eq!(Fans { fan_in: 8, fan_out: 32 }.get(FanMode::Spectral), 8.0);
    }

    #[test]
    fn scalars_and_vectors_have_no_fans() {
        for shape in [&[][..], &[5]] {
            let error = InitError::TooFewDims { shape: shape.into() };
            assert_eq!(Fans::of(shape, Layout::OutIn), Err(error));
        }
        let error = Fans::of(&[5, 2, 1], Layout::Embedding).unwrap_err();
        assert!(matches!(error, InitError::WrongDims { .. }), "{error}");
    }

    #[test]
    fn every_element_has_one_place() {
        let shape = [2, 3, 4];
        for layout in [Layout::OutIn, Layout::InOut, Layout::KernelInOut] {
            let kernel = Kernel::of(&shape, layout).unwrap();
            assert_eq!(kernel.len(), 24);
            let mut seen = vec![0; 24];
            for o in 0..kernel.outs {
                for i in 0..kernel.ins {
                    (0..kernel.taps).for_each(|tap| seen[kernel.index(o, i, tap)] += 1);
                }
            }
            assert_eq!(seen, [1; 24], "{layout:?}");
        }
    }
}
