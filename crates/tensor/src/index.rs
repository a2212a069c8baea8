//! Gathering and scattering by index.
//!
//! What is added up is added in the order of the indices, whatever the number of threads.

use gradus_core::{DType, Element};

use crate::{
    Real, Tensor,
    join::with_element,
    normalize_dim, par,
    shape::{Strides, numel, row_major, walk_rows},
    with_real,
};

#[cold]
#[inline(never)]
#[track_caller]
fn out_of_range(op: &str, at: usize, index: i64, size: usize) -> ! {
    panic!("{op}: index {index} at position {at} lies outside of a dimension of size {size}")
}

/// The indices, dense and all below `size`.
#[track_caller]
fn checked(op: &str, index: &Tensor, size: usize) -> Tensor {
    assert_eq!(index.dtype(), DType::I64, "{op}: the type of the indices");
    let index = index.contiguous();
    if let Some((at, &i)) =
        index.as_slice::<i64>().iter().enumerate().find(|&(_, &i)| i < 0 || i as usize >= size)
    {
        out_of_range(op, at, i, size);
    }
    index
}

/// Where the elements of one slice along `d` lie, for a walk over `index`: the strides without the one of `d`.
fn without_dim(strides: &[isize], d: usize) -> Strides {
    let mut s = Strides::from_slice(strides);
    s[d] = 0;
    s
}

/// The dimension of `gather` and `scatter_sum`, after a check of the shapes.
#[track_caller]
fn gather_dim(op: &str, dim: isize, shape: &[usize], index: &Tensor) -> usize {
    let d = normalize_dim(op, dim, shape.len());
    let fits = index.ndim() == shape.len()
        && (0..shape.len()).all(|i| i == d || index.shape()[i] <= shape[i]);
    assert!(
        fits,
        "{op}: indices of shape {:?} along dimension {d} of shape {shape:?}",
        index.shape()
    );
    d
}

impl Tensor {
    /// A scalar as a vector of one element.
    fn vector(&self) -> Self {
        if self.ndim() == 0 { self.view(&[1]) } else { self.clone() }
    }

    /// One element for each index along a dimension: for `dim` 0 of a matrix, `y[i][j] = x[index[i][j]][j]`.
    /// `index` (i64) has as many dimensions as this tensor, none but `dim` larger; the result has its shape. A scalar
    /// is taken for a vector of one element.
    ///
    /// # Panics
    /// When the shapes do not fit or an index is negative or too large.
    #[must_use]
    #[track_caller]
    pub fn gather(&self, dim: isize, index: &Self) -> Self {
        if self.ndim() == 0 || index.ndim() == 0 {
            return self.vector().gather(dim, &index.vector()).view(index.shape());
        }
        let d = gather_dim("gather", dim, self.shape(), index);
        let index = checked("gather", index, self.shape[d]);
        let (stride, walk) = (self.strides[d], without_dim(&self.strides, d));
        with_element!(self.dtype(), T => Self::build::<T>(index.shape(), |out| {
            let (x, idx) = (self.storage::<T>(), index.as_slice::<i64>());
            walk_rows(index.shape(), &walk, self.offset, |at, first, n, step| {
                let mut p = first as isize;
                for (o, &i) in out[at..at + n].iter_mut().zip(&idx[at..]) {
                    *o = x[(p + i as isize * stride) as usize];
                    p += step;
                }
            });
        }))
    }

