//! What this machine can do: multiply-adds in registers, and reading and writing long arrays.

use std::{fs, hint::black_box, time::Instant};

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

/// Each figure is the best of as many tries.
const TRIES: usize = 7;
/// And each try takes at least so long.
const SECONDS: f64 = 0.03;
/// Assumed where the system does not tell the size of its caches.
const USUAL_CACHE: usize = 32 << 20;

impl Ceilings {
    /// Measures; takes about a second for each number of threads.
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
    /// `rounds` multiply-adds of each element of `CHAINS` vectors of `LANES` lanes.
    fn multiply_add[const LANES: usize, const FUSED: bool][LANES, FUSED](rounds: usize, by: f32, plus: f32) -> f32 {
        let mut chains = [[1f32; LANES]; CHAINS];
        for _ in 0..rounds {
            for chain in &mut chains {
                for x in chain {
                    *x = if FUSED { x.mul_add(by, plus) } else { *x * by + plus };
                }
            }
        }
        chains.as_flattened().iter().sum()
    }
}

/// The rate of multiply-adds, in the widest vectors that kernels are compiled for.
fn gflops(pool: &ThreadPool) -> f64 {
    let (lanes, f): (usize, fn(usize, f32, f32) -> f32) = match simd::level() {
        Level::Avx512 => (16, multiply_add::<16, true>),
        Level::Avx2 => (8, multiply_add::<8, true>),
        // Without the instruction a fused multiply-add is a call.
        Level::Portable => (4, multiply_add::<4, false>),
    };
    const ROUNDS: usize = 100_000;
    let once = 2 * CHAINS * lanes * ROUNDS;
    best_rate(pool, once, || {
        black_box(f(ROUNDS, black_box(0.999), black_box(1e-3)));
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

/// Rates of arrays of this size, which all threads share.
fn bandwidth(pool: &ThreadPool, bytes: usize) -> Bandwidth {
    let n = bytes / size_of::<f32>() / pool.current_num_threads();
    // Each thread makes, and so touches first, its own part.
    let rate = |arrays: usize, f: &(dyn Fn(&mut [Vec<f32>; 3]) + Sync)| {
        let parts = pool.broadcast(|_| std::sync::Mutex::new([1f32, 2.0, 3.0].map(|v| vec![v; n])));
        best_rate(pool, arrays * size_of::<f32>() * n, || {
            let mine = rayon::current_thread_index().expect("inside the pool");
            f(&mut parts[mine].lock().expect("no other thread has this part"));
        })
    };
    Bandwidth {
        read: rate(1, &|[a, ..]| {
            black_box(sum(a));
        }),
        copy: rate(2, &|[a, b, _]| a.copy_from_slice(b)),
        triad: rate(3, &|[a, b, c]| triad(a, b, c, black_box(0.5))),
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
        assert_eq!(multiply_add::<4, false>(10, 0.5, 0.5), (4 * CHAINS) as f32);
        assert_eq!(multiply_add::<8, true>(3, 2.0, 1.0), (8 * CHAINS * 15) as f32);
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
