use gradus_autograd::{DType, Param, ParamKind, Tensor};
use gradus_init::{Init, InitError};
use gradus_tensor::{Element, FloatElement, bf16, f16};

/// Where the starting weights of a model come from: the `n`-th parameter made is a function of (seed, n).
///
/// ```
/// use gradus_nn::{Linear, Module, Seeds};
///
/// let make = || Linear::new(3, 2, &mut Seeds::new(7)).snapshot();
/// let (a, b) = (make(), make());
/// assert_eq!(a.get("weight").unwrap().to_vec::<f32>(), b.get("weight").unwrap().to_vec::<f32>());
/// ```
#[derive(Clone, Debug)]
pub struct Seeds {
    seed: u64,
    next: u64,
}

impl Seeds {
    /// Weights of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    /// A new f32 parameter, drawn by `init`.
    ///
    /// # Panics
    /// When `init` cannot fill this shape: fans of a shape with fewer than two dimensions, or no inputs.
    #[track_caller]
    pub fn param(&mut self, kind: ParamKind, shape: &[usize], init: &Init) -> Param {
        let mut value = Tensor::zeros(shape, DType::F32);
        if let Err(e) = self.fill(&mut value, init) {
            panic!("a parameter of shape {shape:?}: {e}");
        }
        Param::new(value, kind)
    }

    /// Draws the values of the next parameter by `init`: what [`Init::fill`] fills it with under the name
    /// `parameter <n>`.
    ///
    /// # Errors
    /// Those of [`Init::fill`]; the tensor is unchanged then.
    ///
    /// # Panics
    /// When the tensor's elements are no floats.
    #[track_caller]
    pub fn fill(&mut self, value: &mut Tensor, init: &Init) -> Result<(), InitError> {
        let name = format!("parameter {}", self.next);
        self.next += 1;
        match value.dtype() {
            DType::F32 => fill::<f32>(init, self.seed, &name, value),
            DType::F64 => fill::<f64>(init, self.seed, &name, value),
            DType::F16 => fill::<f16>(init, self.seed, &name, value),
            DType::BF16 => fill::<bf16>(init, self.seed, &name, value),
            other => panic!("Seeds::fill: {name} is of type {other}"),
        }
    }
}

fn fill<T: Element + FloatElement>(
    init: &Init,
    seed: u64,
    name: &str,
    value: &mut Tensor,
) -> Result<(), InitError> {
    let shape = value.shape().to_vec();
    init.fill(seed, name, &shape, value.make_mut::<T>())
}

#[cfg(test)]
mod tests {
    use gradus_tensor::simd::{self, Level};

    use super::*;

    fn init_all<T: Element + FloatElement>(shape: &[usize]) {
        for init in [
            Init::normal(0.0, 0.02),
            Init::normal(1.0, 2.0),
            Init::lecun_uniform(),
            Init::lecun_normal(),
            Init::trunc_normal(0.0, 1.0, 1.0, 3.0),
            Init::orthogonal(1.0),
            Init::ones(),
        ] {
            let mut want = vec![T::zero(); shape.iter().product()];
            init.fill(5, "parameter 0", shape, &mut want).unwrap();
            for level in [Level::Portable, Level::Avx2, Level::Avx512] {
                simd::force(level);
                let mut value = Tensor::zeros(shape, T::DTYPE);
                Seeds::new(5).fill(&mut value, &init).unwrap();
                assert!(value.to_vec::<T>() == want, "{init:?} {} {level:?}", T::DTYPE);
            }
            simd::force(simd::detected());
        }
    }

    #[test]
    fn every_instruction_set_and_thread_draws_what_init_does() {
        init_all::<f32>(&[7, 11]);
        init_all::<f64>(&[3, 50]);
        init_all::<bf16>(&[65, 3]);
        init_all::<f16>(&[1, 1]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| init_all::<f32>(&[257, 1000]));
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error_and_changes_nothing() {
        let mut value = Tensor::ones(&[5], DType::F32);
        assert!(Seeds::new(0).fill(&mut value, &Init::torch_linear()).is_err());
        assert_eq!(value.to_vec::<f32>(), [1.0; 5]);
        let mut empty = Tensor::ones(&[5, 0], DType::F32);
        assert_eq!(Seeds::new(0).fill(&mut empty, &Init::torch_linear()), Ok(()));
    }
}
