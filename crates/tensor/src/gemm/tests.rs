use gradus_kernel::simd::{self, Level};

use super::*;

/// Small integers, so that every sum is exact in f32 too.
fn integers(n: usize, seed: u64) -> Vec<f64> {
    let at = |i| (gradus_core::splitmix64(seed * 1_000_003 + i) % 9) as f64 - 4.0;
    (0..n as u64).map(at).collect()
}

/// Fractions, whose sums depend on their order.
fn fractions(n: usize, seed: u64) -> Vec<f32> {
    let at = |i| (gradus_core::splitmix64(seed * 1_000_003 + i) >> 40) as f32 / (1u64 << 24) as f32;
    (0..n as u64).map(|i| at(i) - 0.5).collect()
}

fn singles(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// How an operand lies in memory: row by row, column by column, with gaps both ways, or one row or column repeated.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Columns,
    Gaps,
    OneRow,
    OneColumn,
}

const LAYOUTS: [Layout; 5] =
    [Layout::Rows, Layout::Columns, Layout::Gaps, Layout::OneRow, Layout::OneColumn];

impl Layout {
    fn strides(self, rows: usize, cols: usize) -> [usize; 2] {
        match self {
            Self::Rows => [cols + 3, 1],
            Self::Columns => [1, rows + 1],
            Self::Gaps => [2 * cols + 5, 2],
            Self::OneRow => [0, 1],
            Self::OneColumn => [1, 0],
        }
    }

    /// Elements from the first to the last.
    fn len(self, rows: usize, cols: usize) -> usize {
        let [r, c] = self.strides(rows, cols);
        if rows * cols == 0 { 0 } else { (rows - 1) * r + (cols - 1) * c + 1 }
    }

    fn matrix<T>(self, data: &[T], rows: usize, cols: usize) -> MatRef<'_, T> {
        let [r, c] = self.strides(rows, cols);
        MatRef::strided(data, rows, cols, r, c)
    }
}

fn at<T: Copy>(m: &MatRef<'_, T>, i: usize, j: usize) -> T {
    m.data[i * m.row_stride + j * m.col_stride]
}

/// Compares every kind of start with the definition, in f64 and f32, packed before or not.
fn check([m, k, n]: [usize; 3], [la, lb]: [Layout; 2]) {
    let what = format!("{m}x{k}x{n}, {la:?} and {lb:?}, {:?}", simd::level());
    let (a, b) = (integers(la.len(m, k), 1), integers(lb.len(k, n), 2));
    let gap = 2;
    let (c, bias) = (integers(m * (n + gap), 3), integers(n, 4));
    let (a32, b32, c32, bias32) = (singles(&a), singles(&b), singles(&c), singles(&bias));
    let (a, b) = (la.matrix(&a, m, k), lb.matrix(&b, k, n));
    let (a32, b32) = (la.matrix(&a32, m, k), lb.matrix(&b32, k, n));
    let starts = [
        (Start::Zero, Start::Zero),
        (Start::Current, Start::Current),
        (Start::Bias(&bias[..]), Start::Bias(&bias32[..])),
    ];
    for (start, start32) in starts {
        let mut want = c.clone();
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let begin = match start {
                Start::Zero => 0.0,
                Start::Current => c[i * (n + gap) + j],
                Start::Bias(bias) => bias[j],
            };
            let sum: f64 = (0..k).map(|l| at(&a, i, l) * at(&b, l, j)).sum();
            want[i * (n + gap) + j] = begin + sum;
        }
        let mut got = c.clone();
        gemm(a, b, MatMut::strided(&mut got, m, n, n + gap), start);
        assert_eq!(got, want, "{what}: {start:?}");
        let mut got = c32.clone();
        gemm(a32, b32, MatMut::strided(&mut got, m, n, n + gap), start32);
        assert_eq!(got, singles(&want), "{what}: {start:?} in f32");
        let mut got = c32.clone();
        let packed = Packed::new(b32);
        gemm_packed(a32, &packed, MatMut::strided(&mut got, m, n, n + gap), start32);
        assert_eq!(got, singles(&want), "{what}: {start:?} in f32, packed before");
    }
}

