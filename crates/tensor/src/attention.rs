//! Scaled dot-product attention.
//!
//! Scores exist for one block of queries at a time. Forward keeps the output and one number a row, the
//! logarithm of the normaliser; backward computes the probabilities again from it.

use kernels::{dot, mask_add, mask_where, scale_rows, softmax_grad_rows, softmax_rows};

use crate::{
    DType, MatMut, MatRef, Real, Start, Tensor, broadcast_shapes,
    buffer::Buffer,
    gemm::{Packed, gemm, gemm_packed},
    map::same_dtype,
    par, with_real,
};

mod kernels;

const NAME: &str = "scaled_dot_product_attention";
/// Queries whose scores are computed together. More make the matrix products faster, fewer leave out more
/// of the half that a causal mask hides.
const BLOCK: usize = 64;

/// What scaled dot-product attention does besides its three operands.
///
/// Defaults are PyTorch's: no mask, not causal, scale `1 / sqrt(D)`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AttentionOptions {
    /// Broadcast to `[B, H, Lq, Lk]`: bytes say where attention may go (0: nowhere), floats are added to the
    /// scaled scores. A constant: it gets no gradient.
    pub mask: Option<Tensor>,
    /// Query `i` sees the keys `0..=i` only, also when `Lq` and `Lk` differ. With a mask, both apply.
    pub is_causal: bool,
    /// Factor of the scores; `None` is `1 / sqrt(D)`.
    pub scale: Option<f64>,
}

impl AttentionOptions {
    /// No mask, not causal, scale `1 / sqrt(D)`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this mask.
    #[must_use]
    pub fn with_mask(mut self, mask: Tensor) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Causal or not.
    #[must_use]
    pub fn with_causal(mut self, is_causal: bool) -> Self {
        self.is_causal = is_causal;
        self
    }

    /// With this factor of the scores.
    #[must_use]
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }
}

impl Tensor {
    /// `softmax(scale * q k^T + mask) v` for `q` (this tensor) `[B, H, Lq, D]`, `k` `[B, H, Lk, D]` and `v`
    /// `[B, H, Lk, Dv]`: the output `[B, H, Lq, Dv]` and the logarithm of each row's normaliser, `[B, H, Lq]`,
    /// which [`scaled_dot_product_attention_grad`](Self::scaled_dot_product_attention_grad) asks for.
    ///
    /// A row with every key masked gives zeros (its logarithm is negative infinity). Operands may be any views.
    /// Where `q` lies in memory as `[B, L, H, D]` the output may too, so that joining the heads copies nothing.
    /// 16-bit floats are widened to f32 and the output is rounded once; the logarithms are f32 then.
    ///
    /// # Panics
    /// When shapes or types do not fit.
    ///
    /// # References
    /// Dao, Fu, Ermon, Rudra, Ré: FlashAttention (2022).
    #[must_use]
    #[track_caller]
    pub fn scaled_dot_product_attention(
        &self,
        k: &Self,
        v: &Self,
        options: &AttentionOptions,
    ) -> (Self, Self) {
        let p = Problem::new(self, k, v, options);
        if self.is_short() {
            let results = p.by_items(1.0, |item| {
                let [q, k, v] = [self, k, v].map(|t| item.wide(t));
                let (y, lse) = q.scaled_dot_product_attention(&k, &v, &item.options(options));
                [item.rounded(&y), lse]
            });
            let [y, lse] = p.joined(results, |i| match i {
                0 => p.uninit(p.lq, p.dv),
                _ => uninit(DType::F32, &[0, p.heads, p.lq]),
            });
            return (p.by_head(&y), lse);
        }
        let mut y = p.uninit(p.lq, p.dv);
        let mut lse = uninit(p.dtype(), &[p.batch, p.heads, p.lq]);
        with_real!(NAME, p.dtype(), T => {
            let outs = [y.make_mut::<T>(), lse.make_mut::<T>()];
            par::for_each_part(outs, p.groups(), 1, p.group_ns(), |g, [y, lse]| p.forward(g, y, lse));
        });
        (p.by_head(&y), lse)
    }

