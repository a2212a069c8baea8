//! The tensor: shape, strides and a shared buffer.

use std::{fmt, sync::Arc};

use gradus_core::{DType, Element, FloatElement, bf16, f16};

use crate::{
    buffer::Buffer,
    par,
    shape::{Dims, Strides, is_row_major, numel, row_major, walk_rows},
    short::Short,
};

/// Nanoseconds that an element takes in a conversion that is vector code.
const VECTOR_NS: f64 = 0.2;

/// A dense n-dimensional array.
///
/// A clone, a transpose or a slice shares the buffer; the first write to a shared buffer copies it, and a
/// write to a buffer that nobody else holds happens in place. The element type is known at run time.
/// A tensor knows nothing of gradients.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) buf: Arc<Buffer>,
    pub(crate) shape: Dims,
    pub(crate) strides: Strides,
    pub(crate) offset: usize,
}

impl Tensor {
    /// Wraps a buffer that holds exactly the elements of `shape`, row-major.
    pub(crate) fn from_buffer(buf: Buffer, shape: &[usize]) -> Self {
        debug_assert_eq!(buf.len(), numel(shape));
        Self {
            buf: Arc::new(buf),
            shape: Dims::from_slice(shape),
            strides: row_major(shape),
            offset: 0,
        }
    }

    /// A tensor of `shape` whose elements `fill` writes, row-major.
    /// The slice starts with arbitrary values: `fill` has to write every element.
    ///
    /// # Panics
    /// When the size in bytes overflows.
    pub fn build<T: Element>(shape: &[usize], fill: impl FnOnce(&mut [T])) -> Self {
        let mut buf = Buffer::uninit(T::DTYPE, numel(shape));
        fill(buf.as_mut_slice().expect("the buffer was made for this type"));
        Self::from_buffer(buf, shape)
    }

    /// A tensor with these elements, row-major.
    ///
    /// # Panics
    /// When `shape` does not hold exactly `data.len()` elements.
    #[must_use]
    #[track_caller]
    pub fn from_slice<T: Element>(data: &[T], shape: &[usize]) -> Self {
        assert_eq!(
            numel(shape),
            data.len(),
            "from_slice: shape {shape:?} does not hold {} elements",
            data.len()
        );
        Self::build(shape, |out| out.copy_from_slice(data))
    }

    /// A 0-dimensional tensor.
    #[must_use]
    pub fn scalar<T: Element>(value: T) -> Self {
        Self::from_slice(&[value], &[])
    }

    /// A tensor of zeros.
    #[must_use]
    pub fn zeros(shape: &[usize], dtype: DType) -> Self {
        Self::from_buffer(Buffer::zeroed(dtype, numel(shape)), shape)
    }

    /// A tensor of ones.
    #[must_use]
    pub fn ones(shape: &[usize], dtype: DType) -> Self {
        Self::full(shape, 1.0, dtype)
    }

