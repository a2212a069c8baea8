//! Convolution.
//!
//! In f32 there are two fast ways, both on images turned into vectors of channels: [`winograd`] for 3x3 windows, and
//! [`direct`] for others. All else goes the general way: patches of the image become the columns of a matrix, and a
//! product does the rest, one image at a time, a block of output rows at a time, so that the columns stay in the
//! cache; images are shared among threads.

mod columns;
mod depthwise;
mod direct;
mod geometry;
mod image;
mod options;
mod pieces;
mod winograd;

use columns::{Scratch, col2im, for_each_block, for_each_row};
use geometry::Geometry;
pub use options::ConvOptions;

use crate::{
    DType, MatMut, MatRef, Real, Start, Tensor, gemm::gemm, map::same_dtype, par, with_real,
};

/// Nanoseconds of a piece of the batch that sums its own gradient of the weight.
const PIECE_NS: f64 = 100_000.0;
/// More pieces than this would cost too much memory.
const MAX_PIECES: usize = 32;

impl Tensor {
    /// The 2-d cross-correlation
    /// `y[n, o, i, j] = bias[o] + sum over c, k, l of weight[o, c, k, l] x[n, c, i s + k d - p, j s + l d - p]`
    /// with stride `s`, dilation `d` and `p` zeros around the input.
    ///
    /// # Shapes
    /// `x` is `[N, C, H, W]`, `weight` `[O, C / groups, KH, KW]`, `bias` `[O]`; the result is `[N, O, H', W']`
    /// with `H' = floor((H + 2 p - d (KH - 1) - 1) / s) + 1`. N, C and O may be 0.
    ///
    /// # Numerics
    /// 3x3 windows of stride 1 on f32 with at least 8 channels are computed by Winograd's minimal filtering, as are
    /// their gradients (Lavin and Gray 2015, arXiv:1509.09308). Rounding errors are at most about twice those of the
    /// plain sum (measured: 0.6 to 0.8 times for the result and the gradient of the input, 1.1 to 1.7 times for that
    /// of the weight), and small integers stay exact. A NaN or an infinity spreads over its tile: it may also make
    /// results NaN whose windows it misses by one pixel, never farther, and all nine elements of a gradient of the
    /// weight. Elements above a quarter of the largest f32 may overflow.
    ///
    /// 16-bit floats are widened, and the result is rounded once; the bias may be f32 then.
    ///
    /// # Panics
    /// When the shapes do not fit, the kernel is larger than the padded input, a stride, a dilation or the
    /// groups are 0, or the types differ or are no floats.
    #[must_use]
    #[track_caller]
    pub fn conv2d(&self, weight: &Self, bias: Option<&Self>, options: ConvOptions<2>) -> Self {
        const OP: &str = "conv2d";
        if self.is_short() {
            let wide = |t: &Self| t.to_dtype(DType::F32);
            same_dtype(OP, self, weight);
            if let Some(b) = bias.filter(|b| b.dtype() != DType::F32) {
                same_dtype(OP, self, b);
            }
            let y = wide(self).conv2d(&wide(weight), bias.map(wide).as_ref(), options);
            return y.to_dtype(self.dtype());
        }
        let g = Geometry::new(OP, self.shape(), weight.shape(), options);
        let out_channels = weight.shape()[0];
        if let Some(b) = bias {
            same_dtype(OP, self, b);
            assert_eq!(
                b.shape(),
                [out_channels],
                "{OP}: shape of the bias for weight {:?}",
                weight.shape()
            );
        }
        let dtype = same_dtype(OP, self, weight);
        let shape = [g.images, out_channels, g.output[0], g.output[1]];
        let (x, w) = (self.contiguous(), weight.contiguous());
        if dtype == DType::F32 && winograd::applies(&g) {
            let bias = bias.map(Self::to_vec::<f32>);
            return Self::build(&shape, |y| {
                winograd::forward(&g, x.as_slice(), w.as_slice(), bias.as_deref(), y);
            });
        }
        if dtype == DType::F32 && direct::applies(&g) {
            let bias = bias.map(Self::to_vec::<f32>);
            return Self::build(&shape, |y| {
                direct::forward(&g, x.as_slice(), w.as_slice(), bias.as_deref(), y);
            });
        }
        with_real!(OP, dtype, T => {
            let (x, w) = (x.as_slice::<T>(), w.as_slice::<T>());
            let bias = bias.map(Self::to_vec::<T>);
            Self::build::<T>(&shape, |y| {
                if depthwise::applies(&g) {
                    return depthwise::forward(&g, x, w, bias.as_deref(), y);
                }
                par::for_each_mut(y, g.image_out(), g.image_ns(), |first, y| {
                    let mut scratch = Scratch::new::<T>(&g);
                    for (i, y) in y.chunks_mut(g.image_out()).enumerate() {
                        let x = &x[(first + i) * g.image_in()..][..g.image_in()];
                        forward_image(&g, x, w, bias.as_deref(), y, &mut scratch);
                    }
                });
            })
        })
    }

