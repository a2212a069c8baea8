//! The variance report against a deep network of plain vectors, forward and backward.

use gradus_init::{
    FanMode, Init, InitError, Layout, Lsuv, Nonlinearity, ReportLayer, VarianceReport, gain_of,
    variance,
};

const WIDTH: usize = 200;
const BATCH: usize = 60;
const DEPTH: usize = 12;

struct Net {
    weights: Vec<Vec<f32>>,
    nonlinearity: Nonlinearity,
}

impl Net {
    fn new(init: &Init, nonlinearity: Nonlinearity) -> Self {
        let weights = (0..DEPTH).map(|l| {
            let mut w = vec![0f32; WIDTH * WIDTH];
            init.fill(1, &name(l), &[WIDTH, WIDTH], &mut w).unwrap();
            w
        });
        Self { weights: weights.collect(), nonlinearity }
    }

    /// The outputs of layers 0 to `last` before their activation.
    fn forward(&self, last: usize) -> Vec<Vec<f32>> {
        let mut x = vec![0f32; BATCH * WIDTH];
        Init::normal(0.0, 1.0).fill(2, "input", &[BATCH, WIDTH], &mut x).unwrap();
        let mut all = Vec::new();
        for w in &self.weights[..=last] {
            let rows = x.chunks_exact(WIDTH);
            let z: Vec<f32> = rows
                .flat_map(|x| {
                    w.chunks_exact(WIDTH).map(move |w| x.iter().zip(w).map(|(x, w)| x * w).sum())
                })
                .collect();
            x = z.iter().map(|&z| self.nonlinearity.apply(f64::from(z)) as f32).collect();
            all.push(z);
        }
        all
    }

    /// The gradients there, for standard normal ones at the last layer.
    fn backward(&self, outputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut g = vec![0f32; BATCH * WIDTH];
        Init::normal(0.0, 1.0).fill(3, "gradient", &[BATCH, WIDTH], &mut g).unwrap();
        let mut all = vec![g];
        for l in (1..DEPTH).rev() {
            let (w, z) = (&self.weights[l], &outputs[l - 1]);
            let mut below = vec![0f32; BATCH * WIDTH];
            for (below, g) in below.chunks_exact_mut(WIDTH).zip(all[0].chunks_exact(WIDTH)) {
                for (&g, w) in g.iter().zip(w.chunks_exact(WIDTH)) {
                    below.iter_mut().zip(w).for_each(|(below, w)| *below += g * w);
                }
            }
            for (below, &z) in below.iter_mut().zip(z) {
                let (z, h) = (f64::from(z), 1e-5);
                let rise = self.nonlinearity.apply(z + h) - self.nonlinearity.apply(z - h);
                *below *= (rise / (2.0 * h)) as f32;
            }
            all.insert(0, below);
        }
        all
    }
}

fn name(l: usize) -> String {
    format!("layers.{l}.weight")
}

fn measured(init: &Init, nonlinearity: Nonlinearity) -> VarianceReport<'static> {
    let net = Net::new(init, nonlinearity);
    let outputs = net.forward(DEPTH - 1);
    let gradients = net.backward(&outputs);
    let mut report = VarianceReport::new(1.0);
    for l in 0..DEPTH {
        let layer = ReportLayer::of_init(&name(l), &[WIDTH, WIDTH], Layout::OutIn, init).unwrap();
        report.push(layer.with_activation(move |x| nonlinearity.apply(x)));
        report.measure_forward(&name(l), &outputs[l]).unwrap();
        report.measure_backward(&name(l), &gradients[l]).unwrap();
    }
    report
}

/// Twelve layers of width 200 scatter around the theory of infinite width.
fn check(init: Init, nonlinearity: Nonlinearity) {
    let report = measured(&init, nonlinearity);
    for row in report.rows() {
        for gauge in [row.forward, row.backward] {
            let ratio = gauge.measured.unwrap() / gauge.predicted;
            assert!((0.6..1.6).contains(&ratio), "{nonlinearity:?}\n{report}");
        }
        assert!(!row.identical_units);
    }
}

#[test]
fn predictions_hold_in_a_deep_network() {
    let he = Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn);
    check(he, Nonlinearity::Relu);
    check(Init::xavier_uniform(5.0 / 3.0), Nonlinearity::Tanh);
    let elu = Nonlinearity::Elu { alpha: 1.0 };
    let gain = gain_of(|x| elu.apply(x)).unwrap();
    check(Init::kaiming_uniform(gain, FanMode::FanIn), elu);
    check(Init::orthogonal(1.0), Nonlinearity::Linear);
}

#[test]
fn a_start_that_vanishes_is_seen_in_both_columns() {
    let rows = measured(&Init::torch_linear(), Nonlinearity::Relu).rows();
    let last = rows[DEPTH - 1].forward;
    assert!(last.predicted < 1e-8 && last.measured.unwrap() < 1e-8, "{last:?}");
    assert!(rows[0].backward.measured.unwrap() < 1e-7);
}

#[test]
fn lsuv_mends_it() {
    let mut net = Net::new(&Init::torch_linear(), Nonlinearity::Silu);
    let done = Lsuv::new().with_tol_var(1e-3).run(DEPTH, |l, factor| {
        net.weights[l].iter_mut().for_each(|w| *w *= factor as f32);
        Ok::<_, InitError>(variance(&net.forward(l)[l]))
    });
    assert!(done.unwrap().iter().all(|layer| (layer.variance - 1.0).abs() < 1e-3));
    for z in net.forward(DEPTH - 1) {
        assert!((variance(&z) - 1.0).abs() < 1e-3);
    }
}