/// The same for a 16-bit type, which holds small integers exactly.
fn check_short<T: Short + Factor<Sum = f32> + gradus_core::FloatElement>(
    [m, k, n]: [usize; 3],
    [la, lb]: [Layout; 2],
) {
    let what = format!("{m}x{k}x{n}, {la:?} and {lb:?}, {:?}, {}", simd::level(), T::DTYPE);
    let (a, b) = (integers(la.len(m, k), 1), integers(lb.len(k, n), 2));
    let gap = 2;
    let (c, bias) = (singles(&integers(m * (n + gap), 3)), singles(&integers(n, 4)));
    let of = |x: &[f64]| x.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();
    let (short_a, short_b) = (of(&a), of(&b));
    let (a32, b32) = (singles(&a), singles(&b));
    for start in [Start::Zero, Start::Current, Start::Bias(&bias[..])] {
        let mut want = c.clone();
        let (a, b) = (la.matrix(&a32, m, k), lb.matrix(&b32, k, n));
        gemm(a, b, MatMut::strided(&mut want, m, n, n + gap), start);
        let mut got = c.clone();
        let (a, b) = (la.matrix(&short_a, m, k), lb.matrix(&short_b, k, n));
        gemm_short(a, b, MatMut::strided(&mut got, m, n, n + gap), start);
        assert_eq!(got, want, "{what}: {start:?}");
        if start != Start::Current {
            let before = vec![T::from_f64(7.0); m * (n + gap)];
            let mut got = before.clone();
            let (a, b) = (la.matrix(&short_a, m, k), lb.matrix(&short_b, k, n));
            T::gemm_narrow(a, b, MatMut::strided(&mut got, m, n, n + gap), start);
            for (i, (&got, &before)) in got.iter().zip(&before).enumerate() {
                let inside = i % (n + gap) < n;
                let want = if inside { T::from_f64(want[i].into()) } else { before };
                assert_eq!(got, want, "{what}: {start:?}, rounded");
            }
        }
    }
}

/// Runs `f` at every level of this machine.
fn at_every_level(mut f: impl FnMut()) {
    let widest = simd::detected();
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        simd::force(level);
        f();
    }
    simd::force(widest);
}

#[test]
fn products_of_awkward_sizes_match_the_definition() {
    at_every_level(|| {
        // Around the sizes of tiles: 4, 6 and 13 rows, 16 and 32 columns; ; blocks end at 512, below.
        for m in [0, 1, 2, 5, 13, 14, 27] {
            for n in [0, 1, 3, 16, 17, 33] {
                for k in [0, 1, 7, 16, 35] {
                    for la in LAYOUTS {
                        for lb in LAYOUTS {
                            check([m, k, n], [la, lb]);
                        }
                    }
                }
            }
        }
        for size in [[3, 257, 5], [40, 513, 37], [1, 600, 1], [70, 3, 1], [1, 3, 70], [61, 64, 600]]
        {
            check(size, [Layout::Rows, Layout::Rows]);
            check(size, [Layout::Columns, Layout::Columns]);
            check(size, [Layout::Gaps, Layout::Gaps]);
        }
    });
}

#[test]
fn short_products_of_awkward_sizes_match_those_in_f32() {
    at_every_level(|| {
        for m in [0, 1, 2, 13, 14, 27] {
            for n in [0, 1, 3, 16, 17, 33] {
                for k in [0, 1, 2, 7, 16, 33, 66] {
                    for la in LAYOUTS {
                        for lb in LAYOUTS {
                            check_short::<bf16>([m, k, n], [la, lb]);
                        }
                    }
                }
            }
        }
        // The last two have more rows, and more elements of B, than are widened at a time.
        for size in [
            [3, 1025, 5],
            [40, 1027, 37],
            [1, 2100, 1],
            [70, 3, 1],
            [1, 3, 70],
            [61, 64, 600],
            [1030, 5, 9],
            [3, 1100, 2050],
        ] {
            for layout in [Layout::Rows, Layout::Columns, Layout::Gaps] {
                check_short::<bf16>(size, [layout; 2]);
                check_short::<f16>(size, [layout; 2]);
            }
        }
    });
}

/// Against sums in f64 of the same factors: an error of at most a few last places of f32 for each addition.
#[test]
fn short_products_of_fractions_are_as_good_as_f32() {
    let (m, k, n) = (50, 700, 45);
    let of = |x: Vec<f32>| x.into_iter().map(bf16::from_f32).collect::<Vec<_>>();
    let (a, b) = (of(fractions(m * k, 1)), of(fractions(k * n, 2)));
    at_every_level(|| {
        let mut c = vec![0f32; m * n];
        let (left, right) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        gemm_short(left, right, MatMut::new(&mut c, m, n), Start::Zero);
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let want: f64 = (0..k).map(|l| a[i * k + l].to_f64() * b[l * n + j].to_f64()).sum();
            let got = f64::from(c[i * n + j]);
            assert!((got - want).abs() < 1e-5, "{got} {want} at {:?}", simd::level());
        }
    });
}

#[test]
fn short_products_are_the_same_for_any_number_of_threads_and_keep_what_is_not_finite() {
    let (m, k, n) = (401, 301, 211);
    let of = |x: Vec<f32>| x.into_iter().map(bf16::from_f32).collect::<Vec<_>>();
    let (mut a, b) = (of(fractions(m * k, 1)), of(fractions(k * n, 2)));
    (a[k], a[2 * k + 300]) = (bf16::NAN, bf16::INFINITY);
    let product = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut c = vec![0f32; m * n];
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        pool.install(|| gemm_short(a, b, MatMut::new(&mut c, m, n), Start::Zero));
        c.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let want = product(1);
    assert!(product(2) == want && product(5) == want);
    let row = |i: usize| want[i * n..(i + 1) * n].iter().map(|&x| f32::from_bits(x));
    assert!(
        row(0).all(f32::is_finite) && row(1).all(f32::is_nan) && row(2).all(|x| !x.is_finite())
    );
}

