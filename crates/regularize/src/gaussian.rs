//! Normal noise that multiplies or is added.

use gradus_autograd::{Layer, RngStream, Tensor, Var, module};
use gradus_tensor::{BinaryOp, Real, elementwise_ops, with_real};

use crate::{
    Probability, RangeError,
    groups::{self, Groups, in_real},
    mask::zero,
    rate::rate_layer,
};

/// Normal numbers that sixteen 128-bit blocks give, one for 32 bits.
const GROUP: usize = 64;

elementwise_ops! {
    /// `x (1 + s z)`
    Multiply(s) "gaussian_dropout" 2.0 |self, x, z| x * (T::ONE + T::lit(self.s) * z);
    /// `x + s z`
    Add(s) "gaussian_noise" 2.0 |self, x, z| x + T::lit(self.s) * z;
}

/// Multiplies each element with a normal number of mean 1 and variance `p / (1 - p)`, that of dropout's factor; there
/// is no need for a scale in evaluation.
///
/// The identity on a tape that does not [draw](gradus_autograd::Tape::is_stochastic) and for `p` = 0. For `p` = 1,
/// where the variance would be infinite, everything is 0, as in dropout, and so is the gradient. The numbers are drawn
/// in f32 and are the same for every element type.
///
/// # Shapes
/// Any; the result as `x`.
///
/// # Panics
/// When the elements are not floats.
///
/// # References
/// Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout (JMLR 2014), section 10; Keras.
#[must_use]
#[track_caller]
pub fn gaussian_dropout(x: &Var, p: Probability) -> Var {
    if !x.tape().is_stochastic() || p == Probability::ZERO {
        return x.clone();
    }
    if p == Probability::ONE {
        return zero("gaussian_dropout", x);
    }
    let (stream, s) = (x.tape().rng_stream(), (p.get() / (1.0 - p.get())).sqrt());
    let y = with_normals(x.value().clone(), Multiply { s }, stream);
    Var::op("gaussian_dropout", &[x], y, move |g, sink| {
        sink.add(0, with_normals(g, Multiply { s }, stream));
    })
}

rate_layer! {
    /// [`gaussian_dropout`] as a layer.
    GaussianDropout = gaussian_dropout
}

/// Adds to each element a normal number of mean 0 and standard deviation `std`; the gradient passes unchanged.
///
/// The identity on a tape that does not [draw](gradus_autograd::Tape::is_stochastic) and for `std` = 0.
///
/// # Shapes
/// Any; the result as `x`.
///
/// # Errors
/// [`RangeError`] when `std` is negative or not finite.
///
/// # Panics
/// When the elements are not floats.
#[track_caller]
pub fn gaussian_noise(x: &Var, std: f64) -> Result<Var, RangeError> {
    Ok(GaussianNoise::new(std)?.forward(x))
}

/// [`gaussian_noise`] as a layer.
#[derive(Clone, Copy, Debug)]
pub struct GaussianNoise {
    std: f64,
}
module!(GaussianNoise {});

impl GaussianNoise {
    /// Noise of this standard deviation.
    ///
    /// # Errors
    /// [`RangeError`] when `std` is negative or not finite.
    pub fn new(std: f64) -> Result<Self, RangeError> {
        RangeError::not_negative("std", std)?;
        Ok(Self { std })
    }
}

impl Layer for GaussianNoise {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        if !x.tape().is_stochastic() || self.std == 0.0 {
            return x.clone();
        }
        let y = with_normals(x.value().clone(), Add { s: self.std }, x.tape().rng_stream());
        Var::op("gaussian_noise", &[x], y, |g, sink| sink.add(0, g))
    }
}

/// `op` of every element and its normal number.
#[track_caller]
fn with_normals<O: BinaryOp>(x: Tensor, op: O, stream: RngStream) -> Tensor {
    in_real(
        x,
        |x| with_real!(O::NAME, x.dtype(), T => groups::map::<T, GROUP, _>(x, Noisy { op, stream })),
    )
}

#[derive(Clone, Copy)]
struct Noisy<O> {
    op: O,
    stream: RngStream,
}

