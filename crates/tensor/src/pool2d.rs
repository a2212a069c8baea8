//! Maxima and means over windows of an image.

mod avg;
mod max;

pub use avg::AvgPoolOptions;
pub use max::MaxPoolOptions;

/// Number of windows along one dimension, by PyTorch's rule: in ceil mode a window may reach beyond the padded input
/// by less than a stride, and a last window that would start in the padding behind the input is dropped.
fn windows(
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil_mode: bool,
) -> Option<usize> {
    let span = (kernel - 1) * dilation + 1;
    let beyond = if ceil_mode { stride - 1 } else { 0 };
    let n = (input + 2 * padding + beyond).checked_sub(span)? / stride + 1;
    Some(if ceil_mode && (n - 1) * stride >= input + padding { n - 1 } else { n })
}

/// Height and width of an image and of its pooled form; the checks that both kinds of pooling share.
#[derive(Clone, Copy)]
struct Planes {
    input: [usize; 2],
    output: [usize; 2],
}

impl Planes {
    #[track_caller]
    fn new(op: &str, x: &[usize], o: &MaxPoolOptions) -> Self {
        assert_eq!(x.len(), 4, "{op}: the input has to be 4-d, not {x:?}");
        assert!(x[2] > 0 && x[3] > 0, "{op}: the input {x:?} has no elements to pool");
        let output = [0, 1].map(|d| {
            let (k, s, p, dil) = (o.kernel[d], o.stride[d], o.padding[d], o.dilation[d]);
            assert!(
                k > 0 && s > 0 && dil > 0,
                "{op}: kernel, stride and dilation have to be positive in {o:?}"
            );
            assert!(p <= k / 2, "{op}: a padding of {p} is more than half of the kernel {k}");
            windows(x[2 + d], k, s, p, dil, o.ceil_mode)
                .unwrap_or_else(|| panic!("{op}: a window of {o:?} does not fit into input {x:?}"))
        });
        Self { input: [x[2], x[3]], output }
    }

