//! What this machine can do: multiply-adds in registers, and reading and writing long arrays.

use std::{fs, hint::black_box, sync::Mutex, time::Instant};

use gradus_kernel::{
    kernel,
    simd::{self, Level},
};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// What so many threads can do together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ceilings {
    /// Threads.
    pub threads: usize,
    /// 1e9 floating-point operations a second in f32, a multiply-add counted as two.
    pub gflops: f64,
    /// Of arrays far larger than the last cache.
    pub memory: Bandwidth,
    /// Of arrays that the last cache holds.
    pub cache: Bandwidth,
    /// Size of the last cache.
    pub cache_bytes: usize,
}

/// 1e9 bytes a second that programs ask for; what the hardware moves besides, as when it reads a line before it is
/// written, is not counted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bandwidth {
    /// Sum of an array.
    pub read: f64,
    /// `a = b`.
    pub copy: f64,
    /// `a = b + s c`.
    pub triad: f64,
}

impl Bandwidth {
    /// The highest of the three.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.read.max(self.copy).max(self.triad)
    }
}

/// Each figure is the best of as many tries,
const TRIES: usize = 60;
/// and each try takes about so long: short enough to fall between what other processes do.
const SECONDS: f64 = 0.005;
/// Assumed where the system does not tell the size of its caches.
const USUAL_CACHE: usize = 32 << 20;

impl Ceilings {
    /// Measures; takes some seconds for each number of threads.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn measure(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let cache_bytes = last_cache().unwrap_or(USUAL_CACHE);
        let memory = bandwidth(&pool, (4 * cache_bytes).max(64 << 20));
        let cache = bandwidth(&pool, cache_bytes / 8);
        Ok(Self { threads, gflops: gflops(&pool), memory, cache, cache_bytes })
    }
}

/// Vectors that are worked on by turns, so that none has to wait for its own last result.
const CHAINS: usize = 12;

kernel! {
    /// `rounds` multiply-adds of each element of all chains. Each chain is a variable of its own, and so a register.
    fn multiply_add[const LANES: usize, const FUSED: bool][LANES, FUSED](
        rounds: usize,
        chains: [[f32; LANES]; CHAINS],
        by: f32,
        plus: f32,
    ) -> [[f32; LANES]; CHAINS] {
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h, mut i, mut j, mut k, mut l] = chains;
        for _ in 0..rounds {
            a = next::<LANES, FUSED>(a, by, plus);
            b = next::<LANES, FUSED>(b, by, plus);
            c = next::<LANES, FUSED>(c, by, plus);
            d = next::<LANES, FUSED>(d, by, plus);
            e = next::<LANES, FUSED>(e, by, plus);
            f = next::<LANES, FUSED>(f, by, plus);
            g = next::<LANES, FUSED>(g, by, plus);
            h = next::<LANES, FUSED>(h, by, plus);
            i = next::<LANES, FUSED>(i, by, plus);
            j = next::<LANES, FUSED>(j, by, plus);
            k = next::<LANES, FUSED>(k, by, plus);
            l = next::<LANES, FUSED>(l, by, plus);
        }
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

#[inline(always)]
fn next<const LANES: usize, const FUSED: bool>(
    x: [f32; LANES],
    by: f32,
    plus: f32,
) -> [f32; LANES] {
    std::array::from_fn(|i| if FUSED { x[i].mul_add(by, plus) } else { x[i] * by + plus })
}

/// The rate of multiply-adds, in the widest vectors that kernels are compiled for.
fn gflops(pool: &ThreadPool) -> f64 {
    match simd::level() {
        Level::Avx512 => rate_of::<16, true>(pool),
        Level::Avx2 => rate_of::<8, true>(pool),
        // Without the instruction a fused multiply-add is a call.
        Level::Portable => rate_of::<4, false>(pool),
    }
}

fn rate_of<const LANES: usize, const FUSED: bool>(pool: &ThreadPool) -> f64 {
    const ROUNDS: usize = 100_000;
    best_rate(pool, 2 * CHAINS * LANES * ROUNDS, || {
        let chains = black_box([[1.0; LANES]; CHAINS]);
        black_box(multiply_add::<LANES, FUSED>(ROUNDS, chains, black_box(0.999), black_box(1e-3)));
    })
}

kernel! {
    fn sum['a]['a](x: &'a [f32]) -> f32 {
        let mut lanes = [0f32; 64];
        for chunk in x.as_chunks::<64>().0 {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x;
            }
        }
        lanes.iter().sum()
    }
}