impl<T: Real, O: BinaryOp> Groups<T, GROUP> for Noisy<O> {
    const COST: f64 = 1.0;

    #[inline(always)]
    fn group(self, at: u64, x: &[T; GROUP], y: &mut [T; GROUP]) {
        let z = normal_group(self.stream, at);
        for i in 0..GROUP {
            y[i] = self.op.apply(x[i], T::from_f32(z[i]));
        }
    }
}

/// Standard normal numbers `64 group` to `64 group + 63` of a stream: Box and Muller (1958) in f32, with a radius of 32
/// random bits (6.66 at most) and an angle of 32. Polynomials alone, so that it becomes vector code and is the same
/// bits everywhere.
#[inline(always)]
fn normal_group(stream: RngStream, group: u64) -> [f32; GROUP] {
    let words = stream.blocks16(group * 16);
    let (mut sines, mut cosines, mut radii) = ([0.0; 32], [0.0; 32], [0.0; 32]);
    for l in 0..32 {
        let (radius, angle) = (words[l / 16][l % 16], words[2 + l / 16][l % 16]);
        let unit = (radius as f32 + 0.5) * (1.0 / 4_294_967_296.0);
        radii[l] = (-2.0 * unit.ln_()).sqrt();
        (sines[l], cosines[l]) = sin_cos(angle);
    }
    let mut z = [0.0; GROUP];
    for l in 0..32 {
        z[l] = radii[l] * cosines[l];
        z[32 + l] = radii[l] * sines[l];
    }
    z
}

/// Sine and cosine of a uniform angle: the upper two bits choose a quarter of the circle, the others a place within 45
/// degrees of its middle.
#[inline(always)]
fn sin_cos(word: u32) -> (f32, f32) {
    let quarter_turns = (word << 2).cast_signed() as f32 * (1.0 / 4_294_967_296.0);
    let a = quarter_turns * std::f32::consts::FRAC_PI_2;
    let b = a * a;
    // Taylor; the first term left out is below a unit in the last place for |a| <= pi / 4.
    let s = a * (1.0 + b * (-1.0 / 6.0 + b * (1.0 / 120.0 + b * (-1.0 / 5040.0 + b / 362_880.0))));
    let c = 1.0 + b * (-0.5 + b * (1.0 / 24.0 + b * (-1.0 / 720.0 + b / 40_320.0)));
    let (s, c) = if word & 0x4000_0000 == 0 { (s, c) } else { (c, -s) };
    if word & 0x8000_0000 == 0 { (s, c) } else { (-s, -c) }
}