    /// The gradient of [`conv2d`](Self::conv2d) by its input, whose shape is given, for `self` the gradient by
    /// its output.
    ///
    /// # Panics
    /// As `conv2d`, and when `self` is not of the output's shape.
    #[must_use]
    #[track_caller]
    pub fn conv2d_grad_input(
        &self,
        weight: &Self,
        input: &[usize],
        options: ConvOptions<2>,
    ) -> Self {
        const OP: &str = "conv2d_grad_input";
        if self.is_short() {
            same_dtype(OP, self, weight);
            let weight = weight.to_dtype(DType::F32);
            return self.in_compute_type(|dy| dy.conv2d_grad_input(&weight, input, options));
        }
        let g = self.geometry_of_gradient(OP, input, weight.shape(), options);
        let dtype = same_dtype(OP, self, weight);
        let (dy, w) = (self.contiguous(), weight.contiguous());
        if dtype == DType::F32 && winograd::applies(&g) {
            return Self::build(input, |dx| {
                winograd::grad_input(&g, dy.as_slice(), w.as_slice(), dx);
            });
        }
        if dtype == DType::F32 && direct::applies_to_input(&g) {
            return Self::build(input, |dx| {
                direct::grad_input(&g, dy.as_slice(), w.as_slice(), dx);
            });
        }
        with_real!(OP, dtype, T => {
            let (dy, w) = (dy.as_slice::<T>(), w.as_slice::<T>());
            Self::build::<T>(input, |dx| {
                if depthwise::applies(&g) {
                    return depthwise::grad_input(&g, dy, w, dx);
                }
                par::for_each_mut(dx, g.image_in(), g.image_ns(), |first, dx| {
                    let mut scratch = Scratch::new::<T>(&g);
                    for (i, dx) in dx.chunks_mut(g.image_in()).enumerate() {
                        let dy = &dy[(first + i) * g.image_out()..][..g.image_out()];
                        grad_input_image(&g, dy, w, dx, &mut scratch);
                    }
                });
            })
        })
    }

    /// The gradient of [`conv2d`](Self::conv2d) by its weight, whose shape is given, for `self` the gradient by
    /// its output. It is f32 where the operands are 16-bit floats.
    ///
    /// # Panics
    /// As `conv2d`, and when `self` is not of the output's shape.
    #[must_use]
    #[track_caller]
    pub fn conv2d_grad_weight(&self, x: &Self, weight: &[usize], options: ConvOptions<2>) -> Self {
        const OP: &str = "conv2d_grad_weight";
        if self.is_short() {
            same_dtype(OP, self, x);
            let [dy, x] = [self, x].map(|t| t.to_dtype(DType::F32));
            return dy.conv2d_grad_weight(&x, weight, options);
        }
        let g = self.geometry_of_gradient(OP, x.shape(), weight, options);
        let dtype = same_dtype(OP, self, x);
        let (dy, x) = (self.contiguous(), x.contiguous());
        if dtype == DType::F32 && winograd::applies(&g) {
            return Self::build(weight, |dw| {
                winograd::grad_weight(&g, x.as_slice(), dy.as_slice(), dw);
            });
        }
        if dtype == DType::F32 && direct::applies_to_weight(&g) {
            return Self::build(weight, |dw| {
                direct::grad_weight(&g, x.as_slice(), dy.as_slice(), dw);
            });
        }
        with_real!(OP, dtype, T => {
            let (dy, x) = (dy.as_slice::<T>(), x.as_slice::<T>());
            if depthwise::applies(&g) {
                return Self::build::<T>(weight, |dw| depthwise::grad_weight(&g, x, dy, dw));
            }
            // Each piece of the batch has its own sum; their number depends on sizes only, so that any number of
            // threads gives the same bits.
            let pieces = ((g.images as f64 * g.image_ns() / PIECE_NS) as usize).clamp(1, MAX_PIECES.min(g.images.max(1)));
            let sums = par::map(pieces, g.images as f64 * g.image_ns() / pieces as f64, |p| {
                let mut dw = Self::zeros(weight, self.dtype());
                let sum = dw.make_mut::<T>();
                let mut scratch = Scratch::new::<T>(&g);
                for i in p * g.images / pieces..(p + 1) * g.images / pieces {
                    let x = &x[i * g.image_in()..][..g.image_in()];
                    let dy = &dy[i * g.image_out()..][..g.image_out()];
                    add_grad_weight_image(&g, x, dy, sum, &mut scratch);
                }
                dw
            });
            let mut sums = sums.into_iter();
            let mut total = sums.next().expect("there is at least one piece");
            sums.for_each(|s| total.add_assign(&s));
            total
        })
    }