    /// A tensor whose every element is `value`, rounded to `dtype`.
    #[must_use]
    pub fn full(shape: &[usize], value: f64, dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::build(shape, |o| o.fill(value as f32)),
            DType::F64 => Self::build(shape, |o| o.fill(value)),
            DType::F16 => Self::build(shape, |o| o.fill(f16::from_f64(value))),
            DType::BF16 => Self::build(shape, |o| o.fill(bf16::from_f64(value))),
            DType::I64 => Self::build(shape, |o| o.fill(value as i64)),
            _ => Self::build(shape, |o| o.fill(value as u8)),
        }
    }

    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements between neighbours along each dimension.
    #[must_use]
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// Number of dimensions.
    #[must_use]
    pub fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        numel(&self.shape)
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.buf.dtype()
    }

    /// Whether the elements lie densely in row-major order.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        is_row_major(&self.shape, &self.strides)
    }

    /// Whether no other tensor shares the buffer, so that writes happen in place.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.buf) == 1
    }

    /// Whether both show the same memory.
    #[must_use]
    pub fn shares_buffer_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.buf, &other.buf)
    }

    /// All of the buffer, from the first element of this view on, for strided access.
    #[track_caller]
    pub(crate) fn storage<T: Element>(&self) -> &[T] {
        self.buf
            .as_slice()
            .unwrap_or_else(|| panic!("expected a tensor of {}, found {}", T::DTYPE, self.dtype()))
    }

    /// The elements in row-major order.
    ///
    /// # Panics
    /// When the tensor is not of type `T` or not contiguous (see [`contiguous`](Self::contiguous)).
    #[must_use]
    #[track_caller]
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert!(
            self.is_contiguous(),
            "as_slice: the tensor of shape {:?} is not contiguous",
            self.shape()
        );
        let n = self.numel();
        if n == 0 {
            return &[];
        }
        &self.storage()[self.offset..self.offset + n]
    }

    /// The elements for writing, in row-major order. Copies first if the buffer is shared or not dense.
    ///
    /// # Panics
    /// When the tensor is not of type `T`.
    #[track_caller]
    pub fn make_mut<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.dtype(), "make_mut: the tensor's type");
        if Arc::get_mut(&mut self.buf).is_none() || !self.is_contiguous() {
            *self = self.to_contiguous();
        }
        let (start, n) = (self.offset, self.numel());
        if n == 0 {
            return &mut [];
        }
        let buf = Arc::get_mut(&mut self.buf).expect("the buffer is unique here");
        &mut buf.as_mut_slice().expect("the type was checked")[start..start + n]
    }

    /// A copy of the elements in row-major order.
    ///
    /// # Panics
    /// When the tensor is not of type `T`.
    #[must_use]
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        self.contiguous().as_slice().to_vec()
    }

    /// The only element, widened.
    ///
    /// # Panics
    /// When there is not exactly one element.
    #[must_use]
    #[track_caller]
    pub fn item(&self) -> f64 {
        assert_eq!(
            self.numel(),
            1,
            "item: a tensor of shape {:?} has not exactly one element",
            self.shape()
        );
        match self.dtype() {
            DType::F32 => self.storage::<f32>()[self.offset].into(),
            DType::F64 => self.storage::<f64>()[self.offset],
            DType::F16 => self.storage::<f16>()[self.offset].into(),
            DType::BF16 => self.storage::<bf16>()[self.offset].into(),
            DType::I64 => self.storage::<i64>()[self.offset] as f64,
            _ => self.storage::<u8>()[self.offset].into(),
        }
    }

    /// The same elements, dense and row-major: shared where they already are, copied otherwise.
    #[must_use]
    pub fn contiguous(&self) -> Self {
        if self.is_contiguous() { self.clone() } else { self.to_contiguous() }
    }

    /// The same elements in a buffer of their own.
    #[must_use]
    pub fn to_contiguous(&self) -> Self {
        match self.dtype() {
            DType::F32 => self.copy_dense::<f32>(),
            DType::F64 => self.copy_dense::<f64>(),
            DType::F16 => self.copy_dense::<f16>(),
            DType::BF16 => self.copy_dense::<bf16>(),
            DType::I64 => self.copy_dense::<i64>(),
            _ => self.copy_dense::<u8>(),
        }
    }

    fn copy_dense<T: Element>(&self) -> Self {
        let contiguous = self.is_contiguous();
        Self::build::<T>(&self.shape, |out| {
            if contiguous {
                let src = self.as_slice::<T>();
                par::for_each_mut(out, 1, 0.1 * size_of::<T>() as f64, |i, o| {
                    o.copy_from_slice(&src[i..i + o.len()])
                });
                return;
            }
            let src = self.storage::<T>();
            self.for_each_row(|at, first, n, step| {
                let out = &mut out[at..at + n];
                if step == 1 {
                    out.copy_from_slice(&src[first..first + n]);
                } else {
                    let mut p = first as isize;
                    for o in out {
                        *o = src[p as usize];
                        p += step;
                    }
                }
            });
        })
    }

    /// Walks this view by rows; see [`walk_rows`].
    pub(crate) fn for_each_row(&self, f: impl FnMut(usize, usize, usize, isize)) {
        walk_rows(&self.shape, &self.strides, self.offset, f);
    }

    /// The elements in another type: rounded to nearest even between floats, truncated towards zero to integers.
    #[must_use]
    pub fn to_dtype(&self, dtype: DType) -> Self {
        if dtype == self.dtype() {
            return self.clone();
        }
        macro_rules! from {
            ($s:ty, $get:expr) => {{
                let get: fn($s) -> f64 = $get;
                match dtype {
                    DType::F32 => self.cast::<$s, f32>(|x| get(x) as f32),
                    DType::F64 => self.cast::<$s, f64>(get),
                    DType::F16 => self.cast::<$s, f16>(|x| f16::from_f64(get(x))),
                    DType::BF16 => self.cast::<$s, bf16>(|x| bf16::from_f64(get(x))),
                    DType::I64 => self.cast::<$s, i64>(|x| get(x) as i64),
                    _ => self.cast::<$s, u8>(|x| get(x) as u8),
                }
            }};
        }
        match (self.dtype(), dtype) {
            (DType::F32, DType::F16) => self.convert(VECTOR_NS, f16::narrow),
            (DType::F32, DType::BF16) => self.convert(VECTOR_NS, bf16::narrow),
            (DType::F16, DType::F32) => self.convert(VECTOR_NS, f16::widen),
            (DType::BF16, DType::F32) => self.convert(VECTOR_NS, bf16::widen),
            (DType::F32, _) => from!(f32, f64::from),
            (DType::F64, _) => from!(f64, |x| x),
            (DType::F16, _) => from!(f16, FloatElement::to_f64),
            (DType::BF16, _) => from!(bf16, FloatElement::to_f64),
            (DType::I64, _) => from!(i64, |x| x as f64),
            _ => from!(u8, f64::from),
        }
    }

    fn cast<S: Element, T: Element>(&self, f: impl Fn(S) -> T + Sync + Send) -> Self {
        self.convert(1.0, |x: &[S], out| {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = f(x);
            }
        })
    }

    /// `f` converts slices of one length, in `ns` nanoseconds an element.
    fn convert<S: Element, T: Element>(
        &self,
        ns: f64,
        f: impl Fn(&[S], &mut [T]) + Sync + Send,
    ) -> Self {
        let src = self.contiguous();
        let src = src.as_slice::<S>();
        Self::build(&self.shape, |out| {
            par::for_each_mut(out, 1, ns, |i, out: &mut [T]| f(&src[i..i + out.len()], out));
        })
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        write!(f, "Tensor({:?}, {}, [", self.shape(), self.dtype())?;
        let head = self.to_dtype(DType::F64).to_vec::<f64>();
        for (i, x) in head.iter().take(SHOWN).enumerate() {
            write!(f, "{}{x}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(if head.len() > SHOWN { ", ...])" } else { "])" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_copies_a_shared_buffer_and_only_then() {
        let mut a = Tensor::from_slice(&[1f32, 2.0, 3.0], &[3]);
        let before = a.as_slice::<f32>().as_ptr();
        a.make_mut::<f32>()[0] = 5.0;
        assert_eq!(a.as_slice::<f32>().as_ptr(), before);
        let b = a.clone();
        a.make_mut::<f32>()[1] = 7.0;
        assert_eq!(b.to_vec::<f32>(), [5.0, 2.0, 3.0]);
        assert_eq!(a.to_vec::<f32>(), [5.0, 7.0, 3.0]);
    }

    #[test]
    fn casts_round_and_truncate() {
        let t = Tensor::from_slice(&[1.0f64 + 1.0 / 256.0, -2.9, 300.0], &[3]);
        assert_eq!(t.to_dtype(DType::BF16).to_vec::<bf16>()[0].to_f32(), 1.0);
        assert_eq!(t.to_dtype(DType::I64).to_vec::<i64>(), [1, -2, 300]);
        assert_eq!(t.to_dtype(DType::F16).to_dtype(DType::F32).to_vec::<f32>()[2], 300.0);
    }

    #[test]
    fn zero_dimensions_and_scalars_are_tensors() {
        assert_eq!(Tensor::zeros(&[0, 3], DType::F32).to_vec::<f32>(), []);
        assert_eq!(Tensor::scalar(2i64).item(), 2.0);
        assert_eq!(
            format!("{:?}", Tensor::full(&[2], 0.5, DType::F32)),
            "Tensor([2], f32, [0.5, 0.5])"
        );
    }

    #[test]
    #[should_panic(expected = "does not hold")]
    fn a_wrong_length_panics() {
        let _ = Tensor::from_slice(&[1f32], &[2]);
    }
}