    /// The gradients of `q` (this tensor), `k` and `v` where needed, given `grad`, that of the output `y`.
    ///
    /// With the probabilities `P`, computed again from `lse`: `dV = P^T dY`, `dP = dY V^T`,
    /// `dS = P * (dP - rowsum(dY * Y))`, `dQ = scale dS K`, `dK = scale dS^T Q`.
    /// Rows with every key masked give zeros.
    ///
    /// # Panics
    /// When shapes or types do not fit.
    #[must_use]
    #[track_caller]
    pub fn scaled_dot_product_attention_grad(
        &self,
        [k, v]: [&Self; 2],
        options: &AttentionOptions,
        [y, lse]: [&Self; 2],
        grad: &Self,
        needs: [bool; 3],
    ) -> [Option<Self>; 3] {
        let p = Problem::new(self, k, v, options);
        assert_eq!(y.shape(), [p.batch, p.heads, p.lq, p.dv], "{NAME}: the shape of the output");
        assert_eq!(grad.shape(), y.shape(), "{NAME}: shapes of the gradient and the output");
        assert_eq!(lse.shape(), [p.batch, p.heads, p.lq], "{NAME}: the shape of the normalisers");
        if self.is_short() {
            let results = p.by_items(2.5, |item| {
                let [q, k, v, y, grad] = [self, k, v, y, grad].map(|t| item.wide(t));
                let (options, lse) = (item.options(options), lse.narrow(0, item.at, 1));
                let of = [&y, &lse];
                let grads =
                    q.scaled_dot_product_attention_grad([&k, &v], &options, of, &grad, needs);
                grads.map(|g| g.map_or_else(|| uninit(p.dtype(), &[1, 0]), |g| item.rounded(&g)))
            });
            let sizes = [(p.lq, p.d), (p.lk, p.d), (p.lk, p.dv)];
            let grads = p.joined(results, |i| p.uninit(sizes[i].0, sizes[i].1));
            return std::array::from_fn(|i| needs[i].then(|| p.by_head(&grads[i])));
        }
        let saved = Saved { y: dense_rows(y), lse: lse.contiguous(), grad: dense_rows(grad) };
        let sizes = [(p.lq, p.d), (p.lk, p.d), (p.lk, p.dv)];
        let mut grads: [Self; 3] = std::array::from_fn(|i| {
            let (len, width) = sizes[i];
            if needs[i] { p.uninit(len, width) } else { uninit(p.dtype(), &[0]) }
        });
        with_real!(NAME, p.dtype(), T => {
            let outs = grads.each_mut().map(|g| g.make_mut::<T>());
            let ns = 2.5 * p.group_ns();
            par::for_each_part(outs, p.groups(), 1, ns, |g, outs| p.backward(g, &saved, needs, outs));
        });
        std::array::from_fn(|i| needs[i].then(|| p.by_head(&grads[i])))
    }
}

/// One item of a batch in 16 bits, which is computed in f32 by itself, so that there are few widened numbers at a time.
struct Item<'a> {
    at: usize,
    of: &'a Problem,
}

impl Item<'_> {
    /// This item of a tensor `[B, H, L, D]`, widened as it lies in memory.
    fn wide(&self, t: &Tensor) -> Tensor {
        self.of.by_head(&self.of.by_head(&t.narrow(0, self.at, 1)).to_dtype(DType::F32))
    }

    /// A result, in the order in which it is kept.
    fn rounded(&self, t: &Tensor) -> Tensor {
        self.of.by_head(t).to_dtype(self.of.dtype())
    }

    fn options(&self, options: &AttentionOptions) -> AttentionOptions {
        let mask = options.mask.as_ref().map(|m| {
            let own = m.ndim() == 4 && m.shape()[0] > 1;
            let m = if own { m.narrow(0, self.at, 1) } else { m.clone() };
            if m.dtype() == DType::U8 { m } else { m.to_dtype(DType::F32) }
        });
        AttentionOptions { mask, ..options.clone() }
    }
}

/// What forward kept, and the gradient of the output.
struct Saved {
    y: Tensor,
    lse: Tensor,
    grad: Tensor,
}

