use gradus_autograd::{DType, Param, ParamKind, Tensor};
use gradus_init::Init;

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
        let name = format!("parameter {}", self.next);
        self.next += 1;
        if let Err(e) = init.fill(self.seed, &name, shape, value.make_mut::<f32>()) {
            panic!("{name} of shape {shape:?}: {e}");
        }
        Param::new(value, kind)
    }
}