    /// The reverse of [`gather`](Self::gather): zeros of `shape`, to which each element of this tensor is added
    /// where its index points; `index` has the shape of this tensor.
    ///
    /// # Panics
    /// As [`gather`](Self::gather).
    #[must_use]
    #[track_caller]
    pub fn scatter_sum(&self, shape: &[usize], dim: isize, index: &Self) -> Self {
        if shape.is_empty() {
            return self.scatter_sum(&[1], dim, index).view(&[]);
        }
        if self.ndim() == 0 && index.ndim() == 0 {
            return self.vector().scatter_sum(shape, dim, &index.vector());
        }
        if self.is_short() {
            return self.in_compute_type(|x| x.scatter_sum(shape, dim, index));
        }
        let d = gather_dim("scatter_sum", dim, shape, index);
        assert_eq!(
            self.shape(),
            index.shape(),
            "scatter_sum: shapes of the values and of the indices"
        );
        let index = checked("scatter_sum", index, shape[d]);
        let strides = row_major(shape);
        let (stride, walk) = (strides[d], without_dim(&strides, d));
        let mut sum = Self::zeros(shape, self.dtype());
        with_real!("scatter_sum", self.dtype(), T => {
            let (values, idx) = (self.contiguous(), index.as_slice::<i64>());
            let (values, out) = (values.as_slice::<T>(), sum.make_mut::<T>());
            walk_rows(index.shape(), &walk, 0, |at, first, n, step| {
                let mut p = first as isize;
                for (&v, &i) in values[at..at + n].iter().zip(&idx[at..]) {
                    out[(p + i as isize * stride) as usize] += v;
                    p += step;
                }
            });
        });
        sum
    }

    /// The slices that `index` (i64, 1-dimensional) names along a dimension, in its order.
    ///
    /// # Panics
    /// When `index` is not 1-dimensional, or an index is negative or too large.
    #[must_use]
    #[track_caller]
    pub fn index_select(&self, dim: isize, index: &Self) -> Self {
        let d = normalize_dim("index_select", dim, self.ndim());
        assert_eq!(
            index.ndim(),
            1,
            "index_select: indices of shape {:?}; one dimension is needed",
            index.shape()
        );
        let index = checked("index_select", index, self.shape[d]);
        let mut shape = self.shape().to_vec();
        shape[d] = index.numel();
        let x = self.contiguous();
        let size = self.shape[d];
        with_element!(self.dtype(), T => Self::build::<T>(&shape, |out| {
            select_rows(x.as_slice::<T>(), size, numel(&shape[d + 1..]), index.as_slice(), out);
        }))
    }

    /// The reverse of [`index_select`](Self::index_select): a dimension of `size` zeros, to which each slice of this
    /// tensor is added where its index points. Slices whose index is `skip` are left out.
    ///
    /// # Panics
    /// When there is not one index for each slice, or one is negative or too large.
    #[must_use]
    #[track_caller]
    pub fn index_sum(&self, dim: isize, size: usize, index: &Self, skip: Option<usize>) -> Self {
        if self.is_short() {
            return self.in_compute_type(|x| x.index_sum(dim, size, index, skip));
        }
        let d = normalize_dim("index_sum", dim, self.ndim());
        assert_eq!(
            index.shape(),
            [self.shape[d]],
            "index_sum: the shape of the indices for {:?}",
            self.shape()
        );
        let index = checked("index_sum", index, size);
        let mut shape = self.shape().to_vec();
        shape[d] = size;
        let x = self.contiguous();
        with_real!("index_sum", self.dtype(), T => Self::build::<T>(&shape, |out| {
            sum_rows(x.as_slice::<T>(), size, numel(&shape[d + 1..]), index.as_slice(), skip, out);
        }))
    }
}

/// `out[o][k] = x[o][index[k]]` for rows of `width` elements and `x[o]` of `size` rows.
fn select_rows<T: Element>(x: &[T], size: usize, width: usize, index: &[i64], out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    let ns = 2.0 + 0.1 * (width * size_of::<T>()) as f64;
    par::for_each_mut(out, width, ns, |first, out| {
        for (r, out) in out.chunks_mut(width).enumerate() {
            let (o, k) = ((first + r) / index.len(), (first + r) % index.len());
            let from = (o * size + index[k] as usize) * width;
            out.copy_from_slice(&x[from..from + width]);
        }
    });
}