kernel! {
    fn triad['a]['a](a: &'a mut [f32], b: &'a [f32], c: &'a [f32], s: f32) -> () {
        for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
            *a = b + s * c;
        }
    }
}

/// Rates of arrays of this size, which the threads share among them.
fn bandwidth(pool: &ThreadPool, bytes: usize) -> Bandwidth {
    let n = bytes / size_of::<f32>() / pool.current_num_threads();
    // Each thread makes, and so touches first, its own part.
    let parts = pool.broadcast(|_| Mutex::new([1f32, 2.0, 3.0].map(|value| vec![value; n])));
    let rate = |arrays: usize, f: fn(&mut [Vec<f32>; 3])| {
        best_rate(pool, arrays * size_of::<f32>() * n, || {
            let mine = rayon::current_thread_index().expect("inside the pool");
            f(&mut parts[mine].lock().expect("no other thread has this part"));
        })
    };
    Bandwidth {
        read: rate(1, |[a, ..]| {
            black_box(sum(a));
        }),
        copy: rate(2, |[a, b, _]| a.copy_from_slice(b)),
        triad: rate(3, |[a, b, c]| triad(a, b, c, black_box(0.5))),
    }
}

/// 1e9 units a second of all threads together, when one call of `f` does `units`.
fn best_rate(pool: &ThreadPool, units: usize, f: impl Fn() + Sync) -> f64 {
    let seconds = |calls: usize| {
        let start = Instant::now();
        pool.broadcast(|_| (0..calls).for_each(|_| f()));
        start.elapsed().as_secs_f64()
    };
    seconds(1);
    let calls = (SECONDS / seconds(1)).ceil() as usize;
    let best = (0..TRIES).map(|_| seconds(calls)).fold(f64::INFINITY, f64::min);
    (units * calls * pool.current_num_threads()) as f64 / best / 1e9
}

/// Bytes of the largest cache of the first cpu.
fn last_cache() -> Option<usize> {
    let caches = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?.flatten();
    caches.filter_map(|c| size(&fs::read_to_string(c.path().join("size")).ok()?)).max()
}

/// `32768K`
fn size(text: &str) -> Option<usize> {
    let text = text.trim();
    let units = [("K", 10), ("M", 20), ("G", 30)];
    let (number, shift) = units
        .iter()
        .find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    Some(number.parse::<usize>().ok()? << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_compute_what_they_say() {
        // x stays 1 under x 0.5 + 0.5.
        assert_eq!(multiply_add::<4, false>(10, [[1.0; 4]; CHAINS], 0.5, 0.5), [[1.0; 4]; CHAINS]);
        assert_eq!(multiply_add::<8, true>(3, [[1.0; 8]; CHAINS], 2.0, 1.0), [[15.0; 8]; CHAINS]);
        assert_eq!(sum(&vec![0.5; 640]), 320.0);
        let mut a = vec![0.0; 9];
        triad(&mut a, &[1.0; 9], &[2.0; 9], 3.0);
        assert_eq!(a, [7.0; 9]);
    }

    #[test]
    fn rates_are_of_all_threads_together() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let rate = best_rate(&pool, 1_000_000, || {
            std::thread::sleep(std::time::Duration::from_millis(10))
        });
        // Twice a million in at least 10 ms.
        assert!((0.02..=0.2).contains(&rate), "{rate}");
    }

    #[test]
    fn sizes_of_caches_are_read() {
        assert_eq!(
            ["32768K", "1M\n", "512", "x"].map(size),
            [Some(32 << 20), Some(1 << 20), Some(512), None]
        );
    }
}