    #[track_caller]
    fn geometry_of_gradient(
        &self,
        op: &str,
        input: &[usize],
        weight: &[usize],
        options: ConvOptions<2>,
    ) -> Geometry {
        let g = Geometry::new(op, input, weight, options);
        let output = [g.images, weight[0], g.output[0], g.output[1]];
        assert_eq!(
            self.shape(),
            output,
            "{op}: shape of the gradient for input {input:?} and weight {weight:?}"
        );
        g
    }
}

fn forward_image<T: Real>(
    g: &Geometry,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    y: &mut [T],
    scratch: &mut Scratch,
) {
    if let Some(bias) = bias {
        for (y, &b) in y.chunks_mut(g.plane()).zip(bias) {
            y.fill(b);
        }
    }
    for (group, y) in y.chunks_mut(g.group_out()).enumerate() {
        let x = &x[group * g.group_in()..][..g.group_in()];
        let w = weight_of_group(g, w, group);
        for_each_block(g, x, scratch, |first, columns| {
            let y = &mut y[first * g.output[1]..];
            let y = MatMut::strided(y, g.channels[1], columns.cols(), g.plane());
            gemm(w, columns, y, if bias.is_some() { Start::Current } else { Start::Zero });
        });
    }
}

fn grad_input_image<T: Real>(g: &Geometry, dy: &[T], w: &[T], dx: &mut [T], scratch: &mut Scratch) {
    for (group, dx) in dx.chunks_mut(g.group_in()).enumerate() {
        let dy = &dy[group * g.group_out()..][..g.group_out()];
        let wt = weight_of_group(g, w, group).t();
        if g.is_pointwise() {
            gemm(
                wt,
                rows_of_output(g, dy, 0, g.plane()),
                MatMut::new(dx, g.patch(), g.plane()),
                Start::Zero,
            );
            continue;
        }
        let (columns, padded) = scratch.slices::<T>();
        let target = if g.is_padded() { &mut *padded } else { &mut *dx };
        target.fill(T::ZERO);
        for (first, rows) in g.blocks() {
            let n = rows * g.output[1];
            let columns = &mut columns[..g.patch() * n];
            gemm(
                wt,
                rows_of_output(g, dy, first, n),
                MatMut::new(columns, g.patch(), n),
                Start::Zero,
            );
            col2im::<T>(*g, first, rows, columns, target);
        }
        if g.is_padded() {
            for_each_row(g, |at, inside, n| {
                dx[at..at + n].copy_from_slice(&padded[inside..inside + n])
            });
        }
    }
}

fn add_grad_weight_image<T: Real>(
    g: &Geometry,
    x: &[T],
    dy: &[T],
    dw: &mut [T],
    scratch: &mut Scratch,
) {
    for group in 0..g.options.groups {
        let x = &x[group * g.group_in()..][..g.group_in()];
        let dy = &dy[group * g.group_out()..][..g.group_out()];
        let dw = &mut dw[group * g.group_weight()..][..g.group_weight()];
        for_each_block(g, x, scratch, |first, columns| {
            let dy = rows_of_output(g, dy, first, columns.cols());
            gemm(dy, columns.t(), MatMut::new(dw, g.channels[1], g.patch()), Start::Current);
        });
    }
}

/// The weight of one group as a matrix `[channels, patch]`.
fn weight_of_group<'a, T>(g: &Geometry, w: &'a [T], group: usize) -> MatRef<'a, T> {
    MatRef::new(&w[group * g.group_weight()..], g.channels[1], g.patch())
}

