//! Starting weights.

use gradus_core::FloatElement;
use gradus_init::{FanMode, Init, Nonlinearity};

use crate::{
    checks::Checks,
    measure::{Measured, Request, Session},
};

const SHAPE: [usize; 2] = [4096, 2560];

/// A whole matrix of normals with variance 2 / fan-in, of another seed in each iteration.
pub(super) fn kaiming_normal(request: &Request) -> Measured {
    let init = Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn);
    let mut weight = vec![0f32; SHAPE.iter().product()];
    let mut seed = 0;
    let mut fill = |weight: &mut [f32]| {
        seed += 1;
        init.fill(seed, "weight", &SHAPE, weight).expect("the shape has fans");
    };
    let session = Session::begin(request);
    fill(&mut weight);
    let checks = moments(&weight, (2.0 / SHAPE[1] as f64).sqrt());
    Measured { timing: session.time(|| fill(&mut weight)), checks }
}

/// Deviation over the expected one, mean over the deviation, excess kurtosis, and the largest value in deviations.
fn moments(values: &[f32], expected: f64) -> Checks {
    let n = values.len() as f64;
    let mean_of = |f: &dyn Fn(f64) -> f64| {
        values.iter().map(|&v| f(FloatElement::to_f64(v))).sum::<f64>() / n
    };
    let mean = mean_of(&|v| v);
    let std = mean_of(&|v| (v - mean).powi(2)).sqrt();
    let kurtosis = mean_of(&|v| ((v - mean) / std).powi(4)) - 3.0;
    let largest = values.iter().map(|&v| (f64::from(v) / expected).abs()).fold(0.0, f64::max);
    let values = vec![std / expected, mean / std, kurtosis, largest];
    Checks { headline: values[0], scale: vec![1.0; values.len()], values }
}