/// The operands, checked.
struct Problem {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// Rows are dense; the other dimensions are broadcast to `[B, H, Lq, Lk]`.
    mask: Option<Tensor>,
    causal: bool,
    scale: f64,
    batch: usize,
    heads: usize,
    lq: usize,
    lk: usize,
    d: usize,
    dv: usize,
    /// Results lie in memory as `[B, L, H, D]`, not as `[B, H, L, D]`.
    tokens_first: bool,
}

impl Problem {
    #[track_caller]
    fn new(q: &Tensor, k: &Tensor, v: &Tensor, options: &AttentionOptions) -> Self {
        let dtype = same_dtype(NAME, q, k);
        same_dtype(NAME, q, v);
        let (&[batch, heads, lq, d], &[kb, kh, lk, kd], &[vb, vh, vl, dv]) =
            (q.shape(), k.shape(), v.shape())
        else {
            panic!(
                "{NAME}: shapes {:?}, {:?} and {:?} are not all of four dimensions",
                q.shape(),
                k.shape(),
                v.shape()
            )
        };
        assert!(
            [batch, heads, d] == [kb, kh, kd] && [batch, heads, lk] == [vb, vh, vl],
            "{NAME}: shapes {:?}, {:?} and {:?} do not fit",
            q.shape(),
            k.shape(),
            v.shape()
        );
        let full = [batch, heads, lq, lk];
        let mask = options.mask.as_ref().map(|m| {
            assert!(
                m.dtype() == dtype || m.dtype() == DType::U8,
                "{NAME}: a mask of {} for operands of {dtype}",
                m.dtype()
            );
            assert!(
                broadcast_shapes(m.shape(), &full).is_some_and(|s| s == full),
                "{NAME}: a mask of shape {:?} does not broadcast to {full:?}",
                m.shape()
            );
            let mut shape = m.shape().to_vec();
            if let Some(last) = shape.last_mut() {
                *last = lk;
            } else {
                shape.push(lk);
            }
            m.broadcast_to(&shape).contiguous().broadcast_to(&full)
        });
        // Without a dimension every score is 0, whatever the scale.
        let scale = options.scale.unwrap_or(if d == 0 { 1.0 } else { 1.0 / (d as f64).sqrt() });
        // Heads next to each other in memory belong to one task, so there have to be enough batch items.
        let tokens_first = q.strides[1] < q.strides[2] && batch >= rayon::current_num_threads();
        let [q, k, v] = [q, k, v].map(plain_strides);
        Self {
            q,
            k,
            v,
            mask,
            causal: options.is_causal,
            scale,
            batch,
            heads,
            lq,
            lk,
            d,
            dv,
            tokens_first,
        }
    }

    fn dtype(&self) -> DType {
        self.q.dtype()
    }

    /// Tasks: each owns a contiguous piece of every result.
    fn groups(&self) -> usize {
        if self.tokens_first { self.batch } else { self.batch * self.heads }
    }

    fn heads_in_group(&self) -> usize {
        if self.tokens_first { self.heads } else { 1 }
    }

    /// Nanoseconds that forward takes for a group, roughly.
    fn group_ns(&self) -> f64 {
        let scores = (self.heads_in_group() * self.lq * self.lk) as f64
            * if self.causal { 0.6 } else { 1.0 };
        scores * (1.0 + 0.02 * (self.d + self.dv) as f64)
    }

    /// A result of `len` rows of `width` a head, in the order in which it lies in memory.
    fn uninit(&self, len: usize, width: usize) -> Tensor {
        let (b, h) = (self.batch, self.heads);
        uninit(
            self.dtype(),
            &if self.tokens_first { [b, len, h, width] } else { [b, h, len, width] },
        )
    }