#[test]
fn operands_whose_rows_collide_in_the_cache_are_packed() {
    // Strides that tiles do not read in place: multiples of 512 along rows, of 1024 along columns.
    let (a, b) = (integers(20 * 1024, 1), integers(20 * 1024, 2));
    let (a32, b32) = (singles(&a), singles(&b));
    for (a_strides, b_strides) in [((512, 1), (1024, 1)), ((1, 1024), (1, 512))] {
        let (m, k, n) = (19, 20, 17);
        let (mut want, mut got) = (vec![0f64; m * n], vec![0f32; m * n]);
        gemm(
            view(&a, a_strides, m, k),
            view(&b, b_strides, k, n),
            MatMut::new(&mut want, m, n),
            Start::Zero,
        );
        gemm(
            view(&a32, a_strides, m, k),
            view(&b32, b_strides, k, n),
            MatMut::new(&mut got, m, n),
            Start::Zero,
        );
        assert_eq!(got, singles(&want));
    }
}

fn view<T>(x: &[T], s: (usize, usize), r: usize, c: usize) -> MatRef<'_, T> {
    MatRef::strided(x, r, c, s.0, s.1)
}

#[test]
fn a_part_of_a_packed_operand_is_multiplied() {
    at_every_level(|| {
        let (k, n) = (530, 70);
        let b = integers(k * n, 2);
        let b32 = singles(&b);
        let packed = Packed::new(MatRef::new(&b32, k, n));
        for (m, k, cols) in
            [(5, 530, 70), (20, 300, 33), (3, 256, 64), (1, 1, 1), (2, 0, 3), (0, 4, 4)]
        {
            let a = integers(m * k, 1);
            let (mut want, mut got) = (vec![7f64; m * cols], vec![7f32; m * cols]);
            let part = MatRef::strided(&b[..], k, cols, n, 1);
            gemm(MatRef::new(&a, m, k), part, MatMut::new(&mut want, m, cols), Start::Current);
            let a = singles(&a);
            gemm_packed(
                MatRef::new(&a, m, k),
                &packed,
                MatMut::new(&mut got, m, cols),
                Start::Current,
            );
            assert_eq!(got, singles(&want), "{m}x{k}x{cols}");
        }
    });
}

#[test]
fn threads_and_instruction_sets_do_not_change_a_bit() {
    for (m, k, n) in [(401, 300, 211), (90, 700, 333), (64, 64, 64), (1, 5000, 40), (5000, 40, 1)] {
        let (a, b) = (fractions(m * k, 1), fractions(k * n, 2));
        let product = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0f32; m * n];
            let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
            pool.install(|| gemm(a, b, MatMut::new(&mut c, m, n), Start::Zero));
            c
        };
        let want = product(1);
        let rows: Vec<f64> = (0..k).map(|l| f64::from(a[l]) * f64::from(b[l * n])).collect();
        assert!((f64::from(want[0]) - rows.iter().sum::<f64>()).abs() < 1e-4);
        assert!(product(2) == want && product(5) == want, "{m}x{k}x{n}");
        at_every_level(|| assert!(product(2) == want, "{m}x{k}x{n} at {:?}", simd::level()));
    }
}

#[test]
fn not_a_number_and_infinity_go_through() {
    at_every_level(|| {
        let mut a = vec![1f32; 20 * 30];
        let b = vec![1f32; 30 * 40];
        (a[31], a[62]) = (f32::NAN, f32::INFINITY);
        let mut c = vec![f32::NAN; 20 * 40];
        gemm(
            MatRef::new(&a, 20, 30),
            MatRef::new(&b, 30, 40),
            MatMut::new(&mut c, 20, 40),
            Start::Zero,
        );
        assert!(c[40..80].iter().all(|x| x.is_nan()));
        assert!(c[80..120].iter().all(|&x| x == f32::INFINITY));
        assert!(c[..40].iter().chain(&c[120..]).all(|&x| x == 30.0));
    });
}

#[test]
#[should_panic(expected = "does not fit into 5 elements")]
fn a_matrix_outside_of_its_slice_is_refused() {
    let _ = MatRef::new(&[0f32; 5], 2, 3);
}

#[test]
#[should_panic(expected = "gemm: 2x3 times 2x3 into 2x3")]
fn sizes_that_do_not_fit_are_refused() {
    let (a, mut c) = ([0f32; 6], [0f32; 6]);
    gemm(MatRef::new(&a, 2, 3), MatRef::new(&a, 2, 3), MatMut::new(&mut c, 2, 3), Start::Zero);
}

#[test]
#[should_panic(expected = "gemm: elements of the bias and columns of C")]
fn a_short_bias_is_refused() {
    let (a, mut c) = ([0f32; 4], [0f32; 4]);
    let a = MatRef::new(&a, 2, 2);
    gemm_packed(a, &Packed::new(a), MatMut::new(&mut c, 2, 2), Start::Bias(&[0.0]));
}