/// `n` columns of one group of the output, a matrix `[channels, plane]`, from row `first` of the image on.
fn rows_of_output<'a, T>(g: &Geometry, y: &'a [T], first: usize, n: usize) -> MatRef<'a, T> {
    MatRef::strided(y.get(first * g.output[1]..).unwrap_or(&[]), g.channels[1], n, g.plane(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, so that every sum is exact in f32 too.
    fn integers(shape: &[usize], seed: u64) -> Tensor {
        let n: usize = shape.iter().product();
        let at = |i: u64| (gradus_core::splitmix64(seed * 1_000_003 + i) % 7) as f64 - 3.0;
        Tensor::from_slice(&(0..n as u64).map(at).collect::<Vec<_>>(), shape)
    }

    fn f32s(t: &Tensor) -> Tensor {
        t.to_dtype(DType::F32)
    }

    /// Calls `f(y, x, weight)` with the positions of the factors of every product in the definition.
    fn definition(
        x: [usize; 4],
        w: [usize; 4],
        out: &[usize],
        o: ConvOptions<2>,
        mut f: impl FnMut(usize, usize, usize),
    ) {
        for n in 0..x[0] {
            for c_out in 0..w[0] {
                for (i, j) in (0..out[2]).flat_map(|i| (0..out[3]).map(move |j| (i, j))) {
                    for c in 0..w[1] {
                        for (k, l) in (0..w[2]).flat_map(|k| (0..w[3]).map(move |l| (k, l))) {
                            let r =
                                (i * o.stride[0] + k * o.dilation[0]).wrapping_sub(o.padding[0]);
                            let s =
                                (j * o.stride[1] + l * o.dilation[1]).wrapping_sub(o.padding[1]);
                            if r < x[2] && s < x[3] {
                                let c_in = c_out / (w[0] / o.groups) * w[1] + c;
                                f(
                                    ((n * w[0] + c_out) * out[2] + i) * out[3] + j,
                                    ((n * x[1] + c_in) * x[2] + r) * x[3] + s,
                                    ((c_out * w[1] + c) * w[2] + k) * w[3] + l,
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    fn check(x_shape: [usize; 4], w_shape: [usize; 4], o: ConvOptions<2>) {
        let (x, w, b) = (integers(&x_shape, 1), integers(&w_shape, 2), integers(&w_shape[..1], 3));
        let y = x.conv2d(&w, None, o);
        let dy = integers(y.shape(), 4);
        let (xs, ws, dys) = (x.to_vec::<f64>(), w.to_vec::<f64>(), dy.to_vec::<f64>());
        let (mut ys, mut dx, mut dw) =
            (vec![0.0; y.numel()], vec![0.0; xs.len()], vec![0.0; ws.len()]);
        definition(x_shape, w_shape, y.shape(), o, |i, j, k| {
            ys[i] += xs[j] * ws[k];
            dx[j] += dys[i] * ws[k];
            dw[k] += dys[i] * xs[j];
        });
        let what = format!("{x_shape:?} {w_shape:?} {o:?}");
        assert_eq!(y.to_vec::<f64>(), ys, "{what}");
        assert_eq!(dy.conv2d_grad_input(&w, &x_shape, o).to_vec::<f64>(), dx, "input: {what}");
        assert_eq!(dy.conv2d_grad_weight(&x, &w_shape, o).to_vec::<f64>(), dw, "weight: {what}");
        let with_bias = y.add(&b.view(&[w_shape[0], 1, 1]));
        assert_eq!(
            x.conv2d(&w, Some(&b), o).to_vec::<f64>(),
            with_bias.to_vec::<f64>(),
            "bias: {what}"
        );
        assert_eq!(
            f32s(&x).conv2d(&f32s(&w), Some(&f32s(&b)), o).to_vec::<f32>(),
            f32s(&with_bias).to_vec::<f32>()
        );
        let dx32 = f32s(&dy).conv2d_grad_input(&f32s(&w), &x_shape, o).to_vec::<f32>();
        assert_eq!(
            dx32.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(),
            dx,
            "input in f32: {what}"
        );
        let dw32 = f32s(&dy).conv2d_grad_weight(&f32s(&x), &w_shape, o).to_vec::<f32>();
        assert_eq!(
            dw32.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(),
            dw,
            "weight in f32: {what}"
        );
    }

    #[test]
    fn every_geometry_matches_the_definition() {
        let o = ConvOptions::default();
        check([2, 3, 6, 7], [4, 3, 3, 3], o);
        check([2, 3, 6, 7], [4, 3, 3, 2], o.with_padding([1, 2]).with_stride([2, 3]));
        check([1, 2, 8, 9], [3, 2, 3, 3], o.with_padding([2, 2]).with_dilation([2, 3]));
        check([2, 4, 5, 5], [6, 2, 3, 3], o.with_groups(2).with_padding([1, 1]));
        check([2, 4, 5, 17], [4, 1, 3, 3], o.with_groups(4).with_padding([1, 1]));
        check([2, 5, 4, 4], [3, 5, 1, 1], o);
        check([2, 4, 4, 4], [6, 2, 1, 1], o.with_groups(2));
        check([2, 5, 5, 4], [3, 5, 1, 1], o.with_stride([2, 2]));
        check([2, 5, 3, 4], [3, 5, 1, 1], o.with_padding([1, 0]));
        check([1, 1, 1, 1], [1, 1, 1, 1], o);
        check([1, 1, 1, 1], [2, 1, 3, 3], o.with_padding([1, 1]));
        check([3, 2, 1, 40], [2, 2, 1, 5], o.with_padding([0, 2]));
        check([2, 1, 35, 33], [2, 1, 2, 2], o);
        // Elements of the input that no window reaches have a gradient of 0.
        check([1, 1, 6, 6], [1, 1, 2, 2], o.with_stride([4, 4]));
    }

    /// Sizes that the transforms of tiles serve, or nearly.
    #[test]
    fn windows_of_3x3_match_the_definition() {
        let o = ConvOptions::default();
        for (i, channels) in [[8, 8], [11, 17], [16, 33], [37, 13]].into_iter().enumerate() {
            for (j, [h, w]) in
                [[1, 1], [1, 2], [3, 1], [2, 5], [4, 4], [5, 3], [7, 9]].into_iter().enumerate()
            {
                for padding in [0, 1, 2, 3] {
                    if h + 2 * padding < 3 || w + 2 * padding < 3 || (i + j + padding) % 2 == 1 {
                        continue;
                    }
                    let batch = [0, 1, 3][(i + j) % 3];
                    let o = o.with_padding([padding, padding]);
                    check([batch, channels[0], h, w], [channels[1], channels[0], 3, 3], o);
                }
            }
        }
        // Several blocks of tiles, in rows and in columns.
        check([2, 9, 5, 70], [8, 9, 3, 3], o.with_padding([1, 2]));
        check([1, 8, 3, 1100], [9, 8, 3, 3], o.with_padding([1, 0]));
        check([5, 70, 8, 8], [20, 70, 3, 3], o.with_padding([1, 1]));
    }

    /// Windows and strides that rows in vectors of channels serve.
    #[test]
    fn vectors_of_channels_match_the_definition() {
        let o = ConvOptions::default();
        let two = o.with_stride([2, 2]);
        check([2, 17, 9, 8], [19, 17, 3, 3], two.with_padding([1, 1]));
        check([3, 16, 7, 7], [33, 16, 1, 1], two);
        check([1, 9, 6, 6], [8, 9, 1, 1], o.with_padding([1, 2]));
        check([2, 8, 5, 11], [9, 8, 5, 2], o.with_stride([3, 1]).with_padding([2, 0]));
        check([1, 8, 9, 12], [9, 8, 3, 3], two.with_padding([0, 2]).with_dilation([2, 1]));
        check(
            [1, 8, 9, 13],
            [9, 8, 3, 2],
            o.with_stride([2, 3]).with_padding([1, 1]).with_dilation([1, 3]),
        );
        check([2, 33, 1, 1], [16, 33, 3, 3], o.with_padding([1, 1]));
        check([0, 8, 4, 4], [8, 8, 3, 3], two);
        check([2, 9, 0, 4], [8, 9, 2, 3], o.with_padding([1, 1]));
        // Few channels on one side, or none.
        check([1, 9, 4, 4], [0, 9, 2, 2], o);
        check([1, 0, 4, 4], [9, 0, 2, 2], o);
        check([3, 1, 9, 10], [17, 1, 3, 3], o.with_padding([1, 1]));
        check([2, 3, 8, 7], [16, 3, 3, 3], o.with_padding([1, 3]).with_dilation([1, 2]));
        check([2, 2, 12, 13], [9, 2, 7, 7], o.with_stride([2, 3]).with_padding([3, 3]));
        check([1, 3, 2, 1], [8, 3, 2, 5], o.with_stride([1, 4]).with_padding([0, 9]));
        // Several blocks of rows.
        check([2, 64, 40, 33], [8, 64, 3, 3], two.with_padding([1, 1]));
    }

    #[test]
    fn planes_of_their_own_match_the_definition() {
        let o = ConvOptions::default();
        check([2, 4, 5, 37], [4, 1, 3, 3], o.with_groups(4).with_padding([1, 1]));
        check(
            [3, 3, 8, 7],
            [6, 1, 2, 3],
            o.with_groups(3).with_stride([2, 2]).with_padding([0, 2]),
        );
        check(
            [1, 2, 4, 3],
            [4, 1, 3, 3],
            o.with_groups(2).with_padding([4, 5]).with_stride([1, 3]),
        );
        check(
            [2, 2, 9, 9],
            [2, 1, 3, 2],
            o.with_groups(2).with_dilation([2, 3]).with_padding([2, 1]),
        );
        check([0, 3, 4, 4], [3, 1, 3, 3], o.with_groups(3));
        check([2, 3, 4, 4], [0, 1, 3, 3], o.with_groups(3));
    }

    #[test]
    fn blocks_of_rows_join() {
        let (x, w, o) =
            ([2, 32, 20, 20], [3, 32, 5, 5], ConvOptions::default().with_padding([2, 2]));
        assert!(Geometry::new("", &x, &w, o).blocks().count() > 2);
        check(x, w, o);
        check(x, w, o.with_stride([1, 2]));
    }

    #[test]
    fn views_and_empty_sizes() {
        let (x, w, o) =
            (integers(&[2, 3, 5, 6], 1), integers(&[4, 3, 2, 3], 2), ConvOptions::default());
        let y = x.conv2d(&w, None, o);
        let (xt, wt) = (
            x.transpose(1, 3).to_contiguous().transpose(1, 3),
            w.transpose(0, 2).to_contiguous().transpose(0, 2),
        );
        assert_eq!(xt.conv2d(&wt, None, o).to_vec::<f64>(), y.to_vec::<f64>());

        let none = Tensor::zeros(&[0, 3, 5, 6], DType::F64);
        assert_eq!(none.conv2d(&w, None, o).shape(), [0, 4, 4, 4]);
        let dy = Tensor::zeros(&[0, 4, 4, 4], DType::F64);
        assert_eq!(dy.conv2d_grad_input(&w, &[0, 3, 5, 6], o).shape(), [0, 3, 5, 6]);
        assert_eq!(dy.conv2d_grad_weight(&none, w.shape(), o).to_vec::<f64>(), vec![0.0; 72]);

        let b = Tensor::from_slice(&[1.0, 2.0], &[2]);
        let (x, w) =
            (Tensor::zeros(&[1, 0, 2, 2], DType::F64), Tensor::zeros(&[2, 0, 2, 1], DType::F64));
        assert_eq!(x.conv2d(&w, Some(&b), o).to_vec::<f64>(), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(x.conv2d(&w, None, o).to_vec::<f64>(), [0.0; 4]);
        let (x, w) =
            (Tensor::zeros(&[1, 2, 2, 2], DType::F64), Tensor::zeros(&[0, 2, 1, 1], DType::F64));
        let y = x.conv2d(&w, None, o);
        assert_eq!(y.shape(), [1, 0, 2, 2]);
        assert_eq!(y.conv2d_grad_input(&w, x.shape(), o).to_vec::<f64>(), [0.0; 8]);
    }

    #[test]
    fn a_nan_stays_where_its_windows_are() {
        let mut x = Tensor::ones(&[1, 1, 4, 5], DType::F32);
        x.make_mut::<f32>()[0] = f32::NAN;
        let y = x.conv2d(&Tensor::ones(&[1, 1, 2, 2], DType::F32), None, ConvOptions::default());
        let y = y.to_vec::<f32>();
        assert!(y[0].is_nan() && y[1..].iter().all(|&v| v == 4.0));
    }

    #[test]
    fn a_nan_spreads_by_one_pixel_at_most() {
        let o = ConvOptions::default().with_padding([1, 1]);
        let mut x = Tensor::ones(&[1, 8, 12, 12], DType::F32);
        x.make_mut::<f32>()[5 * 12 + 6] = f32::NAN;
        let w = Tensor::ones(&[8, 8, 3, 3], DType::F32);
        let y = x.conv2d(&w, None, o).to_vec::<f32>();
        for (i, v) in y.iter().enumerate() {
            let distance = (i / 12 % 12).abs_diff(5).max((i % 12).abs_diff(6));
            assert!(distance > 1 || v.is_nan());
            assert!(distance < 3 || v.is_finite());
        }
    }

    /// Numbers that are not exact in f32.
    fn noise(shape: &[usize], seed: u64) -> Tensor {
        let n: usize = shape.iter().product();
        let at =
            |i| (gradus_core::splitmix64(seed * 1_000_003 + i) >> 40) as f32 / (1 << 23) as f32;
        Tensor::from_slice(&(0..n as u64).map(|i| at(i) - 1.0).collect::<Vec<_>>(), shape)
    }

    fn results(x: &Tensor, w: &Tensor, dy: &Tensor, o: ConvOptions<2>) -> [Vec<f64>; 3] {
        [
            x.conv2d(w, None, o),
            dy.conv2d_grad_input(w, x.shape(), o),
            dy.conv2d_grad_weight(x, w.shape(), o),
        ]
        .map(|t| t.to_dtype(DType::F64).to_vec())
    }

    #[test]
    fn errors_are_of_the_size_of_rounding() {
        let (x, w) = (noise(&[4, 64, 16, 16], 1), noise(&[48, 64, 3, 3], 2));
        let dy = noise(&[4, 48, 16, 16], 3);
        let o = ConvOptions::default().with_padding([1, 1]);
        let [x64, w64, dy64] = [&x, &w, &dy].map(|t| t.to_dtype(DType::F64));
        let exact = results(&x64, &w64, &dy64, o);
        for (got, exact) in results(&x, &w, &dy, o).iter().zip(&exact) {
            let rms = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
            let error = rms(&mut got.iter().zip(exact).map(|(g, e)| g - e));
            let error = error / rms(&mut exact.iter().copied());
            assert!(error < 4e-7, "{error}");
        }
    }

    #[test]
    fn threads_and_instruction_sets_do_not_change_a_bit() {
        use gradus_kernel::simd::{Level, detected, force};
        let o = ConvOptions::default().with_padding([1, 1]);
        for (channels, o) in [(8, o), (24, o), (9, o.with_stride([2, 2])), (2, o)] {
            let (x, w) = (noise(&[33, channels, 12, 12], 1), noise(&[17, channels, 3, 3], 2));
            let dy = noise(x.conv2d(&w, None, o).shape(), 3);
            let run = |threads, level| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                force(level);
                let results = pool.install(|| results(&x, &w, &dy, o));
                force(detected());
                results
            };
            let one = run(1, detected());
            assert_eq!(one, run(2, detected()));
            assert_eq!(one, run(5, detected()));
            if detected() != Level::Portable {
                assert_eq!(one, run(2, Level::Avx2));
                assert_eq!(one, run(2, Level::Portable));
            }
        }
    }

    #[test]
    #[should_panic(
        expected = "conv2d: channels of input [1, 3, 4, 4] and weight [2, 2, 3, 3] do not fit 1 groups"
    )]
    fn channels_that_differ_panic() {
        let _ = integers(&[1, 3, 4, 4], 1).conv2d(
            &integers(&[2, 2, 3, 3], 1),
            None,
            ConvOptions::default(),
        );
    }

    #[test]
    #[should_panic(expected = "does not fit into input [1, 1, 4, 2]")]
    fn a_kernel_larger_than_the_input_panics() {
        let _ = integers(&[1, 1, 4, 2], 1).conv2d(
            &integers(&[1, 1, 3, 3], 1),
            None,
            ConvOptions::default(),
        );
    }

    #[test]
    #[should_panic(expected = "have to be positive")]
    fn a_stride_of_zero_panics() {
        let o = ConvOptions::default().with_stride([1, 0]);
        let _ = integers(&[1, 1, 4, 4], 1).conv2d(&integers(&[1, 1, 3, 3], 1), None, o);
    }
}
