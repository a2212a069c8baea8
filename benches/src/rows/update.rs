//! What happens to gradients and parameters after backward, on the tensors of a small transformer and a
//! convolutional stem.

use gradus_clip::{ClipNorm, clip_grad_norm};
use gradus_core::{GradientTransform, VecParam};
use gradus_optim::{Adam, AdamConfig};

use crate::{
    checks::Checks,
    inputs::parameter,
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

/// The 60 parameters with their gradients.
fn parameters() -> Vec<VecParam> {
    (0..).zip(shapes()).map(|(j, shape)| parameter(j, &shape)).collect()
}

fn gradients(params: &[VecParam]) -> impl Iterator<Item = f32> {
    params.iter().flat_map(|p| p.grad.iter().flatten().copied())
}

/// Checks of the rows look at the third call.
const CHECKED_CALLS: usize = 3;

/// Global norm and scaling, with a bound that shrinks so that every call clips.
pub(super) fn clip_grad_norm_row(request: &Request) -> Measured {
    let mut params = parameters();
    let norm = gradients(&params).map(|g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    let mut bound = norm;
    let mut clip = |params: &mut Vec<VecParam>| {
        bound *= 0.999;
        clip_grad_norm(params, &ClipNorm::new(bound)).expect("the norm is finite").norm
    };
    let session = Session::begin(request);
    let norms: Vec<f64> = (0..CHECKED_CALLS).map(|_| clip(&mut params)).collect();
    let after = Checks::of_flat(gradients(&params));
    let checks = Checks {
        headline: norms[0],
        values: norms.iter().copied().chain(after.values).collect(),
        scale: norms.iter().copied().chain(after.scale).collect(),
    };
    Measured { timing: session.time(|| clip(&mut params)), checks }
}

/// AdamW with PyTorch's defaults, the decay on all parameters.
pub(super) fn adamw_step(request: &Request) -> Measured {
    let mut params = parameters();
    let mut adamw = Adam::new(AdamConfig::adamw()).expect("the defaults");
    let mut step = |params: &mut Vec<VecParam>| {
        adamw.step(1e-3, params).expect("the parameters do not change");
    };
    let session = Session::begin(request);
    (0..CHECKED_CALLS).for_each(|_| step(&mut params));
    let checks = Checks::of_flat(params.iter().flat_map(|p| p.value.iter().copied()));
    Measured { timing: session.time(|| step(&mut params)), checks }
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
