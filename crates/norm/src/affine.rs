//! Scale and shift, which most norms end in, and the types that norms compute in.

use gradus_autograd::{DType, Param, ParamKind, Sink, Tensor, Var};

/// Scale and shift of one operation, whose inputs are `x` and those of the two that there are.
pub(crate) struct Affine {
    /// In the type of the computation; ones where there is none.
    pub(crate) weight: Tensor,
    /// In the type of the computation; zeros where there is none.
    pub(crate) bias: Tensor,
    /// Place among the inputs and type of weight and bias.
    places: [Option<(usize, DType)>; 2],
}

impl Affine {
    #[track_caller]
    pub(crate) fn new(
        op: &str,
        weight: Option<&Var>,
        bias: Option<&Var>,
        shape: &[usize],
        compute: DType,
    ) -> Self {
        for p in [weight, bias].into_iter().flatten() {
            assert_eq!(
                p.shape(),
                shape,
                "{op}: shapes of a parameter and of what it scales or shifts"
            );
        }
        let value = |p: Option<&Var>, absent| match p {
            Some(p) => p.value().to_dtype(compute).contiguous(),
            None => Tensor::full(shape, absent, compute),
        };
        let bias_at = 1 + usize::from(weight.is_some());
        Self {
            weight: value(weight, 1.0),
            bias: value(bias, 0.0),
            places: [weight.map(|w| (1, w.dtype())), bias.map(|b| (bias_at, b.dtype()))],
        }
    }

    /// The inputs of the operation, in the order that the places count.
    pub(crate) fn inputs<'a>(
        x: &'a Var,
        weight: Option<&'a Var>,
        bias: Option<&'a Var>,
    ) -> Vec<&'a Var> {
        [Some(x), weight, bias].into_iter().flatten().collect()
    }

    /// Whether the gradients of weight and of bias are wanted.
    pub(crate) fn wanted(&self, sink: &Sink<'_>) -> [bool; 2] {
        self.places.map(|place| place.is_some_and(|(at, _)| sink.needs(at)))
    }

    /// Hands over the gradients that are wanted.
    pub(crate) fn add(&self, sink: &mut Sink<'_>, weight: &[f64], bias: &[f64]) {
        let wanted = self.wanted(sink);
        for ((place, grad), wanted) in self.places.into_iter().zip([weight, bias]).zip(wanted) {
            if let (Some((at, dtype)), true) = (place, wanted) {
                let grad = Tensor::from_slice(grad, self.weight.shape());
                sink.add(at, grad.to_dtype(dtype));
            }
        }
    }
}

/// A parameter of a norm, in f32.
pub(crate) fn param(shape: &[usize], value: f64) -> Param {
    Param::new(Tensor::full(shape, value, DType::F32), ParamKind::Norm)
}

/// The parameter's value on the tape of `x`.
#[track_caller]
pub(crate) fn watch(x: &Var, param: &Option<Param>) -> Option<Var> {
    param.as_ref().map(|p| x.tape().watch(p))
}
