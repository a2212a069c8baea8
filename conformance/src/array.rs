//! The arrays of a case: what safetensors files hold, including types that no tensor of ours has.

use gradus_core::{DType, Element, bf16, f16};
use gradus_tensor::Tensor;
use safetensors::{Dtype, tensor::TensorView};

use crate::answer::Failure;

/// A dense row-major array.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    Bool(Vec<u8>),
}

impl Array {
    pub(crate) fn new(shape: &[usize], data: Data) -> Self {
        Self { shape: shape.to_vec(), data }
    }

    pub(crate) fn f32(shape: &[usize], values: Vec<f32>) -> Self {
        Self::new(shape, Data::F32(values))
    }

    /// One f32 per element of `values`.
    pub(crate) fn row(values: Vec<f32>) -> Self {
        Self::f32(&[values.len()], values)
    }

    pub(crate) fn read(view: &TensorView<'_>) -> Result<Self, String> {
        let bytes = view.data();
        let data = match view.dtype() {
            Dtype::F16 => Data::F16(chunks(bytes, f16::from_le_bytes)),
            Dtype::BF16 => Data::BF16(chunks(bytes, bf16::from_le_bytes)),
            Dtype::F32 => Data::F32(chunks(bytes, f32::from_le_bytes)),
            Dtype::F64 => Data::F64(chunks(bytes, f64::from_le_bytes)),
            Dtype::I64 => Data::I64(chunks(bytes, i64::from_le_bytes)),
            Dtype::U8 => Data::U8(bytes.to_vec()),
            Dtype::U16 => Data::U16(chunks(bytes, u16::from_le_bytes)),
            Dtype::BOOL => Data::Bool(bytes.to_vec()),
            other => return Err(format!("a tensor of type {other:?}")),
        };
        Ok(Self::new(view.shape(), data))
    }

    /// The name that `tol` uses.
    pub(crate) fn dtype(&self) -> &'static str {
        match self.data {
            Data::F16(_) => "f16",
            Data::BF16(_) => "bf16",
            Data::F32(_) => "f32",
            Data::F64(_) => "f64",
            Data::I64(_) => "i64",
            Data::U8(_) => "u8",
            Data::U16(_) => "u16",
            Data::Bool(_) => "bool",
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::F16(v) => v.len(),
            Data::BF16(v) => v.len(),
            Data::F32(v) => v.len(),
            Data::F64(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::U8(v) | Data::Bool(v) => v.len(),
            Data::U16(v) => v.len(),
        }
    }

    /// The elements of a floating-point array, widened.
    pub(crate) fn floats(&self) -> Option<Vec<f64>> {
        match &self.data {
            Data::F16(v) => Some(v.iter().map(|x| x.to_f64()).collect()),
            Data::BF16(v) => Some(v.iter().map(|x| x.to_f64()).collect()),
            Data::F32(v) => Some(v.iter().map(|&x| f64::from(x)).collect()),
            Data::F64(v) => Some(v.clone()),
            _ => None,
        }
    }

    /// The elements of an integer array.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        match &self.data {
            Data::I64(v) => Some(v.clone()),
            Data::U8(v) | Data::Bool(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
            Data::U16(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
            _ => None,
        }
    }

    /// The elements, where they are f32.
    pub(crate) fn as_f32(&self) -> Result<&[f32], Failure> {
        match &self.data {
            Data::F32(v) => Ok(v),
            _ => Err(Failure::unsupported(format!("f32 expected, found {}", self.dtype()))),
        }
    }

    /// As a tensor; masks become bytes.
    pub(crate) fn to_tensor(&self) -> Result<Tensor, Failure> {
        Ok(match &self.data {
            Data::F16(v) => Tensor::from_slice(v, &self.shape),
            Data::BF16(v) => Tensor::from_slice(v, &self.shape),
            Data::F32(v) => Tensor::from_slice(v, &self.shape),
            Data::F64(v) => Tensor::from_slice(v, &self.shape),
            Data::I64(v) => Tensor::from_slice(v, &self.shape),
            Data::U8(v) | Data::Bool(v) => Tensor::from_slice(v, &self.shape),
            Data::U16(_) => return Err(Failure::unsupported("no tensor has u16 elements")),
        })
    }

    /// Row `i` of the first dimension.
    pub(crate) fn at(&self, i: usize) -> Self {
        let shape = &self.shape[1..];
        let n: usize = shape.iter().product();
        let part = i * n..(i + 1) * n;
        let data = match &self.data {
            Data::F16(v) => Data::F16(v[part].to_vec()),
            Data::BF16(v) => Data::BF16(v[part].to_vec()),
            Data::F32(v) => Data::F32(v[part].to_vec()),
            Data::F64(v) => Data::F64(v[part].to_vec()),
            Data::I64(v) => Data::I64(v[part].to_vec()),
            Data::U8(v) => Data::U8(v[part].to_vec()),
            Data::U16(v) => Data::U16(v[part].to_vec()),
            Data::Bool(v) => Data::Bool(v[part].to_vec()),
        };
        Self::new(shape, data)
    }
}

impl From<&Tensor> for Array {
    fn from(t: &Tensor) -> Self {
        fn values<T: Element>(t: &Tensor) -> Vec<T> {
            t.to_vec::<T>()
        }
        let data = match t.dtype() {
            DType::F16 => Data::F16(values(t)),
            DType::BF16 => Data::BF16(values(t)),
            DType::F32 => Data::F32(values(t)),
            DType::F64 => Data::F64(values(t)),
            DType::I64 => Data::I64(values(t)),
            DType::U8 => Data::U8(values(t)),
            other => panic!("a tensor of type {other}, which no case has"),
        };
        Self::new(t.shape(), data)
    }
}

fn chunks<T, const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|c| decode(c.try_into().expect("chunks have this length"))).collect()
}