/// The first `n` normal numbers of a stream.
#[cfg(test)]
pub(crate) fn normals(stream: RngStream, n: usize) -> Vec<f32> {
    let x = Tensor::zeros(&[n], gradus_autograd::DType::F32);
    with_normals(x, Add { s: 1.0 }, stream).to_vec()
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{DType, Tape};

    use super::*;
    use crate::testing::{self, ones, p};

    #[test]
    fn the_numbers_of_a_seed_are_pinned() {
        let z = normals(RngStream::new(42, 0, 0), 64);
        let want = [
            1.167_176_8,
            0.600_877_5,
            1.271_823_9,
            -0.232_091_89,
            0.219_989_87,
            1.479_47,
            -1.784_932_9,
            -0.977_33f32,
        ];
        assert_eq!([z[0], z[1], z[2], z[3], z[16], z[17], z[32], z[63]], want);
        let tape = || Tape::training(42, 0);
        let y = gaussian_dropout(&ones(&tape(), &[64]), p(0.5)).into_value().to_vec::<f32>();
        assert!(y.iter().zip(&z).all(|(y, z)| *y == 1.0 + z));
        let y = gaussian_noise(&ones(&tape(), &[64]), 0.5).unwrap().into_value().to_vec::<f32>();
        assert!(y.iter().zip(&z).all(|(y, z)| *y == 1.0 + 0.5 * z));
    }

    #[test]
    fn numbers_are_normal() {
        let n = 1 << 20;
        let z = normals(RngStream::new(7, 0, 0), n);
        let moment = |k: i32| z.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n as f64;
        let sigma = 1.0 / (n as f64).sqrt();
        assert!(moment(1).abs() < 4.0 * sigma, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 4.0 * 2f64.sqrt() * sigma, "{}", moment(2));
        assert!(moment(3).abs() < 4.0 * 15f64.sqrt() * sigma, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 4.0 * 96f64.sqrt() * sigma, "{}", moment(4));
        // Shares below some points of the distribution function.
        for (at, want) in
            [(-2.0, 0.022_750_13), (-0.5, 0.308_537_54), (0.0, 0.5), (3.0, 0.998_650_1)]
        {
            let share = z.iter().filter(|&&v| v < at).count() as f64 / n as f64;
            assert!(
                (share - want).abs() < 4.0 * (want * (1.0 - want)).sqrt() * sigma,
                "{at}: {share}"
            );
        }
        // Both numbers of a pair, and neighbours.
        for lag in [1, 16, 32, 64] {
            let r: f64 = z.iter().zip(&z[lag..]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            assert!((r / n as f64).abs() < 4.0 * sigma, "lag {lag}: {r}");
        }
    }

    #[test]
    fn sine_and_cosine_are_right_all_around() {
        for i in 0..4096u32 {
            let word = i << 20 | 0x3_1415;
            let (s, c) = sin_cos(word);
            let turn =
                f64::from((word << 2).cast_signed()) / 2f64.powi(34) + f64::from(word >> 30) / 4.0;
            let (sin, cos) = (turn * std::f64::consts::TAU).sin_cos();
            assert!(
                (f64::from(s) - sin).abs() < 2e-7 && (f64::from(c) - cos).abs() < 2e-7,
                "{word}"
            );
        }
    }

    #[test]
    fn mean_and_variance_are_those_of_dropout() {
        let n = 200_000;
        for prob in [0.1, 0.5, 0.9] {
            let y = gaussian_dropout(&ones(&Tape::training(3, 0), &[n]), p(prob));
            let (mean, var) = (y.mean(&[], false).item(), y.var(&[], 1, false).item());
            let want = prob / (1.0 - prob);
            assert!((mean - 1.0).abs() < 4.0 * (want / n as f64).sqrt(), "{prob}: {mean}");
            assert!((var / want - 1.0).abs() < 4.0 * (2.0 / n as f64).sqrt(), "{prob}: {var}");
        }
    }

    #[test]
    fn gradients_match_differences() {
        testing::gradients(|x| gaussian_dropout(x, p(0.4)));
        testing::gradients(|x| gaussian_noise(x, 0.4).unwrap());
    }

    #[test]
    fn ends_draws_and_threads() {
        testing::ends(gaussian_dropout);
        let noise = |x: &Var| gaussian_noise(x, 0.3).unwrap();
        testing::draws(|x| gaussian_dropout(x, p(0.5)));
        testing::draws(noise);
        testing::same_everywhere(|| {
            let x = noise(&ones(&Tape::training(9, 0), &[100_003]));
            gaussian_dropout(&x, p(0.4)).into_value().to_vec()
        });
    }

    #[test]
    fn noise_of_nothing_and_in_evaluation_is_the_identity() {
        let x = ones(&Tape::training(0, 0), &[5]);
        let same = gaussian_noise(&x, 0.0).unwrap();
        assert!(same.value().shares_buffer_with(x.value()));
        let x = ones(&Tape::evaluation(), &[5]);
        assert!(gaussian_noise(&x, 1.0).unwrap().value().shares_buffer_with(x.value()));
        let x = Tape::training(0, 0).constant(Tensor::ones(&[5], DType::F16));
        assert_eq!(gaussian_noise(&x, 1.0).unwrap().dtype(), DType::F16);
    }

    #[test]
    fn a_deviation_that_is_none_is_refused() {
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            let error = GaussianNoise::new(bad).unwrap_err();
            assert!(
                error.to_string().starts_with("std has to be finite and not negative"),
                "{bad}"
            );
        }
    }
}
