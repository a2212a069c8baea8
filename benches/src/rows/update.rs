//! What happens to gradients and parameters after backward, on the tensors of a small transformer and a
//! convolutional stem.

use gradus_clip::{ClipNorm, clip_grad_norm};
use gradus_core::{GradientTransform, ParamKind, ParamMut, Parameters};
use gradus_optim::{Adam, AdamConfig};
use gradus_tensor::Tensor;

use crate::{
    checks::Checks,
    inputs::sym,
    measure::{Measured, Request, Session},
};

/// The shapes of the 60 tensors, 10,033,026 elements.
fn shapes() -> Vec<Vec<usize>> {
    let block: [&[usize]; 12] = [
        &[448],
        &[448],
        &[1344, 448],
        &[1344],
        &[448, 448],
        &[448],
        &[448],
        &[448],
        &[1792, 448],
        &[1792],
        &[448, 1792],
        &[448],
    ];
    let end: [&[usize]; 10] =
        [&[448], &[448], &[256, 448], &[64, 3, 3, 3], &[64], &[64], &[448, 64], &[448], &[1], &[1]];
    let mut shapes: Vec<&[usize]> = vec![&[256, 448]; 2];
    (0..4).for_each(|_| shapes.extend(block));
    shapes.extend(end);
    shapes.into_iter().map(<[usize]>::to_vec).collect()
}

/// Parameters and their gradients, each of which never changes but by clipping.
struct Model(Vec<(String, Tensor, Tensor)>);

impl Model {
    /// The 60 parameters.
    fn new() -> Self {
        let parameter = |(j, shape): (u64, Vec<usize>)| {
            (format!("{j}"), sym(3000 + j, &shape, 0.05), sym(2000 + j, &shape, 1.0))
        };
        Self((0..).zip(shapes()).map(parameter).collect())
    }

    fn values(&self) -> impl Iterator<Item = f32> {
        self.0.iter().flat_map(|(_, value, _)| value.to_vec())
    }

    fn gradients(&self) -> impl Iterator<Item = f32> {
        self.0.iter().flat_map(|(_, _, grad)| grad.to_vec())
    }
}

impl Parameters for Model {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for (name, value, grad) in &mut self.0 {
            let shape = value.shape().to_vec();
            let (value, grad) = (value.make_mut::<f32>(), grad.make_mut::<f32>());
            let (value, grad) = (Some(value.into()), Some(grad.into()));
            f(ParamMut { name, shape: &shape, kind: ParamKind::Weight, value, grad });
        }
    }
}

/// Checks of the rows look at the third call.
const CHECKED_CALLS: usize = 3;

/// Global norm and scaling, with a bound that shrinks so that every call clips.
pub(super) fn clip_grad_norm_row(request: &Request) -> Measured {
    let mut model = Model::new();
    let norm = model.gradients().map(|g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    let mut bound = norm;
    let mut clip = |model: &mut Model| {
        bound *= 0.999;
        clip_grad_norm(model, &ClipNorm::new(bound)).expect("the norm is finite").norm
    };
    let session = Session::begin(request);
    let norms: Vec<f64> = (0..CHECKED_CALLS).map(|_| clip(&mut model)).collect();
    let after = Checks::of_flat(model.gradients());
    let checks = Checks {
        headline: norms[0],
        values: norms.iter().copied().chain(after.values).collect(),
        scale: norms.iter().copied().chain(after.scale).collect(),
    };
    Measured { timing: session.time(|| clip(&mut model)), checks }
}

/// AdamW with PyTorch's defaults, the decay on all parameters.
pub(super) fn adamw_step(request: &Request) -> Measured {
    let mut model = Model::new();
    let mut adamw = Adam::new(AdamConfig::adamw()).expect("the defaults");
    let mut step = |model: &mut Model| {
        adamw.step(1e-3, model).expect("the parameters do not change");
    };
    let session = Session::begin(request);
    (0..CHECKED_CALLS).for_each(|_| step(&mut model));
    let checks = Checks::of_flat(model.values());
    Measured { timing: session.time(|| step(&mut model)), checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_sixty_tensors_of_ten_million_elements() {
        let shapes = shapes();
        assert_eq!(shapes.len(), 60);
        assert_eq!(shapes.iter().map(|s| s.iter().product::<usize>()).sum::<usize>(), 10_033_026);
    }
}
