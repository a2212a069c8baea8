//! Drawing elements that do not depend on one another.

use gradus_core::{FloatElement, RngStream, hash_name};

use crate::{
    Distribution,
    lanes::{GROUP, normals, words},
    truncated::Truncated,
};

/// The elements of one parameter, each a function of (seed, name, its index) alone: any piece can be drawn by
/// itself, on any thread. [`Init::sampler`](crate::Init::sampler) makes it.
///
/// Everything in it is inlined and becomes vector code; a crate that compiles its loops for several
/// instruction sets can call it from one. Pieces that begin at multiples of 64 cost least.
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
    seed: u64,
    name: u64,
}

#[derive(Clone, Copy, Debug)]
enum Draw {
    Constant(f64),
    /// `clamp(offset + scale w)` for a word `w` of 32 bits with a sign.
    Uniform {
        offset: f64,
        scale: f64,
        low: f64,
        high: f64,
    },
    /// `std z`: exact in f64, so that f32 needs no wider arithmetic to be that value, rounded.
    Centred {
        std: f32,
    },
    Normal {
        mean: f64,
        std: f64,
    },
    Truncated {
        mean: f64,
        std: f64,
        low: f64,
        high: f64,
        standard: Truncated,
    },
}

impl Sampler {
    /// `None` where the elements of `distribution` depend on one another.
    pub(crate) fn new(distribution: Distribution, seed: u64, name: &str) -> Option<Self> {
        let draw = match distribution {
            Distribution::Constant { value } => Draw::Constant(value),
            Distribution::Uniform { low, high } => {
                let scale = (high - low) / 4_294_967_296.0;
                Draw::Uniform { offset: low + (high - low) / 2.0 + scale / 2.0, scale, low, high }
            }
            Distribution::Normal { mean, std } => {
                if mean == 0.0 && (1e-30..=1e30).contains(&std) {
                    Draw::Centred { std: std as f32 }
                } else {
                    Draw::Normal { mean, std }
                }
            }
            Distribution::TruncNormal { mean, std, low, high } => {
                let standard = Truncated::new((low - mean) / std, (high - mean) / std);
                Draw::Truncated { mean, std, low, high, standard }
            }
            _ => return None,
        };
        Some(Self { draw, seed, name: hash_name(name) })
    }

    /// Fills `out` with the elements from number `first` on.
    #[inline(always)]
    pub fn fill_range<T: FloatElement>(&self, first: usize, out: &mut [T]) {
        let stream = self.stream(0);
        match self.draw {
            Draw::Constant(value) => out.fill(T::from_f64(value)),
            Draw::Uniform { offset, scale, low, high } => groups(first, out, |group| {
                words(&stream, group).map(|w| {
                    // Rounding of the sum must not leave the bounds.
                    T::from_f64((offset + scale * f64::from(w as i32)).max(low).min(high))
                })
            }),
            Draw::Centred { std } => groups(first, out, |group| {
                normals(&stream, group).map(|z| T::from_f64(f64::from(std) * f64::from(z)))
            }),
            Draw::Normal { mean, std } => groups(first, out, |group| {
                normals(&stream, group).map(|z| T::from_f64(mean + std * f64::from(z)))
            }),
            Draw::Truncated { mean, std, low, high, standard } => groups(first, out, |group| {
                let z = standard.group(|attempt| self.stream(attempt), group);
                z.map(|z| T::from_f64((mean + std * z).max(low).min(high)))
            }),
        }
    }

    /// Fills `out`, which is the whole parameter, on all threads where that is worth it.
    pub(crate) fn fill<T: FloatElement>(&self, out: &mut [T]) {
        #[cfg(feature = "rayon")]
        {
            use rayon::prelude::*;
            /// About 50 microseconds of work.
            const PIECE: usize = 1 << 15;
            if out.len() > PIECE && rayon::current_num_threads() > 1 {
                let pieces = out.par_chunks_mut(PIECE).enumerate();
                return pieces.for_each(|(i, piece)| self.fill_range(i * PIECE, piece));
            }
        }
        self.fill_range(0, out);
    }

    #[inline(always)]
    fn stream(&self, attempt: u64) -> RngStream {
        RngStream::new(self.seed, self.name, attempt)
    }
}

/// Fills `out` with the elements from number `first` on, a group at a time.
#[inline(always)]
pub(crate) fn groups<T: Copy>(first: usize, mut out: &mut [T], draw: impl Fn(u64) -> [T; GROUP]) {
    let mut group = (first / GROUP) as u64;
    let mut skip = first % GROUP;
    while !out.is_empty() {
        let drawn = draw(group);
        let (part, rest) = out.split_at_mut(out.len().min(GROUP - skip));
        match <&mut [T; GROUP]>::try_from(&mut *part) {
            Ok(whole) => *whole = drawn,
            Err(_) => part.copy_from_slice(&drawn[skip..skip + part.len()]),
        }
        (group, skip, out) = (group + 1, 0, rest);
    }
}