/// `out[o][index[k]] += x[o][k]` from zero, without the indices `skip`.
fn sum_rows<T: Real>(
    x: &[T],
    size: usize,
    width: usize,
    index: &[i64],
    skip: Option<usize>,
    out: &mut [T],
) {
    if out.is_empty() {
        return;
    }
    let n = index.len();
    // Each piece of the result looks for its own among all indices.
    let ns = (0.1 + 0.3 * n as f64 / size as f64) * width as f64;
    par::for_each_mut(out, width, ns, |first, out| {
        out.fill(T::ZERO);
        let rows = first..first + out.len() / width;
        for o in rows.start / size..=(rows.end - 1) / size {
            for (k, &i) in index.iter().enumerate() {
                let row = o * size + i as usize;
                if rows.contains(&row) && skip != Some(i as usize) {
                    let to = (row - first) * width;
                    let from = (o * n + k) * width;
                    for (sum, &v) in out[to..to + width].iter_mut().zip(&x[from..from + width]) {
                        *sum += v;
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iota(shape: &[usize]) -> Tensor {
        Tensor::from_slice(&(0..numel(shape)).map(|i| i as f32).collect::<Vec<_>>(), shape)
    }

    fn index(data: &[i64], shape: &[usize]) -> Tensor {
        Tensor::from_slice(data, shape)
    }

    #[test]
    fn gather_and_scatter_follow_the_definition() {
        let x = iota(&[3, 4]);
        let i = index(&[2, 0, 1, 1], &[2, 2]);
        assert_eq!(x.gather(0, &i).to_vec::<f32>(), [8.0, 1.0, 4.0, 5.0]);
        assert_eq!(x.gather(-1, &i).to_vec::<f32>(), [2.0, 0.0, 5.0, 5.0]);
        assert_eq!(x.transpose(0, 1).gather(0, &i).to_vec::<f32>(), [2.0, 4.0, 1.0, 5.0]);
        let s = iota(&[2, 2]).affine(1.0, 1.0).scatter_sum(&[2, 3], 1, &i);
        assert_eq!(s.to_vec::<f32>(), [2.0, 0.0, 1.0, 0.0, 7.0, 0.0]);
        assert_eq!(x.gather(0, &index(&[], &[0, 4])).shape(), [0, 4]);
        assert_eq!(
            x.gather(1, &index(&[], &[3, 0]))
                .scatter_sum(&[3, 4], 1, &index(&[], &[3, 0]))
                .to_vec::<f32>(),
            [0.0; 12]
        );
    }

    #[test]
    fn selecting_and_summing_rows() {
        let x = iota(&[2, 3, 2]);
        let i = index(&[2, 0, 2], &[3]);
        let y = x.index_select(1, &i);
        assert_eq!(
            y.to_vec::<f32>(),
            [4.0, 5.0, 0.0, 1.0, 4.0, 5.0, 10.0, 11.0, 6.0, 7.0, 10.0, 11.0]
        );
        let s = y.index_sum(1, 3, &i, None);
        assert_eq!(
            s.to_vec::<f32>(),
            [0.0, 1.0, 0.0, 0.0, 8.0, 10.0, 6.0, 7.0, 0.0, 0.0, 20.0, 22.0]
        );
        let s = y.index_sum(1, 3, &i, Some(2));
        assert_eq!(s.to_vec::<f32>(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 6.0, 7.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(
            x.index_select(0, &index(&[], &[0]))
                .index_sum(0, 2, &index(&[], &[0]), None)
                .to_vec::<f32>(),
            [0.0; 12]
        );
        assert_eq!(iota(&[2, 0]).index_select(0, &index(&[1], &[1])).shape(), [1, 0]);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let n = 3000;
        let x = Tensor::from_slice(
            &(0..n * 24).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>(),
            &[2, n, 12],
        );
        let i = index(&(0..n as i64).map(|i| i * i % 97).collect::<Vec<_>>(), &[n]);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| x.index_sum(1, 97, &i, None).to_vec::<f32>())
        };
        let one = on(1);
        assert_eq!(one, on(3));
        let spread = i.unsqueeze(0).unsqueeze(-1).broadcast_to(&[2, n, 12]);
        assert_eq!(one, x.scatter_sum(&[2, 97, 12], 1, &spread).to_vec::<f32>());
    }

    #[test]
    #[should_panic(
        expected = "index_select: index 3 at position 1 lies outside of a dimension of size 3"
    )]
    fn an_index_out_of_range_panics() {
        let _ = iota(&[3]).index_select(0, &index(&[0, 3], &[2]));
    }

    #[test]
    #[should_panic(expected = "gather: indices of shape [3, 1] along dimension 1 of shape [2, 4]")]
    fn indices_that_reach_over_panic() {
        let _ = iota(&[2, 4]).gather(1, &index(&[0, 0, 0], &[3, 1]));
    }
}