    /// Calls `f` with every item of the batch, on several threads where that is worth it; `cost` is how much longer it
    /// takes than forward.
    fn by_items<const N: usize>(
        &self,
        cost: f64,
        f: impl Fn(Item<'_>) -> [Tensor; N] + Sync + Send,
    ) -> Vec<[Tensor; N]> {
        let ns = cost * self.group_ns() * (self.groups() / self.batch.max(1)) as f64;
        par::map(self.batch, ns, |at| f(Item { at, of: self }))
    }

    /// The results of all items behind each other, or what `none` says where there is no item.
    fn joined<const N: usize>(
        &self,
        results: Vec<[Tensor; N]>,
        none: impl Fn(usize) -> Tensor,
    ) -> [Tensor; N] {
        std::array::from_fn(|i| {
            if results.is_empty() {
                return none(i);
            }
            Tensor::concat(&results.iter().map(|parts| &parts[i]).collect::<Vec<_>>(), 0)
        })
    }

    /// Such a result as `[B, H, L, D]`.
    fn by_head(&self, t: &Tensor) -> Tensor {
        if self.tokens_first { t.transpose(1, 2) } else { t.clone() }
    }

    /// Elements between the rows of one head of a result whose rows are `width` wide.
    fn row_stride(&self, width: usize) -> usize {
        self.heads_in_group() * width
    }

    /// Where row `row` of head `j` begins in a group's piece of a result.
    fn start(&self, j: usize, row: usize, len: usize, width: usize) -> usize {
        if row >= len { 0 } else { j * width + row * self.row_stride(width) }
    }

    /// Keys that the queries before `end` see at most.
    fn width(&self, end: usize) -> usize {
        if self.causal { end.min(self.lk) } else { self.lk }
    }

    /// Adds the mask to the raw scores of the queries from `first` on and returns the factor that is left to apply.
    fn mask_scores<T: Real>(&self, s: &mut [T], at: [usize; 2], first: usize, width: usize) -> T {
        let scale = T::lit(self.scale);
        let Some(mask) = &self.mask else { return scale };
        for (r, s) in s.chunks_exact_mut(width.max(1)).enumerate() {
            if mask.dtype() == DType::U8 {
                mask_where(s, &rows_of::<u8>(mask, at, first + r)[..width], scale);
            } else {
                mask_add(s, &rows_of::<T>(mask, at, first + r)[..width], scale);
            }
        }
        T::ONE
    }

    fn forward<T: Real>(&self, group: usize, y: &mut [T], lse: &mut [T]) {
        let mut buf = Scratch::new::<T>(BLOCK * (self.lk + 1));
        let (inverse, scores) = buf.slice::<T>().split_at_mut(BLOCK);
        let stride = self.row_stride(self.dv);
        for j in 0..self.heads_in_group() {
            let at = self.head(group, j);
            let keys = Packed::new(matrix::<T>(&self.k, at, 0, self.lk).t());
            let values = Packed::new(matrix::<T>(&self.v, at, 0, self.lk));
            for first in (0..self.lq).step_by(BLOCK) {
                let rows = BLOCK.min(self.lq - first);
                let width = self.width(first + rows);
                let s = &mut scores[..rows * width];
                let q = matrix(&self.q, at, first, rows);
                gemm_packed(q, &keys, MatMut::new(s, rows, width), Start::Zero);
                let scale = self.mask_scores(s, at, first, width);
                let lse = &mut lse[j * self.lq + first..][..rows];
                softmax_rows(s, width, self.causal.then_some(first), scale, lse, inverse);
                let y = &mut y[self.start(j, first, self.lq, self.dv)..];
                let p = MatRef::new(s, rows, width);
                gemm_packed(p, &values, MatMut::strided(y, rows, self.dv, stride), Start::Zero);
                scale_rows(y, self.dv, stride, &inverse[..rows]);
            }
        }
    }

    fn backward<T: Real>(
        &self,
        group: usize,
        saved: &Saved,
        needs: [bool; 3],
        [dq, dk, dv]: [&mut [T]; 3],
    ) {
        let mut buf = Scratch::new::<T>(BLOCK * (2 * self.lk + 1));
        let (delta, scores) = buf.slice::<T>().split_at_mut(BLOCK);
        let (scores, grads) = scores.split_at_mut(BLOCK * self.lk);
        // Blocks of queries add to these.
        dk.fill(T::ZERO);
        dv.fill(T::ZERO);
        let (d_stride, dv_stride) = (self.row_stride(self.d), self.row_stride(self.dv));
        let lse = saved.lse.as_slice::<T>();
        for j in 0..self.heads_in_group() {
            let at = self.head(group, j);
            let keys = matrix::<T>(&self.k, at, 0, self.lk);
            let (keys, keys_t) = (Packed::new(keys), Packed::new(keys.t()));
            let values_t = Packed::new(matrix::<T>(&self.v, at, 0, self.lk).t());
            for first in (0..self.lq).step_by(BLOCK) {
                let rows = BLOCK.min(self.lq - first);
                let width = self.width(first + rows);
                let (s, ds) = (&mut scores[..rows * width], &mut grads[..rows * width]);
                let (q, dy) =
                    (matrix(&self.q, at, first, rows), matrix(&saved.grad, at, first, rows));
                gemm_packed(q, &keys_t, MatMut::new(s, rows, width), Start::Zero);
                gemm_packed(dy, &values_t, MatMut::new(ds, rows, width), Start::Zero);
                let scale = self.mask_scores(s, at, first, width);
                for (r, delta) in delta[..rows].iter_mut().enumerate() {
                    let (a, b) =
                        (rows_of(&saved.grad, at, first + r), rows_of(&saved.y, at, first + r));
                    *delta = if self.dv == 0 { T::ZERO } else { dot(&a[..self.dv], &b[..self.dv]) };
                }
                let lse = &lse[(at[0] * self.heads + at[1]) * self.lq + first..][..rows];
                let causal = self.causal.then_some(first);
                softmax_grad_rows(s, ds, width, causal, scale, T::lit(self.scale), lse, delta);
                let (p, ds) = (MatRef::new(s, rows, width), MatRef::new(ds, rows, width));
                if needs[0] {
                    let out = &mut dq[self.start(j, first, self.lq, self.d)..];
                    let out = MatMut::strided(out, rows, self.d, d_stride);
                    gemm_packed(ds, &keys, out, Start::Zero);
                }
                if needs[1] {
                    let out = &mut dk[self.start(j, 0, self.lk, self.d)..];
                    gemm(ds.t(), q, MatMut::strided(out, width, self.d, d_stride), Start::Current);
                }
                if needs[2] {
                    let out = &mut dv[self.start(j, 0, self.lk, self.dv)..];
                    gemm(
                        p.t(),
                        dy,
                        MatMut::strided(out, width, self.dv, dv_stride),
                        Start::Current,
                    );
                }
            }
        }
    }

    /// Batch item and head of the `j`-th head of a group.
    fn head(&self, group: usize, j: usize) -> [usize; 2] {
        if self.tokens_first { [group, j] } else { [group / self.heads, group % self.heads] }
    }
}

/// Memory of a task, from the pool.
struct Scratch(Buffer);

impl Scratch {
    fn new<T: Real>(len: usize) -> Self {
        Self(Buffer::uninit(T::DTYPE, len))
    }

