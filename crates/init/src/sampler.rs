//! Drawing elements that do not depend on one another.

use gradus_core::{FloatElement, RngStream, hash_name};
use gradus_kernel::{kernel, par};

use crate::{
    Distribution,
    lanes::{GROUP, Groups, normals, words},
    truncated::Truncated,
};

/// The elements of one parameter, each a function of (seed, name, its index) alone: any piece can be drawn by
/// itself, on any thread. [`Init::sampler`](crate::Init::sampler) makes it.
///
/// Pieces that begin at multiples of 64 cost least.
///
/// ```
/// use gradus_init::Init;
///
/// let sampler = Init::normal(0.0, 1.0).sampler(7, "fc.weight", &[10, 20])?.expect("drawn one by one");
/// let mut whole = [0f32; 200];
/// let mut piece = [0f32; 50];
/// sampler.fill_range(0, &mut whole);
/// sampler.fill_range(100, &mut piece);
/// assert_eq!(piece, whole[100..150]);
/// # Ok::<(), gradus_init::InitError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    draw: Draw,
}

#[derive(Clone, Copy, Debug)]
enum Draw {
    Constant(f64),
    Uniform(Uniform),
    Centred(Centred),
    Normal(Normal),
    Cut(Cut),
}

impl Sampler {
    /// `None` where the elements of `distribution` depend on one another.
    pub(crate) fn new(distribution: Distribution, seed: u64, name: &str) -> Option<Self> {
        let attempts = Attempts { seed, name: hash_name(name) };
        let stream = attempts.stream(0);
        let draw = match distribution {
            Distribution::Constant { value } => Draw::Constant(value),
            Distribution::Uniform { low, high } => {
                let scale = (high - low) / 4_294_967_296.0;
                let offset = low + (high - low) / 2.0 + scale / 2.0;
                Draw::Uniform(Uniform { offset, scale, low, high, stream })
            }
            Distribution::Normal { mean, std } => {
                if mean == 0.0 && (1e-30..=1e30).contains(&std) {
                    Draw::Centred(Centred { std: std as f32, stream })
                } else {
                    Draw::Normal(Normal { mean, std, stream })
                }
            }
            Distribution::TruncNormal { mean, std, low, high } => {
                let standard = Truncated::new((low - mean) / std, (high - mean) / std);
                Draw::Cut(Cut { mean, std, low, high, standard, attempts })
            }
            _ => return None,
        };
        Some(Self { draw })
    }

    /// Fills `out` with the elements from number `first` on.
    pub fn fill_range<T: FloatElement>(&self, first: usize, out: &mut [T]) {
        match self.draw {
            Draw::Constant(value) => out.fill(T::from_f64(value)),
            Draw::Uniform(draw) => fill(draw, first, out),
            Draw::Centred(draw) => fill(draw, first, out),
            Draw::Normal(draw) => fill(draw, first, out),
            Draw::Cut(draw) => fill(draw, first, out),
        }
    }

    /// Fills `out`, which is the whole parameter, on all threads where that is worth it.
    pub(crate) fn fill<T: FloatElement>(&self, out: &mut [T]) {
        /// Nanoseconds that a group of elements takes.
        const NS: f64 = 64.0;
        par::for_each_mut(out, GROUP, NS, |group, piece| self.fill_range(group * GROUP, piece));
    }
}

kernel! {
    fn fill['a, T: FloatElement, D: Groups<T>]['a, T, D](draw: D, first: usize, out: &'a mut [T]) -> () {
        draw.fill_range(first, out);
    }
}

/// The streams of a parameter: the second and later ones for proposals after one that was rejected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    pub(crate) seed: u64,
    pub(crate) name: u64,
}

impl Attempts {
    #[inline(always)]
    pub(crate) fn stream(self, attempt: u64) -> RngStream {
        RngStream::new(self.seed, self.name, attempt)
    }
}

/// `offset + scale w` for a word `w` of 32 bits with a sign.
#[derive(Clone, Copy, Debug)]
struct Uniform {
    offset: f64,
    scale: f64,
    low: f64,
    high: f64,
    stream: RngStream,
}

impl<T: FloatElement> Groups<T> for Uniform {
    #[inline(always)]
    fn group(&self, group: u64) -> [T; GROUP] {
        let mut out = [T::zero(); GROUP];
        for (out, w) in out.iter_mut().zip(words(&self.stream, group)) {
            let x = self.offset + self.scale * f64::from(w as i32);
            // Rounding of the sum must not leave the bounds.
            *out = T::from_f64(x.max(self.low).min(self.high));
        }
        out
    }
}

/// `std z`: exact in f64, so that f32 arithmetic gives that value, rounded.
#[derive(Clone, Copy, Debug)]
struct Centred {
    std: f32,
    stream: RngStream,
}

impl<T: FloatElement> Groups<T> for Centred {
    #[inline(always)]
    fn group(&self, group: u64) -> [T; GROUP] {
        let mut out = [T::zero(); GROUP];
        for (out, z) in out.iter_mut().zip(normals(&self.stream, group)) {
            *out = T::from_f64(f64::from(self.std) * f64::from(z));
        }
        out
    }
}

/// `mean + std z`.
#[derive(Clone, Copy, Debug)]
struct Normal {
    mean: f64,
    std: f64,
    stream: RngStream,
}

impl<T: FloatElement> Groups<T> for Normal {
    #[inline(always)]
    fn group(&self, group: u64) -> [T; GROUP] {
        let mut out = [T::zero(); GROUP];
        for (out, z) in out.iter_mut().zip(normals(&self.stream, group)) {
            *out = T::from_f64(self.mean + self.std * f64::from(z));
        }
        out
    }
}

/// `mean + std z` for `z` from a truncated normal.
#[derive(Clone, Copy, Debug)]
struct Cut {
    mean: f64,
    std: f64,
    low: f64,
    high: f64,
    standard: Truncated,
    attempts: Attempts,
}

impl<T: FloatElement> Groups<T> for Cut {
    #[inline(always)]
    fn group(&self, group: u64) -> [T; GROUP] {
        let mut out = [T::zero(); GROUP];
        for (out, z) in out.iter_mut().zip(self.standard.group(self.attempts, group)) {
            *out = T::from_f64((self.mean + self.std * z).max(self.low).min(self.high));
        }
        out
    }
}