    fn input_len(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_len(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn output_shape(&self, x: &[usize]) -> [usize; 4] {
        [x[0], x[1], self.output[0], self.output[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tensor};

    fn numbers(shape: &[usize], seed: u64) -> Tensor {
        let n: usize = shape.iter().product();
        // Few values, so that windows have ties.
        let at = |i: u64| (gradus_core::splitmix64(seed * 1_000_003 + i) % 9) as f64 - 4.0;
        Tensor::from_slice(&(0..n as u64).map(at).collect::<Vec<_>>(), shape)
    }

    /// Positions in the input of the window behind each output, `None` for the padding.
    fn window(p: &Planes, o: &MaxPoolOptions, oy: usize, ox: usize) -> Vec<Option<usize>> {
        let place = |i: usize| {
            let y =
                (oy * o.stride[0] + i / o.kernel[1] * o.dilation[0]).checked_sub(o.padding[0])?;
            let x =
                (ox * o.stride[1] + i % o.kernel[1] * o.dilation[1]).checked_sub(o.padding[1])?;
            (y < p.input[0] && x < p.input[1]).then_some(y * p.input[1] + x)
        };
        (0..o.kernel[0] * o.kernel[1]).map(place).collect()
    }

    fn check_max(shape: [usize; 4], o: MaxPoolOptions) {
        let x = numbers(&shape, 1);
        let p = Planes::new("", &shape, &o);
        let (y, places) = x.max_pool2d_with_places(o);
        let dy = numbers(y.shape(), 2);
        let (xs, dys) = (x.to_vec::<f64>(), dy.to_vec::<f64>());
        let (mut want, mut want_places, mut dx) = (vec![], vec![], vec![0.0; xs.len()]);
        for plane in 0..shape[0] * shape[1] {
            for (oy, ox) in (0..p.output[0]).flat_map(|y| (0..p.output[1]).map(move |x| (y, x))) {
                let mut best: Option<(usize, usize)> = None;
                for (i, at) in window(&p, &o, oy, ox).into_iter().enumerate() {
                    let Some(at) = at.map(|at| plane * p.input_len() + at) else { continue };
                    if best.is_none_or(|(_, b)| xs[at] > xs[b]) {
                        best = Some((i, at));
                    }
                }
                if let Some((_, at)) = best {
                    dx[at] += dys[want.len()];
                }
                want.push(best.map_or(f64::NEG_INFINITY, |(_, at)| xs[at]));
                want_places.push(best.map_or(-1, |(i, _)| i as i64));
            }
        }
        assert_eq!(y.to_vec::<f64>(), want, "{shape:?} {o:?}");
        if places.dtype() == DType::I64 {
            assert_eq!(places.to_vec::<i64>(), want_places, "{shape:?} {o:?}");
        } else {
            let places: Vec<i64> = places
                .to_vec::<u8>()
                .into_iter()
                .map(|p| if p == 255 { -1 } else { p.into() })
                .collect();
            assert_eq!(places, want_places, "{shape:?} {o:?}");
        }
        assert_eq!(dy.max_pool2d_grad(&places, &shape, o).to_vec::<f64>(), dx, "{shape:?} {o:?}");
        let x32 = x.to_dtype(DType::F32);
        assert_eq!(x32.max_pool2d(o).to_vec::<f32>(), y.to_dtype(DType::F32).to_vec::<f32>());
        let dx32 =
            dy.to_dtype(DType::F32).max_pool2d_grad(&x32.max_pool2d_with_places(o).1, &shape, o);
        assert_eq!(dx32.to_dtype(DType::F64).to_vec::<f64>(), dx);
    }

    #[test]
    fn maxima_match_the_definition() {
        let o = MaxPoolOptions::new;
        for shape in [[2, 3, 6, 6], [1, 2, 7, 9], [1, 1, 2, 2], [2, 1, 40, 37], [1, 1, 3, 2]] {
            check_max(shape, o([2, 2]));
            check_max(shape, o([2, 2]).with_ceil_mode(true));
            check_max(shape, o([2, 2]).with_padding([1, 1]).with_ceil_mode(true));
            check_max(shape, o([2, 1]).with_stride([1, 3]));
            check_max(shape, o([3, 3]).with_stride([2, 2]).with_padding([1, 1]));
            check_max(
                shape,
                o([2, 2]).with_stride([1, 1]).with_dilation([2, 1]).with_padding([1, 0]),
            );
        }
        check_max([0, 3, 4, 4], o([2, 2]));
        // In ceil mode the only window may be larger than the input.
        check_max([1, 2, 2, 3], o([3, 4]).with_stride([2, 2]).with_ceil_mode(true));
        check_max([1, 1, 20, 18], o([16, 17]).with_stride([1, 1]));
        check_max([1, 1, 20, 18], o([16, 16]).with_padding([8, 8]).with_stride([3, 5]));
        // A window that dilation takes past the only element.
        check_max([1, 1, 1, 1], o([2, 2]).with_padding([1, 1]).with_dilation([2, 2]));
    }

    #[test]
    fn the_loop_for_tiles_is_the_general_one() {
        // Ceil mode takes the general loop, and changes nothing for even sizes.
        let (x, o) = (numbers(&[3, 2, 36, 34], 5), MaxPoolOptions::new([2, 2]));
        let (y, p) = x.max_pool2d_with_places(o);
        let (z, q) = x.max_pool2d_with_places(o.with_ceil_mode(true));
        assert_eq!((y.to_vec::<f64>(), p.to_vec::<u8>()), (z.to_vec::<f64>(), q.to_vec::<u8>()));
        let a = y.max_pool2d_grad(&p, x.shape(), o).to_vec::<f64>();
        assert_eq!(a, y.max_pool2d_grad(&p, x.shape(), o.with_ceil_mode(true)).to_vec::<f64>());
    }

    #[test]
    fn maxima_keep_nan_and_minus_infinity() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let x = Tensor::from_slice(&[1.0, nan, -inf, -inf, nan, 5.0, -inf, -inf], &[1, 1, 2, 4]);
        for o in [MaxPoolOptions::new([2, 2]), MaxPoolOptions::new([2, 2]).with_ceil_mode(true)] {
            let (y, places) = x.max_pool2d_with_places(o);
            let y = y.to_vec::<f32>();
            assert!(y[0].is_nan() && y[1] == -inf);
            assert_eq!(places.to_vec::<u8>(), [2, 0]);
        }
    }

    fn check_avg(shape: [usize; 4], o: AvgPoolOptions) {
        let x = numbers(&shape, 1);
        let like = MaxPoolOptions {
            kernel: o.kernel,
            stride: o.stride,
            padding: o.padding,
            dilation: [1; 2],
            ceil_mode: o.ceil_mode,
        };
        let p = Planes::new("", &shape, &like);
        let y = x.avg_pool2d(o);
        let dy = numbers(y.shape(), 2);
        let (xs, dys) = (x.to_vec::<f64>(), dy.to_vec::<f64>());
        let (mut want, mut dx) = (vec![], vec![0.0; xs.len()]);
        for plane in 0..shape[0] * shape[1] {
            for (oy, ox) in (0..p.output[0]).flat_map(|y| (0..p.output[1]).map(move |x| (y, x))) {
                let window = window(&p, &like, oy, ox);
                // With padding: positions up to the right border of the padded input.
                let reach = |d: usize, i: usize| {
                    o.kernel[d].min(shape[2 + d] + 2 * o.padding[d] - i * o.stride[d])
                };
                let divisor = match o.divisor_override {
                    Some(n) => n,
                    None if o.count_include_pad => reach(0, oy) * reach(1, ox),
                    None => window.iter().flatten().count(),
                } as f64;
                let at = || window.iter().flatten().map(|at| plane * p.input_len() + at);
                at().for_each(|i| dx[i] += dys[want.len()] / divisor);
                want.push(at().map(|i| xs[i]).sum::<f64>() / divisor);
            }
        }
        let near = |got: Vec<f64>, want: &[f64], tolerance: f64| {
            assert_eq!(got.len(), want.len());
            assert!(
                got.iter().zip(want).all(|(g, w)| (g - w).abs() <= tolerance),
                "{shape:?} {o:?}: {got:?}, want {want:?}"
            );
        };
        near(y.to_vec(), &want, 1e-13);
        near(dy.avg_pool2d_grad(&shape, o).to_vec(), &dx, 1e-13);
        let [x32, dy32] = [&x, &dy].map(|t| t.to_dtype(DType::F32));
        near(x32.avg_pool2d(o).to_dtype(DType::F64).to_vec(), &want, 1e-6);
        near(dy32.avg_pool2d_grad(&shape, o).to_dtype(DType::F64).to_vec(), &dx, 4e-6);
    }

    #[test]
    fn means_match_the_definition() {
        let o = AvgPoolOptions::new;
        for shape in [[2, 3, 6, 6], [1, 2, 7, 5], [1, 1, 3, 2], [0, 2, 4, 4], [1, 1, 20, 37]] {
            check_avg(shape, o([2, 2]));
            check_avg(
                shape,
                o([3, 2]).with_stride([2, 2]).with_padding([1, 1]).with_ceil_mode(true),
            );
            for include in [true, false] {
                let o = o([3, 2])
                    .with_stride([1, 2])
                    .with_padding([1, 1])
                    .with_count_include_pad(include);
                check_avg(shape, o);
                check_avg(shape, o.with_ceil_mode(true).with_stride([2, 3]));
            }
            check_avg(shape, o([2, 1]).with_divisor_override(3));
        }
        check_avg([1, 2, 2, 3], o([3, 4]).with_stride([2, 2]).with_ceil_mode(true));
        check_avg([1, 1, 4, 40], o([2, 33]).with_stride([1, 1]));
    }

    #[test]
    fn adaptive_windows_cover_the_image() {
        let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1, 1, 1, 5]);
        assert_eq!(x.adaptive_avg_pool2d([1, 2]).to_vec::<f64>(), [2.0, 4.0]);
        assert_eq!(x.adaptive_avg_pool2d([1, 5]).to_vec::<f64>(), x.to_vec::<f64>());
        assert_eq!(x.adaptive_avg_pool2d([2, 1]).to_vec::<f64>(), [3.0, 3.0]);
        let dy = Tensor::from_slice(&[3.0, 6.0], &[1, 1, 1, 2]);
        assert_eq!(
            dy.adaptive_avg_pool2d_grad(x.shape()).to_vec::<f64>(),
            [1.0, 1.0, 3.0, 2.0, 2.0]
        );
        let x = numbers(&[2, 3, 6, 8], 1);
        let same = x.avg_pool2d(AvgPoolOptions::new([3, 2]));
        assert_eq!(x.adaptive_avg_pool2d([2, 4]).to_vec::<f64>(), same.to_vec::<f64>());
        assert_eq!(x.adaptive_avg_pool2d([0, 4]).shape(), [2, 3, 0, 4]);
        assert_eq!(
            Tensor::zeros(&[2, 3, 4, 0], DType::F64)
                .adaptive_avg_pool2d_grad(&[2, 3, 1, 2])
                .to_vec::<f64>(),
            [0.0; 12]
        );
    }

    #[test]
    fn a_global_mean_of_many_values_stays_exact() {
        let x = Tensor::full(&[1, 1, 1, 1 << 16], 0.1, DType::F32);
        let mean = x.adaptive_avg_pool2d([1, 1]).item();
        assert!((mean / f64::from(0.1f32) - 1.0).abs() < 2e-6, "{mean}");
    }

    #[test]
    fn views_and_threads_do_not_change_a_bit() {
        let x = numbers(&[16, 24, 28, 28], 3).to_dtype(DType::F32).affine(0.1, 0.0);
        let view = x.transpose(0, 2).to_contiguous().transpose(0, 2);
        let o = MaxPoolOptions::new([3, 3]).with_stride([2, 2]);
        let run = |threads, x: &Tensor| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (y, p) = x.max_pool2d_with_places(o);
                let z = x.avg_pool2d(AvgPoolOptions::new([2, 3]));
                [
                    y.max_pool2d_grad(&p, x.shape(), o),
                    z.avg_pool2d_grad(x.shape(), AvgPoolOptions::new([2, 3])),
                    y,
                    z,
                ]
                .map(|t| t.to_vec::<f32>())
            })
        };
        let one = run(1, &x);
        assert_eq!(one, run(4, &x));
        assert_eq!(one, run(3, &view));
    }

    #[test]
    #[should_panic(expected = "max_pool2d: a padding of 2 is more than half of the kernel 3")]
    fn too_much_padding_panics() {
        let _ =
            numbers(&[1, 1, 4, 4], 1).max_pool2d(MaxPoolOptions::new([3, 3]).with_padding([2, 1]));
    }

    #[test]
    #[should_panic(expected = "avg_pool2d: the divisor is 0")]
    fn a_divisor_of_zero_panics() {
        let _ = numbers(&[1, 1, 4, 4], 1)
            .avg_pool2d(AvgPoolOptions::new([2, 2]).with_divisor_override(0));
    }

    #[test]
    #[should_panic(expected = "does not fit into input [1, 1, 4, 1]")]
    fn a_window_larger_than_the_input_panics() {
        let _ = numbers(&[1, 1, 4, 1], 1).max_pool2d(MaxPoolOptions::new([2, 2]));
    }
}