    fn slice<T: Real>(&mut self) -> &mut [T] {
        self.0.as_mut_slice().expect("the buffer was made for this type")
    }
}

fn uninit(dtype: DType, shape: &[usize]) -> Tensor {
    Tensor::from_buffer(Buffer::uninit(dtype, shape.iter().product()), shape)
}

/// The tensor, copied if its strides do not suit a matrix product.
fn plain_strides(t: &Tensor) -> Tensor {
    if t.strides[2] >= 0 && t.strides[3] >= 0 { t.clone() } else { t.to_contiguous() }
}

/// The tensor, copied unless its rows are slices.
fn dense_rows(t: &Tensor) -> Tensor {
    if t.strides[2] >= 0 && t.strides[3] == 1 { t.clone() } else { t.to_contiguous() }
}

/// The elements from row `row` of a head on.
fn rows_of<T: gradus_core::Element>(t: &Tensor, [b, h]: [usize; 2], row: usize) -> &[T] {
    if t.numel() == 0 {
        return &[];
    }
    let s = &t.strides;
    let at = t.offset as isize + b as isize * s[0] + h as isize * s[1] + row as isize * s[2];
    &t.storage()[at as usize..]
}

/// `rows` rows of a head.
fn matrix<T: Real>(t: &Tensor, at: [usize; 2], first: usize, rows: usize) -> MatRef<'_, T> {
    let data = if rows == 0 { &[] } else { rows_of(t, at, first) };
    MatRef::strided(data, rows, t.shape[3], t.strides[2] as usize, t.strides[3] as usize)
}

#[cfg(test)]
mod tests;
